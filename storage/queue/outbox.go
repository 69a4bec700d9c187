package queue

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Outbox forwards jobs to a queue that were written in the atomic changes of repositories. So a job
// exists if and only if its change does.
//
//	write, err := outbox.Write(queue.Message{Body: body})
//	change.KV = append(change.KV, write) // or that of a commit, of package repo
//	seq, err := store.Repos.Apply(ctx, did, change)
//	err = outbox.Forward(ctx, did) // now; else Run does it
//
// Write makes a key-value pair of the account that contains the job. Forward sends the job to the
// queue, and then deletes the pair. After a crash between the two, the job is sent again with the
// same ID, which the queue ignores within Config.Remember.
//
// Run follows the log. Every event names an account that may have jobs. Run remembers its position.
// A change without an event must be announced: see Announce.
type Outbox struct {
	// Store is the store that Queue.KV belongs to.
	Store storage.Store
	Queue *Queue
	// Failed, if not nil, is called for an account whose jobs Run cannot read because they are
	// damaged. Run continues with other accounts. After a repair, the jobs of such an account are
	// forwarded with its next event, or by Forward.
	Failed func(did syntax.DID, err error)
}

// message is what is stored in an account's pairs.
type message struct {
	Body  []byte `json:"body,omitempty"`
	Key   string `json:"key,omitempty"`
	Delay int64  `json:"delay,omitempty"` // milliseconds
}

func (o Outbox) prefix() string { return "outbox/" + o.Queue.cfg.Name + "/" }

// cursor is the key of how far Run has come.
func (o Outbox) cursor() string { return o.Queue.prefix + "cursor" }

// Write returns the write to add to an account's change. A message without an ID gets one. Key is a
// key of the queue, so jobs of different accounts may share one. Delay counts from the forwarding.
func (o Outbox) Write(m Message) (storage.KVWrite, error) {
	if err := o.Queue.check(&m); err != nil {
		return storage.KVWrite{}, err
	}
	if m.ID == "" {
		m.ID = o.Queue.newID(o.Queue.cfg.Now())
	}
	b, err := json.Marshal(message{m.Body, m.Key, m.Delay.Milliseconds()})
	return storage.KVWrite{Key: o.prefix() + m.ID, Value: b}, err
}

// Announce records that an account is about to be changed, perhaps with jobs. It is for changes
// without an event, which Run does not see. Call done after the change: it forwards the jobs, if
// there are any, and deletes the record. If the process dies first, or done fails, Recover forwards
// the jobs.
func (o Outbox) Announce(ctx context.Context, did syntax.DID) (done func(context.Context) error, err error) {
	key := o.notes() + micros(o.Queue.cfg.Now().UnixMicro()) + "/" + string(did) + "/" + rand.Text()
	kv := o.Store.KV
	err = kv.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, key, one, time.Time{}) })
	if err != nil {
		return nil, o.Queue.fail("announce", err)
	}
	return func(ctx context.Context) error {
		if err := o.Forward(ctx, did); err != nil {
			return err
		}
		return o.Queue.fail("announce", kv.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, key) }))
	}, nil
}

// notes is the prefix of what Announce has noted.
func (o Outbox) notes() string { return o.Queue.prefix + "o/" }

// Announced returns the time of the earliest announced change that has not ended; zero: there is
// none. It is for a process that does not run until Recover has work.
func (o Outbox) Announced(ctx context.Context) (at time.Time, err error) {
	err = o.Store.KV.Read(ctx, func(r storage.KVReader) error {
		at = time.Time{}
		all := storage.Prefix(o.notes())
		all.KeysOnly = true
		for pair, err := range r.Keys(ctx, all) {
			if err != nil {
				return err
			}
			at = parseMicros(pair.Key[len(all.From):])
			break
		}
		return nil
	})
	return at, o.Queue.fail("announced", err)
}

// noteKept is how long a change may be under way after it was announced.
const noteKept = 5 * time.Minute

// Recover forwards the jobs of changes that were announced at least ago before, and have not ended.
// Its cost depends on their number. Call it at the start, and every minute. Errors of some accounts
// do not affect others.
func (o Outbox) Recover(ctx context.Context, ago time.Duration) error {
	now := o.Queue.cfg.Now()
	type note struct {
		key string
		did syntax.DID
	}
	var list []note
	err := o.Store.KV.Read(ctx, func(r storage.KVReader) error {
		list = nil
		for pair, err := range r.Keys(ctx, storage.Range{From: o.notes(), To: o.notes() + micros(now.Add(-ago).UnixMicro()), KeysOnly: true}) {
			if err != nil {
				return err
			}
			_, rest, _ := strings.Cut(pair.Key[len(o.notes()):], "/")
			did, _, _ := strings.Cut(rest, "/")
			list = append(list, note{pair.Key, syntax.DID(did)})
		}
		return nil
	})
	if err != nil {
		return o.Queue.fail("recover", err)
	}
	old := o.notes() + micros(now.Add(-noteKept).UnixMicro())
	var failed error // the first one
	for _, n := range list {
		err := o.Forward(ctx, n.did)
		if err == nil && n.key < old { // otherwise the change may still come
			err = o.Queue.fail("recover", o.Store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, n.key) }))
		}
		if failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

