package sqlite

import (
	"context"
	"fmt"

	"github.com/pdskit/pdskit/storage"
)

// Backup writes a copy of the database, as it is at one moment, to a new file, while
// others read and write. Blobs are not in it: copy their folder afterwards, so
// that it has every blob the copy refers to.
func (db *DB) Backup(ctx context.Context, path string) error {
	return db.read(ctx, func(c *conn) error {
		return c.Backup("main", path)
	})
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
