package blobfs_test

import (
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/storagetest"
)

var backend = storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
	s, err := blobfs.Open(dir, blobfs.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	return storage.Store{Blobs: s}, func() error { return nil }
}}

func TestConformance(t *testing.T) { storagetest.RunBlobs(t, backend) }

func BenchmarkStore(b *testing.B) { storagetest.Benchmark(b, backend) }
