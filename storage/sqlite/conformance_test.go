package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		db, err := sqlite.Open(tb.Context(), filepath.Join(dir, "test.sqlite"), sqlite.Config{ReaderWait: 3 * time.Second})
		if err != nil {
			tb.Fatal(err)
		}
		return db.Store(), db.Close
	}})
}

func BenchmarkStore(b *testing.B) {
	for name, cfg := range map[string]sqlite.Config{"full": {}, "relaxed": {Relaxed: true}} {
		b.Run(name, func(b *testing.B) {
			storagetest.Benchmark(b, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
				db, err := sqlite.Open(tb.Context(), filepath.Join(dir, "bench.sqlite"), cfg)
				if err != nil {
					tb.Fatal(err)
				}
				return db.Store(), db.Close
			}})
		})
	}
}
