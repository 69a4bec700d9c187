package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrUnknown: the connection was lost during a commit, and the outcome could not be found out
// within Config.Wait. Read the head again to find out.
var ErrUnknown = errors.New("postgres: it is not known whether the step was carried out")

// Lanes of a process. The transactions of one lane run one after another.
const (
	laneSteps = iota
	laneKV
)

// lane numbers transactions, so that the outcome of one can be found out.
//
// A transaction locks the lane's row first and writes its number last. When the connection breaks
// at the end, a new one locks the row too. It gets the lock when the transaction has ended, and not
// while its last statements may still be on their way: and then the number in the row tells.
type lane struct {
	db   *DB
	id   int64
	last int64 // number of the newest transaction
}

// next returns a number for a transaction.
func (l *lane) next() int64 {
	l.last++
	return l.last
}

// lock queues the statement that locks the row. found is set if there is one.
func (l *lane) lock(b *batch, found *bool) {
	b.each(func(row) error { *found = true; return nil },
		"SELECT last FROM ticket WHERE node = $1 AND lane = $2 FOR UPDATE", l.db.node[:], l.id)
}

// writeNumber queues the statement that writes the number of a transaction which has no event.
func (l *lane) writeNumber(b *batch, number int64) {
	b.Queue("UPDATE ticket SET last = $3, seen = now() WHERE node = $1 AND lane = $2", l.db.node[:], l.id, number)
}

// register adds the row. It may have been deleted since, if this process has slept for long.
func (l *lane) register(ctx context.Context) error {
	return l.db.lanes.retry(ctx, func(c *conn) error {
		_, err := c.exec(ctx, "INSERT INTO ticket (node, lane, last, seq, seen) VALUES ($1, $2, 0, 0, now()) ON CONFLICT (node, lane) DO NOTHING", l.db.node[:], l.id)
		return err
	})
}

// outcome finds out whether a transaction was committed, and the newest number it assigned to
// events.
func (l *lane) outcome(number int64) (committed bool, seq int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.db.cfg.Wait)
	defer cancel()
	for {
		var last int64
		var b batch
		b.Queue("BEGIN")
		b.each(func(r row) error {
			last, seq = r.int(0), r.int(1)
			return nil
		}, "SELECT last, seq FROM ticket WHERE node = $1 AND lane = $2 FOR UPDATE", l.db.node[:], l.id)
		b.Queue("COMMIT")
		c, err := l.db.lanes.take(ctx)
		if err == nil {
			if err = c.send(ctx, &b); err == nil {
				c.end()
				return last == number, seq, nil
			}
			c.end()
			if blocked(err) {
				l.db.endStalledSessions(ctx)
			}
		}
		if ctx.Err() != nil || err != nil && !transient(err) && !errors.Is(err, context.DeadlineExceeded) {
			return false, 0, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// endStalledSessions ends the sessions of nodes that hold locks here and stand still. The server's
// own timeouts do that too, save where the connection was cut in the middle of statements that were
// sent together.
func (db *DB) endStalledSessions(ctx context.Context) {
	_ = db.bulk.retry(ctx, func(c *conn) error {
		_, err := c.exec(ctx, `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid()
			AND a.datname = current_database() AND a.usename = current_user AND a.wait_event = 'ClientRead' AND a.state_change < clock_timestamp() - $1 * interval '1 millisecond'
			AND EXISTS (SELECT 1 FROM pg_locks l JOIN pg_class t ON t.oid = l.relation
				WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.granted AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
				AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND t.relnamespace = current_schema()::regnamespace)`,
			db.cfg.Timeout.Milliseconds())
		return err
	})
}
