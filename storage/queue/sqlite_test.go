//go:build !js

package queue_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
)

func sqliteStore(tb testing.TB) storage.Store {
	db, err := sqlite.Open(context.Background(), filepath.Join(tb.TempDir(), "queue.sqlite"), sqlite.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return db.Store()
}
