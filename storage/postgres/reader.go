package postgres

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// snapshot begins a transaction in which all statements see the same.
const snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

// view calls fn with a connection that has a snapshot, once what queue has queued was carried out
// in it. Its end is sent to the server without waiting for the answer.
func (p *pool) view(ctx context.Context, queue func(b *batch), check func() error, fn func(c *conn) error) error {
	var held *conn
	err := p.hold(ctx, queue, check, &held)
	if err != nil {
		return err
	}
	defer func() { go held.end() }()
	return fn(held)
}

// hold takes a connection and begins a snapshot.
func (p *pool) hold(ctx context.Context, queue func(b *batch), check func() error, held **conn) error {
	begin := time.Now()
	for {
		c, err := p.take(ctx)
		if err != nil {
			return err
		}
		var b batch
		if p.pin == "" {
			b.Queue(snapshot)
		}
		queue(&b)
		if err = c.send(ctx, &b); err == nil {
			if err = check(); err == nil {
				*held = c
				return nil
			}
			go c.end()
			return err
		}
		c.end()
		switch {
		case ctx.Err() != nil || !transient(err):
			return fail(ctx, err)
		case time.Since(begin) > p.wait:
			return busy(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (d repos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	r := &reader{now: d.cfg.Now()}
	found := false
	return d.from.view(ctx, func(b *batch) {
		found = false
		b.each(func(row row) (err error) {
			found = true
			r.row, err = row.repo(0)
			return err
		}, "SELECT "+repoColumns+" FROM repo WHERE did = $1", []byte(did))
	}, func() error {
		if !found {
			return missing(did)
		}
		return nil
	}, func(c *conn) error {
		r.c = c
		return fn(r)
	})
}

// reader is a snapshot of one repository.
type reader struct {
	c   *conn
	row repoRow
	now time.Time
}

var _ storage.Reader = (*reader)(nil)

func (r *reader) Head() storage.Head { return r.row.head }

// one runs a query of one row at most.
func (c *conn) one(ctx context.Context, fn func(row) error, sql string, args ...any) (found bool, err error) {
	var b batch
	b.each(func(r row) error {
		found = true
		return fn(r)
	}, sql, args...)
	err = c.send(ctx, &b)
	return found, fail(ctx, err)
}

func (r *reader) Commit(ctx context.Context) (block []byte, err error) {
	if r.row.head == (storage.Head{}) {
		return nil, fmt.Errorf("%w: the account has no commit", storage.ErrNotFound)
	}
	found, err := r.c.one(ctx, func(row row) error {
		block = row.bytes(0)
		return nil
	}, "SELECT block FROM repo WHERE id = $1", r.row.id)
	if err == nil && !found {
		err = fmt.Errorf("%w: repository has no row", storage.ErrCorrupt)
	}
	return block, err
}

// rev reads a column with a revision.
func (r *reader) rev(row row, col int) syntax.TID {
	if len(row[col]) == 0 {
		return r.row.base
	}
	return syntax.TID(row.string(col))
}

func (r *reader) record(row row) (rec storage.Record, err error) {
	rec.CID, err = row.cid(1)
	rec.Path, rec.Rev = row.string(0), r.rev(row, 2)
	if len(row) > 3 {
		rec.Data = row.bytes(3)
	}
	return rec, err
}

func (r *reader) oneRecord(ctx context.Context, what any, sql string, args ...any) (rec storage.Record, err error) {
	found, err := r.c.one(ctx, func(row row) error {
		rec, err = r.record(row)
		return err
	}, "SELECT path, cid, rev, data FROM record WHERE set = $1 AND "+sql, args...)
	if err == nil && !found {
		err = fmt.Errorf("%w: record %v", storage.ErrNotFound, what)
	}
	return rec, err
}

func (r *reader) Record(ctx context.Context, path string) (storage.Record, error) {
	return r.oneRecord(ctx, path, "path = $2", r.row.set, []byte(path))
}

func (r *reader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	return r.oneRecord(ctx, c, "cid = $2 LIMIT 1", r.row.set, cidBytes(c))
}

func (r *reader) HasBlobRef(ctx context.Context, blob cid.Cid) (bool, error) {
	return r.c.one(ctx, func(row) error { return nil }, "SELECT 1::bigint FROM blob_ref WHERE set = $1 AND blob = $2 LIMIT 1", r.row.set, cidBytes(blob))
}

func (r *reader) Records(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
	q := &ranged{table: "record", key: "path", space: "set", id: r.row.set, columns: "cid, rev", data: "data", Range: rng}
	return read(ctx, r.c, q.next, r.record, func(rec storage.Record) { q.after(rec.Path) })
}

func (r *reader) RecordsSince(ctx context.Context, since syntax.TID) iter.Seq2[storage.Record, error] {
	q := &ranged{table: "record", key: "path", space: "set", id: r.row.set, columns: "cid, rev", data: "data"}
	q.where, q.args = r.newer(since), []any{[]byte(since)}
	return read(ctx, r.c, q.next, r.record, func(rec storage.Record) { q.after(rec.Path) })
}

// newer is the condition, with the parameter $1, for rows of a later revision than since.
func (r *reader) newer(since syntax.TID) string {
	if r.row.base > since {
		return "(rev > $1 OR rev = '')"
	}
	return "rev > $1"
}

func (r *reader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	blob, path := cidBytes(after), []byte(nil) // nil: all paths of the blob are passed
	next := func(p *page) (string, []any) {
		from := "blob > $3"
		if path != nil {
			from = "(blob, path) > ($3, $5)"
		}
		sql := "SELECT blob, path, rev FROM blob_ref WHERE set = $2 AND " + from + " AND " + r.newer(since) + " ORDER BY blob, path LIMIT $4"
		args := []any{[]byte(since), r.row.set, blob, p.rows}
		if path != nil {
			args = append(args, path)
		}
		return sql, args
	}
	return read(ctx, r.c, next, func(row row) (storage.BlobRef, error) {
		c, err := row.cid(0)
		return storage.BlobRef{Blob: c, Path: row.string(1), Rev: r.rev(row, 2)}, err
	}, func(ref storage.BlobRef) { blob, path = cidBytes(ref.Blob), []byte(ref.Path) })
}

func (r *reader) Get(ctx context.Context, key string) ([]byte, error) {
	return accountKeys(r.row.id).get(ctx, r.c, key, r.now)
}

func (r *reader) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	return accountKeys(r.row.id).keys(ctx, r.c, rng, r.now)
}
