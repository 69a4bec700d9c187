package sqlite

import (
	"context"
	"iter"
	"math"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

type events struct{ *DB }

var (
	_ storage.Events        = events{}
	_ storage.AccountEvents = events{}
)

// Events are read in pages, so that a slow reader does not hold a snapshot.
const (
	pageEvents = 500
	pageBytes  = 1 << 20
)

// notGone is the condition for events that are not of a repository that was deleted since.
const notGone = " AND NOT EXISTS (SELECT 1 FROM gone WHERE gone.did = event.did AND gone.seq >= event.seq)"

func (d events) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		from, last := seq, int64(-1) // last is the newest event at the call
		d.pages(ctx, yield, func(c *conn) (sql string, args []any, err error) {
			if last < 0 {
				last, err = c.newest()
			}
			return "seq > ? AND seq <= ?" + notGone + " ORDER BY seq LIMIT ?", []any{from, last, pageEvents}, err
		}, func(e storage.Event) (more bool) {
			from = e.Seq
			return from != last
		})
	}
}

// OfAccount implements storage.AccountEvents. The first pages are small, since callers usually take
// few events.
func (d events) OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		before, rows := int64(math.MaxInt64), 1
		d.pages(ctx, yield, func(*conn) (sql string, args []any, err error) {
			rows = min(4*rows, pageEvents)
			return "did = ? AND seq < ?" + notGone + " ORDER BY seq DESC LIMIT ?", []any{did, before, rows}, nil
		}, func(e storage.Event) (more bool) {
			before = e.Seq
			return true
		})
	}
}

// pages yields events a page at a time, each of a snapshot of its own. query returns the condition
// and order of the next page with their arguments. after gets the last event of each page, and
// reports whether there may be more; a page without events is the last one.
func (d events) pages(ctx context.Context, yield func(storage.Event, error) bool, query func(*conn) (sql string, args []any, err error), after func(storage.Event) (more bool)) {
	for {
		var page []storage.Event
		err := d.read(ctx, func(c *conn) error {
			sql, args, err := query(c)
			if err != nil {
				return err
			}
			size := 0
			for s := range c.query(&err, "SELECT seq, did, kind, time, payload, weight FROM event WHERE "+sql, args...) {
				e := columnEvent(s)
				page = append(page, e)
				if size += len(e.Payload); size > pageBytes {
					break
				}
			}
			return err
		})
		if err != nil {
			yield(storage.Event{}, err)
			return
		}
		for _, e := range page {
			if !yield(e, nil) {
				return
			}
		}
		if len(page) == 0 || !after(page[len(page)-1]) {
			return
		}
	}
}

func columnEvent(s *sqlite3.Stmt) storage.Event {
	return storage.Event{
		Seq:     s.ColumnInt64(0),
		DID:     syntax.DID(s.ColumnText(1)),
		Kind:    s.ColumnText(2),
		Time:    time.UnixMilli(s.ColumnInt64(3)).UTC(),
		Payload: s.ColumnBlob(4, nil),
		Weight:  s.ColumnInt(5),
	}
}

func (d events) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	err = d.lookUp(ctx, func(c *conn) (err error) {
		if newest, err = c.newest(); err != nil {
			return err
		}
		_, err = c.row(func(s *sqlite3.Stmt) error {
			oldest = s.ColumnInt64(0) + 1
			return nil
		}, "SELECT seq FROM trimmed")
		return err
	})
	return oldest, newest, err
}

func (d events) Wait(ctx context.Context, seq int64) error {
	poll := time.NewTicker(d.cfg.Poll)
	defer poll.Stop()
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
			found := false
			err := d.lookUp(ctx, func(c *conn) (err error) {
				found, err = c.row(func(*sqlite3.Stmt) error { return nil }, "SELECT 1 FROM event WHERE seq > ?"+notGone+" LIMIT 1", seq)
				return err
			})
			if found || err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-poll.C:
			_, newest, err := d.Bounds(ctx)
			if err != nil {
				return err
			}
			d.announce(newest)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// trimRows is how many rows Trim deletes in one transaction, so that others can
// write in between.
const trimRows = 1000

// Trim implements storage.Events. It also deletes expired key-value pairs, and records that
// interrupted calls of Replace have left.
func (d events) Trim(ctx context.Context, t time.Time) error {
	err := d.trim(ctx, "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE time < ? ORDER BY time LIMIT ?) RETURNING seq", t.UnixMilli())
	if err != nil {
		return err
	}
	err = d.trim(ctx, "DELETE FROM kv WHERE (repo, key) IN (SELECT repo, key FROM kv WHERE expires <= ? LIMIT ?) RETURNING 0", d.cfg.Now())
	if err != nil {
		return err
	}
	return d.sweep(ctx)
}

// trim deletes rows until there is no more to delete.
func (d events) trim(ctx context.Context, sql string, before any) error {
	for more := true; more; {
		err := d.writer.do(ctx, step{retryable: true, fn: func(c *conn) error {
			var newest int64
			rows := 0
			var err error
			for s := range c.query(&err, sql, before, trimRows) {
				newest = max(newest, s.ColumnInt64(0))
				rows++
			}
			if err != nil {
				return err
			}
			more = rows == trimRows
			return c.exec("UPDATE trimmed SET seq = ?1 WHERE seq < ?1", newest)
		}})
		if err != nil {
			return err
		}
	}
	return nil
}
