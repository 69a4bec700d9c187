package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// viewCounter counts snapshots and rebuilds of trees, and can hold the latter up.
type viewCounter struct {
	storage.Repos
	open, most, rebuilds atomic.Int64
	gate                 chan struct{} // not nil: each rebuild takes something from it
}

func (c *viewCounter) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	return c.Repos.View(ctx, did, func(r storage.Reader) error {
		n := c.open.Add(1)
		defer c.open.Add(-1)
		for {
			most := c.most.Load()
			if n <= most || c.most.CompareAndSwap(most, n) {
				break
			}
		}
		return fn(countingReader{r, c})
	})
}

type countingReader struct {
	storage.Reader
	c *viewCounter
}

func (r countingReader) Records(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
	if rng.KeysOnly && rng.From == "" {
		r.c.rebuilds.Add(1)
		if r.c.gate != nil {
			<-r.c.gate
		}
	}
	return r.Reader.Records(ctx, rng)
}

// filled makes repositories of n records each and returns a new host over them that has no trees.
func filled(t *testing.T, store storage.Store, n int, cfg repo.Config, dids ...syntax.DID) *repo.Host {
	t.Helper()
	k := &keys{}
	h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
	for _, did := range dids {
		b := repo.Batch{}
		for i := range n {
			b.Writes = append(b.Writes, repo.Write{Action: repo.Create, Collection: notes, RKey: syntax.RecordKey(fmt.Sprintf("%05d", i)), Record: note(t, fmt.Sprint(did, i))})
		}
		if _, err := h.Create(t.Context(), did, b); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Store, cfg.Signer = store, k.signer
	return repo.NewHost(cfg)
}

// A hundred readers of a repository whose tree is larger than the cache share one rebuild, and
// while they wait for it they hold no snapshots: other accounts are read, and so are heads.
func TestColdReadersShareOneRebuild(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		c := &viewCounter{Repos: store.Repos, gate: make(chan struct{})}
		store.Repos = c
		procs := runtime.GOMAXPROCS(8) // several rebuilds may run at once
		h := filled(t, store, 50, repo.Config{CacheBytes: 1}, alice, bob)
		runtime.GOMAXPROCS(procs)
		c.rebuilds.Store(0)
		c.most.Store(0)
		var wg sync.WaitGroup
		read := func(i int) error {
			var err error
			switch i % 3 {
			case 0:
				err = h.Export(t.Context(), alice, "", io.Discard)
			case 1:
				_, _, err = h.Proof(t.Context(), alice, notes, "00001")
			default:
				_, err = h.Stats(t.Context(), alice)
			}
			return err
		}
		for i := range 100 {
			wg.Go(func() {
				if err := read(i); err != nil {
					t.Error(err)
				}
			})
		}
		testenv.Until(t, "a rebuild", func() bool { return c.rebuilds.Load() == 1 })
		testenv.Until(t, "the others hold no snapshots", func() bool { return c.open.Load() == 1 })
		if _, err := h.Record(t.Context(), bob, notes, "00001"); err != nil {
			t.Error(err)
		}
		if _, err := h.Head(t.Context(), bob); err != nil {
			t.Error(err)
		}
		close(c.gate)
		wg.Wait()
		// The tree is kept while it is used.
		for i := range 9 {
			if err := read(i); err != nil {
				t.Error(err)
			}
		}
		if n := c.rebuilds.Load(); n != 1 {
			t.Errorf("%d rebuilds", n)
		}
	})
}

