//go:build unix

package backup_test

import (
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage/backup"
)

// Only the owner can read the data, backups and what is restored, whatever the umask.
func TestModesOfFiles(t *testing.T) {
	testenv.Umask(t, 0)
	root := t.TempDir()
	w := open(t, filepath.Join(root, "data"), options{Blobs: filepath.Join(root, "disk", "blobs")})
	w.seed(t, 0, 2, seed.Seed{Records: 3, Blobs: 2})
	dest := filepath.Join(root, "below", "backup")
	for range 2 {
		w.backup(t, backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 2}}}, dest)
	}
	if _, _, err := (backup.Backup{Layout: layout, Files: secretFiles}).ToTarFile(t.Context(), w.Source, filepath.Join(root, "pds.tar")); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"a": dest, "b": filepath.Join(root, "pds.tar")} {
		r := backup.Restore{Layout: layout, Blobs: filepath.Join(root, "restored", name, "blobs")}
		if _, err := r.From(t.Context(), from, nil, filepath.Join(root, "restored", name, "data")); err != nil {
			t.Fatal(err)
		}
	}
	if n := testenv.Private(t, root); n < 30 {
		t.Errorf("only %d files", n)
	}
}
