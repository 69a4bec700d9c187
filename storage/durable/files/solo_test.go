package files_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// solo is a whole store in one file, with blobs in a folder.
var solo = storagetest.Backend{
	Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		objects, err := files.OpenObjects(filepath.Join(dir, "objects"))
		if err != nil {
			tb.Fatal(err)
		}
		s, err := durable.OpenSolo(tb.Context(), func(ctx context.Context) (durable.Object, error) {
			return objects.Open(ctx, "solo", true)
		}, durable.SoloConfig{})
		if err != nil {
			tb.Fatal(errors.Join(err, objects.Close()))
		}
		store := s.Store()
		blobs, err := blobfs.Open(filepath.Join(dir, "blobs"), blobfs.Config{})
		if err != nil {
			tb.Fatal(err)
		}
		store.Blobs = blobs
		return store, func() error { return errors.Join(s.Close(), objects.Close()) }
	},
	Exclusive: true,
}

// With -short, that of package durable shows the same over objects in memory.
func TestSoloConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("a second run of the whole suite")
	}
	storagetest.Run(t, solo)
}

func TestSoloCrash(t *testing.T) { storagetest.RunCrash(t, solo, 10) }

func BenchmarkSolo(b *testing.B) { storagetest.Benchmark(b, solo) }
