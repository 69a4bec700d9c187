package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/internal/sqlitevfs"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
)

// backupPages is how many pages are copied before the context is looked at: 16 MB.
const backupPages = 4000

// Backup writes a copy of the database at one moment to a new file, while others read and write.
// The copy is verified before it gets its name: every page against its checksum, and the structure.
// If Backup returns nil, the copy is on disk. If it returns an error, or the process dies, there is
// no file at path. (A process that dies may leave a file named PATH.new-*, which can be deleted.)
// If there is a file at path, it is not changed, and the error is [fs.ErrExist].
//
// The copy has no blobs. Copy their folder afterwards: then it has every blob that the copy refers
// to.
func (db *DB) Backup(ctx context.Context, path string) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "backup", Path: path, Err: fs.ErrExist}
	}
	temp, err := newFile(path)
	if err != nil {
		return fail(ctx, err)
	}
	defer func() { err = errors.Join(err, removeFile(temp)) }()
	if err := db.read(ctx, func(c *conn) error { return c.copyTo(ctx, temp) }); err != nil {
		return fail(ctx, err)
	}
	if err := Verify(ctx, temp); err != nil {
		return fmt.Errorf("verifying the copy: %w", err)
	}
	return fail(ctx, publish(temp, path))
}

// OpenCopy opens a copy that Backup made, and the blobs in a folder, as a separate store. The
// returned function closes it.
func (db *DB) OpenCopy(ctx context.Context, path, blobs string) (storage.Store, func() error, error) {
	copied, err := Open(ctx, path, Config{})
	if err != nil {
		return storage.Store{}, nil, err
	}
	s := copied.Store()
	if s.Blobs, err = blobfs.Open(blobs, blobfs.Config{}); err != nil {
		return storage.Store{}, nil, errors.Join(err, copied.Close())
	}
	return s, copied.Close, nil
}

// VerifyCopy is [Verify], as a method.
func (db *DB) VerifyCopy(ctx context.Context, path string) error { return Verify(ctx, path) }

// copyTo copies the snapshot that the connection has to an empty file.
func (c *conn) copyTo(ctx context.Context, path string) (err error) {
	// Without a statement that has read something, each step below would be a snapshot of its own.
	for range c.query(&err, "SELECT 1 FROM sqlite_schema LIMIT 1") {
	}
	if err != nil {
		return err
	}
	// The copy's pages get checksums only if its header is there before them, and SQLite writes
	// page 1 last, or at least not before others have left its cache. A database that has none gets
	// none.
	reserved, err := c.FileControl("main", sqlite3.FCNTL_RESERVE_BYTES)
	if err != nil {
		return err
	}
	if reserved == 8 {
		if err := sqlitevfs.Create(path); err != nil {
			return err
		}
	}
	b, err := c.BackupInit("main", sqlitevfs.URI(path))
	if err != nil {
		return err
	}
	for done := false; !done && err == nil; {
		if err = ctx.Err(); err == nil {
			done, err = b.Step(backupPages)
		}
	}
	return errors.Join(err, b.Close())
}

// Verify checks a database that no process has open, such as a copy that Backup made: all pages
// with their checksums, and the structure. A fault gives storage.ErrCorrupt. It writes nothing.
func Verify(ctx context.Context, path string) error {
	for _, suffix := range []string{"-wal", "-journal"} {
		if info, err := os.Lstat(path + suffix); err == nil && info.Size() > 0 {
			return fmt.Errorf("%w: there is a file %s, so the database itself is not complete", storage.ErrCorrupt, path+suffix)
		}
	}
	if _, err := sqlitevfs.CheckPages(ctx, path); errors.Is(err, sqlitevfs.ErrPage) {
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	} else if err != nil {
		return fail(ctx, err)
	}
	raw, err := sqlite3.OpenFlags(sqlitevfs.URI(path)+"&immutable=1", sqlite3.OPEN_READONLY|sqlite3.OPEN_URI)
	if err != nil {
		return fail(ctx, err)
	}
	c := &conn{Conn: raw, ctx: ctx, stmts: make(map[string][]*sqlite3.Stmt)}
	c.use(ctx, true)
	err = c.integrity()
	c.use(context.Background(), false)
	return errors.Join(fail(ctx, err), c.close())
}

// Check reads the whole file. Faults of its structure give storage.ErrCorrupt.
func (db *DB) Check(ctx context.Context) error {
	return db.read(ctx, (*conn).integrity)
}

// integrity is the check of the structure; it reads all pages that are in use.
func (c *conn) integrity() (err error) {
	for s := range c.query(&err, "PRAGMA integrity_check(20)") {
		if msg := s.ColumnText(0); msg != "ok" {
			return fmt.Errorf("%w: %s", storage.ErrCorrupt, msg)
		}
	}
	return err
}
