package sqlite

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/storage"
)

// Bounds of snapshots.
const (
	maxSnapshots    = 4 // that are open at the same time
	snapshotReaders = 4 // connections of one
)

var _ storage.Snapshotter = repos{}

// Snapshot implements storage.Snapshotter. It uses four connections, which start to read while the
// writer is held and so see the same state. While the snapshot is open, the -wal file cannot be
// reused from its beginning: it grows with every write, and is truncated only some time after the
// end. A snapshot ends after Config.SnapshotTime. At most four may be open; a further one gives
// storage.ErrBusy.
func (d repos) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	p := &pins{db: d.DB, free: make(chan *conn, snapshotReaders), ended: make(chan struct{})}
	if err := d.addPins(p); err != nil {
		return nil, err
	}
	if err := p.begin(ctx); err != nil {
		p.end()
		return nil, fail(ctx, err)
	}
	now, cfg := d.cfg.Now(), d.cfg
	cfg.Now = func() time.Time { return now }
	at := &DB{path: d.path, cfg: cfg, pins: p}
	view := storage.Store{Repos: repos{at}, Events: events{at}, KV: kv{DB: at}}
	return storage.NewSnapshot(view, cfg.SnapshotTime, func() error {
		p.end()
		return nil
	}), nil
}

// pins are the connections of a snapshot, which read the same as long as it is open.
type pins struct {
	db    *DB
	free  chan *conn    // those that no read uses
	ended chan struct{} // closed when the snapshot has ended

	// mu guards closed: once it is set, nothing is added to free.
	mu     sync.Mutex
	closed bool
}

// addPins notes that there is one more snapshot.
func (db *DB) addPins(p *pins) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return errClosed
	}
	if len(db.snapshots) >= maxSnapshots {
		return fmt.Errorf("%w: %d snapshots are open", storage.ErrBusy, maxSnapshots)
	}
	if db.snapshots == nil {
		db.snapshots = make(map[*pins]bool)
	}
	db.snapshots[p] = true
	return nil
}

// begin opens the connections, and lets them begin to read while nobody writes.
func (p *pins) begin(ctx context.Context) error {
	var list []*conn
	defer func() {
		for _, c := range list {
			p.release(c, true)
		}
	}()
	for range snapshotReaders {
		c, err := p.db.reader(ctx)
		if err != nil {
			return err
		}
		list = append(list, c)
	}
	return p.db.writer.do(ctx, step{exclusive: true, fn: func(*conn) error {
		for _, c := range list {
			if err := c.exec("BEGIN"); err != nil {
				return err
			}
			// It begins to read with its first statement.
			if _, err := c.row(func(*sqlite3.Stmt) error { return nil }, "SELECT 1 FROM trimmed"); err != nil {
				return err
			}
		}
		return nil
	}})
}

// with calls fn with one of the connections.
func (p *pins) with(ctx context.Context, fn func(*conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	timer := time.NewTimer(p.db.cfg.ReaderWait)
	defer timer.Stop()
	select {
	case <-p.ended:
		return storage.ErrExpired
	default:
	}
	select {
	case c := <-p.free:
		good := false
		defer func() { p.release(c, good) }()
		c.use(ctx, true)
		err := fn(c)
		good = true
		return fail(ctx, err)
	case <-p.ended:
		return storage.ErrExpired
	case <-timer.C:
		return fmt.Errorf("%w: %d readers of the snapshot were in use for %v", storage.ErrBusy, snapshotReaders, p.db.cfg.ReaderWait)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release gives a connection back: to the snapshot, or, if that has ended, to the database.
func (p *pins) release(c *conn, good bool) {
	c.use(context.Background(), false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !good {
		p.db.release(c, good)
		return
	}
	p.free <- c
}

// end gives back the connections that nobody uses. Others follow when they are given back.
func (p *pins) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	close(p.ended)
	for len(p.free) > 0 {
		p.db.release(<-p.free, true)
	}
	p.db.mu.Lock()
	defer p.db.mu.Unlock()
	delete(p.db.snapshots, p)
}

// endSnapshots ends all snapshots.
func (db *DB) endSnapshots() {
	db.mu.Lock()
	var list []*pins
	for p := range db.snapshots {
		list = append(list, p)
	}
	db.mu.Unlock()
	for _, p := range list {
		p.end()
	}
}
