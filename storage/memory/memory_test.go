package memory_test

import (
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Backend{
		Open: func(testing.TB, string) (storage.Store, func() error) {
			return memory.New(memory.Config{}), func() error { return nil }
		},
		Volatile:  true,
		Exclusive: true,
		Buffers:   true,
	})
}

func BenchmarkStore(b *testing.B) {
	storagetest.Benchmark(b, storagetest.Backend{Open: func(testing.TB, string) (storage.Store, func() error) {
		return memory.New(memory.Config{}), func() error { return nil }
	}})
}
