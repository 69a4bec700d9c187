// Package sqlite keeps a store in one SQLite file. It is the default for an embedded host. Blobs
// are files in a folder beside it (package blobfs).
//
// # One writer, many readers
//
// The file is in WAL mode. One connection writes. Steps that arrive while it is busy share its next
// transaction, so many accounts share one fsync. A step that fails does not affect the others: it
// is rolled back alone, or the others run again. Readers have their own connections, each with its
// own snapshot. They do not wait for the writer, and it does not wait for them. Checkpoints block
// the writer only in their last phase. A step is on disk when its method returns
// (synchronous=FULL), unless Config.Relaxed is set.
//
// # Damage
//
// Every page of the database has a checksum. A wrong checksum, or any other contradiction, gives
// storage.ErrCorrupt when it is read. There is one exception: the -wal file of a killed process,
// which has the steps since the last checkpoint. SQLite cannot tell damage in it from the place
// where writing stopped. So it silently drops the steps behind the damage, each as a whole; those
// before it are intact.
//
// Records are rows in path order. Nodes of the tree are not stored. SQLite itself remembers the
// newest sequence number when events are deleted (AUTOINCREMENT).
//
// # Driver
//
// The driver is github.com/ncruces/go-sqlite3: SQLite compiled to WebAssembly and translated to Go,
// without cgo, used through its own API. Measured on 2 cores of a virtual machine against
// modernc.org/sqlite (database/sql), the other pure Go driver:
//
//	                                        ncruces   modernc
//	one-row transaction, synchronous=NORMAL   47 µs     73 µs
//	one-row transaction, synchronous=FULL    199 µs    295 µs
//	open, read a row, close (small file)    0.66 ms   0.46 ms
//	memory per open database                314 KiB   142 KiB
//
// A host that keeps all accounts in one file depends on the speed of writes, so the first two lines
// decided.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/sqlitevfs"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
)

// Config configures a database. The zero value works.
type Config struct {
	// Relaxed trades durability for speed (synchronous=NORMAL): after a power failure, the last
	// moments may be lost. After a crash of the process, nothing is lost. The file stays consistent
	// in both cases.
	Relaxed bool
	// Readers bounds the connections for reading; further readers wait. A function passed to View
	// or Read that itself calls View or Read needs two connections. Each connection takes up to 5
	// MB of memory. Two more connections serve single rows, such as heads and the bounds of the
	// log, so that those do not wait for long Views. 0: 32.
	Readers int
	// ReaderWait bounds how long a call waits for such a connection. After that the error is
	// storage.ErrBusy, so that nested calls cannot wait for each other forever. 0: 10 seconds.
	ReaderWait time.Duration
	// Poll is how often Wait looks for events of other processes that have the file open. Events of
	// this process are seen at once. 0: one second.
	Poll time.Duration
	// SnapshotTime is how long a snapshot may stay open. 0: one hour.
	SnapshotTime time.Duration
	// Now is the clock, for sequence numbers and expiry. Nil: time.Now.
	Now func() time.Time
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	path        string
	cfg         Config
	blobs       *blobfs.Store
	writer      writer
	checkpoints checkpoints

	slots       chan struct{} // one per reader in use
	lookupSlots chan struct{} // more of them, for look-ups
	pins        *pins         // not nil: this is the view of a snapshot, which has no more than path and cfg
	newest      atomic.Int64  // newest sequence number seen

	// mu guards these.
	mu        sync.Mutex
	idle      []*conn // open connections that no reader uses
	closed    bool
	snapshots map[*pins]bool // that are open
	dropped   []int64        // sets of failed calls of Replace
	changed   chan struct{}  // closed and replaced when newest grows
}

