package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// Some steps make a checkpoint, so that calls of these fail too.
func TestDiskFaults(t *testing.T) {
	storagetest.RunDiskFaults(t, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		db, err := Open(tb.Context(), filepath.Join(dir, "test.sqlite"), Config{})
		if err != nil {
			tb.Fatal(err)
		}
		db.checkpoints.set(5, 20)
		return db.Store(), db.Close
	}}, faultvfs.Install().Set)
}

// A backup to a disk that is full or fails is an error and leaves no file; the
// database goes on.
func TestBackupToFailingDisk(t *testing.T) {
	faults := faultvfs.Install()
	dir := t.TempDir()
	db, err := Open(ctx, filepath.Join(dir, "test.sqlite"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	setKey(t, db, "key", strings.Repeat("long", 10_000))
	if err := db.Close(); err != nil { // all is in the database now: calls that fail are the copy's
		t.Fatal(err)
	}
	if db, err = Open(ctx, filepath.Join(dir, "test.sqlite"), Config{}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	to := filepath.Join(dir, "copy")
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO} {
		for n := 1; ; n++ {
			calls := 0
			faults.Set(func() error {
				if calls++; calls < n {
					return nil
				}
				return errno
			})
			err := db.Backup(ctx, to)
			faults.Set(nil)
			if calls < n && err == nil {
				if n < 10 {
					t.Errorf("a copy is %d calls", n-1)
				}
				break
			}
			if err == nil || errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("%v at call %d: error %v", errno, n, err)
			}
			if left, _ := filepath.Glob(to + "*"); len(left) > 0 {
				t.Fatalf("%v at call %d: left %q", errno, n, left)
			}
			setKey(t, db, "after", fmt.Sprint(n))
		}
		if err := db.Backup(ctx, to); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over a file: %v", err)
		}
		c := raw(t, to)
		if got := value(t, c, "SELECT value FROM kv WHERE key = 'key'"); got != strings.Repeat("long", 10_000) {
			t.Errorf("the copy has %.20q", got)
		}
		if got := value(t, c, "PRAGMA integrity_check"); got != "ok" {
			t.Error(got)
		}
		c.close()
		if err := os.Remove(to); err != nil {
			t.Fatal(err)
		}
	}
}
