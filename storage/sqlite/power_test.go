package sqlite

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/powerloss"
	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// After a power failure all that was acknowledged is there, and nothing in part. Some steps make a
// checkpoint.
func TestPowerFailure(t *testing.T) {
	vfs := faultvfs.Install()
	t.Cleanup(func() { durablefile.Watch.Store(nil) })
	for seed := range testenv.Rounds[uint64](t, 2, 50) {
		storagetest.RunPowerFailure(t, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			db, err := Open(tb.Context(), filepath.Join(dir, "new", "test.sqlite"), Config{})
			if err != nil {
				tb.Fatal(err)
			}
			db.checkpoints.set(5, 20)
			return db.Store(), db.Close
		}}, seed, func(changing func(), flushed func(string)) {
			vfs.Set(func() error { changing(); return nil })
			vfs.Watch(flushed)
			durablefile.Watch.Store(&flushed)
		})
	}
}

// A step that a process wrote, and had not flushed when it died, counts from the next opening on: so
// a power failure does not take it away any more.
func TestPowerFailureAfterDeath(t *testing.T) {
	vfs := faultvfs.Install()
	put := func(path string) (*DB, error) {
		db, err := Open(ctx, path, Config{})
		if err != nil {
			return nil, err
		}
		return db, db.Store().KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, "key", []byte("value"), time.Time{}) })
	}
	first := filepath.Join(t.TempDir(), "test.sqlite")
	db, err := put(first)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// The files of the process that died are in a directory of which the disk knows their names only.
	dir := t.TempDir()
	path := filepath.Join(dir, "test.sqlite")
	database, err1 := os.ReadFile(first)
	wal, err2 := os.ReadFile(first + "-wal")
	if err := errors.Join(err1, err2, os.WriteFile(path, database, 0o600), os.WriteFile(path+"-wal", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	disk, err := powerloss.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if err := os.WriteFile(path+"-wal", wal, 0o600); err != nil {
		t.Fatal(err)
	}
	flushed := func(path string) {
		if err := disk.Synced(path); err != nil {
			t.Error(err)
		}
	}
	durablefile.Watch.Store(&flushed)
	defer durablefile.Watch.Store(nil)
	vfs.Watch(flushed)
	defer vfs.Watch(nil)
	has := func(path string) error {
		db, err := Open(ctx, path, Config{})
		if err != nil {
			return err
		}
		err = db.Store().KV.Read(ctx, func(r storage.KVReader) error {
			_, err := r.Get(ctx, "key")
			return err
		})
		return errors.Join(err, db.Close())
	}
	again, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for seed := range uint64(10) {
		to := t.TempDir()
		if err := disk.Crash(to, rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		if err := has(filepath.Join(to, "test.sqlite")); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
