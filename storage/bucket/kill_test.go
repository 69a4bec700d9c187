package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/storagetest"
)

var errKilled = errors.New("killed")

// state is what blobs an account should have: staged or promoted, by content.
type state map[string]string

// step is a call that changes the state of alice's blobs.
type step struct {
	name string
	do   func(ctx context.Context, s *bucket.Store, w *world) error
	next func(state)
}

var long = strings.Repeat("long blob ", 28_000)

func steps() []step {
	stage := func(content string) step {
		return step{"stage", func(ctx context.Context, s *bucket.Store, w *world) error {
			_, err := s.Stage(ctx, alice, "text/plain", strings.NewReader(content), storage.BlobLimits{Quota: 1 << 20})
			return err
		}, func(st state) {
			if st[content] == "" {
				st[content] = "staged"
			}
		}}
	}
	promote := func(content string) step {
		return step{"promote", func(ctx context.Context, s *bucket.Store, w *world) error {
			return s.Promote(ctx, alice, cidOf(content))
		}, func(st state) { st[content] = "promoted" }}
	}
	del := func(content string) step {
		return step{"delete", func(ctx context.Context, s *bucket.Store, w *world) error {
			return s.Delete(ctx, alice, cidOf(content))
		}, func(st state) { delete(st, content) }}
	}
	return []step{
		stage("a"), promote("a"), stage(long), stage("b"), stage("a"), promote(long), stage(long), stage("b"),
		{"type", func(ctx context.Context, s *bucket.Store, w *world) error {
			return s.SetMIME(ctx, alice, cidOf("b"), "image/png")
		}, func(state) {}},
		stage("c"), del("a"),
		{"collect", func(ctx context.Context, s *bucket.Store, w *world) error {
			_, err := s.Collect(ctx, w.clock.Add(time.Hour))
			return err
		}, func(st state) {
			for content, x := range st {
				if x == "staged" {
					delete(st, content)
				}
			}
		}},
		stage("d"), promote("d"), stage("e"),
		{"delete all", func(ctx context.Context, s *bucket.Store, w *world) error { return s.DeleteAll(ctx, alice) }, func(st state) { clear(st) }},
		stage("f"), promote("f"),
	}
}

// isState reports what differs between a store and a state.
func (w *world) isState(s *bucket.Store, want state) error {
	return w.isStateOf(s, want, true)
}

// isStateOf is isState; it reads the blobs only if asked.
func (w *world) isStateOf(s *bucket.Store, want state, read bool) error {
	var used int64
	for _, content := range []string{"a", "b", "c", "d", "e", "f", long} {
		got := ""
		_, promoted, err := s.Stat(w.ctx, alice, cidOf(content))
		switch {
		case err == nil && promoted:
			got = "promoted"
		case err == nil:
			got = "staged"
		case !errors.Is(err, storage.ErrNotFound):
			return err
		}
		if got != want[content] {
			return fmt.Errorf("blob %.10q is %q, not %q", content, got, want[content])
		}
		if got != "" {
			used += int64(len(content))
			if read && w.read(s, alice, cidOf(content)) != content {
				return fmt.Errorf("blob %.10q has other bytes", content)
			}
		}
	}
	n, err := s.Usage(w.ctx, alice)
	if err == nil && n != used {
		err = fmt.Errorf("%d bytes are used, not %d", n, used)
	}
	return err
}

func clone(st state) state {
	c := state{}
	for k, v := range st {
		c[k] = v
	}
	return c
}

// lateBucket is a bucket at which a Put that was killed arrives after all.
type lateBucket struct {
	bucket.Bucket
	late func() // nil: nothing is late
}

func (b *lateBucket) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	err = b.Bucket.Put(ctx, name, bytes.NewReader(content), size)
	if errors.Is(err, storagetest.ErrDied) {
		if m, ok := ctx.Value(objectsKey{}).(*buckettest.Memory); ok {
			b.late = func() { _ = m.Put(context.Background(), name, bytes.NewReader(content), -1) }
		}
	}
	return err
}

type objectsKey struct{}