// forwardPage is how many jobs are forwarded at a time. forwardTries is how often a repository is
// tried again after a concurrent change.
const (
	forwardPage  = 100
	forwardTries = 20
)

// Forward forwards the jobs of an account to the queue in the order of their IDs. Jobs without an
// ID of their own are in the order of Write. An account that does not exist has no jobs.
func (o Outbox) Forward(ctx context.Context, did syntax.DID) error {
	for {
		n, err := o.forward(ctx, did)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return fmt.Errorf("queue %s: jobs of %s: %w", o.Queue.cfg.Name, did, err)
		}
		if n < forwardPage {
			return nil
		}
	}
}

// forward moves up to forwardPage jobs.
func (o Outbox) forward(ctx context.Context, did syntax.DID) (n int, err error) {
	var messages []Message
	var change storage.Change
	read := func(r storage.Reader) error {
		messages, change = nil, storage.Change{Prev: r.Head(), Head: r.Head()}
		for pair, err := range r.Keys(ctx, storage.Prefix(o.prefix())) {
			if err != nil {
				return err
			}
			var m message
			if err := exactjson.Unmarshal(pair.Value, &m); err != nil {
				return fmt.Errorf("%w: key %s: %w", storage.ErrCorrupt, pair.Key, err)
			}
			messages = append(messages, Message{
				Body: m.Body, Key: m.Key, Delay: time.Duration(m.Delay) * time.Millisecond,
				ID: strings.TrimPrefix(pair.Key, o.prefix()),
			})
			change.Checks = append(change.Checks, storage.KVCheck{Key: pair.Key, Value: pair.Value})
			change.KV = append(change.KV, storage.KVWrite{Key: pair.Key})
			if len(messages) == forwardPage {
				break
			}
		}
		return nil
	}
	for range forwardTries {
		if err := o.Store.Repos.View(ctx, did, read); err != nil {
			return 0, err
		}
		if len(messages) == 0 {
			return 0, nil
		}
		if _, err := o.Queue.sendAll(ctx, messages); err != nil { // full or not: they exist already
			return 0, err
		}
		// Another commit may have come, or another Forward.
		if _, err = o.Store.Repos.Apply(ctx, did, &change); !errors.Is(err, storage.ErrConflict) {
			return len(messages), err
		}
	}
	return 0, err
}

// Run forwards jobs until the context ends, and returns its error, or an error of the store; in
// that case call it again. At its first run, and if the log no longer has all events since its
// position, it examines all accounts.
func (o Outbox) Run(ctx context.Context) error {
	seq, err := o.position(ctx)
	if err != nil {
		return err
	}
	for {
		oldest, newest, err := o.Store.Events.Bounds(ctx)
		if err != nil {
			return err
		}
		if seq < oldest-1 || seq == 0 {
			if err := o.all(ctx); err != nil {
				return err
			}
			if err := o.setPosition(ctx, newest); err != nil {
				return err
			}
			seq = newest
		}
		if seq, err = o.follow(ctx, seq); err != nil {
			return err
		}
		if err := o.Store.Events.Wait(ctx, seq); err != nil {
			return err
		}
	}
}

// followPage is after how many events the position is stored.
const followPage = 500

// follow forwards the jobs of accounts with events after seq, and returns the last of those.
func (o Outbox) follow(ctx context.Context, seq int64) (int64, error) {
	for {
		dids, n, last := map[syntax.DID]bool{}, 0, seq
		for e, err := range o.Store.Events.Since(ctx, seq) {
			if err != nil {
				return seq, err
			}
			dids[e.DID], last = true, e.Seq
			if n++; n == followPage {
				break
			}
		}
		if n == 0 {
			return seq, nil
		}
		for did := range dids {
			if err := o.forwardGood(ctx, did); err != nil {
				return seq, err
			}
		}
		if err := o.setPosition(ctx, last); err != nil {
			return seq, err
		}
		seq = last
	}
}

// all forwards the jobs of all accounts.
func (o Outbox) all(ctx context.Context) error {
	for info, err := range o.Store.Repos.List(ctx, "") {
		if err != nil {
			return err
		}
		if err := o.forwardGood(ctx, info.DID); err != nil {
			return err
		}
	}
	return nil
}

// forwardGood is Forward for an account that may be damaged.
func (o Outbox) forwardGood(ctx context.Context, did syntax.DID) error {
	err := o.Forward(ctx, did)
	if !errors.Is(err, storage.ErrCorrupt) {
		return err
	}
	if o.Failed != nil {
		o.Failed(did, err)
	}
	return nil
}

func (o Outbox) position(ctx context.Context) (seq int64, err error) {
	err = o.Store.KV.Read(ctx, func(r storage.KVReader) error {
		b, err := r.Get(ctx, o.cursor())
		if errors.Is(err, storage.ErrNotFound) {
			seq = 0
			return nil
		} else if err != nil {
			return err
		}
		seq, err = strconv.ParseInt(string(b), 10, 64)
		return err
	})
	return seq, err
}

func (o Outbox) setPosition(ctx context.Context, seq int64) error {
	return o.Store.KV.Write(ctx, func(tx storage.KVTx) error {
		return tx.Set(ctx, o.cursor(), strconv.AppendInt(nil, seq, 10), time.Time{})
	})
}
