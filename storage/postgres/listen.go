package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
)

// channel is that of the schema's notifications.
func (db *DB) channel() string { return fmt.Sprintf("pdskit_%x", uint64(db.lockKey(0))) }

// notifyNodes notifies other nodes of events, once for all that came meanwhile. It is no part of
// the steps: a notification holds a lock of the whole server until its transaction is committed.
func (db *DB) notifyNodes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-db.notify:
		}
		c, err := db.bulk.take(ctx)
		if err != nil {
			continue // they poll
		}
		_, _ = c.exec(ctx, "SELECT pg_notify($1, '')", db.channel())
		c.end()
	}
}

// listen looks for events of other nodes when they notify, and now and then.
func (db *DB) listen(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := db.lookups.take(ctx)
		if err == nil {
			db.follow(ctx, c)
			c.drop() // it must not go on to listen
		}
		sleep.For(ctx, min(db.cfg.Poll, time.Second))
	}
}

// follow listens on one connection until it breaks.
func (db *DB) follow(ctx context.Context, c *conn) {
	if err := db.join(ctx, c); err != nil {
		var outdated *VersionError
		if errors.As(err, &outdated) {
			db.outdated.Store(outdated)
		}
		return
	}
	if _, err := c.exec(ctx, "LISTEN "+pgIdentifier(db.channel())); err != nil {
		return
	}
	for {
		found := false
		var newest int64
		var b batch
		b.each(func(r row) error {
			found, newest = true, r.int(0)
			return nil
		}, "SELECT last FROM log")
		if err := c.send(ctx, &b); err != nil {
			return
		}
		if found {
			db.advance(newest)
		}
		limited, cancel := context.WithTimeout(ctx, db.cfg.Poll)
		_, err := c.Conn.Conn().WaitForNotification(limited)
		cancel()
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || c.Conn.Conn().IsClosed()) {
			return
		}
	}
}

// advance takes in the newest number of the database.
func (db *DB) advance(newest int64) {
	served := db.newest.Load()
	if newest >= served {
		db.behind.Store(0)
		db.announce(newest)
		return
	}
	// A step of this process may have been committed since newest was read.
	if db.cfg.Behind == nil || db.behind.Load() == newest+1 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), db.cfg.Timeout)
	defer cancel()
	if _, now, err := db.bounds(ctx, db.lookups); err == nil && now < served && db.behind.Swap(now+1) != now+1 {
		db.cfg.Behind(now, served)
	}
}
