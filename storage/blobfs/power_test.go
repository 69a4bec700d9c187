package blobfs

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/powerloss"
	"github.com/pdskit/pdskit/internal/testenv"
)

// After a power failure each step that had returned has its effect, and the one under way has it or
// not. No blob is there in part.
func TestPowerFailure(t *testing.T) {
	for seed := range testenv.Rounds[uint64](t, 2, 20) {
		powerFailure(t, seed)
	}
}

// watchDisk watches what is flushed below a directory, until the test ends.
func watchDisk(t *testing.T, dir string) (disk *powerloss.Disk, flushed func(path string)) {
	t.Helper()
	disk, err := powerloss.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	flushed = func(path string) {
		if err := disk.Synced(path); err != nil {
			t.Error(err)
		}
	}
	durablefile.Watch.Store(&flushed)
	t.Cleanup(func() {
		durablefile.Watch.Store(nil)
		disk.Close()
	})
	return disk, flushed
}

func powerFailure(t *testing.T, seed uint64) {
	dir := t.TempDir()
	disk, flushed := watchDisk(t, dir)
	s := open(t, dir, Config{})
	random := rand.New(rand.NewPCG(seed, 0))
	var states []string
	snap := func() {
		to := t.TempDir()
		if err := disk.Crash(to, random); err != nil {
			t.Fatal(err)
		}
		states = append(states, to)
	}
	s.rename = func(from, to string) error {
		snap()
		defer snap()
		return os.Rename(from, to)
	}
	s.syncFile = func(f *os.File) error {
		snap()
		flushed(f.Name()) // and nothing else: the states are made, not left by a disk
		snap()
		return nil
	}
	contents, steps := lifeOfBlobs(t, s)
	before := state(t, s, alice, contents...)
	for i, step := range steps {
		states = nil
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		after := state(t, s, alice, contents...)
		during := len(states)
		for range 4 {
			snap()
		}
		for j, to := range states {
			reopened := open(t, to, Config{TempAge: -time.Hour})
			got := state(t, reopened, alice, contents...)
			if !maps.Equal(got, after) && (j >= during || !maps.Equal(got, before) && !onlyStaged(got, after)) {
				t.Errorf("seed %d, step %d of %d, power failure %d, %d of them during the step: %v, want %v (before: %v)",
					seed, i, len(steps), j, during, got, after, before)
			}
			if left := files(t, filepath.Join(to, "tmp")); len(left) != 0 {
				t.Errorf("seed %d, step %d, power failure %d: left under tmp: %v", seed, i, j, left)
			}
			if err := os.RemoveAll(to); err != nil {
				t.Fatal(err)
			}
		}
		before = after
	}
}

// A call that has returned has its effect for good, also if a process that died before it, or a call
// that failed, had done its work, but for flushing it.
func TestPowerFailureAfterDeath(t *testing.T) {
	died := errors.New("it has died")
	calls := map[string]func(*Store, cid.Cid) error{
		"Promote":   func(s *Store, c cid.Cid) error { return s.Promote(ctx, alice, c) },
		"SetMIME":   func(s *Store, c cid.Cid) error { return s.SetMIME(ctx, alice, c, "image/png") },
		"Delete":    func(s *Store, c cid.Cid) error { return s.Delete(ctx, alice, c) },
		"DeleteAll": func(s *Store, c cid.Cid) error { return s.DeleteAll(ctx, alice) },
	}
	for name, call := range calls {
		for _, again := range []string{"another process", "the same"} {
			t.Run(name+" by "+again, func(t *testing.T) {
				for last := 0; ; last++ { // how many directories are flushed before
					if deathAt(t, last, died, name, call, again == "the same") {
						return
					}
				}
			})
		}
	}
}

// deathAt reports whether the call ended before the process could die.
func deathAt(t *testing.T, last int, died error, name string, call func(*Store, cid.Cid) error, same bool) (ended bool) {
	dir := t.TempDir()
	disk, _ := watchDisk(t, dir)
	s := open(t, dir, Config{})
	c := stage(t, s, alice, "one")
	if name != "Promote" {
		if err := s.Promote(ctx, alice, c); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, Config{}) // which knows nothing of what was flushed
	}
	n := 0
	s.syncFile = func(f *os.File) error {
		if info, err := f.Stat(); err != nil || !info.IsDir() {
			return errors.Join(err, durablefile.SyncFile(f))
		}
		if n++; n > last {
			return died
		}
		return f.Sync()
	}
	err := call(s, c)
	if ended = err == nil; !ended && !errors.Is(err, died) {
		t.Fatal(err)
	}
	if same {
		s.syncFile = durablefile.SyncFile
	} else {
		s = open(t, dir, Config{})
	}
	if err := call(s, c); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"Promote": "promoted", "SetMIME": "promoted"}[name]
	for seed := range uint64(20) {
		to := t.TempDir()
		if err := disk.Crash(to, rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		after := open(t, to, Config{TempAge: -time.Hour})
		if got := state(t, after, alice, "one")["one"]; got != cmp.Or(want, "missing") {
			t.Errorf("dead after %d, seed %d: the blob is %s", last, seed, got)
		} else if info, _, err := after.Stat(ctx, alice, c); name == "SetMIME" && (err != nil || info.MIME != "image/png") {
			t.Errorf("dead after %d, seed %d: type %q, %v", last, seed, info.MIME, err)
		}
	}
	return ended
}

// What a copy finds in place, since one before it was killed, lasts too when it returns.
func TestPowerFailureAfterCopy(t *testing.T) {
	from, root := t.TempDir(), t.TempDir()
	s := open(t, from, Config{})
	contents := []string{"one", "two", "three"}
	for i, content := range contents {
		if c := stage(t, s, alice, content); i > 0 {
			if err := s.Promote(ctx, alice, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := state(t, s, alice, contents...)
	disk, _ := watchDisk(t, root)
	to := filepath.Join(root, "to")
	killed, kill := context.WithCancel(ctx)
	_, err := Copy(killed, from, to, func(files int) {
		if files == 2 {
			kill()
		}
	})
	if !errors.Is(err, context.Canceled) || len(files(t, to)) != 2 {
		t.Fatalf("%v, %d files", err, len(files(t, to)))
	}
	if _, err := Copy(ctx, from, to, nil); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(20) {
		left := t.TempDir()
		if err := disk.Crash(left, rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		if got := state(t, open(t, filepath.Join(left, "to"), Config{}), alice, contents...); !maps.Equal(got, want) {
			t.Errorf("seed %d: %v, want %v", seed, got, want)
		}
	}
}

// onlyStaged reports whether two states differ in blobs alone that are to be gone and are staged. The
// name under which a blob was staged may come back until its directory is flushed; Collect removes it.
func onlyStaged(got, want map[string]string) bool {
	for content, is := range got {
		if is != want[content] && (is != "staged" || want[content] != "missing") {
			return false
		}
	}
	return true
}
