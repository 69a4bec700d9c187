// Package mailqueue stores messages to accounts until a mail server has accepted them. It is a
// server.Outbox over the host's own store:
//
//	mail, err := mailqueue.New(mailqueue.Config{Store: store, Box: box, Mailer: sender})
//	service := server.New(server.Config{Mailer: sender, Outbox: mail, …})
//	go mail.Run(ctx)
//
// Package pds does that by itself.
//
// # Guarantees
//
// A message that belongs to a change of an account, such as a token, is written in the transaction
// of the change: see Announce. Other messages are durable when Send returns. From then on a message
// is sent at least once, whatever crashes, by one of the processes that share the store. It is sent
// twice only if a process crashes between the mail server's response and the recording of it. Both
// messages then have the same Message-ID.
//
// While the mail server fails, a message is retried, first after five seconds, later after half an
// hour. It is given up (dead) if the server refuses the recipient permanently, or if it is too old:
// after 15 minutes if it has a token, which is void then, otherwise after two days. Dead messages
// are kept for a week, so that an operator can inspect, retry or drop them. If a token became void
// for another reason, such as a request for a second one, its message is not sent.
//
// # What is stored
//
// Messages are sealed with the keys of the Box, each bound to its own ID. They are in the host's
// namespace below "queue/mail/", and before they get there, in the account's below "outbox/mail/".
// The mail server's responses are sealed too, since they often name the recipient. So neither a
// backup nor a reader of the database sees a token or an address. If the last key that opens a
// waiting message is removed from the Box, the message becomes dead.
//
// # Bounds
//
// Config.Room bounds the number of messages for requests of mail. Notifications about changes are
// stored in any case. One message takes a few kilobytes.
package mailqueue

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
)

// Name is the name of the queue.
const Name = "mail"

// Config configures a Queue. Store, Box and Mailer are required. Mailer may be nil if nothing is
// sent, for example in an operator's command.
type Config struct {
	// Store has the accounts. Its KV has the queue.
	Store storage.Store
	// Box seals messages.
	Box *sealed.Box
	// Mailer sends messages. It should send the ID of a message, so that duplicates can be
	// recognised.
	Mailer server.Mailer
	// Void, if not nil, reports whether a message with a token need not be sent, since the token is
	// void.
	Void func(ctx context.Context, m server.Mail) (bool, error)
	// Deliveries bounds how many messages are sent concurrently by all processes together. It must
	// be the same in all of them. 0: 4.
	Deliveries int
	// Room bounds approximately how many messages the queue has, including dead ones, before
	// requests for mail are refused. Dead messages take at most half of it; then the oldest of them
	// are deleted. 0: 10,000.
	Room int
	// Observe, if not nil, is called after each event of a message: see [queue.Config].
	Observe func(queue.Event)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger logs what an operator should know. Nil: nothing is logged.
	Logger *slog.Logger
}

// The times of messages.
const (
	tokenLife  = 15 * time.Minute   // as of a token: see credential
	noticeLife = 48 * time.Hour     // of one without a token
	deadLife   = 7 * 24 * time.Hour // of one that was given up
	// sendTimeout bounds one try, and lease is how long another process leaves a message alone that
	// this one is sending, which extends it.
	sendTimeout = time.Minute
	lease       = 20 * time.Second
	// recoverEvery is how often messages of changes are looked for whose process has died, and
	// recoverAfter how long a change may take.
	recoverEvery = 30 * time.Second
	recoverAfter = 20 * time.Second
)

// Queue stores and sends messages. It is safe for concurrent use.
type Queue struct {
	cfg    Config
	queue  *queue.Queue
	outbox queue.Outbox
	room   int // messages
	log    *slog.Logger
	now    func() time.Time
	work   context.Context // of what was started without Run
	stop   context.CancelFunc

	mu      sync.Mutex
	running bool // Run is
	closed  bool
	sending sync.WaitGroup // what was started without Run
	busy    bool           // it is under way
	more    bool           // there was more meanwhile
	counts  server.MailStats
	stats   queue.Stats // as they were counted
	until   time.Time   // when they are to be counted again
}

var _ server.Outbox = (*Queue)(nil)

