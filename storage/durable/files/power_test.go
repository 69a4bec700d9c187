package files

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/powerloss"
	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// After a power failure all that was acknowledged is there, in the objects' files and in the log they
// share. With room for one object, objects are opened and closed meanwhile.
func TestPowerFailure(t *testing.T) {
	vfs := faultvfs.Install()
	t.Cleanup(func() { durablefile.Watch.Store(nil) })
	fault := func() error { return nil }
	for seed := range testenv.Rounds[uint64](t, 1, 50) {
		storagetest.RunPowerFailure(t, storagetest.Backend{
			Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
				db := openDB(tb, filepath.Join(dir, "new"), durable.Config{MaxOpen: 1})
				db.objects.fault = func() error { return fault() }
				return db.Store(), db.Close
			},
			Exclusive: true,
		}, seed, func(changing func(), flushed func(string)) {
			hook := func() error { changing(); return nil }
			vfs.Set(hook)
			fault = hook
			vfs.Watch(flushed)
			durablefile.Watch.Store(&flushed)
		})
	}
}

// An object that was removed does not come back, nor does its -wal file to the next one of its account.
func TestPowerFailureAfterRemove(t *testing.T) {
	vfs := faultvfs.Install()
	t.Cleanup(func() { durablefile.Watch.Store(nil) })
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	objects, err := OpenObjects(dir)
	ok(err)
	defer objects.Close()
	set := func(o durable.Object, key string) {
		ok(o.Transact(func() error { return o.Set(key, []byte("value")) }))
	}
	disk, err := powerloss.New(dir)
	ok(err)
	defer disk.Close()
	flushed := func(path string) { ok(disk.Synced(path)) }
	durablefile.Watch.Store(&flushed)
	vfs.Watch(flushed)
	defer vfs.Watch(nil)

	// look opens the object in states that may be there now.
	look := func(when string, keys ...string) {
		t.Helper()
		for seed := range uint64(40) {
			to := filepath.Join(t.TempDir(), "state")
			ok(os.Mkdir(to, 0o700))
			ok(disk.Crash(to, rand.New(rand.NewPCG(seed, 0))))
			after, err := OpenObjects(to)
			ok(err)
			o, err := after.Open(ctx, alice, false)
			if errors.Is(err, storage.ErrNotFound) && len(keys) == 0 {
				ok(after.Close())
				continue
			}
			ok(err)
			var got []string
			ok(o.Scan(durable.Scan{}, func(key string, _ []byte) bool { got = append(got, key); return true }))
			if !slices.Equal(got, keys) {
				t.Errorf("%s, seed %d: keys %q, want %q", when, seed, got, keys)
			}
			ok(errors.Join(o.Close(), after.Close(), os.RemoveAll(to)))
		}
	}
	o, err := objects.Open(ctx, alice, true)
	ok(err)
	set(o, "old")
	look("written", "old")
	// A process that dies leaves the -wal file; so does a copy.
	path := objects.path(alice)
	wal, err := os.ReadFile(path + "-wal")
	ok(err)
	ok(o.Close())
	ok(os.WriteFile(path+"-wal", wal, 0o600))
	ok(durablefile.Sync(path + "-wal"))
	ok(durablefile.SyncDir(filepath.Dir(path)))
	ok(objects.Remove(alice))
	look("removed")
	o, err = objects.Open(ctx, alice, true)
	ok(err)
	look("made again")
	set(o, "new")
	look("written again", "new")
	ok(o.Close())
}

// What is in a folder lasts, also if a process made the folder that died before it had flushed the
// directory.
func TestPowerFailureAfterDeath(t *testing.T) {
	vfs := faultvfs.Install()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	disk, err := powerloss.New(dir)
	ok(err)
	defer disk.Close()
	flushed := func(path string) { ok(disk.Synced(path)) }
	durablefile.Watch.Store(&flushed)
	defer durablefile.Watch.Store(nil)
	vfs.Watch(flushed)
	defer vfs.Watch(nil)
	objects, err := OpenObjects(dir)
	ok(err)
	defer objects.Close()
	ok(os.Mkdir(filepath.Dir(objects.path(alice)), 0o700))
	o, err := objects.Open(ctx, alice, true)
	ok(err)
	ok(o.Transact(func() error { return o.Set("key", []byte("value")) }))
	for seed := range uint64(20) {
		to := filepath.Join(t.TempDir(), "state")
		ok(os.Mkdir(to, 0o700))
		ok(disk.Crash(to, rand.New(rand.NewPCG(seed, 0))))
		after, err := OpenObjects(to)
		ok(err)
		if o, err := after.Open(ctx, alice, false); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		} else if _, err := o.Get("key"); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		} else {
			ok(o.Close())
		}
		ok(after.Close())
	}
	ok(o.Close())
}
