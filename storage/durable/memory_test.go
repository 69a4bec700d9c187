package durable_test

import (
	"sync"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/durabletest"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// The same laws hold for any objects and any shared store. All is watched: no transaction waits for
// anything but its object.
func TestConformanceInMemory(t *testing.T) {
	type kept struct {
		objects *durable.Memory
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
				k = kept{new(durable.Memory), memory.New(memory.Config{})}
				dirs[dir] = k
			}
			w := &durabletest.Watch{TB: tb}
			db, err := durable.New(tb.Context(), durable.Config{Shared: w.Store(k.shared), Objects: w.Objects(k.objects), Now: w.Now, MaxOpen: 2})
			if err != nil {
				tb.Fatal(err)
			}
			return db.Store(), db.Close
		},
		Exclusive: true, Buffers: true,
	})
}
