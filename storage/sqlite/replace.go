package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Replace writes the new records as a set that no repository has, a batch at a time, so that others
// write in between. A last transaction gives the set to the repository:
//
//	records ──batch──▶ set 17 (loose) ──…──▶ repo.records = 17, set 4 (loose) ──sweep──▶ nothing
//
// A process that dies leaves a loose set behind, which expires.

// Limits on what one transaction of Replace, or of a sweep, writes or deletes. A batch is kept in
// memory.
const (
	batchRecords = 2000
	batchBytes   = 4 << 20
)

// stageTime is how long a set that Replace fills is left alone after each batch.
const stageTime = time.Hour

// staged is a set that Replace is filling.
type staged struct {
	*DB
	set   int64 // 0: nothing was written yet
	batch []storage.RecordChange
	size  int64
}

func (d repos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (seq int64, err error) {
	s := staged{DB: d.DB}
	defer func() {
		if err != nil {
			s.drop(ctx)
		}
	}()
	// What earlier calls have left goes first: else it would grow with every call that fails for
	// want of room.
	if err := d.sweep(ctx); err != nil {
		return 0, err
	}
	for r, err := range records {
		if err == nil {
			err = s.add(ctx, r)
		}
		if err != nil {
			return 0, err
		}
	}
	if err := s.flush(ctx); err != nil {
		return 0, err
	}
	change, err := final()
	if err == nil {
		err = change.ValidateReplacement()
	}
	if err != nil {
		return 0, err
	}
	if seq, err = s.swap(ctx, did, change); err != nil {
		return 0, err
	}
	_ = d.sweep(ctx) // the next sweep does what is left
	return seq, nil
}

// add adds a record, and writes the batch if it is full.
func (s *staged) add(ctx context.Context, r storage.RecordChange) error {
	r.Data, r.Blobs = slices.Clone(r.Data), slices.Clone(r.Blobs)
	s.batch = append(s.batch, r)
	s.size += r.Cost()
	if len(s.batch) < batchRecords && s.size < batchBytes {
		return nil
	}
	return s.flush(ctx)
}

// errSwept: others took the set for one that its process had left behind.
var errSwept = fmt.Errorf("%w: the records took longer than %v to come, and were deleted", storage.ErrConflict, stageTime)

// flush writes the batch. The revision of its records is known at the end only: it becomes
// that of all rows without one.
func (s *staged) flush(ctx context.Context) error {
	if len(s.batch) == 0 {
		return nil
	}
	set := s.set
	err := s.writer.do(ctx, step{retryable: true, fn: func(c *conn) (err error) {
		expires := s.cfg.Now().Add(stageTime)
		if s.set == 0 {
			if set, err = c.newSet(); err == nil {
				err = c.exec("INSERT INTO loose (records, expires) VALUES (?, ?)", set, expires)
			}
		} else {
			err = c.loose(set, "UPDATE loose SET expires = ?2 WHERE records = ?1 AND expires > 0 RETURNING 0", expires)
		}
		for i := range s.batch {
			if err == nil {
				err = c.record(set, "", &s.batch[i])
			}
		}
		return err
	}})
	if err != nil {
		return err
	}
	s.set = set
	clear(s.batch)
	s.batch, s.size = s.batch[:0], 0
	return nil
}

// loose runs a statement on the row of a loose set, which must be there and must not be swept.
func (c *conn) loose(set int64, sql string, args ...any) error {
	found, err := c.row(func(*sqlite3.Stmt) error { return nil }, sql, append([]any{set}, args...)...)
	if err == nil && !found {
		err = errSwept
	}
	return err
}

// newSet returns a number for a set.
func (c *conn) newSet() (set int64, err error) {
	found, err := c.row(func(s *sqlite3.Stmt) error {
		set = s.ColumnInt64(0)
		return nil
	}, "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'repo' RETURNING seq")
	if err == nil && !found { // there never was a repository
		set = 1
		err = c.exec("INSERT INTO sqlite_sequence (name, seq) VALUES ('repo', ?)", set)
	}
	return set, err
}

// swap carries out the step: it gives the set to the repository.
func (s *staged) swap(ctx context.Context, did syntax.DID, change *storage.Change) (int64, error) {
	return s.write(ctx, false, func(c *conn) (int64, error) {
		now := s.cfg.Now()
		row, err := c.repo(did)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return 0, err
		}
		if err := c.check(row.id, row.head, did, change, now); err != nil {
			return 0, err
		}
		set := s.set
		if set == 0 {
			set, err = c.newSet()
		} else {
			err = c.loose(set, "DELETE FROM loose WHERE records = ? AND expires > 0 RETURNING 0")
		}
		if err != nil {
			return 0, err
		}
		if row.id == 0 {
			row.id, err = c.insertRepo(did, change, change.Head.Rev, set)
		} else if err = c.setHead(row.id, change); err == nil {
			if err = c.exec("UPDATE repo SET base = ?, records = ? WHERE id = ?", change.Head.Rev, set, row.id); err == nil {
				err = c.loosen(row.set)
			}
		}
		if err != nil {
			return 0, err
		}
		return c.finish(row.id, did, change, now)
	})
}

