package sqlite

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

func (d repos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	return d.borrow(ctx, func(c *conn) error {
		return c.withRepo(did, func(row repoRow) error {
			r := &reader{c: c, row: row, now: d.cfg.Now()}
			defer r.close()
			return fn(r)
		})
	})
}

// reader is a snapshot of one repository.
type reader struct {
	c       *conn
	row     repoRow
	now     time.Time
	cursors []*cursor
}

func (r *reader) close() {
	for _, c := range r.cursors {
		c.Close()
	}
}

var _ storage.Reader = (*reader)(nil)

func (r *reader) Head() storage.Head { return r.row.head }

func (r *reader) Commit(ctx context.Context) (block []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.row.head == (storage.Head{}) {
		return nil, fmt.Errorf("%w: the account has no commit", storage.ErrNotFound)
	}
	found, err := r.c.row(func(s *sqlite3.Stmt) error {
		block = s.ColumnBlob(0, nil)
		return nil
	}, "SELECT block FROM repo WHERE id = ?", r.row.id)
	if err == nil && !found {
		err = fmt.Errorf("%w: repository has no row", storage.ErrCorrupt)
	}
	return block, fail(ctx, err)
}

// columns of a record, and of one without its data.
const (
	recordColumns = "SELECT path, cid, rev, data FROM record "
	keyColumns    = "SELECT path, cid, rev FROM record "
	// Left to itself, SQLite looks through all records of the set.
	recordByCID = recordColumns + "INDEXED BY record_cid WHERE repo = ? AND cid = ? LIMIT 1"
)

func (r *reader) record(s *sqlite3.Stmt) (rec storage.Record, err error) {
	rec.CID, err = columnCID(s, 1)
	rec.Path, rec.Rev = s.ColumnText(0), r.rev(s, 2)
	if s.ColumnCount() > 3 {
		rec.Data = s.ColumnBlob(3, nil)
	}
	return rec, err
}

// rev reads a column with a revision.
func (r *reader) rev(s *sqlite3.Stmt, col int) syntax.TID {
	if rev := s.ColumnText(col); rev != "" {
		return syntax.TID(rev)
	}
	return r.row.base
}

// newer is the condition, with one parameter, for rows of a later revision than since.
func (r *reader) newer(since syntax.TID) string {
	if r.row.base > since {
		return "(rev > ? OR rev = '')"
	}
	return "rev > ?"
}

func (r *reader) one(ctx context.Context, what any, sql string, args ...any) (rec storage.Record, err error) {
	if err := ctx.Err(); err != nil {
		return rec, err
	}
	found, err := r.c.row(func(s *sqlite3.Stmt) (err error) {
		rec, err = r.record(s)
		return err
	}, sql, args...)
	if err == nil && !found {
		err = fmt.Errorf("%w: record %v", storage.ErrNotFound, what)
	}
	return rec, fail(ctx, err)
}

func (r *reader) Record(ctx context.Context, path string) (storage.Record, error) {
	return r.one(ctx, path, recordColumns+"WHERE repo = ? AND path = ?", r.row.set, path)
}

func (r *reader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	return r.one(ctx, c, recordByCID, r.row.set, c)
}

func (r *reader) Records(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
	columns := recordColumns
	if rng.KeysOnly {
		columns = keyColumns
	}
	where, args := ranged("path", r.row.set, rng)
	return r.records(ctx, columns+where, args...)
}

func (r *reader) RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[storage.Record, error] {
	return r.records(ctx, recordColumns+"WHERE repo = ? AND "+r.newer(rev), r.row.set, rev)
}

func (r *reader) records(ctx context.Context, sql string, args ...any) iter.Seq2[storage.Record, error] {
	return each(ctx, r.c, r.record, sql, args...)
}

// each yields rows turned into values.
func each[T any](ctx context.Context, c *conn, value func(*sqlite3.Stmt) (T, error), sql string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		err := ctx.Err()
		if err != nil {
			yield(none, err)
			return
		}
		for s := range c.query(&err, sql, args...) {
			if err := ctx.Err(); err != nil {
				yield(none, err)
				return
			}
			if v, err := value(s); !yield(v, err) || err != nil {
				return
			}
		}
		if err != nil {
			yield(none, fail(ctx, err))
		}
	}
}

// ranged is the clause, and its arguments, for a range of the rows of a set or a namespace.
func ranged(column string, id int64, rng storage.Range) (where string, args []any) {
	where, args = "WHERE repo = ? AND "+column+" >= ?", []any{id, rng.From}
	if rng.To != "" {
		where += " AND " + column + " < ?"
		args = append(args, rng.To)
	}
	where += " ORDER BY " + column
	if rng.Reverse {
		where += " DESC"
	}
	return where, args
}

func (r *reader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	return each(ctx, r.c, func(s *sqlite3.Stmt) (storage.BlobRef, error) {
		blob, err := columnCID(s, 0)
		return storage.BlobRef{Blob: blob, Path: s.ColumnText(1), Rev: r.rev(s, 2)}, err
	}, "SELECT blob, path, rev FROM blob_ref WHERE repo = ? AND blob > ? AND "+r.newer(since)+" ORDER BY blob, path", r.row.set, after, since)
}

func (r *reader) HasBlobRef(ctx context.Context, blob cid.Cid) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	found, err := r.c.row(func(*sqlite3.Stmt) error { return nil }, "SELECT 1 FROM blob_ref WHERE repo = ? AND blob = ? LIMIT 1", r.row.set, blob)
	return found, fail(ctx, err)
}

func (r *reader) Get(ctx context.Context, key string) ([]byte, error) {
	return kvReader{r.c, r.row.id, r.now}.Get(ctx, key)
}

func (r *reader) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	return kvReader{r.c, r.row.id, r.now}.Keys(ctx, rng)
}
