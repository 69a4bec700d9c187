package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.Loader = repos{}

// transact calls fn in a transaction, again if something was in the way.
func (db *DB) transact(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	return db.bulk.retry(ctx, func(c *conn) error {
		inner, cancel := c.pool.context(ctx)
		defer cancel()
		return pgx.BeginFunc(inner, c.Conn, func(tx pgx.Tx) error { return fn(inner, tx) })
	})
}

// Load implements storage.Loader.
func (d repos) Load(ctx context.Context, did syntax.DID, l *storage.Load) error {
	if err := d.makeRepo(ctx, did); err != nil {
		return err
	}
	return d.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var id, set int64
		if err := tx.QueryRow(ctx, "SELECT id, records FROM repo WHERE did = $1 FOR UPDATE", []byte(did)).Scan(&id, &set); err != nil {
			return err
		}
		var w writes
		w.load(id, set, l)
		var b batch
		if refs := append(l.NoRefs[:len(l.NoRefs):len(l.NoRefs)], l.Refs...); len(refs) > 0 {
			var blobs, paths [][]byte
			for _, r := range refs {
				blobs, paths = append(blobs, cidBytes(r.Blob)), append(paths, []byte(r.Path))
			}
			b.Queue("DELETE FROM blob_ref USING unnest($2::bytea[], $3::bytea[]) u (blob, path) WHERE blob_ref.set = $1 AND blob_ref.blob = u.blob AND blob_ref.path = u.path", set, blobs, paths)
		}
		w.queueRows(&b)
		return tx.SendBatch(ctx, &b.Batch).Close()
	})
}

// makeRepo makes the row of a repository that is loaded, if there is none. The number for it is
// taken before a connection is: it may need one itself.
func (d repos) makeRepo(ctx context.Context, did syntax.DID) error {
	found := false
	err := d.lookups.retry(ctx, func(c *conn) (err error) {
		found, err = c.one(ctx, func(row) error { return nil }, "SELECT id FROM repo WHERE did = $1", []byte(did))
		return err
	})
	if err != nil || found {
		return err
	}
	id, err := d.numbers.next(ctx, d.DB)
	if err != nil {
		return err
	}
	return d.bulk.retry(ctx, func(c *conn) error {
		_, err := c.exec(ctx, "INSERT INTO repo (id, did, commit_cid, data_cid, rev, block, base, records) VALUES ($1, $2, '', '', '', '', '', $1) ON CONFLICT (did) DO NOTHING", id, []byte(did))
		return err
	})
}

// load adds parts of a repository.
func (o *writes) load(id, set int64, l *storage.Load) {
	for i := range l.Records {
		r := &l.Records[i]
		if !r.CID.Defined() {
			o.deleted.sets, o.deleted.paths = append(o.deleted.sets, set), append(o.deleted.paths, []byte(r.Path))
			continue
		}
		t := &o.records
		t.sets, t.paths, t.cids = append(t.sets, set), append(t.paths, []byte(r.Path)), append(t.cids, r.CID.Bytes())
		t.revs, t.data = append(t.revs, []byte(r.Rev)), append(t.data, nonNil(r.Data))
	}
	for _, r := range l.Refs {
		f := &o.refs
		f.sets, f.blobs, f.paths, f.revs = append(f.sets, set), append(f.blobs, cidBytes(r.Blob)), append(f.paths, []byte(r.Path)), append(f.revs, []byte(r.Rev))
	}
	o.addKeys(l.KV, id)
	if head := l.Head; head != (storage.Head{}) {
		h := &o.heads
		h.ids, h.commits, h.data = append(h.ids, id), append(h.commits, cidBytes(head.Commit)), append(h.data, cidBytes(head.Data))
		h.revs, h.block = append(h.revs, []byte(head.Rev)), append(h.block, nonNil(l.Commit))
	}
}

// Unload implements storage.Loader.
func (d repos) Unload(ctx context.Context, did syntax.DID) error {
	err := d.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "WITH r AS (DELETE FROM repo WHERE did = $1 RETURNING id, records) INSERT INTO loose (records, repo, expires) SELECT records, id, 0 FROM r", []byte(did))
		return err
	})
	if err != nil {
		return err
	}
	return d.sweep(ctx)
}

// LoadEvents implements storage.Loader. It makes the partitions that the numbers need.
func (d repos) LoadEvents(ctx context.Context, l *storage.LoadEvents) error {
	seqs, after := append([]int64(nil), l.Drop...), int64(0)
	var e struct {
		seqs, times, weights  []int64
		dids, kinds, payloads [][]byte
	}
	newest := l.Newest
	for i := range l.Events {
		ev := &l.Events[i]
		if ev.Seq >= after {
			var err error
			if after, err = d.makePart(ctx, ev.Seq); err != nil {
				return err
			}
		}
		seqs, newest = append(seqs, ev.Seq), max(newest, ev.Seq)
		e.seqs, e.times, e.weights = append(e.seqs, ev.Seq), append(e.times, ev.Time.UnixMilli()), append(e.weights, ev.Numbers())
		e.dids, e.kinds, e.payloads = append(e.dids, []byte(ev.DID)), append(e.kinds, []byte(ev.Kind)), append(e.payloads, nonNil(ev.Payload))
	}
	err := d.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var b batch
		if len(seqs) > 0 {
			b.Queue("DELETE FROM event WHERE seq = ANY($1)", seqs)
		}
		if len(e.seqs) > 0 {
			b.Queue("INSERT INTO event (seq, did, kind, payload, time, weight) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[])", e.seqs, e.dids, e.kinds, e.payloads, e.times, e.weights)
		}
		b.Queue("UPDATE trimmed SET newest = greatest(newest, $1)", l.Oldest-1)
		b.Queue("UPDATE log SET last = greatest(last, $1)", newest)
		return tx.SendBatch(ctx, &b.Batch).Close()
	})
	if err == nil {
		d.announce(newest)
	}
	return err
}

// makePart makes the partition for a number, if need be, and returns the number after it.
func (db *DB) makePart(ctx context.Context, seq int64) (after int64, err error) {
	err = db.transact(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", db.lockKey(lockPartitions)); err != nil {
			return err
		}
		after, err = makePart(ctx, tx, seq, db.cfg.Partition.Microseconds())
		return err
	})
	return after, err
}
