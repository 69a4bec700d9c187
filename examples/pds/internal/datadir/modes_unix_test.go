//go:build unix

package datadir_test

import (
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/internal/testenv"
)

// Only the owner can read the data, backups and what is restored, whatever the umask.
func TestModesOfFiles(t *testing.T) {
	testenv.Umask(t, 0)
	root := t.TempDir()
	w := open(t, filepath.Join(root, "data"), datadir.Options{Blobs: filepath.Join(root, "disk", "blobs")})
	w.seed(t, 0, 2, seed.Seed{Records: 3, Blobs: 2})
	dest := filepath.Join(root, "below", "backup")
	for range 2 {
		w.backup(t, datadir.Backup{Keep: datadir.Keep{{Count: 2}}}, dest)
	}
	if _, _, err := (datadir.Backup{Files: secrets}).ToTarFile(t.Context(), w.Dir, filepath.Join(root, "pds.tar")); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"a": dest, "b": filepath.Join(root, "pds.tar")} {
		r := datadir.Restore{Blobs: filepath.Join(root, "restored", name, "blobs")}
		if _, err := r.From(t.Context(), from, nil, filepath.Join(root, "restored", name, "data")); err != nil {
			t.Fatal(err)
		}
	}
	if n := testenv.Private(t, root); n < 30 {
		t.Errorf("only %d files", n)
	}
}
