package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// trimRows is how many rows are deleted in one transaction.
const trimRows = 1000

// Trim implements storage.Events. It hides the old events at the beginning of the log, by the
// number of the last of them, and drops partitions that have no others. Further on in the log, it
// deletes events whose time is too old; these are few or none. It also deletes expired keys,
// records that interrupted calls of Replace have left, and the rows of processes that are gone.
func (d events) Trim(ctx context.Context, t time.Time) error {
	if err := d.trimBegin(ctx, t); err != nil {
		return err
	}
	if err := d.dropParts(ctx); err != nil {
		return err
	}
	if err := d.trimRest(ctx, t); err != nil {
		return err
	}
	for _, table := range []string{"host_key", "account_key"} {
		sql := fmt.Sprintf("DELETE FROM %[1]s WHERE ctid = ANY(ARRAY(SELECT ctid FROM %[1]s WHERE expires <= $1 ORDER BY expires LIMIT %[2]d FOR UPDATE SKIP LOCKED))", table, trimRows)
		if err := d.pieces(ctx, sql, d.cfg.Now().UnixMicro()); err != nil {
			return err
		}
	}
	if err := d.pieces(ctx, "DELETE FROM ticket WHERE seen < now() - interval '1 day' AND node <> $1", d.node[:]); err != nil {
		return err
	}
	return d.sweep(ctx)
}

// pieces runs a statement that deletes some rows until there are less to delete.
func (db *DB) pieces(ctx context.Context, sql string, args ...any) error {
	for rows := int64(trimRows); rows >= trimRows; {
		err := db.bulk.retry(ctx, func(c *conn) (err error) {
			rows, err = c.exec(ctx, sql, args...)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// trimBegin hides the events before the first one that stays, a partition at a time.
func (d events) trimBegin(ctx context.Context, t time.Time) error {
	for more := true; more; {
		err := d.bulk.retry(ctx, func(c *conn) error {
			inner, cancel := c.pool.context(ctx)
			defer cancel()
			return pgx.BeginFunc(inner, c.Conn, func(tx pgx.Tx) (err error) {
				more, err = hide(inner, tx, t)
				return err
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// hide hides the events before the first one that stays, of one partition, and reports whether none
// of them stays and there is another partition.
func hide(ctx context.Context, tx pgx.Tx, t time.Time) (more bool, err error) {
	var hidden, last, end int64
	if err := tx.QueryRow(ctx, "SELECT hidden FROM trimmed FOR UPDATE").Scan(&hidden); err != nil {
		return false, err
	}
	// All events up to last are visible to the statements that follow.
	err = tx.QueryRow(ctx, "SELECT last, least(last + 1, (SELECT min(after) FROM part WHERE after > $1)) FROM log", hidden+1).Scan(&last, &end)
	if err != nil {
		return false, err
	}
	var first *int64
	err = tx.QueryRow(ctx, "SELECT (SELECT seq FROM event WHERE seq > $1 AND seq < $2 AND time >= $3 ORDER BY seq LIMIT 1)", hidden, end, t.UnixMilli()).Scan(&first)
	if err != nil {
		return false, err
	}
	to := end - 1
	if first != nil {
		to = *first - 1
	}
	if to <= hidden {
		return false, nil
	}
	_, err = tx.Exec(ctx, `UPDATE trimmed SET hidden = $1, newest = coalesce((SELECT seq FROM event
		WHERE seq > $2 AND seq <= $1 AND NOT EXISTS (SELECT 1 FROM gone WHERE gone.did = event.did AND gone.seq >= event.seq) ORDER BY seq DESC LIMIT 1), newest)`, to, hidden)
	return first == nil && to < last, err
}

// trimRest deletes events that are older than others before them.
func (d events) trimRest(ctx context.Context, t time.Time) error {
	for rows := int64(trimRows); rows >= trimRows; {
		err := d.bulk.retry(ctx, func(c *conn) error {
			inner, cancel := c.pool.context(ctx)
			defer cancel()
			return pgx.BeginFunc(inner, c.Conn, func(tx pgx.Tx) error {
				if _, err := tx.Exec(inner, "SET LOCAL enable_bitmapscan = on", pgx.QueryExecModeSimpleProtocol); err != nil {
					return err
				}
				return tx.QueryRow(inner, `WITH d AS (DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE time < $1 AND seq > (SELECT hidden FROM trimmed) LIMIT $2) RETURNING seq, did),
					u AS (UPDATE trimmed SET newest = greatest(newest, (SELECT max(seq) FROM d WHERE NOT EXISTS (SELECT 1 FROM gone WHERE gone.did = d.did AND gone.seq >= d.seq))))
					SELECT count(*) FROM d`, t.UnixMilli(), trimRows).Scan(&rows)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropParts drops the partitions that have nothing but hidden events. It locks readers out while it
// does, which is short, and gives up for this time where it would have to wait.
func (d events) dropParts(ctx context.Context) error {
	for {
		dropped := false
		err := d.bulk.retry(ctx, func(c *conn) error {
			inner, cancel := c.pool.context(ctx)
			defer cancel()
			dropped = false
			err := pgx.BeginFunc(inner, c.Conn, func(tx pgx.Tx) error {
				var first *int64
				if _, err := tx.Exec(inner, "SET LOCAL lock_timeout = '100ms'", pgx.QueryExecModeSimpleProtocol); err != nil {
					return err
				}
				if _, err := tx.Exec(inner, "SELECT pg_advisory_xact_lock($1)", d.lockKey(lockPartitions)); err != nil {
					return err
				}
				if err := tx.QueryRow(inner, "SELECT min(first) FROM part WHERE after <= (SELECT hidden FROM trimmed)").Scan(&first); err != nil || first == nil {
					return err
				}
				if _, err := tx.Exec(inner, "DROP TABLE "+partName(*first), pgx.QueryExecModeSimpleProtocol); err != nil {
					return err
				}
				_, err := tx.Exec(inner, "DELETE FROM part WHERE first = $1", *first)
				dropped = err == nil
				return err
			})
			if code(err) == codeLockTimeout {
				dropped, err = false, nil
			}
			return err
		})
		if err != nil || !dropped {
			return err
		}
	}
}
