package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/pdskit/pdskit/storage"
)

// RunDamage checks that a backend notices damaged files. It fills a store, repeatedly damages a
// copy of its files (flips a bit, clears a block, cuts off an end), and opens the copy. Opening
// must fail, or reading must return storage.ErrCorrupt or unchanged data. RunDamage is for backends
// that keep files in the directory.
//
// With -short, times is 20 at most.
func RunDamage(t *testing.T, b Backend, times int) {
	if testing.Short() {
		times = min(times, 20)
	}
	damage(newEnv(t, b, 0), times)
}

func damage(e *env, times int) {
	for i := range 3 {
		edits := notes(100)
		for j := range edits {
			edits[j] = note(fmt.Sprintf("%03d", j), fmt.Sprintf("%0200d", j), blobInfos(3)[j%3])
		}
		a := e.newRepo(edits...)
		for j := range 20 {
			s := a.change(note(j, fmt.Sprint("changed ", i, j)))
			s.KV = []storage.KVWrite{{Key: fmt.Sprint("key ", j%7), Value: fmt.Append(nil, j)}}
			e.apply(a, s)
		}
	}
	e.reopen()
	want := e.dump()
	e.ok(e.close(), "close")
	e.close = nil
	rng := rand.New(rand.NewPCG(3, 4))
	noticed := 0
	for range times {
		dir := e.copyFiles()
		what := spoil(e, rng, dir)
		got, err := dumpDir(e, dir)
		switch {
		case err == nil:
			e.sameLines(got, want, "%s: damage was not noticed", what)
		case errors.Is(err, storage.ErrCorrupt), errors.Is(err, errNotOpened):
			noticed++
		default:
			e.Errorf("%s: error %v, which does not say that the data is corrupt", what, err)
		}
		e.ok(os.RemoveAll(dir), "remove the copy")
	}
	e.Logf("spoiled %d times, noticed %d times; else nothing was lost", times, noticed)
	if noticed == 0 {
		e.Errorf("nothing was ever noticed")
	}
}

// spoil damages a file of a directory and says how.
func spoil(e *env, rng *rand.Rand, dir string) string {
	var files []string
	var sizes []int64
	total := int64(0)
	e.ok(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > 1 {
			files, sizes = append(files, path), append(sizes, info.Size())
			total += info.Size()
		}
		return err
	}), "walk the directory")
	at, i := rng.Int64N(total), 0
	for ; at >= sizes[i]; i++ {
		at -= sizes[i]
	}
	name, _ := filepath.Rel(dir, files[i])
	if rng.IntN(8) == 0 {
		at = max(1, at)
		e.ok(os.Truncate(files[i], at), "truncate")
		return fmt.Sprintf("%s cut to %d of %d bytes", name, at, sizes[i])
	}
	b, err := os.ReadFile(files[i])
	e.ok(err, "read a file")
	what := fmt.Sprintf("%s, byte %d of %d", name, at, sizes[i])
	if rng.IntN(8) == 0 {
		what += " and the block after it cleared"
		clear(b[at:min(at+512, sizes[i])])
	} else {
		b[at] ^= 1 << rng.IntN(8)
	}
	e.ok(os.WriteFile(files[i], b, 0o600), "write a file")
	return what
}

var errNotOpened = errors.New("the store was not opened")

// dumpDir opens a store, of which the files may be damaged, and describes it.
func dumpDir(e *env, dir string) (lines []string, err error) {
	tb := &quietTB{TB: e.TB}
	err = errNotOpened
	done := make(chan struct{})
	go func() { // Open may end it
		defer close(done)
		s, closeIt := e.backend.Open(tb, dir)
		lines, err = dump(context.Background(), s)
		_ = closeIt() // of what is damaged
	}()
	<-done
	return slices.Clip(lines), err
}

// quietTB takes no notice of failures, but for ending the goroutine.
type quietTB struct{ testing.TB }

func (*quietTB) Errorf(string, ...any) {}
func (*quietTB) Error(...any)          {}
func (*quietTB) Fatalf(string, ...any) { runtime.Goexit() }
func (*quietTB) Fatal(...any)          { runtime.Goexit() }
func (*quietTB) FailNow()              { runtime.Goexit() }
