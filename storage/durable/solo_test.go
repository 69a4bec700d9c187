package durable_test

import (
	"context"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/durabletest"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// soloIn opens a Solo in an object in memory.
func soloIn(tb testing.TB, m *durable.Memory, cfg durable.SoloConfig) *durable.Solo {
	tb.Helper()
	w := &durabletest.Watch{TB: tb}
	if cfg.Now == nil {
		cfg.Now = w.Now
	}
	s, err := durable.OpenSolo(tb.Context(), func(ctx context.Context) (durable.Object, error) {
		w.Outside("open")
		o, err := m.Open(ctx, "solo", true)
		if err != nil {
			return nil, err
		}
		return w.Object(o), nil
	}, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// soloBackend keeps what is in memory by the names of directories. The rows of blobs are among the
// host's keys, or in another store.
func soloBackend(together bool) storagetest.Backend {
	type kept struct {
		objects *durable.Memory
		bucket  *buckettest.Memory
		rows    storage.KV // of blobs
	}
	dirs := map[string]kept{}
	var mu sync.Mutex
	return storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			mu.Lock()
			defer mu.Unlock()
			k, ok := dirs[dir]
			if !ok {
				k = kept{new(durable.Memory), new(buckettest.Memory), memory.New(memory.Config{}).KV}
				dirs[dir] = k
			}
			s := soloIn(tb, k.objects, durable.SoloConfig{})
			all := s.Store()
			cfg := bucket.Config{KV: k.rows, Bucket: k.bucket}
			if together {
				cfg.KV = all.KV
			}
			blobs, err := bucket.Open(tb.Context(), cfg)
			if err != nil {
				tb.Fatal(err)
			}
			all.Blobs = blobs
			return all, s.Close
		},
		Exclusive: true, Buffers: true,
	}
}

func TestSoloConformance(t *testing.T) { storagetest.Run(t, soloBackend(false)) }

func TestSoloBlobs(t *testing.T) { storagetest.RunBlobs(t, soloBackend(true)) }
