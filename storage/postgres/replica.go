package postgres

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Lagging returns stores that read from the standby of Config.Replica, and false if there is none.
//
// What they read is consistent, but may be older than what has been written, by as much as the
// standby lags: for exports, backups and subscribers, who do not mind and would otherwise hold up
// the primary. Steps go to the primary. Events are all those of the standby: Since, Bounds and Wait
// agree. Keys are those of the primary.
func (db *DB) Lagging() (storage.Store, bool) {
	if db.replica == nil {
		return storage.Store{}, false
	}
	return storage.Store{Repos: repos{db, db.replica}, Events: standby{events{db, db.replica, db.replica}}, KV: kv{DB: db}}, true
}

// standby is the log as a standby has it, which knows nothing of notifications.
type standby struct{ events }

// Wait polls.
func (d standby) Wait(ctx context.Context, seq int64) error {
	poll := time.NewTicker(min(d.cfg.Poll, 100*time.Millisecond))
	defer poll.Stop()
	for {
		if d.isClosed() {
			return errClosed
		}
		if found, err := d.has(ctx, seq); found || err != nil {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
