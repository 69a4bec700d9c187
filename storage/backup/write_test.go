package backup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
)

// A backup is not written over what it is made of, under whatever name.
func TestBackupOntoItself(t *testing.T) {
	for _, separate := range []bool{false, true} {
		root := t.TempDir()
		opt := options{}
		if separate {
			opt.Blobs = filepath.Join(root, "disk", nameBlobs) // as if it were that of a backup
		}
		w := open(t, filepath.Join(root, "data"), opt)
		w.seed(t, 0, 1, seed.Seed{Blobs: 1})
		if err := w.DB.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The data directory was a backup once.
		writeFiles(t, w.Path, map[string]string{"backup.json": "{}"})
		link := filepath.Join(root, "link")
		pool := filepath.Join(root, "pool")
		for _, err := range []error{os.Symlink(w.Path, link), os.Mkdir(pool, 0o700), os.Symlink(w.Blobs, filepath.Join(pool, nameBlobs)),
			os.WriteFile(filepath.Join(pool, "backup.json"), []byte("{}"), 0o600)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		before := files(t, w.Blobs)
		dests := []string{w.Path, link, filepath.Join(w.Path, "."), pool, w.Blobs, filepath.Join(w.Blobs, "blobs"), filepath.Join(w.Blobs, "new"), filepath.Join(w.Blobs, "blobs", "new", "folder")}
		if separate {
			dests = append(dests, filepath.Join(root, "disk"))
		}
		for _, dest := range dests {
			if _, err := (backup.Backup{Layout: layout}).ToDir(t.Context(), w.Source, dest); !errors.Is(err, backup.ErrItself) {
				t.Errorf("%s: %v", dest, err)
			}
		}
		for _, name := range []string{nameDatabase, nameDatabase + "-wal", nameSecrets, "lock"} {
			for _, dir := range []string{w.Path, link} {
				if _, _, err := (backup.Backup{Layout: layout}).ToTarFile(t.Context(), w.Source, filepath.Join(dir, name)); !errors.Is(err, backup.ErrItself) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		thesis := filepath.Join(root, "thesis.txt")
		writeFiles(t, root, map[string]string{"thesis.txt": "Of pigs and pens."})
		for _, dest := range []string{thesis, root} {
			if _, _, err := (backup.Backup{Layout: layout}).ToTarFile(t.Context(), w.Source, dest); !errors.Is(err, backup.ErrNotBackup) {
				t.Errorf("%s: %v", dest, err)
			}
		}
		if d := cmp.Diff(before, files(t, w.Blobs)); d != "" {
			t.Error(d)
		}
		// Below the data directory there is room.
		if m := w.backup(t, backup.Backup{Layout: layout}, filepath.Join(w.Path, "backups")); m.Blobs != 1 {
			t.Errorf("%+v", m)
		}
	}
}

// Two backups into a directory at a time would take each other's blobs for old ones.
func TestTwoBackupsAtOnce(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 1})
	w.backup(t, backup.Backup{Layout: layout}, dest)
	b := backup.Backup{Layout: layout, Verify: func(ctx context.Context, _ storage.Store) error {
		if _, err := (backup.Backup{Layout: layout}).ToDir(ctx, w.Source, dest); !errors.Is(err, backup.ErrBusy) {
			t.Errorf("a backup beside another: %v", err)
		}
		if _, err := (backup.Restore{Layout: layout}).From(ctx, dest, nil, filepath.Join(t.TempDir(), "restored")); !errors.Is(err, backup.ErrBusy) {
			t.Errorf("a restore beside a backup: %v", err)
		}
		return nil
	}}
	if _, err := b.ToDir(t.Context(), w.Source, dest); err != nil {
		t.Error(err)
	}
}

// A backup to a disk that is full is an error that says so, and leaves the older generation whole.
func TestBackupToAFullDisk(t *testing.T) {
	faults := faultvfs.Install()
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Records: 200, Blobs: 2})
	w.backup(t, backup.Backup{Layout: layout}, dest)
	before := files(t, dest)
	for n := 1; ; n += 7 {
		calls := 0
		faults.Set(func() error {
			if calls++; calls < n {
				return nil
			}
			return syscall.ENOSPC
		})
		_, err := (backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 1}}}).ToDir(t.Context(), w.Source, dest)
		faults.Set(nil)
		if err == nil {
			if n == 1 {
				t.Error("nothing failed")
			}
			break
		}
		if !errors.Is(err, storage.ErrFull) {
			t.Fatalf("call %d: %v", n, err)
		}
		if d := cmp.Diff(before, files(t, dest)); d != "" {
			t.Fatalf("call %d: %s", n, d)
		}
	}
	if r := restored(t, dest); r.Found != 0 || r.Blobs != 2 {
		t.Errorf("%+v", r)
	}
}

// What a killed process left below the data directory, with the secrets in it, goes with the next
// backup.
func TestLeftoversOfKilledBackups(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 1})
	dest := filepath.Join(t.TempDir(), "pds.tar")
	writeFiles(t, w.Path, map[string]string{"backup-123/next": "x", "backup-123/lock": "", "backup-of-mine.txt": "y"})
	writeFiles(t, filepath.Dir(dest), map[string]string{"pds.tar.part-123": "x"})
	if _, _, err := (backup.Backup{Layout: layout}).ToTarFile(t.Context(), w.Source, dest); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.Path, "backup-*")); len(left) != 1 || filepath.Base(left[0]) != "backup-of-mine.txt" {
		t.Errorf("%q", left)
	}
	if left, _ := filepath.Glob(dest + "*"); len(left) != 1 {
		t.Errorf("%q", left)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	w.backup(t, backup.Backup{Layout: layout}, dir)
	before := files(t, dir)
	writeFiles(t, dir, map[string]string{"generations/next/pds.sqlite": "x", "generations/gone-20200101T000000Z/pds.sqlite": "x", "next.blob": "x", "verify-1/pds.sqlite": "x", "next.sqlite": "x"})
	w.backup(t, backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 2}}}, dir)
	after := files(t, dir)
	for name := range before {
		delete(after, name)
	}
	if len(after) != 4 { // the files of another generation
		t.Errorf("%d files more", len(after))
	}
}
