// Package datadir is the directory in which a server keeps everything, and what of it a backup has.
//
//	pds.sqlite         accounts, repositories, events (with -wal and -shm while it is open)
//	pds.sqlite.blobs/  blobs, unless they are configured to lie elsewhere
//	secrets.json       keys, and the passwords that were generated
//	plc.jsonl          the did:plc directory of a development server
//	acme/              certificates, which can be had again
//	tmp/               downloads and uploads under way; not backed up
//	lock               held by the processes that use the directory
package datadir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// Names of files.
const (
	Database = "pds.sqlite"
	Blobs    = Database + ".blobs"
	Secrets  = "secrets.json"
	PLC      = "plc.jsonl"
	ACME     = "acme"
	Temp     = "tmp"
	lockName = "lock"
)

// ErrInUse: another process uses the directory.
var ErrInUse = errors.New("datadir: the data directory is in use (is the server running?)")

// ErrOwner: the database is another user's. What the administrator of the machine would write
// there, that user could not.
var ErrOwner = errors.New("datadir: the database belongs to another user: run this as that user")

// Dir is an open data directory.
type Dir struct {
	Path  string
	Blobs string // directory of the blobs
	DB    *sqlite.DB
	Store storage.Store
	lock  *os.File
}

// Options are how a directory is opened. The zero value works.
type Options struct {
	// Blobs is the directory of the blobs. Empty: in the data directory.
	Blobs string
	// Now is the clock of the stores. Nil: time.Now.
	Now func() time.Time
	// Alone keeps other processes out: opening fails with ErrInUse if there are any.
	Alone bool
	// Existing asks that there be a database already, else the error is fs.ErrNotExist.
	Existing bool
}

// Open opens a data directory, making what is missing.
func Open(ctx context.Context, path string, opt Options) (_ *Dir, err error) {
	d := &Dir{Path: path, Blobs: opt.Blobs}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	file := filepath.Join(path, Database)
	if opt.Existing {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("no server's data in %s: %w", path, err)
		}
	} else if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	if err := checkOwner(file); err != nil {
		return nil, err
	}
	kind := filelock.Shared
	if opt.Alone {
		kind = filelock.Exclusive
	}
	if d.lock, err = filelock.Try(filepath.Join(path, lockName), kind); errors.Is(err, filelock.ErrLocked) {
		return nil, ErrInUse
	} else if err != nil {
		return nil, err
	}
	if d.DB, err = sqlite.Open(ctx, file, sqlite.Config{Now: opt.Now}); err != nil {
		return nil, err
	}
	d.Store = d.DB.Store()
	if d.Blobs == "" {
		d.Blobs = filepath.Join(path, Blobs)
	}
	if opt.Blobs != "" {
		if d.Store.Blobs, err = blobfs.Open(d.Blobs, blobfs.Config{Now: opt.Now}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Explain adds to check.ErrNoBlobs what may be the cause, and what can be done.
func (d *Dir) Explain(err error) error {
	if !errors.Is(err, check.ErrNoBlobs) {
		return err
	}
	folder := d.Blobs
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs
	}
	return fmt.Errorf("%w (folder %s): is the disk mounted that they are on, and PDS_BLOBSTORE_DISK_LOCATION right? "+
		"If they are lost, \"pds check -blobs-from BACKUP\" puts them back from a backup; if there is none, \"pds check -accept-missing-blobs\" lets the server go on without them", err, folder)
}

// Close closes the database and lets other processes in.
func (d *Dir) Close() error {
	var errs []error
	if d.DB != nil {
		errs = append(errs, d.DB.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

// Layout is how the files of a backup are called: as in a data directory.
var Layout = backup.Layout{Database: Database, Blobs: Blobs, Others: []string{Secrets, PLC}}

// Source is the directory as what is backed up.
func (d *Dir) Source() backup.Source {
	return backup.Source{Database: d.DB, Store: d.Store, Blobs: d.Blobs, Dir: d.Path, Own: []string{lockName, ACME}}
}

// Files returns a backup.Backup.Files: the secrets, and the did:plc directory of a development
// server.
func (d *Dir) Files(secrets []byte) func(context.Context) (map[string][]byte, error) {
	return func(context.Context) (map[string][]byte, error) {
		files := map[string][]byte{Secrets: secrets}
		plc, err := os.ReadFile(filepath.Join(d.Path, PLC))
		if err == nil {
			files[PLC] = wholeLines(plc)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return files, nil
	}
}

// wholeLines leaves out a line at the end that is being written.
func wholeLines(text []byte) []byte { return text[:bytes.LastIndexByte(text, '\n')+1] }

// Verify returns a backup.Restore.Verify, which calls fn with the directory that was restored.
func Verify(fn func(context.Context, *Dir, *backup.Manifest) error) func(context.Context, string, *backup.Manifest) error {
	return func(ctx context.Context, path string, m *backup.Manifest) error {
		d, err := Open(ctx, path, Options{Existing: true})
		if err != nil {
			return err
		}
		return errors.Join(fn(ctx, d, m), d.Close(), os.Remove(filepath.Join(path, lockName)))
	}
}
