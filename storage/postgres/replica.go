package postgres

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Lagging returns a store that reads from the standby of Config.Replica, or false if there is none.
//
// Its reads are consistent, but may be older than what was written, by the lag of the standby. It
// is for exports, backups and subscribers, which accept that and would otherwise load the primary.
// Steps go to the primary. Events are those of the standby: Since, Bounds and Wait agree with each
// other. Keys are those of the primary.
func (db *DB) Lagging() (storage.Store, bool) {
	if db.replica == nil {
		return storage.Store{}, false
	}
	return storage.Store{Repos: repos{db, db.replica}, Events: standby{events{db, db.replica, db.replica}}, KV: kv{DB: db}}, true
}

// standby is the log as a standby has it, which knows nothing of notifications.
type standby struct{ events }

// Wait implements storage.Events by polling.
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
