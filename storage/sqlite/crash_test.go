package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/storage/storagetest"
)

var backend = storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
	db, err := sqlite.Open(tb.Context(), filepath.Join(dir, "test.sqlite"), sqlite.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	return db.Store(), db.Close
}}

// PDSKIT_CRASHES=200 go test -run TestCrash ./storage/sqlite ./storage/durable/files
func TestCrash(t *testing.T) { storagetest.RunCrash(t, backend, 15) }

func TestProcesses(t *testing.T) { storagetest.RunProcesses(t, backend, 100) }

func TestDamage(t *testing.T) { storagetest.RunDamage(t, backend, 120) }
