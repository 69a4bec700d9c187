// Package datadir describes the data directory of a server, and which parts of it a backup
// contains.
//
//	pds.sqlite         accounts, repositories, events (with -wal, -shm), unless in PostgreSQL
//	pds.sqlite.blobs/  blobs, unless they are configured to lie elsewhere
//	secrets.json       keys, and the passwords that were generated
//	plc.jsonl          the did:plc directory of a development server, and plc.port its port
//	acme/              certificates, which can be had again
//	update.json        which version is the newest, if the server asks for that
//	tmp/               downloads and uploads under way; not backed up
//	lock               held by the processes that use the directory
//	serve.lock         held by the server, unless the database is another one: there is one server
//	move.lock          held by the one that moves its data elsewhere
//	backup.lock        held while a backup is made to a store of objects
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

	"github.com/pdskit/pdskit/examples/pds/internal/update"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/postgres"
	"github.com/pdskit/pdskit/storage/s3"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/storage/transfer"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// Names of files.
const (
	Database = "pds.sqlite"
	Blobs    = Database + ".blobs"
	Secrets  = "secrets.json"
	PLC      = "plc.jsonl"
	ACME     = "acme"
	Temp     = "tmp"
	PLCPort  = "plc.port"

	backupLock = "backup.lock"

	lockName  = "lock"
	moveName  = "move.lock"
	serveName = "serve.lock"
)

// ErrMoving: another process moves the data of the directory.
var ErrMoving = errors.New("datadir: another migrate-storage is running (or was stopped, and has not ended)")

// ErrInUse: another process uses the directory.
var ErrInUse = errors.New("datadir: the data directory is in use (is the server running? \"systemctl stop pds\" ends it, and \"systemctl start pds\" starts it afterwards)")

// ErrServer: backups and restoring are for the database in the directory.
var ErrServer = errors.New("datadir: PDS_DATABASE_URL is set: the database is backed up and restored with PostgreSQL's own tools, " +
	"pg_dump and pg_restore or base backups, and PDS_DATA_DIRECTORY/secrets.json with it: see \"PostgreSQL\" in operations.md, " +
	"and \"Restore to a moment\" in nodes.md")

// ErrOwner: the database is another user's. What the administrator of the machine would write
// there, that user could not.
var ErrOwner = errors.New("datadir: the database belongs to another user: run this as that user")

// Dir is an open data directory.
type Dir struct {
	Path  string
	Blobs string     // directory of the blobs
	DB    *sqlite.DB // nil: the database is another one
	Store storage.Store
	// Bucket has the blobs instead of the directory, if it is not nil.
	Bucket *bucket.Store
	where  string // of the blobs, in a bucket
	lock   *os.File
	moving *os.File
	// serving is held by the server.
	serving *os.File
	server  *postgres.DB // the other database
}

// Options are how a directory is opened. The zero value works.
type Options struct {
	// Blobs is the directory of the blobs. Empty: in the data directory.
	Blobs string
	// Database is the connection string of a PostgreSQL database to use instead of the file, if
	// any.
	Database string
	// Node is the name of this process among those that use the database.
	Node string
	// Behind, if not nil, is called when that database has lost events: see
	// postgres.Config.Behind.
	Behind func(newest, served int64)
	// S3 is the bucket that has the blobs instead, if it is not zero, and KeepDeleted for how long
	// it keeps those that were deleted.
	S3          s3.Config
	KeepDeleted time.Duration
	// Now is the clock of the stores. Nil: time.Now.
	Now func() time.Time
	// Alone keeps other processes out: opening fails with ErrInUse if there are any.
	Alone bool
	// Existing asks that there be a database already, else the error is fs.ErrNotExist.
	Existing bool
	// Use says what for.
	Use Use
	// Restored: the directory was restored from a backup. Nothing is deleted from the bucket, which
	// another server may be using, or may be going to use again.
	Restored bool
	// Blobs of the backup are in the directory, wherever the database says they are.
	Copied bool
}

// Use is what a directory is opened for. It matters where data is being moved, or was: see package
// storage/transfer.
type Use uint8

const (
	Look  Use = iota // to look at the data that is in use, or to change a little of it
	Serve            // to serve from it
	Move             // to move it, or to move to it
)

// Kinds of places of blobs.
const (
	OnDisk   = "disk"
	InBucket = "s3"
)

