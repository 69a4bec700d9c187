package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// sweep deletes the sets that nobody needs, and the events and keys of repositories that were
// deleted, in transactions of bounded size.
func (db *DB) sweep(ctx context.Context) error {
	if err := db.expireDropped(ctx); err != nil {
		return err
	}
	for more := true; more; {
		var sets, gone bool
		// Most of the time there is nothing, which one look tells. A set that has expired is
		// marked before anything of it is deleted: so it cannot be taken for whole.
		err := db.bulk.retry(ctx, func(c *conn) error {
			sets, gone = false, false
			var b batch
			b.each(func(r row) error {
				sets, gone = r.int(0) > 0, r.int(1) > 0
				return nil
			}, "SELECT (SELECT count(*) FROM (SELECT 1 FROM loose WHERE expires <= $1 LIMIT 1) x), (SELECT count(*) FROM (SELECT 1 FROM gone LIMIT 1) x)", db.cfg.Now().UnixMicro())
			return c.send(ctx, &b)
		})
		if err != nil {
			return err
		}
		more = false
		if gone {
			if err := db.sweepEvents(ctx); err != nil {
				return err
			}
		}
		if sets {
			if more, err = db.sweepSet(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepSet deletes some rows of a set, or, when there are none left, the set. It leaves sets
// alone that another process is at.
func (db *DB) sweepSet(ctx context.Context) (found bool, err error) {
	err = db.bulk.retry(ctx, func(c *conn) error {
		found = false
		if _, err := c.exec(ctx, "UPDATE loose SET expires = 0 WHERE expires > 0 AND expires <= $1", db.cfg.Now().UnixMicro()); err != nil {
			return err
		}
		inner, cancel := c.pool.context(ctx)
		defer cancel()
		return pgx.BeginFunc(inner, c.Conn, func(tx pgx.Tx) error {
			var set, repo int64
			err := tx.QueryRow(inner, "SELECT records, repo FROM loose WHERE expires = 0 ORDER BY records LIMIT 1 FOR UPDATE SKIP LOCKED").Scan(&set, &repo)
			if err == pgx.ErrNoRows {
				return nil
			} else if err != nil {
				return err
			}
			found = true
			for _, sql := range []string{
				"DELETE FROM record WHERE ctid = ANY(ARRAY(SELECT ctid FROM record WHERE set = $1 ORDER BY path LIMIT $2))",
				"DELETE FROM blob_ref WHERE ctid = ANY(ARRAY(SELECT ctid FROM blob_ref WHERE set = $1 ORDER BY path LIMIT $2))",
			} {
				if tag, err := tx.Exec(inner, sql, set, batchRecords); err != nil || tag.RowsAffected() > 0 {
					return err
				}
			}
			tag, err := tx.Exec(inner, "DELETE FROM account_key WHERE ctid = ANY(ARRAY(SELECT ctid FROM account_key WHERE repo = $1 ORDER BY key LIMIT $2))", repo, batchRecords)
			if err != nil || tag.RowsAffected() > 0 {
				return err
			}
			_, err = tx.Exec(inner, "DELETE FROM loose WHERE records = $1", set)
			return err
		})
	})
	return found, err
}

// sweepEvents deletes the events of repositories that were deleted, and then the notes that they
// are gone. It holds no lock on a note, which a step may have to wait for.
func (db *DB) sweepEvents(ctx context.Context) error {
	for {
		var did syntax.DID
		var seq int64
		found := false
		err := db.bulk.retry(ctx, func(c *conn) (err error) {
			found, err = c.one(ctx, func(r row) error {
				did, seq = syntax.DID(r.string(0)), r.int(1)
				return nil
			}, "SELECT did, seq FROM gone ORDER BY did LIMIT 1")
			return err
		})
		if err != nil || !found {
			return err
		}
		err = db.pieces(ctx, "DELETE FROM event WHERE did = $1 AND seq <= (SELECT max(seq) FROM (SELECT seq FROM event WHERE did = $1 AND seq <= $2 AND seq > (SELECT hidden FROM trimmed) ORDER BY seq LIMIT 1000) x) AND seq > (SELECT hidden FROM trimmed)", []byte(did), seq)
		if err != nil {
			return err
		}
		err = db.bulk.retry(ctx, func(c *conn) error {
			_, err := c.exec(ctx, "DELETE FROM gone WHERE did = $1 AND seq = $2", []byte(did), seq)
			return err
		})
		if err != nil {
			return err
		}
	}
}

// expireDropped makes the sets that failed calls of Replace have left expire at once.
func (db *DB) expireDropped(ctx context.Context) error {
	db.mu.Lock()
	dropped := slices.Clone(db.dropped)
	db.mu.Unlock()
	if len(dropped) == 0 {
		return nil
	}
	err := db.bulk.retry(ctx, func(c *conn) error {
		_, err := c.exec(ctx, "UPDATE loose SET expires = 0 WHERE records = ANY($1)", dropped)
		return err
	})
	if err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.dropped = slices.DeleteFunc(db.dropped, func(set int64) bool { return slices.Contains(dropped, set) })
	return nil
}
