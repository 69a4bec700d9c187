package backup_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage/backup"
)

// A directory that is there already is filled, not replaced: it may be a volume. If that fails, it
// is as it was.
func TestRestoreIntoAnExistingDirectory(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 2, seed.Seed{Records: 3, Blobs: 1})
	from := filepath.Join(t.TempDir(), "backup")
	if _, err := (backup.Backup{Layout: layout}).ToDir(t.Context(), w.Source, from); err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	before, err := os.Stat(dest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dest, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	_, err = backup.Restore{Layout: layout, Verify: func(context.Context, string, *backup.Manifest) error { return broken }}.From(t.Context(), from, nil, dest)
	if left, _ := os.ReadDir(dest); !errors.Is(err, broken) || len(left) != 1 {
		t.Errorf("%v; left: %v", err, left)
	}
	var report *check.Report
	if _, err := (backup.Restore{Layout: layout, Verify: verifyRestored(&report)}).From(t.Context(), from, nil, dest); err != nil || report.Found != 0 || report.Records != 8 {
		t.Fatalf("%+v, %v", report, err)
	}
	if after, err := os.Stat(dest); err != nil || !os.SameFile(before, after) {
		t.Error("the directory is another one")
	}
	if left, err := filepath.Glob(filepath.Join(dest, ".restore-*")); err != nil || left != nil {
		t.Error(left)
	}
	d, err := openDir(t.Context(), dest, options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.DB.Close(); err != nil {
		t.Error(err)
	}
}

// Something that came while a restore was under way, as from a server that was started, is neither
// replaced nor removed, also on another volume for blobs.
func TestRestoreBesideAStartedServer(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Records: 3, Blobs: 2})
	from := filepath.Join(t.TempDir(), "backup")
	if _, err := (backup.Backup{Layout: layout, Files: secretFiles}).ToDir(t.Context(), w.Source, from); err != nil {
		t.Fatal(err)
	}
	for _, existing := range []bool{false, true} {
		for _, name := range []string{"data/" + nameDatabase, "data/" + nameSecrets, "disk/blobs/x", "disk/staged/x"} {
			root := t.TempDir()
			dest := filepath.Join(root, "data")
			if existing {
				if err := os.Mkdir(dest, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			r := backup.Restore{Layout: layout, Blobs: filepath.Join(root, "disk"), Verify: func(context.Context, string, *backup.Manifest) error {
				writeFiles(t, root, map[string]string{name: "of a server"})
				return nil
			}}
			if _, err := r.From(t.Context(), from, nil, dest); !errors.Is(err, backup.ErrNotEmpty) {
				t.Errorf("%s, existing %v: %v", name, existing, err)
			}
			if got := files(t, root); len(got) != 1 || got[name] != "of a server" {
				t.Errorf("%s, existing %v: %v", name, existing, got)
			}
		}
	}
}

// What a killed restore has left is removed by the next one, and nothing else that has such a name.
func TestRestoreAfterAKilledOne(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data [1"), options{})
	w.seed(t, 0, 1, seed.Seed{Records: 3})
	from := filepath.Join(t.TempDir(), "backup [1")
	for range 2 { // in one second
		if _, err := (backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 2}}}).ToDir(t.Context(), w.Source, from); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	writeFiles(t, root, map[string]string{
		"data/.restore-123/lock": "", "data/.restore-123/data/pds.sqlite": "x", "data.restore-5/lock": "",
		"data.restore-5a/lock": "", "data.restore-6/photo": "", "mine/.restore-7/photo": "",
	})
	for name, want := range map[string]error{"data": nil, "mine": backup.ErrNotEmpty, "new": nil} {
		if _, err := (backup.Restore{Layout: layout}).From(t.Context(), from, nil, filepath.Join(root, name)); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (backup.Restore{Layout: layout}).From(t.Context(), from, nil, filepath.Join(root, "data2")); err != nil {
		t.Error(err)
	}
	got := files(t, root)
	for _, gone := range []string{"data/.restore-123/lock", "data/.restore-123/data/pds.sqlite"} {
		if _, ok := got[gone]; ok {
			t.Errorf("%s is left", gone)
		}
	}
	for _, name := range []string{"data.restore-5a/lock", "data.restore-6/photo", "mine/.restore-7/photo"} {
		if _, ok := got[name]; !ok {
			t.Errorf("%s was removed", name)
		}
	}
}

// A backup in a folder of the data directory stays, whatever its name.
func TestFoldersOfTheOperatorStay(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	own := map[string]string{"backup-2026/photo": "x", "backup-monday/lock": "x", "backup-7/backup.lock": ""}
	writeFiles(t, w.Path, own)
	if _, err := (backup.Backup{Layout: layout}).ToTar(t.Context(), w.Source, io.Discard); err != nil {
		t.Fatal(err)
	}
	all := files(t, w.Path)
	for name := range own {
		if _, ok := all[name]; !ok {
			t.Errorf("%s was removed", name)
		}
	}
}
