// Package datadir is the directory in which a server keeps everything, how it is
// backed up while the server runs, and how it is restored.
//
//	pds.sqlite         accounts, repositories, events (with -wal and -shm while it is open)
//	pds.sqlite.blobs/  blobs, unless they are configured to lie elsewhere
//	secrets.json       keys, and the passwords that were generated
//	plc.jsonl          the did:plc directory of a development server
//	acme/              certificates, which can be had again
//	tmp/               downloads and uploads under way; not backed up
//	lock               held by the processes that use the directory
//
// # Backups
//
// A backup's directory has one or more generations, each the database as it was at one moment, and
// one folder with the blobs of all of them:
//
//	generations/20261129T033000Z/  a generation, by the time at which it was begun (UTC)
//	    backup.json                its manifest, with the digests of the other files
//	    pds.sqlite, secrets.json, plc.jsonl
//	    blobs.list                 the blobs that belong to it
//	generations/next/              a generation that is being made
//	pds.sqlite.blobs/              blobs, as in a data directory
//	backup.lock                    held while a backup is made
//
// A generation never changes. It is made under another name, verified (every page and the structure
// of the database, every repository, every blob), and renamed when it is complete: so whenever a
// backup is interrupted, the older generations are as they were.
//
// Blobs, whose files never change, are copied before and after the copy of the database: so the
// backup has every blob that its database refers to, even those that are deleted meanwhile. A blob
// that is in the backup already is not copied again if it is good there. It is deleted when no
// generation that is kept refers to it: never because the server no longer has its file, since then
// the backup may be all that is left of it.
//
// A tar file has one generation with its blobs, and no list. An unpacked one is a directory that
// can be restored, and so is a backup of an earlier version, which had one generation beside its
// blobs; a backup into that directory adds a generation and drops or keeps the old one like any
// other.
package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
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
	if d.lock, err = lock(filepath.Join(path, lockName), opt.Alone); err != nil {
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

// isMissing reports whether an error says that a file is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
