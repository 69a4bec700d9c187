package postgres

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Replace writes the new records as a set that no repository has, a batch at a time. A step then
// gives the set to the repository:
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

// errSwept: others took the set for one that its process had left behind.
var errSwept = fmt.Errorf("%w: the records took longer than %v to come, and were deleted", storage.ErrConflict, stageTime)

// errLost: the set has not the records that were written to it.
var errLost = fmt.Errorf("%w: the database has lost records of the import, or has others among them, as after a failover to a standby that was behind", storage.ErrConflict)

// staged is a set that Replace is filling.
type staged struct {
	*DB
	set   int64 // 0: nothing was written yet
	batch []storage.RecordChange
	size  int64
	last  string // path, of all batches
	any   bool
	n     int64 // records that were written
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
	if err := s.check(ctx); err != nil {
		return 0, err
	}
	change, err := final()
	if err == nil {
		err = change.ValidateReplacement()
	}
	if err != nil {
		return 0, err
	}
	if seq, err = d.writer.do(&step{ctx: ctx, kind: replace, did: did, change: change, set: s.set}); err != nil {
		return 0, err
	}
	_ = d.sweep(ctx) // the next sweep does what is left
	return seq, nil
}

// add adds a record, and writes the batch if it is full.
func (s *staged) add(ctx context.Context, r storage.RecordChange) error {
	switch {
	case s.any && r.Path <= s.last:
		return fmt.Errorf("postgres: the paths of the records do not increase at %q", r.Path)
	case len(r.Path) > maxKey:
		return fmt.Errorf("postgres: a path of %d bytes is too long", len(r.Path))
	}
	s.any, s.last = true, r.Path
	r.Data, r.Blobs = nonNil(slices.Clone(r.Data)), distinct(slices.Clone(r.Blobs))
	s.batch = append(s.batch, r)
	s.size += r.Cost()
	if len(s.batch) < batchRecords && s.size < batchBytes {
		return nil
	}
	return s.flush(ctx)
}

// flush writes the batch. The revision of its records is known at the end only: it becomes
// that of all rows without one.
func (s *staged) flush(ctx context.Context) error {
	if len(s.batch) == 0 {
		return nil
	}
	set := s.set
	if set == 0 {
		var err error
		if set, err = s.numbers.next(ctx, s.DB); err != nil {
			return err
		}
	}
	err := s.bulk.retry(ctx, func(c *conn) error { return s.write(ctx, c, set) })
	if err != nil {
		return err
	}
	s.set = set
	s.n += int64(len(s.batch))
	clear(s.batch)
	s.batch, s.size = s.batch[:0], 0
	return nil
}

// check counts the records of the set. A failover may have lost a batch, and with it the number of
// the set, so that another node fills a set of the same number.
func (s *staged) check(ctx context.Context) error {
	if s.set == 0 {
		return nil
	}
	found := int64(0)
	err := s.bulk.retry(ctx, func(c *conn) error {
		_, err := c.one(ctx, func(r row) error {
			found = r.int(0)
			return nil
		}, "SELECT count(*) FROM record WHERE set = $1", s.set)
		return err
	})
	if err == nil && found != s.n {
		err = errLost
	}
	return err
}

// write writes the batch in one transaction. If it was committed already, unknown to us, it
// does so again to the same effect.
func (s *staged) write(ctx context.Context, c *conn, set int64) error {
	inner, cancel := c.pool.context(ctx)
	defer cancel()
	return pgx.BeginFunc(inner, c.Conn, func(tx pgx.Tx) error {
		expires := s.cfg.Now().Add(stageTime).UnixMicro()
		sql := "UPDATE loose SET expires = $2 WHERE records = $1 AND expires > 0"
		if s.set == 0 {
			sql = "INSERT INTO loose (records, repo, expires) VALUES ($1, 0, $2) ON CONFLICT (records) DO UPDATE SET expires = excluded.expires"
		}
		if tag, err := tx.Exec(inner, sql, set, expires); err != nil {
			return err
		} else if tag.RowsAffected() == 0 {
			return errSwept
		}
		first, last := []byte(s.batch[0].Path), []byte(s.batch[len(s.batch)-1].Path)
		for _, table := range []string{"record", "blob_ref"} { // what an earlier attempt has left
			if _, err := tx.Exec(inner, "DELETE FROM "+table+" WHERE set = $1 AND path >= $2 AND path <= $3", set, first, last); err != nil {
				return err
			}
		}
		empty := []byte{}
		_, err := tx.CopyFrom(inner, pgx.Identifier{"record"}, []string{"set", "path", "cid", "rev", "data"}, pgx.CopyFromSlice(len(s.batch), func(i int) ([]any, error) {
			r := &s.batch[i]
			return []any{set, []byte(r.Path), cidBytes(r.CID), empty, r.Data}, nil
		}))
		if err != nil {
			return err
		}
		var refs [][]any
		for i := range s.batch {
			r := &s.batch[i]
			for _, blob := range r.Blobs {
				refs = append(refs, []any{set, cidBytes(blob), []byte(r.Path), empty})
			}
		}
		if len(refs) == 0 {
			return nil
		}
		_, err = tx.CopyFrom(inner, pgx.Identifier{"blob_ref"}, []string{"set", "blob", "path", "rev"}, pgx.CopyFromRows(refs))
		return err
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
