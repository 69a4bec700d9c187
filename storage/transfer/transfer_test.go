package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/storage/storagetest"
	"github.com/pdskit/pdskit/storage/transfer"
)

func inMemory(testing.TB) storage.Store { return memory.New(memory.Config{}) }

func inSQLite(tb testing.TB) storage.Store {
	db, err := sqlite.Open(tb.Context(), filepath.Join(tb.TempDir(), "db"), sqlite.Config{Relaxed: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return db.Store()
}

func mover(tb testing.TB, cfg transfer.Config) *transfer.Mover {
	tb.Helper()
	m, err := transfer.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func finish(tb testing.TB, cfg transfer.Config) transfer.Report {
	tb.Helper()
	r, err := mover(tb, cfg).Finish(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// A store moves while it is written, from one backend to another and on to a third. All that was
// acknowledged is there, numbers go on, and each store says what it is.
func TestMoveUnderLoad(t *testing.T) {
	for name, open := range map[string][]func(testing.TB) storage.Store{
		"memory, memory":         {inMemory, inMemory},
		"sqlite, memory, sqlite": {inSQLite, inMemory, inSQLite},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := open[0](t)
			w := newWorld(t, from, 1)
			w.live(t.Context(), 6, 120)
			for _, next := range open[1:] {
				to := next(t)
				moveUnderLoad(t, w, from, to, transfer.Config{From: from, To: to, Name: "the target", Hint: "set THIS"})
				from = to
			}
		})
	}
}

// pause comes before the nth act of a writer. It grows, so that a mover on a slow machine, which
// makes the world larger while it works, ends.
func pause(n int) { time.Sleep(time.Duration(1+n/50) * 8 * time.Millisecond) }

// moveUnderLoad moves a store, goes on at the target, and leaves the world there.
func moveUnderLoad(t *testing.T, w *world, from, to storage.Store, cfg transfer.Config) {
	t.Helper()
	ctx := t.Context()
	m := mover(t, cfg)
	var wg sync.WaitGroup
	writing := make(chan struct{}, 4)
	for who := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				pause(n)
				err := w.act(ctx, who)
				if errors.Is(err, storage.ErrMoved) {
					return
				} else if err != nil {
					t.Error(err)
					return
				}
				if n == 3 {
					writing <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-writing
	}
	if err := m.Copy(ctx); err != nil {
		t.Fatal(err)
	}
	if err := transfer.Enter(ctx, to, ""); !errors.Is(err, transfer.ErrNotReady) {
		t.Errorf("a target that is not ready: %v", err)
	}
	if err := transfer.Enter(ctx, from, ""); err != nil {
		t.Errorf("a source that is being copied: %v", err)
	}
	report, err := m.Finish(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if report.Pause <= 0 || report.Records == 0 || report.Events == 0 || report.Keys == 0 || len(report.Damaged) > 0 {
		t.Errorf("report %+v", report)
	}
	same(t, to, from, cfg.Rows...)
	w.keeps(ctx, to)
	_, newest, err := from.Events.Bounds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := transfer.Enter(ctx, from, ""); !errors.Is(err, transfer.ErrLeft) || !strings.Contains(err.Error(), cfg.Hint) {
		t.Errorf("a source that was left: %v", err)
	}
	for range 2 {
		if err := transfer.Enter(ctx, to, ""); err != nil {
			t.Errorf("a target that is ready: %v", err)
		}
	}
	if err := m.Abort(ctx, false); !errors.Is(err, transfer.ErrTaken) {
		t.Errorf("giving up what is in use: %v", err)
	}
	if _, err := mover(t, cfg).Finish(ctx); err != nil {
		t.Errorf("finished once more: %v", err)
	}
	next := newWorld(t, to, 2)
	w.store, w.host = next.store, next.host
	for i := range 30 {
		if err := w.act(ctx, i%4); err != nil {
			t.Fatal(err)
		}
	}
	for e, err := range to.Events.Since(ctx, newest) {
		if err != nil || e.Seq <= newest {
			t.Fatalf("after %d comes %d, %v", newest, e.Seq, err)
		}
		break
	}
	w.keeps(ctx, to)
}

// A mover dies at each call of the two stores, before or after it took effect. Another one goes on, and
// the target is what the source is. With -short it dies at some of the calls.
func TestMoverDiesAnywhere(t *testing.T) {
	apart := 1
	if testing.Short() {
		apart = 7
	}
	for _, after := range []bool{false, true} {
		for at := 1; ; at += apart {
			from, to := inMemory(t), inMemory(t)
			w := newWorld(t, from, uint64(at))
			w.live(t.Context(), 3, 16)
			death := &storagetest.Death{At: at, After: after}
			f := death.Faults()
			m := mover(t, transfer.Config{From: f.Wrap(from), To: f.Wrap(to), Workers: 1})
			if err := m.Copy(t.Context()); err == nil {
				w.live(t.Context(), 1, 8)
				w.remove(t.Context(), 0)
				_, err = m.Finish(t.Context())
				if err == nil && death.Died() {
					t.Fatalf("call %d failed, and nobody said so", at)
				}
			}
			state, err := from.Repos.(storage.Movable).Watched(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if state.State != storage.Shut {
				w.live(t.Context(), 1, 8)
			}
			if at%3 == 0 && death.Died() {
				giveUp(t, w, from, to)
			}
			finish(t, transfer.Config{From: from, To: to})
			same(t, to, from)
			w.keeps(t.Context(), to)
			if err := transfer.Enter(t.Context(), to, ""); err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				t.Fatalf("after a death at call %d, after it: %v", at, after)
			}
			if !death.Died() {
				break
			}
		}
	}
}

// giveUp gives the source back, wherever the move stands.
func giveUp(t *testing.T, w *world, from, to storage.Store) {
	t.Helper()
	err := mover(t, transfer.Config{From: from, To: to}).Abort(t.Context(), false)
	if err != nil && !errors.Is(err, transfer.ErrNone) {
		t.Fatal(err)
	}
	if err := transfer.Enter(t.Context(), from, ""); err != nil {
		t.Fatalf("a source that was given back: %v", err)
	}
	w.live(t.Context(), 1, 8)
	w.keeps(t.Context(), from)
	if err == nil {
		if err := transfer.Enter(t.Context(), to, ""); !errors.Is(err, transfer.ErrNotReady) {
			t.Fatalf("a target that was given up: %v", err)
		}
	}
}

// A move that cannot be finished leaves the source as it was, and in use.
func TestFailedFinishOpensSource(t *testing.T) {
	from, to := inMemory(t), inMemory(t)
	w := newWorld(t, from, 1)
	w.live(t.Context(), 3, 30)
	broken := errors.New("broken")
	f := storagetest.Faults{Before: func(method string) error {
		st, err := from.Repos.(storage.Movable).Watched(t.Context())
		if err == nil && st.State == storage.Shut && strings.HasPrefix(method, "Loader.") {
			return broken
		}
		return err
	}}
	m := mover(t, transfer.Config{From: from, To: f.Wrap(to)})
	if _, err := m.Finish(t.Context()); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	w.live(t.Context(), 1, 10)
	ctx, cancel := context.WithCancel(t.Context())
	f.Before = func(string) error {
		if st, _ := from.Repos.(storage.Movable).Watched(t.Context()); st.State == storage.Shut {
			cancel()
		}
		return nil
	}
	m = mover(t, transfer.Config{From: from, To: f.Wrap(to)})
	if _, err := m.Finish(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w.live(t.Context(), 1, 10)
	finish(t, transfer.Config{From: from, To: to})
	same(t, to, from)
}

// Two movers, or one with another target, do not get in each other's way.
func TestWrongTarget(t *testing.T) {
	from, to := inMemory(t), inMemory(t)
	w := newWorld(t, from, 1)
	w.live(t.Context(), 3, 20)
	full := inMemory(t)
	newWorld(t, full, 2).live(t.Context(), 2, 5)
	if err := mover(t, transfer.Config{From: from, To: full}).Copy(t.Context()); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("a target in use: %v", err)
	}
	keys := inMemory(t)
	if err := keys.KV.Write(t.Context(), func(tx storage.KVTx) error { return tx.Set(t.Context(), "k", nil, time.Time{}) }); err != nil {
		t.Fatal(err)
	}
	if err := mover(t, transfer.Config{From: from, To: keys}).Copy(t.Context()); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("a target with keys: %v", err)
	}
	if st, err := transfer.SourceStatus(t.Context(), from); err != nil || st.Source != "in use" {
		t.Errorf("%+v, %v", st, err)
	}
	if err := mover(t, transfer.Config{From: from, To: to, Name: "one"}).Copy(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := mover(t, transfer.Config{From: from, To: inMemory(t), Name: "two"})
	for _, err := range []error{other.Copy(t.Context()), other.Abort(t.Context(), false)} {
		if !errors.Is(err, transfer.ErrOther) || !strings.Contains(err.Error(), "one") {
			t.Errorf("a second target: %v", err)
		}
	}
	st, err := mover(t, transfer.Config{From: from, To: to}).Status(t.Context())
	if err != nil || st.Source != "being copied" || st.Target != "loading" || !st.Copied || st.Name != "one" {
		t.Errorf("%+v, %v", st, err)
	}
	if err := other.Abort(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := other.Abort(t.Context(), true); !errors.Is(err, transfer.ErrNone) {
		t.Error(err)
	}
	if err := other.Copy(t.Context()); err != nil {
		t.Errorf("after the first was given up: %v", err)
	}
}

// Blobs alone move from a folder to a bucket and back, under load. The store goes on with them when a
// server is started that has them there.
func TestMoveBlobsUnderLoad(t *testing.T) {
	ctx := t.Context()
	s := inSQLite(t)
	disk, err := blobfs.Open(t.TempDir(), blobfs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	objects := new(buckettest.Memory)
	s.Blobs = disk
	w := newWorld(t, s, 1)
	w.live(ctx, 5, 100)
	open := func(kv storage.KV) storage.Blobs {
		b, err := bucket.Open(ctx, bucket.Config{KV: kv, Bucket: objects})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	to := s
	to.Blobs = open(s.Repos.(storage.Movable).Moving())
	moveBlobs(t, w, s, to, "disk", "s3")
	s.Blobs = open(s.KV)
	back := s
	if back.Blobs, err = blobfs.Open(t.TempDir(), blobfs.Config{}); err != nil {
		t.Fatal(err)
	}
	moveBlobs(t, w, s, back, "s3", "disk")
}

func moveBlobs(t *testing.T, w *world, from, to storage.Store, was, is string) {
	t.Helper()
	ctx := t.Context()
	next := newWorld(t, from, 2)
	w.store, w.host = next.store, next.host
	m := mover(t, transfer.Config{From: from, To: to, OnlyBlobs: true, Rows: []string{bucket.Keys}, Name: is, Blobs: is, Hint: "set IT"})
	var wg sync.WaitGroup
	for who := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				pause(n)
				if err := w.act(ctx, who); errors.Is(err, storage.ErrMoved) {
					return
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if err := m.Copy(ctx); err != nil {
		t.Fatal(err)
	}
	if err := transfer.Enter(ctx, from, was); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := transfer.Enter(ctx, from, was); !errors.Is(err, transfer.ErrLeft) {
		t.Fatalf("with the blobs that were left: %v", err)
	}
	if err := w.create(ctx); !errors.Is(err, storage.ErrMoved) {
		t.Fatalf("a write before a server was started anew: %v", err)
	}
	for range 2 {
		if err := transfer.Enter(ctx, to, is); err != nil {
			t.Fatal(err)
		}
	}
	if err := transfer.Enter(ctx, from, was); !errors.Is(err, transfer.ErrBlobs) {
		t.Fatalf("with the blobs that were left: %v", err)
	}
	same(t, to, from, bucket.Keys)
	w.keeps(ctx, to)
	next = newWorld(t, to, 3)
	w.store, w.host = next.store, next.host
	for i := range 20 {
		if err := w.act(ctx, i%4); err != nil {
			t.Fatal(err)
		}
	}
	w.keeps(ctx, to)
}

// Accounts without a head, as a relay has them, move too.
func TestMoveHeadless(t *testing.T) {
	ctx := t.Context()
	from, to := inMemory(t), inMemory(t)
	apply := func(did syntax.DID) {
		t.Helper()
		c := &storage.Change{Events: []storage.Event{{DID: did, Kind: "#account", Time: time.Now(), Payload: []byte{0xa0}, Weight: 3}}}
		if _, err := from.Repos.Apply(ctx, did, c); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		apply(syntax.DID(fmt.Sprintf("did:web:h%d.example", i)))
	}
	w := newWorld(t, from, 1)
	w.live(ctx, 3, 20)
	if err := mover(t, transfer.Config{From: from, To: to}).Copy(ctx); err != nil {
		t.Fatal(err)
	}
	gone := w.accounts[0]
	w.remove(ctx, 0)
	apply(gone) // it had a head
	finish(t, transfer.Config{From: from, To: to})
	same(t, to, from)
}
