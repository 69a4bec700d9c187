package backup_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/powerloss"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/storage/backup"
)

// watchDisk watches what is flushed below a directory, of what a function lets through.
func watchDisk(t *testing.T, root string, counts func(path string) bool) *powerloss.Disk {
	t.Helper()
	disk, err := powerloss.New(root)
	if err != nil {
		t.Fatal(err)
	}
	flushed := func(path string) {
		if !counts(path) {
			return
		}
		if err := disk.Synced(path); err != nil {
			t.Error(err)
		}
	}
	durablefile.Watch.Store(&flushed)
	t.Cleanup(func() {
		durablefile.Watch.Store(nil)
		disk.Close()
	})
	return disk
}

// lasts fails if a power failure can take something of a directory away.
func lasts(t *testing.T, disk *powerloss.Disk, root, dir string) {
	t.Helper()
	want := files(t, filepath.Join(root, dir))
	for seed := range uint64(4) {
		to := filepath.Join(t.TempDir(), "state")
		if err := errors.Join(os.Mkdir(to, 0o700), disk.Crash(to, rand.New(rand.NewPCG(seed, 0)))); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(to, dir)); err != nil {
			t.Errorf("seed %d: %s is not there after a power failure", seed, dir)
			continue
		}
		got := files(t, filepath.Join(to, dir))
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("seed %d: %s is not what it was before the power failure", seed, name)
			}
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
}

func all(string) bool { return true }

// What has been restored is there after a power failure.
func TestPowerFailureAfterRestore(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 2, seed.Seed{Records: 1, Blobs: 1})
	from := filepath.Join(t.TempDir(), "backup")
	if _, err := (backup.Backup{Layout: layout, Files: secretFiles}).ToDir(t.Context(), w.Source, from); err != nil {
		t.Fatal(err)
	}
	for name, blobs := range map[string]string{"beside": "", "elsewhere": "disk/blobs"} {
		for _, dest := range []string{"new/data", "there"} {
			t.Run(name+" "+dest, func(t *testing.T) {
				root := t.TempDir()
				if err := os.Mkdir(filepath.Join(root, "there"), 0o700); err != nil {
					t.Fatal(err)
				}
				disk := watchDisk(t, root, all)
				r := backup.Restore{Layout: layout}
				if blobs != "" {
					r.Blobs = filepath.Join(root, blobs)
				}
				if _, err := r.From(t.Context(), from, nil, filepath.Join(root, dest)); err != nil {
					t.Fatal(err)
				}
				lasts(t, disk, root, dest)
				if blobs != "" {
					lasts(t, disk, root, blobs)
				}
			})
		}
	}
}

// A backup that is complete is there after a power failure, with the blobs that one before it had
// copied, which was killed or has failed.
func TestPowerFailureAfterBackup(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 2, seed.Seed{Records: 1, Blobs: 1})
	for name, killed := range map[string]bool{"killed": true, "failed": false} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			to := filepath.Join(root, "backups", "pds")
			dead := false
			disk := watchDisk(t, root, func(path string) bool { return !dead || !isDir(path) })
			broken := errors.New("broken")
			fail := func(context.Context) (map[string][]byte, error) {
				dead = killed // what closes a backup that fails is not done
				return nil, broken
			}
			if _, err := (backup.Backup{Layout: layout, Files: fail}).ToDir(t.Context(), w.Source, to); !errors.Is(err, broken) {
				t.Fatal(err)
			}
			if dead = false; killed {
				if err := os.Mkdir(filepath.Join(to, "generations", "next"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := (backup.Backup{Layout: layout, Files: secretFiles}).ToDir(t.Context(), w.Source, to); err != nil {
				t.Fatal(err)
			}
			got := files(t, filepath.Join(root, "backups"))
			maps.DeleteFunc(got, func(name, _ string) bool { return !strings.Contains(name, nameBlobs) })
			if len(got) == 0 {
				t.Fatal("there are no blobs")
			}
			lasts(t, disk, root, filepath.Join("backups", "pds"))
		})
	}
}

// That a backup was killed is known until another one is complete, also if the one after it ends
// before it has begun to copy.
func TestPowerFailureAfterTwoBackups(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 2, seed.Seed{Records: 1, Blobs: 1})
	root := t.TempDir()
	to := filepath.Join(root, "pds")
	dead := false
	disk := watchDisk(t, root, func(path string) bool { return !dead || !isDir(path) })
	broken := errors.New("broken")
	fail := func(context.Context) (map[string][]byte, error) {
		dead = true // what closes a backup that fails is not done
		return nil, broken
	}
	if _, err := (backup.Backup{Layout: layout, Files: fail}).ToDir(t.Context(), w.Source, to); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	dead = false
	next, inTheWay := filepath.Join(to, "generations", "next"), filepath.Join(to, nameBlobs, "staged")
	if err := errors.Join(os.Mkdir(next, 0o700), os.WriteFile(filepath.Join(next, "half"), nil, 0o600), os.Remove(inTheWay), os.WriteFile(inTheWay, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := (backup.Backup{Layout: layout}).ToDir(t.Context(), w.Source, to); err == nil {
		t.Fatal("a backup was made with a file in its way")
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if _, err := (backup.Backup{Layout: layout, Files: secretFiles}).ToDir(t.Context(), w.Source, to); err != nil {
		t.Fatal(err)
	}
	lasts(t, disk, root, "pds")
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
