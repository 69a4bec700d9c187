package files

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// DB is a durable.DB in a directory.
type DB struct {
	*durable.DB
	objects *Objects
	shared  *sqlite.DB
	once    sync.Once
}

// Open opens a database in a directory, and creates it if necessary. Objects are in "objects",
// shared data is in the SQLite file "shared.sqlite", and blobs are beside that. The Shared and
// Objects of cfg are ignored. Only one process may have the directory open; others get ErrInUse.
func Open(ctx context.Context, dir string, cfg durable.Config) (*DB, error) {
	objects, err := OpenObjects(filepath.Join(dir, "objects"))
	if err != nil {
		return nil, err
	}
	shared, err := sqlite.Open(ctx, filepath.Join(dir, "shared.sqlite"), sqlite.Config{Now: cfg.Now})
	if err != nil {
		return nil, errors.Join(err, objects.Close())
	}
	cfg.Objects, cfg.Shared = objects, shared.Store()
	db, err := durable.New(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, shared.Close(), objects.Close())
	}
	return &DB{DB: db, objects: objects, shared: shared}, nil
}

// Close waits until running calls, views included, have returned, and closes all files.
func (db *DB) Close() (err error) {
	db.once.Do(func() { err = errors.Join(db.DB.Close(), db.shared.Close(), db.objects.Close()) })
	return err
}
