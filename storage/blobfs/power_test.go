package blobfs

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

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

func powerFailure(t *testing.T, seed uint64) {
	dir := t.TempDir()
	disk, err := powerloss.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	flushed := func(path string) {
		if err := disk.Synced(path); err != nil {
			t.Error(err)
		}
	}
	durablefile.Watch.Store(&flushed)
	defer durablefile.Watch.Store(nil)
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