// TestKill kills a process before and after every call of the KV and of the bucket: the next one
// finds every blob in the state before or after the step that was cut off, nothing is lost, and the
// next collection leaves no object that nothing names.
func TestKill(t *testing.T) {
	every := 1
	if runtime.GOOS == "js" { // it is slow
		every = 23
	}
	for _, after := range []bool{false, true} {
		for _, keep := range []time.Duration{0, time.Hour} {
			calls := 0
			for at := 1; ; at += every {
				if !killAt(t, at, after, keep) {
					calls = at - 1
					break
				}
				if t.Failed() {
					t.Fatalf("killed at call %d, after it: %v, objects kept for %s", at, after, keep)
				}
			}
			if calls < 100 {
				t.Errorf("only %d calls", calls)
			}
		}
	}
}

// killAt kills at a call, and reports whether there was one.
func killAt(t *testing.T, at int, after bool, keep time.Duration) bool {
	w := newWorld(t)
	w.keep = keep
	d := &storagetest.Death{At: at, After: after}
	faults := d.Faults()
	cfg := w.config()
	cfg.KV = faults.Wrap(storage.Store{KV: w.kv}).KV
	late := &lateBucket{Bucket: buckettest.Faults{Before: faults.Before, After: faults.After}.Wrap(w.objects)}
	cfg.Bucket = late
	ctx := context.WithValue(w.ctx, objectsKey{}, w.objects)
	st, want := state{}, state{}
	s, err := bucket.Open(ctx, cfg)
	if err == nil {
		for _, step := range steps() {
			want = clone(st)
			step.next(want)
			err = step.do(ctx, s, w)
			if d.Died() {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			st = want
		}
	}
	if late.late != nil {
		late.late()
	}
	s = w.open()
	if err := w.isState(s, want); err != nil {
		if old := w.isState(s, st); old != nil {
			t.Errorf("neither after the step (%v) nor before it (%v)", err, old)
		}
	}
	w.check(s)
	w.clean(s)
	if d.Died() && err == nil {
		// The step succeeded: only deletion of objects was cut off.
		w.ok(w.isState(s, want))
	}
	return d.Died()
}

// TestHistory makes random calls of which some fail, in one process, and compares with a model.
func TestHistory(t *testing.T) {
	seeds := uint64(16)
	if runtime.GOOS == "js" {
		seeds = 2
	}
	for seed := range seeds {
		w := newWorld(t)
		rng := rand.New(rand.NewPCG(seed, 1))
		fault := func(string) error {
			if rng.IntN(60) == 0 {
				return errKilled
			}
			return nil
		}
		quiet := false
		maybe := func(string) error {
			if quiet {
				return nil
			}
			return fault("")
		}
		s0 := w.open()
		cfg := w.config()
		cfg.KV = storagetest.Faults{Before: maybe, After: maybe}.Wrap(storage.Store{KV: w.kv}).KV
		cfg.Bucket = buckettest.Faults{Before: maybe, After: maybe, Body: func(r io.ReadCloser) io.ReadCloser {
			if !quiet && rng.IntN(3) == 0 {
				return cutReader{r, rng.Int64N(100_000)}.reader()
			}
			return r
		}}.Wrap(w.objects)
		quiet = true
		s := w.openAs(cfg)
		quiet = false
		st, all := state{}, steps()
		for i := range 200 {
			step := all[rng.IntN(len(all))]
			want := clone(st)
			step.next(want)
			err := step.do(w.ctx, s, w)
			if errors.Is(err, storage.ErrNotFound) {
				want = st
			}
			quiet = true
			read := i%10 == 0 || err != nil
			switch problem := w.isStateOf(s, want, read); {
			case problem == nil:
				st = want
			case err == nil:
				t.Fatalf("seed %d, step %d, %s: %v", seed, i, step.name, problem)
			default:
				if step.name == "delete all" || step.name == "collect" {
					break // they may have done a part
				}
				if old := w.isState(s, st); old != nil {
					t.Fatalf("seed %d, step %d, %s: neither after (%v) nor before (%v)", seed, i, step.name, problem, old)
				}
			}
			if i%20 == 19 {
				w.check(s0)
				if i%60 == 59 {
					w.clean(s0)
				}
			}
			quiet = false
		}
		quiet = true
		w.ok(w.isState(s, st))
		w.clean(s0)
		w.ok(s.DeleteAll(w.ctx, alice))
		if n := w.objects.Len(); n != 0 {
			t.Errorf("seed %d: %d objects are left", seed, n)
		}
	}
}

// cutReader breaks off after n bytes.
type cutReader struct {
	r io.ReadCloser
	n int64
}

func (c cutReader) reader() io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(c.r, c.n), failing{}), c.r}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset") }
