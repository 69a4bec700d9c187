package postgres

import (
	"context"
	"iter"
	"math"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

type events struct {
	*DB
	from, lookups *pool
}

var (
	_ storage.Events        = events{}
	_ storage.AccountEvents = events{}
)

// visible is the condition for events that were not trimmed, and are not of a repository that was
// deleted since.
const visible = "seq > (SELECT hidden FROM trimmed) AND NOT EXISTS (SELECT 1 FROM gone WHERE gone.did = event.did AND gone.seq >= event.seq)"

const eventColumns = "seq, did, kind, time, weight"

func (r row) event() (storage.Event, error) {
	return storage.Event{
		Seq:     r.int(0),
		DID:     syntax.DID(r.string(1)),
		Kind:    r.string(2),
		Time:    time.UnixMilli(r.int(3)).UTC(),
		Weight:  int(r.int(4)),
		Payload: r.bytes(5),
	}, nil
}

func (d events) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		from, last := seq, int64(-1) // last is the newest event at the call
		d.pages(ctx, firstPage, yield, func(b *batch, rows int) (string, []any) {
			if last < 0 { // the statements see what is committed one after another
				b.each(func(r row) error {
					last = r.int(0)
					return nil
				}, "SELECT last FROM log")
				return bounded(eventColumns, "payload", " FROM event WHERE seq > $1 AND seq <= (SELECT last FROM log) AND "+visible, "seq", "$2"), []any{from, rows}
			}
			return bounded(eventColumns, "payload", " FROM event WHERE seq > $1 AND seq <= $3 AND "+visible, "seq", "$2"), []any{from, rows, last}
		}, func(e storage.Event) (more bool) {
			from = e.Seq
			return from < last
		})
	}
}

// OfAccount implements storage.AccountEvents. The first pages are small, since callers usually take
// few events.
func (d events) OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		before := int64(math.MaxInt64)
		d.pages(ctx, 4, yield, func(_ *batch, rows int) (string, []any) {
			return bounded(eventColumns, "payload", " FROM event WHERE did = $1 AND seq < $3 AND "+visible, "seq DESC", "$2"), []any{[]byte(did), rows, before}
		}, func(e storage.Event) (more bool) {
			before = e.Seq
			return true
		})
	}
}

// pages yields events a page at a time, each of a snapshot of its own. first is how many the first
// has at most. query returns the query of the next page, and may queue others before it. after gets
// the last event of each page, and reports whether there may be more; a page without events is the
// last one.
func (d events) pages(ctx context.Context, first int, yield func(storage.Event, error) bool, query func(b *batch, rows int) (string, []any), after func(storage.Event) (more bool)) {
	p := page{rows: first}
	for {
		var list []storage.Event
		err := d.from.retry(ctx, func(c *conn) error {
			list = list[:0]
			var b batch
			sql, args := query(&b, p.rows)
			b.each(func(r row) error {
				e, err := r.event()
				list = append(list, e)
				return err
			}, sql, args...)
			return c.send(ctx, &b)
		})
		if err != nil {
			yield(storage.Event{}, err)
			return
		}
		for i, e := range list {
			if err := ctx.Err(); err != nil && i > 0 {
				yield(storage.Event{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if len(list) == 0 || !after(list[len(list)-1]) {
			return
		}
		p.grow(len(list))
	}
}

func (d events) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	return d.bounds(ctx, d.lookups)
}

func (db *DB) bounds(ctx context.Context, from *pool) (oldest, newest int64, err error) {
	err = from.retry(ctx, func(c *conn) error {
		var b batch
		b.each(func(r row) error {
			newest, oldest = r.int(0), r.int(1)+1
			return nil
		}, "SELECT log.last, trimmed.newest FROM log, trimmed")
		return c.send(ctx, &b)
	})
	return oldest, newest, err
}

func (d events) Wait(ctx context.Context, seq int64) error {
	for {
		d.mu.Lock()
		changed, closed := d.changed, d.closed
		d.mu.Unlock()
		if closed {
			return errClosed
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.newest.Load() > seq {
			// The events since may be those of an account that is gone.
			if found, err := d.has(ctx, seq); found || err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// has reports whether there is an event newer than seq.
func (d events) has(ctx context.Context, seq int64) (found bool, err error) {
	err = d.lookups.retry(ctx, func(c *conn) (err error) {
		found, err = c.one(ctx, func(row) error { return nil }, "SELECT 1::bigint FROM event WHERE seq > $1 AND "+visible+" LIMIT 1", seq)
		return err
	})
	return found, err
}

// announce makes a new sequence number known to those who wait.
func (db *DB) announce(seq int64) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if seq > db.newest.Load() {
		db.newest.Store(seq)
		if !db.closed {
			close(db.changed)
			db.changed = make(chan struct{})
		}
	}
}

// floor is the least number that the next event may have, after the newest of the database.
func (db *DB) floor(newest int64) int64 {
	return storage.NextSeq(max(newest, db.newest.Load()), db.cfg.Now())
}
