package queue

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// State is the state of a job.
type State string

// A waiting job is due, delayed, in its back-off, or behind others of its key.
const (
	Waiting State = "waiting"
	Held    State = "leased"
	Buried  State = "dead"
)

// Entry describes a job to an operator.
type Entry struct {
	ID       string
	State    State
	Key      string
	Body     []byte
	Attempts int // that have begun
	Enqueued time.Time
	// Due is when a waiting job can be leased, unless others of its key are before it; when the
	// lease of a leased job ends; or when a dead job died.
	Due   time.Time
	Error string // of the last attempt
}

// Entries yields all jobs in the order of their IDs. It reads them in pages, so the loop may call
// any method.
func (q *Queue) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		page := storage.Prefix(q.prefix + "m/")
		start := page.From
		for {
			var list []Entry
			err := q.cfg.KV.Read(ctx, func(r storage.KVReader) error {
				list = nil
				for pair, err := range r.Keys(ctx, page) {
					if err != nil {
						return err
					}
					e, err := q.entry(ctx, r, strings.TrimPrefix(pair.Key, start))
					if err != nil {
						return err
					}
					if list = append(list, e); len(list) == deadPage {
						break
					}
				}
				return nil
			})
			if err != nil {
				yield(Entry{}, q.fail("list jobs", err))
				return
			}
			for _, e := range list {
				page.From = start + e.ID + "\x00"
				if !yield(e, nil) {
					return
				}
			}
			if len(list) < deadPage {
				return
			}
		}
	}
}

func (q *Queue) entry(ctx context.Context, r storage.KVReader, id string) (Entry, error) {
	j, err := q.getRow(ctx, r, id)
	if err != nil {
		return Entry{}, err
	}
	body, err := q.body(ctx, r, id, j)
	if err != nil {
		return Entry{}, err
	}
	key, err := hex.DecodeString(j.Key)
	if err != nil {
		return Entry{}, fmt.Errorf("%w: the key of job %s", storage.ErrCorrupt, id)
	}
	e := Entry{
		ID: id, State: Waiting, Key: string(key), Body: body, Attempts: j.Attempt,
		Enqueued: time.UnixMicro(j.Enqueued).UTC(), Due: time.UnixMicro(j.Due).UTC(), Error: j.Error,
	}
	switch {
	case j.Dead:
		e.State = Buried
	case j.Token != "":
		e.State = Held
	}
	return e, nil
}

// Hurry makes a waiting job due at once, before its delay or back-off has ended, but not before
// others of its key. A dead job is requeued, as by Requeue. For a leased or missing job the error
// is storage.ErrNotFound.
func (q *Queue) Hurry(ctx context.Context, id string) error {
	dead := false
	err := q.cfg.KV.Write(ctx, func(kv storage.KVTx) error {
		t := &tx{kv, ctx, q}
		j, err := q.getRow(ctx, t, id)
		if err != nil {
			return err
		}
		if dead = j.Dead; dead {
			return nil
		}
		if j.Token != "" {
			return fmt.Errorf("%w: job %s is being done", storage.ErrNotFound, id)
		}
		now := q.cfg.Now().UnixMicro()
		ready, err := t.has(readyKey(id, j))
		switch {
		case err != nil:
			return err
		case ready:
			return t.move(id, j, now)
		}
		j.Due = now
		return t.put(id, j)
	})
	switch {
	case err != nil:
		return q.fail("hurry", err)
	case dead:
		return q.Requeue(ctx, id)
	}
	q.Wake()
	return nil
}

// Drop deletes a job in any state. A consumer that has leased it loses the lease. A missing job is
// not an error.
func (q *Queue) Drop(ctx context.Context, id string) error {
	err := q.cfg.KV.Write(ctx, func(kv storage.KVTx) error {
		t := &tx{kv, ctx, q}
		j, err := q.getRow(ctx, t, id)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if j.Dead {
			err = t.del(deadKey(id, j))
		} else {
			err = t.removeReady(id, j)
		}
		if err != nil {
			return err
		}
		return t.remove(id, j)
	})
	if err != nil {
		return q.fail("drop", err)
	}
	q.Wake()
	return nil
}

// Rewrite replaces the body of a job in any state. A consumer that has leased it keeps the old
// body. For a missing job the error is storage.ErrNotFound.
func (q *Queue) Rewrite(ctx context.Context, id string, body []byte) error {
	if err := q.check(&Message{Body: body}); err != nil {
		return err
	}
	return q.fail("rewrite", q.cfg.KV.Write(ctx, func(kv storage.KVTx) error {
		t := &tx{kv, ctx, q}
		j, err := q.getRow(ctx, t, id)
		if err != nil {
			return err
		}
		if j.Long {
			if err := t.del("b/" + id); err != nil {
				return err
			}
		}
		if err := t.setBody(id, j, body); err != nil {
			return err
		}
		return t.put(id, j)
	}))
}
