package postgres

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/jackc/pgx/v5"
)

// parts sees to it that there are partitions for the next numbers.
type parts struct {
	// mu guards these.
	mu    sync.Mutex
	after int64 // there are partitions for the newest numbers, up to before this one
	busy  bool  // makeNext makes one
}

// ensure makes the partitions for some numbers from seq on, and the one after them, unless they are
// there.
func (p *parts) ensure(ctx context.Context, db *DB, seq, numbers int64) error {
	after, err := db.makeParts(ctx, seq, numbers)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = after
	return nil
}

// makeNext makes the next partition, in a goroutine, when the numbers approach the end of the last.
func (p *parts) makeNext(db *DB, seq int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy || seq < p.after-db.cfg.Partition.Microseconds() {
		return
	}
	p.busy = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), db.cfg.Wait)
		defer cancel()
		_ = p.ensure(ctx, db, seq, 1) // a step that finds no partition makes it
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy = false
	}()
}

// makeParts makes the partitions for some numbers from seq on and the one after them, and returns
// the number after all.
func (db *DB) makeParts(ctx context.Context, seq, numbers int64) (after int64, err error) {
	width := db.cfg.Partition.Microseconds()
	err = db.bulk.retry(ctx, func(c *conn) error {
		inner, cancel := c.pool.context(ctx)
		defer cancel()
		return pgx.BeginFunc(inner, c.Conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(inner, "SELECT pg_advisory_xact_lock($1)", db.lockKey(lockPartitions)); err != nil {
				return err
			}
			for at, more := seq, 1; more >= 0; {
				var err error
				if at, err = makePart(inner, tx, at, width); err != nil {
					return err
				}
				if after = at; after-seq >= numbers {
					more--
				}
			}
			return nil
		})
	})
	return after, err
}

// makePart returns the end of the partition for a number, which it makes if need be. It leaves
// those beside it as they are.
func makePart(ctx context.Context, tx pgx.Tx, seq, width int64) (after int64, err error) {
	var before, beyond *int64 // end of the partition before, begin of the one behind
	var found *int64
	err = tx.QueryRow(ctx, `SELECT (SELECT after FROM part WHERE first <= $1 AND after > $1),
		(SELECT max(after) FROM part WHERE after <= $1), (SELECT min(first) FROM part WHERE first > $1)`, seq).Scan(&found, &before, &beyond)
	if err != nil || found != nil {
		if found != nil {
			after = *found
		}
		return after, err
	}
	first := seq / width * width
	if after = math.MaxInt64; first < math.MaxInt64-width {
		after = first + width
	}
	if before != nil {
		first = max(first, *before)
	}
	if beyond != nil {
		after = min(after, *beyond)
	}
	name := partName(first)
	// Attaching a table locks nobody out, as making it a partition at once would.
	for _, sql := range []string{
		fmt.Sprintf("CREATE TABLE %s (LIKE event INCLUDING DEFAULTS INCLUDING STORAGE) WITH (toast_tuple_target = 8160)", name),
		fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s_range CHECK (seq >= %d AND seq < %d)", name, name, first, after),
		fmt.Sprintf("ALTER TABLE event ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)", name, first, after),
		fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s_range", name, name),
		fmt.Sprintf("INSERT INTO part (first, after) VALUES (%d, %d)", first, after),
	} {
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return 0, err
		}
	}
	return after, nil
}

func partName(first int64) string { return fmt.Sprintf("event_%d", first) }