// Open opens the database in the file path, and creates the file and its folder if necessary. Blobs
// are in the folder path + ".blobs". Several processes may have the file open. A file with an older
// schema is migrated. A file with a newer schema gives a *VersionError, and one of another
// application [ErrForeign].
func Open(ctx context.Context, path string, cfg Config) (*DB, error) {
	if path == "" {
		return nil, errors.New("sqlite: the path is empty")
	}
	if cfg.Readers <= 0 {
		cfg.Readers = 32
	}
	if cfg.ReaderWait <= 0 {
		cfg.ReaderWait = 10 * time.Second
	}
	if cfg.Poll <= 0 {
		cfg.Poll = time.Second
	}
	if cfg.SnapshotTime <= 0 {
		cfg.SnapshotTime = time.Hour
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := durablefile.MkdirAll(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, fail(ctx, err)
	}
	// A process may have died after it wrote a step, and before it flushed it: that step counts from
	// now on.
	if err := durablefile.Sync(path + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fail(ctx, err)
	}
	db := &DB{path: path, cfg: cfg, slots: make(chan struct{}, cfg.Readers), lookupSlots: make(chan struct{}, quickReaders), changed: make(chan struct{})}
	w, err := db.connect(ctx)
	if err != nil {
		return nil, err
	}
	db.writer.init(w, func() { db.checkpoints.committed(w) })
	if err := db.setUp(ctx, w); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if db.blobs, err = blobfs.Open(path+".blobs", blobfs.Config{Now: cfg.Now}); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return db, nil
}

// create makes the file, empty but for the header that gives every page a checksum, if there is
// none. It appears as a whole, so that no other process opens one without that header.
func create(path string) error {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().IsRegular() && info.Size() == 0 {
			return sqlitevfs.Create(path)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp, err := newFile(path)
	if err != nil {
		return err
	}
	if err = sqlitevfs.Create(temp); err == nil {
		err = publish(temp, path)
	}
	if errors.Is(err, fs.ErrExist) { // another process was faster
		err = nil
	}
	return errors.Join(err, removeFile(temp))
}

// newFile makes an empty file beside the one that it will become.
func newFile(path string) (temp string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // of mode 0600
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// publish gives a file that is complete its name, to last. It takes no other file's place
// (fs.ErrExist).
func publish(temp, path string) error {
	err := os.Link(temp, path)
	if err != nil && !errors.Is(err, fs.ErrExist) { // a file system without links
		if _, err := os.Lstat(path); err == nil {
			return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
		err = os.Rename(temp, path)
	}
	if err != nil {
		return err
	}
	return durablefile.SyncDir(filepath.Dir(path))
}

// removeFile removes a database that is not open, and what SQLite may have left beside it.
func removeFile(path string) (err error) {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if e := os.Remove(path + suffix); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// setUp brings the schema up to date and reads the newest sequence number.
func (db *DB) setUp(ctx context.Context, w *conn) error {
	w.use(ctx, true)
	defer w.use(context.Background(), false)
	pragmas := "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-16000"
	if db.cfg.Relaxed {
		pragmas += "; PRAGMA synchronous=NORMAL"
	}
	if _, err := w.version(len(versions)); err != nil {
		return fail(ctx, err)
	}
	if err := w.Exec(pragmas); err != nil {
		return fail(ctx, err)
	}
	if err := migrate(ctx, w, versions[:]); err != nil {
		return err
	}
	db.checkpoints.init(w, db.connect)
	seq, err := w.newest()
	db.newest.Store(seq)
	return fail(ctx, err)
}

// connect opens a connection.
func (db *DB) connect(ctx context.Context) (*conn, error) {
	c, err := sqlite3.OpenContext(ctx, sqlitevfs.URI(db.path))
	if err != nil {
		return nil, fail(ctx, err)
	}
	if err := c.Exec("PRAGMA busy_timeout=10000; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON"); err != nil {
		return nil, errors.Join(fail(ctx, err), c.Close())
	}
	return &conn{Conn: c, ctx: context.Background(), stmts: make(map[string][]*sqlite3.Stmt)}, nil
}

// Store returns the store: the database and its folder of blobs.
func (db *DB) Store() storage.Store {
	return storage.Store{Repos: repos{db}, Events: events{db}, KV: kv{DB: db}, Blobs: db.blobs}
}

// Close waits for the writer and closes the database. Later calls fail, and so do Views that still
// run.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	idle := db.idle
	db.idle = nil
	db.mu.Unlock()
	db.endSnapshots()
	var errs []error
	for _, c := range idle {
		errs = append(errs, c.close())
	}
	return errors.Join(append(errs, db.writer.close(), db.checkpoints.close())...)
}

var errClosed = errors.New("sqlite: database is closed")

// read calls fn with a connection that has a snapshot of the database.
func (db *DB) read(ctx context.Context, fn func(*conn) error) error {
	return db.borrow(ctx, func(c *conn) error {
		if err := db.begin(c); err != nil {
			return err
		}
		return fn(c)
	})
}

// quickReaders is how many connections there are for look-ups, besides Config.Readers.
const quickReaders = 2

// lookUp is read for functions that look up a few rows and call nobody else's.
func (db *DB) lookUp(ctx context.Context, fn func(*conn) error) error {
	return db.with(ctx, db.lookupSlots, func(c *conn) error {
		if err := db.begin(c); err != nil {
			return err
		}
		return fn(c)
	})
}

// begin lets all statements see the same. Those of a snapshot do.
func (db *DB) begin(c *conn) error {
	if db.pins != nil {
		return nil
	}
	return c.exec("BEGIN")
}

// borrow calls fn with a connection for reading, in which each statement is a snapshot of
// its own if there is none before it that has not ended.
func (db *DB) borrow(ctx context.Context, fn func(*conn) error) error {
	return db.with(ctx, nil, fn)
}

// with calls fn with a connection for reading, in one of the slots or of others.
func (db *DB) with(ctx context.Context, others chan struct{}, fn func(*conn) error) error {
	if db.pins != nil {
		return db.pins.with(ctx, fn)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	slot, err := db.takeSlot(ctx, others)
	if err != nil {
		return err
	}
	defer func() { <-slot }()
	c, err := db.reader(ctx)
	if err != nil {
		return err
	}
	good := false
	defer func() { db.release(c, good) }()
	c.use(ctx, true)
	err = fn(c)
	good = true
	return fail(ctx, err)
}

// takeSlot waits until a reader may be used, and returns what its slot is taken from: the slots of
// all, or others.
func (db *DB) takeSlot(ctx context.Context, others chan struct{}) (chan struct{}, error) {
	select {
	case db.slots <- struct{}{}:
		return db.slots, nil
	default:
	}
	timer := time.NewTimer(db.cfg.ReaderWait)
	defer timer.Stop()
	select {
	case db.slots <- struct{}{}:
		return db.slots, nil
	case others <- struct{}{}:
		return others, nil
	case <-timer.C:
		return nil, fmt.Errorf("%w: %d readers were in use for %v", storage.ErrBusy, db.cfg.Readers, db.cfg.ReaderWait)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// reader takes an idle connection or opens one.
func (db *DB) reader(ctx context.Context) (*conn, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil, errClosed
	}
	if n := len(db.idle); n > 0 {
		c := db.idle[n-1]
		db.idle = db.idle[:n-1]
		return c, nil
	}
	db.mu.Unlock()
	defer db.mu.Lock()
	c, err := db.connect(ctx)
	if err != nil {
		return nil, err
	}
	return c, fail(ctx, c.Exec("PRAGMA query_only=ON; PRAGMA cache_size=-4000")) // 4 MB
}

// release ends a snapshot and keeps the connection for the next one. One whose
// function panicked is thrown away.
func (db *DB) release(c *conn, good bool) {
	c.use(context.Background(), false)
	if !c.GetAutocommit() {
		good = c.exec("ROLLBACK") == nil && good
	}
	db.mu.Lock()
	if good && !db.closed {
		db.idle = append(db.idle, c)
		c = nil
	}
	db.mu.Unlock()
	if c != nil {
		c.close()
	}
}

// announce makes a new sequence number known to those who wait.
func (db *DB) announce(seq int64) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if seq > db.newest.Load() {
		db.newest.Store(seq)
		close(db.changed)
		db.changed = make(chan struct{})
	}
}

// fail gives an error of SQLite the meaning that the contract has for it.
func fail(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrFull): // it has its meaning already
	case errors.Is(err, sqlite3.INTERRUPT):
		if ctx.Err() != nil {
			return ctx.Err()
		}
	case errors.Is(err, sqlite3.CONSTRAINT_TRIGGER):
		return storage.ErrMoved
	case sqlitevfs.Corrupt(err):
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	case sqlitevfs.Full(err):
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	}
	return err
}
