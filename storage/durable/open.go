package durable

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/pdskit/pdskit/storage/sqlite"
)

// Open opens a database in a directory, which is made if there is none: objects
// are Files in "objects", what is shared is in the SQLite file "shared.sqlite", and
// blobs are beside that. The Shared and Objects of the Config are ignored. One
// process may have the directory open; others get ErrInUse.
func Open(ctx context.Context, dir string, cfg Config) (*DB, error) {
	files, err := OpenFiles(filepath.Join(dir, "objects"))
	if err != nil {
		return nil, err
	}
	shared, err := sqlite.Open(ctx, filepath.Join(dir, "shared.sqlite"), sqlite.Config{Now: cfg.Now})
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	cfg.Objects, cfg.Shared = files, shared.Store()
	db, err := New(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, shared.Close(), files.Close())
	}
	db.opened = []func() error{shared.Close, files.Close}
	return db, nil
}
