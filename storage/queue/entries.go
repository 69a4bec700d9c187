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

// State is how a job is.
type State string

// The states. A job that waits is due, delayed, in its back-off, or behind others of its key.
const (
	Waiting State = "waiting"
	Held    State = "leased"
	Buried  State = "dead"
)

// Entry is a job as an operator sees it.
type Entry struct {
	ID       string
	State    State
	Key      string
	Body     []byte
	Attempts int // that have begun
	Enqueued time.Time
	// Due is when it can be leased, if no other is before it; when its lease ends; or when it died.
	Due   time.Time
	Error string // of the last attempt
}

// Entries yields all jobs, by their IDs. It reads them in pages, so that the loop may call any
// method.
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

// Hurry makes a job that waits due at once: before its delay or back-off has ended, but not before
// others of its key. One that is dead is sent again, as by Requeue. One that is leased, and one
// that is not there, give storage.ErrNotFound.
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

// Drop deletes a job, whatever its state. A consumer that has it finds its lease lost. A job that
// is not there is no error.
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

// Rewrite puts another body in the place of a job's, whatever the state of the job. A consumer that
// has it keeps what it has. A job that is not there gives storage.ErrNotFound.
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
