package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/sqlitevfs"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
)

// Objects is a directory with one SQLite file for each account:
//
//	HA/HASH.sqlite      HASH is the SHA-256 of the DID in hexadecimal
//	HA/HASH.sqlite-wal  the last steps
//	marks               accounts that are in the middle of a step
//	lock                held by the process that has the directory open
//
// A step is one flush of the -wal file to disk. That file stays beside its database when the object
// is closed, so opening and closing need no flush; copy both files or neither. Pages of the
// database have checksums. Damage to the -wal file loses the later steps, which is noticed if one
// of them had events.
type Objects struct {
	dir  string
	lock *sqlite3.Conn

	mu     sync.Mutex
	idle   []*connection
	empty  []byte // see emptyObject
	marks  *os.File
	marked map[syntax.DID]int // to their places in the file
	free   []int              // places
	places int

	folders struct { // that files are spread over
		sync.Mutex
		last map[string]bool // made by this process, or found and flushed by it
	}

	// For tests; nil: nothing.
	fault  func() error // asked before a call that changes a file
	opened func(*sqlObject)
}

// injected returns the error that a test wants the next call to the system to have.
func (f *Objects) injected() error {
	if f.fault == nil {
		return nil
	}
	return f.fault()
}

var _ interface {
	durable.Objects
	durable.Marker
} = (*Objects)(nil)

// ErrInUse: another process has the directory open.
var ErrInUse = errors.New("files: directory is in use by another process")

// OpenObjects opens a directory of objects, and creates it if necessary.
func OpenObjects(dir string) (*Objects, error) {
	if err := durablefile.MkdirAll(dir); err != nil {
		return nil, err
	}
	f := &Objects{dir: dir, marked: make(map[syntax.DID]int)}
	f.folders.last = make(map[string]bool)
	var err error
	if f.lock, err = sqlite3.Open(sqlitevfs.URI(filepath.Join(dir, "lock"))); err != nil {
		return nil, err
	}
	if err := f.lock.Exec("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE"); err != nil {
		f.lock.Close()
		if errors.Is(err, sqlite3.BUSY) {
			err = ErrInUse
		}
		return nil, err
	}
	if err = removeNew(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if f.marks, err = os.OpenFile(filepath.Join(dir, "marks"), os.O_RDWR|os.O_CREATE, 0o600); err == nil {
		err = f.readMarks()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// makeFolder makes one of the folders that files are spread over, to last. One that is there may have
// been made by a process that died before it had flushed the directory.
func (f *Objects) makeFolder(path string) error {
	f.folders.Lock()
	defer f.folders.Unlock()
	if f.folders.last[path] {
		return nil
	}
	if err := f.injected(); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := durablefile.SyncDir(f.dir); err != nil {
		return err
	}
	f.folders.last[path] = true
	return nil
}

// removeNew removes files that a process that died was about to make.
func removeNew(dir string) error {
	list, err := filepath.Glob(filepath.Join(dir, "new-*"))
	for _, path := range list {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// Close releases the directory, so that another process can open it. Close all objects before.
func (f *Objects) Close() error {
	var errs []error
	for _, c := range f.idle {
		errs = append(errs, c.close())
	}
	if f.marks != nil {
		errs = append(errs, f.marks.Close())
	}
	return errors.Join(append(errs, f.lock.Close())...)
}

func (f *Objects) path(did syntax.DID) string {
	h := sha256.Sum256([]byte(did))
	name := hex.EncodeToString(h[:])
	return filepath.Join(f.dir, name[:2], name+".sqlite")
}

// Open implements durable.Objects.
func (f *Objects) Open(_ context.Context, did syntax.DID, create bool) (_ durable.Object, err error) {
	defer func() { err = sqlError(err) }()
	path := f.path(did)
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist) && !create:
		return nil, storage.ErrNotFound
	case errors.Is(err, fs.ErrNotExist):
		if err := f.create(path); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	c, err := f.take()
	if err != nil {
		return nil, fmt.Errorf("files: object of %s: %w", did, err)
	}
	o := &sqlObject{objects: f, conn: c}
	if err := o.attach(path); err != nil {
		return nil, errors.Join(fmt.Errorf("files: object of %s: %w", did, err), c.close())
	}
	if f.opened != nil {
		f.opened(o)
	}
	return o, nil
}

// create makes an empty object: a copy of one that SQLite made, which takes one
// flush instead of several.
func (f *Objects) create(path string) error {
	empty, err := f.emptyObject()
	if err != nil {
		return err
	}
	if err := f.injected(); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(f.dir, "new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails after the rename
	if err = f.injected(); err == nil {
		_, err = tmp.Write(empty)
	}
	if err := errors.Join(err, f.injected(), durablefile.SyncFile(tmp), tmp.Close()); err != nil {
		return err
	}
	if err := f.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if _, err := os.Lstat(path + "-wal"); err == nil {
		if err := durablefile.Remove(path + "-wal"); err != nil {
			return err
		}
	}
	if err := f.injected(); err != nil {
		return err
	}
	// The first commit makes a -wal file in the same folder, and with that SQLite
	// flushes the folder.
	return os.Rename(tmp.Name(), path)
}

// emptyObject returns the bytes of an empty object's file.
func (f *Objects) emptyObject() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.empty != nil {
		return f.empty, nil
	}
	dir, err := os.MkdirTemp(f.dir, "new-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "empty.sqlite")
	if err := sqlitevfs.Create(path); err != nil {
		return nil, err
	}
	c, err := sqlite3.Open(sqlitevfs.URI(path))
	if err != nil {
		return nil, err
	}
	err = c.Exec("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID; PRAGMA journal_mode=WAL; PRAGMA wal_checkpoint(TRUNCATE)")
	if err := errors.Join(err, c.Close()); err != nil {
		return nil, err
	}
	f.empty, err = os.ReadFile(path)
	return f.empty, err
}

// take returns an idle connection or a new one.
func (f *Objects) take() (*connection, error) {
	f.mu.Lock()
	if n := len(f.idle); n > 0 {
		c := f.idle[n-1]
		f.idle = f.idle[:n-1]
		f.mu.Unlock()
		return c, nil
	}
	f.mu.Unlock()
	return connect()
}

// maxIdle is how many connections without a file are kept.
const maxIdle = 64

// put keeps a connection for the next object.
func (f *Objects) put(c *connection) error {
	f.mu.Lock()
	if len(f.idle) < maxIdle {
		f.idle = append(f.idle, c)
		c = nil
	}
	f.mu.Unlock()
	if c != nil {
		return c.close()
	}
	return nil
}

// Remove implements durable.Objects.
func (f *Objects) Remove(did syntax.DID) (err error) {
	defer func() { err = sqlError(err) }()
	path := f.path(did)
	// The database first, for good: without its -wal file, it says what was when that was last moved
	// to it, when the account was there. A -wal file alone is nobody's: see create.
	for _, name := range []string{path, path + "-wal"} {
		if err := f.injected(); err != nil {
			return err
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := durablefile.SyncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
