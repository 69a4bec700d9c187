package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.Snapshotter = repos{}

// SQLSTATE codes that mean that an exported snapshot no longer exists.
const (
	codeNoSnapshot    = "22023"
	codeSnapshotEnded = "55000"
)

// Snapshot implements storage.Snapshotter. It is a transaction that exports its snapshot to the
// transactions of the calls. It takes one connection of Config.Readers until it is closed, and each
// reading call takes another one. At most a quarter of the connections may be snapshots; a further
// one gives storage.ErrBusy.
//
// While it is open, the server keeps what is overwritten and deleted in all tables, as for any long
// transaction: VACUUM cannot remove it, so tables grow. Trim hides events, but drops no partition.
// A snapshot ends after Config.SnapshotTime, which the server enforces too, and when its connection
// breaks.
func (d repos) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	select {
	case d.snapshots <- struct{}{}:
	default:
		return nil, fmt.Errorf("%w: %d snapshots are open", storage.ErrBusy, cap(d.snapshots))
	}
	holder, name, err := d.export(ctx)
	if err != nil {
		<-d.snapshots
		return nil, err
	}
	now, cfg, pinned := d.cfg.Now(), d.cfg, *d.from
	cfg.Now = func() time.Time { return now }
	pinned.pin = name
	at := &DB{cfg: cfg, reads: &pinned, lookups: &pinned}
	view := storage.Store{Repos: repos{at, at.reads}, Events: events{at, at.reads, at.lookups}, KV: kv{DB: at}}
	var s storage.Snapshot
	d.mu.Lock()
	defer d.mu.Unlock()
	s = storage.NewSnapshot(view, cfg.SnapshotTime, func() error {
		d.mu.Lock()
		delete(d.open, s)
		d.mu.Unlock()
		holder.end()
		<-d.snapshots
		return nil
	})
	d.open[s] = true
	return s, nil
}

// endSnapshots ends all snapshots.
func (db *DB) endSnapshots() {
	db.mu.Lock()
	list := slices.Collect(maps.Keys(db.open))
	db.mu.Unlock()
	for _, s := range list {
		_ = s.Close()
	}
}

// export begins a transaction whose snapshot others may have, under a name.
func (d repos) export(ctx context.Context) (holder *conn, name string, err error) {
	err = d.from.retry(ctx, func(c *conn) error {
		var b batch
		b.Queue(snapshot)
		b.Queue(fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %s", milliseconds(d.cfg.SnapshotTime+d.cfg.Timeout)))
		// No partition may go: what is dropped is gone for old snapshots too.
		b.Queue("LOCK TABLE ONLY event IN ACCESS SHARE MODE")
		b.each(func(r row) error {
			name = r.string(0)
			return nil
		}, "SELECT pg_export_snapshot()")
		if err := c.send(ctx, &b); err != nil {
			return err
		}
		holder = c.keep()
		return nil
	})
	return holder, name, err
}

// keep takes the connection away from the function that was called with it, whose end would end the
// transaction.
func (c *conn) keep() *conn {
	kept := &conn{Conn: c.Conn, pool: c.pool}
	c.kept = true
	return kept
}

// enter begins a transaction that sees what the snapshot does.
func (c *conn) enter(ctx context.Context) error {
	inner, cancel := c.pool.context(ctx)
	defer cancel()
	_, err := c.Exec(inner, snapshot+"; SET TRANSACTION SNAPSHOT '"+c.pool.pin+"'", pgx.QueryExecModeSimpleProtocol)
	if code := code(err); code == codeNoSnapshot || code == codeSnapshotEnded {
		err = errors.Join(storage.ErrExpired, err)
	}
	return err
}
