package files_test

import (
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
	"github.com/pdskit/pdskit/storage/storagetest"
)

func backend(cfg durable.Config) storagetest.Backend {
	return storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			db, err := files.Open(tb.Context(), dir, cfg)
			if err != nil {
				tb.Fatal(err)
			}
			return db.Store(), db.Close
		},
		Exclusive: true,
	}
}

// With room for few objects, the others are closed and opened again all the time.
func TestConformance(t *testing.T) { storagetest.Run(t, backend(durable.Config{MaxOpen: 2})) }

func BenchmarkStore(b *testing.B) { storagetest.Benchmark(b, backend(durable.Config{})) }