// drop gives up the set. What cannot be deleted now is deleted by a later sweep.
func (s *staged) drop(ctx context.Context) {
	if s.set == 0 {
		return
	}
	s.mu.Lock()
	s.dropped = append(s.dropped, s.set)
	s.mu.Unlock()
	_ = s.sweep(ctx)
}

// loosen makes a set that a repository had one that is to be deleted.
func (c *conn) loosen(set int64) error {
	return c.exec("INSERT INTO loose (records, expires) VALUES (?, 0)", set)
}

// sweep deletes the sets that nobody needs, and the events of repositories that were deleted, in
// transactions of bounded size.
func (db *DB) sweep(ctx context.Context) error {
	if err := db.expireDropped(ctx); err != nil {
		return err
	}
	if err := db.sweepEvents(ctx); err != nil {
		return err
	}
	for more := true; more; {
		// Most of the time there is none, which a reader can tell.
		err := db.borrow(ctx, func(c *conn) (err error) {
			_, more, err = c.expired(db.cfg.Now())
			return err
		})
		if err == nil && more {
			err = db.writer.do(ctx, step{retryable: true, fn: func(c *conn) error {
				set, found, err := c.expired(db.cfg.Now())
				if err != nil || !found {
					return err
				}
				return c.sweepSome(set)
			}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepEvents deletes the events of repositories that were deleted.
func (db *DB) sweepEvents(ctx context.Context) error {
	for more := true; more; {
		err := db.borrow(ctx, func(c *conn) (err error) {
			_, _, more, err = c.deletedRepo()
			return err
		})
		if err == nil && more {
			err = db.writer.do(ctx, step{retryable: true, fn: func(c *conn) error {
				did, seq, found, err := c.deletedRepo()
				if err != nil || !found {
					return err
				}
				return c.sweepSomeEvents(did, seq)
			}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deletedRepo finds a repository that was deleted, and its last event.
func (c *conn) deletedRepo() (did syntax.DID, seq int64, found bool, err error) {
	found, err = c.row(func(s *sqlite3.Stmt) error {
		did, seq = syntax.DID(s.ColumnText(0)), s.ColumnInt64(1)
		return nil
	}, "SELECT did, seq FROM gone LIMIT 1")
	return did, seq, found, err
}

// sweepSomeEvents deletes some events of an account up to a number, or, when there are none left,
// the note that they are gone.
func (c *conn) sweepSomeEvents(did syntax.DID, seq int64) (err error) {
	last, size := int64(0), 0
	for s := range c.query(&err, "SELECT seq, length(payload) FROM event WHERE did = ? AND seq <= ? ORDER BY seq LIMIT ?", did, seq, batchRecords) {
		last = s.ColumnInt64(0)
		if size += s.ColumnInt(1); size >= batchBytes {
			break
		}
	}
	if err != nil {
		return err
	}
	if last == 0 {
		return c.exec("DELETE FROM gone WHERE did = ?", did)
	}
	return c.exec("DELETE FROM event WHERE did = ? AND seq <= ?", did, last)
}

// expireDropped makes the sets that failed calls of Replace have left expire at once.
func (db *DB) expireDropped(ctx context.Context) error {
	db.mu.Lock()
	dropped := slices.Clone(db.dropped)
	db.mu.Unlock()
	if len(dropped) == 0 {
		return nil
	}
	err := db.writer.do(ctx, step{retryable: true, fn: func(c *conn) error {
		for _, set := range dropped {
			if err := c.exec("UPDATE loose SET expires = 0 WHERE records = ?", set); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.dropped = slices.DeleteFunc(db.dropped, func(set int64) bool { return slices.Contains(dropped, set) })
	return nil
}

// expired finds a set that is to be deleted.
func (c *conn) expired(now time.Time) (set int64, found bool, err error) {
	found, err = c.row(func(s *sqlite3.Stmt) error {
		set = s.ColumnInt64(0)
		return nil
	}, "SELECT records FROM loose WHERE expires <= ? LIMIT 1", now)
	return set, found, err
}

// sweepSome deletes some rows of a set, or, when there are none left, the set. It marks the set
// first, by an expiry of 0: the call that fills it may live yet, and must not take it for whole.
func (c *conn) sweepSome(set int64) (err error) {
	if err := c.exec("UPDATE loose SET expires = 0 WHERE records = ? AND expires <> 0", set); err != nil {
		return err
	}
	last, rows, size := "", 0, 0
	for s := range c.query(&err, "SELECT path, length(data) FROM record WHERE repo = ? ORDER BY path LIMIT ?", set, batchRecords) {
		last = s.ColumnText(0)
		rows++
		if size += s.ColumnInt(1); size >= batchBytes {
			break
		}
	}
	if err != nil {
		return err
	}
	if rows > 0 {
		return c.exec("DELETE FROM record WHERE repo = ? AND path <= ?", set, last)
	}
	found, err := c.row(func(*sqlite3.Stmt) error { return nil }, "SELECT 1 FROM blob_ref WHERE repo = ? LIMIT 1", set)
	if err != nil {
		return err
	}
	if found {
		return c.exec("DELETE FROM blob_ref WHERE (repo, blob, path) IN (SELECT repo, blob, path FROM blob_ref WHERE repo = ? LIMIT ?)", set, batchRecords)
	}
	return c.exec("DELETE FROM loose WHERE records = ?", set)
}
