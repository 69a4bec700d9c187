package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Pause stops leasing jobs in all processes until Resume. Jobs that are leased continue.
func (q *Queue) Pause(ctx context.Context) error {
	return q.cfg.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, q.prefix+"p", one, time.Time{}) })
}

// Resume ends a pause. It has no effect if there is none.
func (q *Queue) Resume(ctx context.Context) error {
	err := q.cfg.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, q.prefix+"p") })
	q.Wake()
	return err
}

// Stats counts jobs.
type Stats struct {
	Due    int // can be leased now
	Later  int // are leased, delayed or wait for a back-off
	Behind int // wait for another one with their key
	Dead   int
	Paused bool
	Oldest time.Time // since when the first one is due; zero: none is
}

// Stats counts the jobs. It reads one row for each job.
func (q *Queue) Stats(ctx context.Context) (st Stats, err error) {
	now := micros(q.cfg.Now().UnixMicro())
	err = q.cfg.KV.Read(ctx, func(r storage.KVReader) error {
		st = Stats{}
		if _, err := r.Get(ctx, q.prefix+"p"); err == nil {
			st.Paused = true
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		count := func(part string, fn func(rest string)) error {
			all := storage.Prefix(q.prefix + part)
			all.KeysOnly = true
			for pair, err := range r.Keys(ctx, all) {
				if err != nil {
					return err
				}
				fn(pair.Key[len(all.From):])
			}
			return nil
		}
		err := count("r/", func(rest string) {
			if rest[:min(20, len(rest))] > now {
				st.Later++
				return
			}
			if st.Due++; st.Due == 1 {
				st.Oldest = parseMicros(rest)
			}
		})
		jobs := 0
		err = errors.Join(err,
			count("m/", func(string) { jobs++ }),
			count("d/", func(string) { st.Dead++ }))
		st.Behind = jobs - st.Due - st.Later - st.Dead
		return err
	})
	return st, q.fail("stats", err)
}

// room is what is known of how many jobs there are.
type room struct {
	mu    sync.Mutex
	jobs  int       // when they were counted, and those that were sent since
	until time.Time // when they are to be counted again
}

// roomGood is for how long a count of jobs is good.
const roomGood = 5 * time.Second

// HasRoom returns nil if n more jobs can be sent, and counts them as sent; otherwise it returns
// ErrNoRoom. With 0, it only checks for one more job.
func (q *Queue) HasRoom(ctx context.Context, n int) error { return q.checkRoom(ctx, n) }

func (q *Queue) checkRoom(ctx context.Context, n int) error {
	if q.cfg.Room == 0 {
		return nil
	}
	q.room.mu.Lock()
	defer q.room.mu.Unlock()
	if now := time.Now(); !now.Before(q.room.until) {
		jobs, err := q.count(ctx, q.cfg.Room)
		if err != nil {
			return q.fail("count", err)
		}
		q.room.jobs, q.room.until = jobs, now.Add(roomGood)
	}
	if q.room.jobs+max(n, 1) > q.cfg.Room {
		return fmt.Errorf("queue %s: %w: there is room for %d", q.cfg.Name, ErrNoRoom, q.cfg.Room)
	}
	q.room.jobs += n
	return nil
}

// count counts jobs, up to some number.
func (q *Queue) count(ctx context.Context, most int) (n int, err error) {
	err = q.cfg.KV.Read(ctx, func(r storage.KVReader) error {
		n = 0
		all := storage.Prefix(q.prefix + "m/")
		all.KeysOnly = true
		for _, err := range r.Keys(ctx, all) {
			if err != nil {
				return err
			}
			if n++; n == most {
				break
			}
		}
		return nil
	})
	return n, err
}
