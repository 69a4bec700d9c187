package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// DeadJob is a job that was given up after too many failures.
type DeadJob struct {
	ID       string
	Body     []byte
	Attempts int
	Enqueued time.Time
	Died     time.Time
	Error    string // of the last attempt
}

// deadPage is how many dead jobs are read at a time.
const deadPage = 100

// DeadJobs yields the dead jobs in the order of their death. It reads them in pages, so the loop
// may call any method.
func (q *Queue) DeadJobs(ctx context.Context) iter.Seq2[DeadJob, error] {
	return func(yield func(DeadJob, error) bool) {
		page := storage.Prefix(q.prefix + "d/")
		start := page.From
		for {
			var jobs []DeadJob
			n := 0
			err := q.cfg.KV.Read(ctx, func(r storage.KVReader) error {
				jobs, n = nil, 0
				for pair, err := range r.Keys(ctx, page) {
					if err != nil {
						return err
					}
					page.From = pair.Key + "\x00"
					_, id, _ := strings.Cut(pair.Key[len(start):], "/")
					j, err := q.getRow(ctx, r, id)
					if err != nil {
						return err
					}
					body, err := q.body(ctx, r, id, j)
					if err != nil {
						return err
					}
					jobs = append(jobs, DeadJob{id, body, j.Attempt, time.UnixMicro(j.Enqueued).UTC(), time.UnixMicro(j.Due).UTC(), j.Error})
					if n++; n == deadPage {
						break
					}
				}
				return nil
			})
			if err != nil {
				yield(DeadJob{}, q.fail("list dead jobs", err))
				return
			}
			for _, j := range jobs {
				if !yield(j, nil) {
					return
				}
			}
			if n < deadPage {
				return
			}
		}
	}
}

// Requeue makes a dead job due again, behind the others of its key, with all its attempts. If the
// job is not dead, the error is storage.ErrNotFound.
func (q *Queue) Requeue(ctx context.Context, id string) error {
	err := q.cfg.KV.Write(ctx, func(kv storage.KVTx) error {
		t := &tx{kv, ctx, q}
		j, err := q.getRow(ctx, t, id)
		if err != nil {
			return err
		}
		if !j.Dead {
			return fmt.Errorf("%w: job %s is not dead", storage.ErrNotFound, id)
		}
		body, err := q.body(ctx, t, id, j)
		if err != nil {
			return err
		}
		if err := t.del(deadKey(id, j)); err != nil {
			return err
		}
		resent := &row{Key: j.Key, Enqueued: j.Enqueued, Due: q.cfg.Now().UnixMicro(), Error: j.Error}
		return t.add(id, resent, body)
	})
	if err != nil {
		return q.fail("requeue", err)
	}
	q.Wake()
	return nil
}

// Purge deletes the jobs that died before t, in batches, and returns their number. After an error,
// earlier batches stay deleted.
func (q *Queue) Purge(ctx context.Context, t time.Time) (deleted int, err error) {
	start := q.prefix + "d/"
	dead := storage.Range{From: start, To: start + micros(t.UnixMicro()), KeysOnly: true}
	for {
		n := 0
		err := q.cfg.KV.Write(ctx, func(kv storage.KVTx) error {
			t := &tx{kv, ctx, q}
			var keys []string
			for pair, err := range t.Keys(ctx, dead) {
				if err != nil {
					return err
				}
				if keys = append(keys, pair.Key); len(keys) == deadPage {
					break
				}
			}
			n = len(keys)
			for _, k := range keys {
				_, id, _ := strings.Cut(k[len(start):], "/")
				j, err := q.getRow(ctx, t, id)
				if err == nil {
					err = t.remove(id, j)
				}
				if err != nil && !errors.Is(err, storage.ErrNotFound) {
					return err
				}
				if err := t.Delete(ctx, k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return deleted, q.fail("purge", err)
		}
		if deleted += n; n < deadPage {
			return deleted, nil
		}
	}
}

// PurgeAllBut deletes dead jobs in the order of their death until at most keep are left, and
// returns how many it deleted. It may delete further jobs that died in the same microsecond.
func (q *Queue) PurgeAllBut(ctx context.Context, keep int) (deleted int, err error) {
	newest := storage.Prefix(q.prefix + "d/")
	newest.Reverse, newest.KeysOnly = true, true
	var before time.Time
	err = q.cfg.KV.Read(ctx, func(r storage.KVReader) error {
		before = time.Time{}
		n := 0
		for pair, err := range r.Keys(ctx, newest) {
			if err != nil {
				return err
			}
			if n++; n > keep {
				before = parseMicros(pair.Key[len(newest.From):]).Add(time.Microsecond)
				break
			}
		}
		return nil
	})
	if err != nil || before.IsZero() {
		return 0, q.fail("purge", err)
	}
	return q.Purge(ctx, before)
}
