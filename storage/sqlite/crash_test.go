package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/storage/storagetest"
)

func TestCrash(t *testing.T) {
	storagetest.RunCrash(t, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		db, err := sqlite.Open(tb.Context(), filepath.Join(dir, "crash.sqlite"), sqlite.Config{})
		if err != nil {
			tb.Fatal(err)
		}
		return db.Store(), db.Close
	}}, 200)
}

func TestDamage(t *testing.T) {
	storagetest.RunDamage(t, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		db, err := sqlite.Open(tb.Context(), filepath.Join(dir, "damage.sqlite"), sqlite.Config{})
		if err != nil {
			tb.Fatal(err)
		}
		return db.Store(), db.Close
	}}, 300)
}