// Rebuilds of many repositories at once are bounded, and those that nobody waits for stop.
func TestRebuildsAreBounded(t *testing.T) {
	store := memory.New(memory.Config{})
	c := &viewCounter{Repos: store.Repos}
	store.Repos = c
	var dids []syntax.DID
	for i := range 20 {
		dids = append(dids, syntax.DID(fmt.Sprintf("did:web:%d.example", i)))
	}
	h := filled(t, store, 10, repo.Config{}, dids...)
	c.gate = make(chan struct{})
	c.rebuilds.Store(0)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, did := range dids {
		for range 3 {
			wg.Go(func() {
				if _, _, err := h.Proof(ctx, did, notes, "00001"); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
	}
	most := int64(max(1, runtime.GOMAXPROCS(0)/2))
	testenv.Until(t, "rebuilds", func() bool { return c.rebuilds.Load() == min(most, int64(len(dids))) })
	testenv.Until(t, "only rebuilds hold snapshots", func() bool { return c.open.Load() == c.rebuilds.Load() })
	cancel()
	wg.Wait()
	close(c.gate)
	testenv.Until(t, "the rebuilds end", func() bool { return c.open.Load() == 0 })
	if n := c.rebuilds.Load(); n > 2*most {
		t.Errorf("%d rebuilds, for nobody", n)
	}
	if _, _, err := h.Proof(t.Context(), dids[7], notes, "00001"); err != nil {
		t.Error(err)
	}
}

// While a tree is rebuilt the repository is written to, again and again, by another process: the
// reader gets a proof of one state all the same.
func TestWritesDuringRebuilds(t *testing.T) {
	store := memory.New(memory.Config{})
	c := &viewCounter{Repos: store.Repos}
	k := &keys{}
	other := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
	if _, err := other.Create(t.Context(), alice, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	store.Repos = c
	h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, CacheBytes: 1})
	c.gate = make(chan struct{})
	go func() {
		for i := range 20 {
			w := repo.Write{Action: repo.Create, Collection: notes, RKey: syntax.RecordKey(fmt.Sprint("r", i)), Record: note(t, "x")}
			if _, err := other.Apply(t.Context(), alice, repo.Batch{Writes: []repo.Write{w}}); err != nil {
				t.Error(err)
			}
			c.gate <- struct{}{}
		}
		close(c.gate)
	}()
	for range 5 {
		if _, blocks, err := h.Proof(t.Context(), alice, notes, "r0"); err != nil || len(blocks) < 2 {
			t.Error(len(blocks), err)
		}
	}
	for range c.gate { // until the writer has ended
	}
}

// stuck is a client that takes nothing.
type stuck struct{ ctx context.Context }

func (w stuck) Write([]byte) (int, error) {
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}

// A hundred downloads that nobody reads take a bounded part of the disk, hold few snapshots, and
// leave room for another one.
func TestUnreadExportsAreBounded(t *testing.T) {
	testenv.NotOnJS(t, "SQLite has no files")
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.sqlite"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := db.Store()
	c := &viewCounter{Repos: store.Repos}
	store.Repos = c
	k := &keys{}
	first := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
	if _, err := first.Create(t.Context(), alice, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		b := repo.Batch{}
		for j := range 2 {
			big := record(t, map[string]any{"$type": string(notes), "text": string(bytes.Repeat([]byte{byte('a' + i), byte('a' + j)}, 200_000))})
			b.Writes = append(b.Writes, repo.Write{Action: repo.Create, Collection: notes, RKey: syntax.RecordKey(fmt.Sprintf("%d-%d", i, j)), Record: big})
		}
		if _, err := first.Apply(t.Context(), alice, b); err != nil {
			t.Fatal(err)
		}
	}
	var held atomic.Int64
	dir := t.TempDir()
	h := repo.NewHost(repo.Config{
		Store: store, Signer: k.signer, TempDir: filepath.Join(dir, "tmp"), SpoolBytes: 64 << 20,
		Hold: func(_ context.Context, n int64) error { held.Add(n); return nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := h.Export(ctx, alice, "", stuck{ctx}); err == nil {
				t.Error("no error")
			}
		})
	}
	testenv.Until(t, "the spool is full", func() bool { return h.SpoolBytes() > 40<<20 })
	for range 20 {
		if used := h.SpoolBytes(); used > 64<<20 || held.Load() > 64<<20 {
			t.Errorf("%d bytes", used)
		}
		if n := c.open.Load(); n > int64(max(4, runtime.GOMAXPROCS(0)))+2 {
			t.Errorf("%d snapshots are held", n)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := h.Record(t.Context(), alice, notes, "0-0"); err != nil {
		t.Error(err)
	}
	if _, _, err := store.Events.Bounds(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	wg.Wait()
	if h.SpoolBytes() != 0 || held.Load() != 0 {
		t.Error(h.SpoolBytes(), held.Load())
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "tmp", "*")); len(names) > 0 {
		t.Error(names)
	}
}

// Heads and the bounds of the log do not wait for those who hold snapshots for long.
func TestLookUpsWhileAllSnapshotsAreHeld(t *testing.T) {
	testenv.NotOnJS(t, "SQLite has no files")
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.sqlite"), sqlite.Config{Readers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := db.Store()
	h := filled(t, store, 1, repo.Config{}, alice)
	release := make(chan struct{})
	var inside, done sync.WaitGroup
	for range 2 {
		inside.Add(1)
		done.Go(func() {
			h.View(t.Context(), alice, func(storage.Reader) error {
				inside.Done()
				<-release
				return nil
			})
		})
	}
	inside.Wait()
	for range 10 {
		if _, _, err := store.Events.Bounds(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := h.Head(t.Context(), alice); err != nil {
			t.Error(err)
		}
	}
	close(release)
	done.Wait()
}