// KindOfBlobs is where blobs are with a bucket, or with none.
func KindOfBlobs(s s3.Config) string {
	if s.Bucket != "" {
		return InBucket
	}
	return OnDisk
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
	if opt.Database != "" {
		file = path
	}
	if opt.Use == Serve && opt.Database == "" {
		if err := foreign(path); err != nil {
			return nil, err
		}
	}
	if opt.Existing {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("no server's data in %s (is PDS_DATA_DIRECTORY, or -env-file, that of the server, and was it started once?): %w", path, err)
		}
	} else if err := durablefile.MkdirAll(path); err != nil {
		return nil, explain("PDS_DATA_DIRECTORY", path, err)
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
		return nil, explain("PDS_DATA_DIRECTORY", path, err)
	}
	if opt.Use == Serve && opt.Database == "" {
		if err := d.serve(); err != nil {
			return nil, err
		}
	}
	if d.Blobs == "" {
		d.Blobs = filepath.Join(path, Blobs)
	}
	if opt.Database != "" {
		if d.server, err = postgres.Open(ctx, opt.Database, postgres.Config{Name: opt.Node, Behind: opt.Behind, Now: opt.Now}); err != nil {
			return nil, err
		}
		d.Store, opt.Blobs = d.server.Store(), d.Blobs
	} else if d.DB, err = sqlite.Open(ctx, file, sqlite.Config{Now: opt.Now}); err != nil {
		return nil, err
	} else {
		d.Store = d.DB.Store()
	}
	if opt.Copied {
		if err := d.blobsCopied(ctx, opt); err != nil {
			return nil, err
		}
	}
	if opt.Use != Move { // before anything is written
		enter := transfer.Look
		if opt.Use == Serve {
			enter = transfer.Enter
		}
		if err := enter(ctx, d.Store, KindOfBlobs(opt.S3)); err != nil {
			return nil, err
		}
	}
	if opt.S3.Bucket == "" && opt.Use != Move {
		if err := checkPlace(d.Blobs); err != nil {
			return nil, err
		}
	}
	if opt.S3.Bucket != "" {
		err = d.openBucket(ctx, opt)
	} else if opt.Blobs != "" {
		d.Store.Blobs, err = blobfs.Open(d.Blobs, blobfs.Config{Now: opt.Now})
		err = explain("PDS_BLOBSTORE_DISK_LOCATION", d.Blobs, err)
	}
	if err == nil && opt.Use != Move {
		d.Store = transfer.Guard(d.Store)
	}
	return d, err
}

// openBucket opens the bucket that has the blobs. It must be the right one; one that does not
// answer now may do so later.
func (d *Dir) openBucket(ctx context.Context, opt Options) error {
	objects, err := s3.New(opt.S3)
	if err != nil {
		return err
	}
	d.where = "the S3 bucket " + opt.S3.Bucket
	kv := d.Store.KV
	if m, ok := d.Store.Repos.(storage.Movable); ok && opt.Use == Move {
		kv = m.Moving() // also while the store refuses writes
	}
	var in bucket.Bucket = objects
	if opt.Restored {
		in = keeping{objects}
	}
	d.Bucket, err = bucket.Open(ctx, bucket.Config{KV: kv, Bucket: in, KeepDeleted: opt.KeepDeleted, Now: opt.Now})
	if err != nil {
		return err
	}
	d.Store.Blobs = d.Bucket
	err = d.Bucket.Probe(ctx)
	if e := (*s3.Error)(nil); errors.As(err, &e) && e.Unavailable() || opt.Copied && errors.Is(err, bucket.ErrNoObjects) {
		return nil
	}
	return err
}

// Check checks the database, and whether the bucket has what it should.
func (d *Dir) Check(ctx context.Context) error {
	var err error
	if d.DB != nil {
		err = d.DB.Check(ctx)
	}
	if err != nil || d.Bucket == nil {
		return err
	}
	first := ""
	r, err := d.Bucket.Check(ctx, func(l bucket.Lost) error {
		if first == "" {
			first = fmt.Sprintf("%s of %s, object %s", l.CID, l.DID, l.Object)
		}
		return nil
	})
	if err == nil && r.Lost > 0 {
		err = fmt.Errorf("%w: %d blobs are not in %s as they should be, the first one %s", storage.ErrCorrupt, r.Lost, d.where, first)
	}
	return err
}

// Probe looks whether blobs can be stored.
func (d *Dir) Probe(ctx context.Context) error {
	if d.Bucket != nil {
		return d.Bucket.Ping(ctx)
	}
	return pds.ProbeDir(d.Blobs)
}

// Explain adds to check.ErrNoBlobs what may be the cause, and what can be done.
func (d *Dir) Explain(err error) error {
	if !errors.Is(err, check.ErrNoBlobs) {
		return err
	}
	if d.Bucket != nil {
		return fmt.Errorf("%w: they are to be in %s, and the database knows none there. \"pds check -blobs-from DIR\" puts them there: "+
			"DIR is the data directory if they are still in it, or a backup", err, d.where)
	}
	folder := d.Blobs
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs
	}
	return fmt.Errorf("%w (folder %s): is the disk mounted that they are on, and PDS_BLOBSTORE_DISK_LOCATION right? "+
		"If they are lost, \"pds check -blobs-from BACKUP\" puts them back from a backup; if there is none, \"pds check -accept-missing-blobs\" lets the server go on without them", err, folder)
}

// OnlyMover makes this process the only one that moves the directory's data, until Close.
func (d *Dir) OnlyMover() (err error) {
	if d.moving, err = filelock.Try(filepath.Join(d.Path, moveName), filelock.Exclusive); errors.Is(err, filelock.ErrLocked) {
		err = ErrMoving
	}
	return err
}

// Close closes the database and lets other processes in.
func (d *Dir) Close() error {
	var errs []error
	if d.DB != nil {
		errs = append(errs, d.DB.Close())
	}
	if d.server != nil {
		errs = append(errs, d.server.Close())
	}
	for _, lock := range []*os.File{d.moving, d.serving, d.lock} {
		if lock != nil {
			errs = append(errs, lock.Close())
		}
	}
	return errors.Join(errs...)
}

// Layout is how the files of a backup are called: as in a data directory.
var Layout = backup.Layout{Database: Database, Blobs: Blobs, Others: []string{Secrets, PLC}}

// Source is the directory as what is backed up.
func (d *Dir) Source() backup.Source {
	return backup.Source{Database: d.DB, Store: d.Store, Blobs: d.Blobs, Elsewhere: d.where, Dir: d.Path, Own: []string{lockName, moveName, serveName, backupLock, PLCPort, ACME, update.File}}
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
