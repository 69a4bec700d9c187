package durable

import (
	"sync"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// The same laws hold for any objects and any shared store.
func TestConformanceInMemory(t *testing.T) {
	type kept struct {
		objects *Memory
		shared  storage.Store
	}
	dirs := map[string]kept{}
	var mu sync.Mutex
	storagetest.Run(t, storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			mu.Lock()
			defer mu.Unlock()
			k, ok := dirs[dir]
			if !ok {
				k = kept{new(Memory), memory.New(memory.Config{})}
				dirs[dir] = k
			}
			db, err := New(tb.Context(), Config{Shared: k.shared, Objects: k.objects, MaxOpen: 2})
			if err != nil {
				tb.Fatal(err)
			}
			return db.Store(), db.Close
		},
		Exclusive: true, Buffers: true,
	})
}
