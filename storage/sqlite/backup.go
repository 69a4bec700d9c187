package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pdskit/pdskit/internal/sqlitevfs"
	"github.com/pdskit/pdskit/storage"
)

// Backup writes a copy of the database, as it is at one moment, to a new file, while
// others read and write. When it returns nil the copy is on disk; when it returns an error there is
// none. A file that exists already is left alone (fs.ErrExist). Blobs are not in
// it: copy their folder afterwards, so that it has every blob the copy refers to.
func (db *DB) Backup(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(f.Close(), db.read(ctx, func(c *conn) error {
		return c.Backup("main", sqlitevfs.URI(path))
	}))
	if err != nil {
		for _, name := range []string{path, path + "-journal"} {
			_ = os.Remove(name) // the error is the backup's
		}
	}
	return err
}

// Check reads the whole file and returns storage.ErrCorrupt with what is wrong
// with its structure.
func (db *DB) Check(ctx context.Context) error {
	return db.read(ctx, func(c *conn) (err error) {
		for s := range c.query(&err, "PRAGMA integrity_check(20)") {
			if msg := s.ColumnText(0); msg != "ok" {
				return fmt.Errorf("%w: %s", storage.ErrCorrupt, msg)
			}
		}
		return err
	})
}
