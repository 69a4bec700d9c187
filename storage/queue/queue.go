package queue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Errors that callers branch on.
var (
	// ErrLeaseLost: the lease has ended and another consumer may have the job, or the job no longer
	// exists. Nothing was changed.
	ErrLeaseLost = errors.New("queue: the lease of the job was lost")
	// ErrTooLarge: a message is longer than Config.MaxBody, or its key or ID is too long.
	ErrTooLarge = errors.New("queue: the message is too large")
	// ErrMessage: the ID of a message has invalid characters, or its delay is negative.
	ErrMessage = errors.New("queue: not a message")
	// ErrNoRoom: the queue is full: see Config.Room. Nothing was sent.
	ErrNoRoom = errors.New("queue: too many jobs are waiting")
)

// Config configures a queue. KV and Name are required.
type Config struct {
	KV storage.KV
	// Name is the name of the queue: 1 to 64 ASCII letters, digits and "-_.".
	Name string
	// Lease is the duration of a lease. 0: 30 seconds.
	Lease time.Duration
	// Attempts is how often a job is tried before it becomes dead. 0: 5.
	Attempts int
	// Backoff returns how long a job waits after its n-th failure; the first one is 1. Nil: a
	// random time between d/2 and d, where d is a second after the first failure and doubles up to
	// an hour.
	Backoff func(n int) time.Duration
	// Limit bounds how many jobs are leased at the same time in all processes. It must be the same
	// in all of them. 0: no bound.
	Limit int
	// PerKey bounds how many jobs of one Message.Key are leased at the same time in all processes.
	// It must be the same in all of them. With 1, they are done one after another. With more, they
	// begin in their order. 0: 1.
	PerKey int
	// Room bounds approximately how many jobs there may be, including dead ones. Beyond it, Send
	// fails with ErrNoRoom. Jobs are counted every few seconds; what this process sends in between
	// is added. SendTx and Outbox ignore it. 0: no bound.
	Room int
	// MaxBody bounds the bytes of a message. 0: 1 MiB.
	MaxBody int
	// Remember is how long an ID chosen by a sender is remembered, so that it is not accepted
	// again. 0: 24 hours.
	Remember time.Duration
	// Poll is how often consumers look for jobs of other processes. 0: a second.
	Poll time.Duration
	// Observe, if not nil, is called after each event of a job, for metrics. It must not block.
	Observe func(Event)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// EventKind is the kind of an event of a job.
type EventKind string

// The kinds of events.
const (
	Sent    EventKind = "sent"
	Leased  EventKind = "leased"
	Done    EventKind = "done"
	Retried EventKind = "retried" // it failed and will be tried again
	Died    EventKind = "dead"
	Lost    EventKind = "lost" // its consumer's lease ended before it could note the result
)

// Event is an event of a job.
type Event struct {
	Kind    EventKind
	Queue   string
	ID      string
	Attempt int
	// Waited is how long the job was due when it was leased, or how long it had existed when it
	// ended.
	Waited time.Duration
	Err    error // of the attempt
}

// Queue is a queue of jobs. It is safe for concurrent use.
type Queue struct {
	cfg    Config
	prefix string

	mu   sync.Mutex
	last int64         // microseconds in the ID of the last job
	wake chan struct{} // closed when there is something new
	room room
}

const (
	maxName = 64
	maxID   = 128
	maxKey  = 512
	// inline is up to how many bytes a body is in the row of its job, which is written at each
	// lease.
	inline = 2048
)

// New returns a queue. Queues with the same KV and name share their jobs.
func New(cfg Config) (*Queue, error) {
	if cfg.KV == nil {
		return nil, errors.New("queue: Config.KV is missing")
	}
	if len(cfg.Name) == 0 || len(cfg.Name) > maxName || strings.ContainsFunc(cfg.Name, notInName) {
		return nil, fmt.Errorf("queue: Config.Name %.100q: 1 to %d ASCII letters, digits and \"-_.\"", cfg.Name, maxName)
	}
	if cfg.Lease < 0 || cfg.Attempts < 0 || cfg.Limit < 0 || cfg.PerKey < 0 || cfg.Room < 0 || cfg.MaxBody < 0 || cfg.Remember < 0 || cfg.Poll < 0 {
		return nil, errors.New("queue: a negative value in Config")
	}
	if cfg.Lease == 0 {
		cfg.Lease = 30 * time.Second
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = 5
	}
	if cfg.PerKey == 0 {
		cfg.PerKey = 1
	}
	if cfg.Backoff == nil {
		cfg.Backoff = defaultBackoff
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.Remember == 0 {
		cfg.Remember = 24 * time.Hour
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Queue{cfg: cfg, prefix: "queue/" + cfg.Name + "/", wake: make(chan struct{})}, nil
}

// Name returns the configured name.
func (q *Queue) Name() string { return q.cfg.Name }

func notInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
}

func defaultBackoff(n int) time.Duration {
	d := min(time.Duration(float64(time.Second)*math.Pow(2, float64(min(n, 20)-1))), time.Hour)
	return d/2 + mathrand.N(d/2+1)
}

// Message is a job to send.
type Message struct {
	Body []byte
	// Key orders the job behind all others with the same key: see "Order" in the package comment.
	// At most 512 bytes. Empty: no order.
	Key string
	// ID identifies the job. If a message with the same ID was sent within Config.Remember, it is
	// not sent again, so a sender can safely repeat a call that may have failed. At most 128 bytes
	// of ASCII letters, digits and "-_.:". Empty: a new one.
	ID string
	// Delay is how long the job is not yet due.
	Delay time.Duration
}

func (q *Queue) check(m *Message) error {
	switch {
	case len(m.Body) > q.cfg.MaxBody:
		return fmt.Errorf("%w: a body of %d bytes, of at most %d", ErrTooLarge, len(m.Body), q.cfg.MaxBody)
	case len(m.Key) > maxKey:
		return fmt.Errorf("%w: a key of %d bytes, of at most %d", ErrTooLarge, len(m.Key), maxKey)
	case len(m.ID) > maxID:
		return fmt.Errorf("%w: an ID of %d bytes, of at most %d", ErrTooLarge, len(m.ID), maxID)
	case strings.ContainsFunc(m.ID, func(r rune) bool { return r != ':' && notInName(r) }):
		return fmt.Errorf("%w: an ID has letters, digits and \"-_.:\" only: %q", ErrMessage, m.ID)
	case m.Delay < 0:
		return fmt.Errorf("%w: a negative delay", ErrMessage)
	}
	return nil
}

// newID returns an ID that sorts after those before it.
func (q *Queue) newID(now time.Time) string {
	q.mu.Lock()
	q.last = max(q.last+1, now.UnixMicro())
	n := q.last
	q.mu.Unlock()
	return fmt.Sprintf("%014x-%s", n, strings.ToLower(rand.Text()[:16]))
}

// Send sends jobs in one transaction and returns their IDs. They are durable when it returns nil.
func (q *Queue) Send(ctx context.Context, messages ...Message) (ids []string, err error) {
	if err := q.checkRoom(ctx, len(messages)); err != nil {
		return nil, err
	}
	return q.sendAll(ctx, messages)
}

// sendAll is Send whether there is room or not.
func (q *Queue) sendAll(ctx context.Context, messages []Message) (ids []string, err error) {
	var sent []string
	err = q.cfg.KV.Write(ctx, func(tx storage.KVTx) error {
		ids, sent, err = q.send(ctx, tx, messages)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("queue %s: send: %w", q.cfg.Name, err)
	}
	q.Wake()
	for _, id := range sent {
		q.observe(Event{Kind: Sent, ID: id})
	}
	return ids, nil
}

// SendTx sends jobs in a transaction of the caller's on the queue's KV. Call Wake after the commit,
// so that consumers of this process need not wait for their next poll.
func (q *Queue) SendTx(ctx context.Context, tx storage.KVTx, messages ...Message) (ids []string, err error) {
	if ids, _, err = q.send(ctx, tx, messages); err != nil {
		return nil, fmt.Errorf("queue %s: send: %w", q.cfg.Name, err)
	}
	return ids, nil
}

// send returns the IDs of all messages, and of those that were not there yet.
func (q *Queue) send(ctx context.Context, kv storage.KVTx, messages []Message) (ids, sent []string, err error) {
	t := &tx{kv, ctx, q}
	now := q.cfg.Now()
	for i := range messages {
		m := &messages[i]
		if err := q.check(m); err != nil {
			return nil, nil, err
		}
		id := m.ID
		if id == "" {
			id = q.newID(now)
		} else {
			known, err := t.has("i/" + id)
			if err == nil && !known {
				known, err = t.has("m/" + id)
			}
			if err != nil {
				return nil, nil, err
			}
			if known {
				ids = append(ids, id)
				continue
			}
			if err := t.Set(ctx, q.prefix+"i/"+id, one, now.Add(q.cfg.Remember)); err != nil {
				return nil, nil, err
			}
		}
		j := &row{Key: hex.EncodeToString([]byte(m.Key)), Enqueued: now.UnixMicro(), Due: now.Add(m.Delay).UnixMicro()}
		if err := t.add(id, j, m.Body); err != nil {
			return nil, nil, err
		}
		ids, sent = append(ids, id), append(sent, id)
	}
	return ids, sent, nil
}

// Wake makes consumers of this process look for jobs now.
func (q *Queue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.wake)
	q.wake = make(chan struct{})
}

// nextWake returns a channel that is closed by the next Wake.
func (q *Queue) nextWake() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.wake
}

func (q *Queue) observe(e Event) {
	if q.cfg.Observe != nil {
		e.Queue = q.cfg.Name
		q.cfg.Observe(e)
	}
}