// New returns the queue of a store. It starts no goroutines.
func New(cfg Config) (*Queue, error) {
	if cfg.Box == nil || cfg.Store.Repos == nil || cfg.Store.KV == nil {
		return nil, errors.New("mailqueue: Config.Store and Config.Box are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	q := &Queue{cfg: cfg, log: cfg.Logger, now: cfg.Now, room: cmp.Or(cfg.Room, 10_000)}
	q.work, q.stop = context.WithCancel(context.Background())
	var err error
	q.queue, err = queue.New(queue.Config{
		KV: cfg.Store.KV, Name: Name, Lease: lease, Attempts: maxTries, Backoff: backoff, MaxBody: maxMessage,
		Limit: cmp.Or(cfg.Deliveries, 4), Room: q.room, Observe: cfg.Observe, Now: cfg.Now,
	})
	q.outbox = queue.Outbox{Store: cfg.Store, Queue: q.queue}
	return q, err
}

const (
	// maxTries is never reached: a message becomes too old before.
	maxTries   = 10_000
	maxMessage = 256 << 10
)

// backoff is how long a message waits that has failed n times.
func backoff(n int) time.Duration {
	d := min(5*time.Second<<min(n-1, 10), 30*time.Minute)
	return d - mathrand.N(d/4)
}

// letter is a message as it is kept.
type letter struct {
	Mail    server.Mail `json:"mail"`
	Expires time.Time   `json:"expires"`
}

// seal makes the job of a message.
func (q *Queue) seal(m server.Mail) (queue.Message, error) {
	now := q.now()
	life := noticeLife
	if m.Token != "" {
		life = tokenLife
	}
	if m.ID == "" {
		m.ID = fmt.Sprintf("%011x-%s", now.UnixMilli(), strings.ToLower(rand.Text()))
	}
	text, err := json.Marshal(letter{m, now.Add(life).UTC()})
	if err != nil {
		return queue.Message{}, err
	}
	return queue.Message{ID: m.ID, Body: q.cfg.Box.Seal(place(m.ID), text)}, nil
}

// place is what a message is sealed to.
func place(id string) string { return "mail/" + id }

func (q *Queue) open(id string, body []byte) (l letter, err error) {
	text, err := q.cfg.Box.Open(place(id), body)
	if err != nil {
		return l, fmt.Errorf("the message cannot be opened: %w", err)
	}
	return l, exactjson.Unmarshal(text, &l)
}

// sealedError begins the text of an error that is sealed.
const sealedError = "sealed:"

// maxError bounds what is kept of an error: sealed and in base64, it is shorter than what a queue
// keeps.
const maxError = 500

// sealError seals the text of an error of a message.
func (q *Queue) sealError(id, text string) string {
	text = text[:min(len(text), maxError)]
	return sealedError + base64.RawStdEncoding.EncodeToString(q.cfg.Box.Seal(place(id)+"/error", []byte(text)))
}

// openError is its reverse. Texts of the queue itself are not sealed.
func (q *Queue) openError(id, kept string) string {
	text, ok := strings.CutPrefix(kept, sealedError)
	if !ok {
		return kept
	}
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err == nil {
		b, err = q.cfg.Box.Open(place(id)+"/error", b)
	}
	if err != nil {
		return "the error cannot be opened: it was sealed with another key"
	}
	return strings.ToValidUTF8(string(b), "")
}

// keptError is an error with another text, which may be kept.
type keptError struct {
	error
	text string
}

func (e *keptError) Error() string { return e.text }
func (e *keptError) Unwrap() error { return e.error }

// HasRoom returns queue.ErrNoRoom if the queue is full: see Config.Room.
func (q *Queue) HasRoom(ctx context.Context, messages int) error {
	return q.queue.HasRoom(ctx, messages)
}

// Send stores a message, which [Queue.Run] sends. It is durable when Send returns. A full queue gives
// [queue.ErrNoRoom].
func (q *Queue) Send(ctx context.Context, m server.Mail) error {
	job, err := q.seal(m)
	if err != nil {
		return err
	}
	err = q.cfg.Store.KV.Write(ctx, func(tx storage.KVTx) error {
		_, err := q.queue.SendTx(ctx, tx, job)
		return err
	})
	if err != nil {
		return err
	}
	q.queue.Wake()
	q.kick()
	return nil
}

// Announce must be called before a change of an account that may write a message: see
// [credential.Notices]. end, called after the change, moves the message to the queue.
func (q *Queue) Announce(ctx context.Context, did syntax.DID) (end func(), err error) {
	done, err := q.outbox.Announce(ctx, did)
	if err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
		defer cancel()
		if err := done(ctx); err != nil { // Run will find it
			q.log.ErrorContext(ctx, "mail of a change", "did", did, "err", err)
		}
		q.kick()
	}, nil
}

// Write adds a message to an announced change.
func (q *Queue) Write(step *repo.Step, m server.Mail) error {
	job, err := q.seal(m)
	if err != nil {
		return err
	}
	write, err := q.outbox.Write(job)
	step.KV = append(step.KV, write)
	return err
}

// statsGood is for how long counted messages count.
const statsGood = 5 * time.Second

// Stats returns counts of messages. They are recounted every few seconds.
func (q *Queue) Stats(ctx context.Context) (server.MailStats, error) {
	q.mu.Lock()
	fresh := time.Now().Before(q.until)
	q.mu.Unlock()
	if !fresh {
		st, err := q.queue.Stats(ctx)
		if err != nil {
			return server.MailStats{}, err
		}
		q.mu.Lock()
		q.stats, q.until = st, time.Now().Add(statsGood)
		q.mu.Unlock()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.counts
	out.Waiting, out.Dead, out.Oldest = q.stats.Due+q.stats.Later+q.stats.Behind, q.stats.Dead, q.stats.Oldest
	return out, nil
}
