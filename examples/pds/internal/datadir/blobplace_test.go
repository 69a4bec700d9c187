package datadir_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/internal/durablefile"
)

// A folder that gets blobs is marked, for good, before the first of them is there: also if it was
// marked by a process that died. One with other files gets none.
func TestBeginBlobs(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "blobs")
	for range 2 {
		var flushed []string
		watch := func(path string) { flushed = append(flushed, path) }
		durablefile.Watch.Store(&watch)
		err := datadir.BeginBlobs(folder)
		durablefile.Watch.Store(nil)
		if err != nil {
			t.Fatal(err)
		}
		if datadir.CheckUnfinished(folder) == nil || !slices.Contains(flushed, folder) {
			t.Errorf("it is not marked for good: flushed %q", flushed)
		}
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "photo.jpg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := datadir.BeginBlobs(other); err == nil || datadir.CheckUnfinished(other) != nil {
		t.Errorf("a folder with other files: %v", err)
	}
}
