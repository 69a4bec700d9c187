package repo

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// Trees are rebuilt outside of the snapshots of those who need them. A store has a bounded number
// of snapshots; if readers held theirs while they wait for a tree, a few large repositories would
// keep everybody from reading anything.

// treeTries is how often a reader takes a new snapshot because there was a write while
// its tree was rebuilt. After that, the tree is rebuilt in its snapshot.
const treeTries = 3

// builds are the trees that are being rebuilt.
type builds struct {
	readers, writers chan struct{} // have room for as many as may run for readers, and for writers

	mu      sync.Mutex
	running map[syntax.DID]*rebuilding // for readers
}

// rebuilding is a tree that is being rebuilt, for all who wait for it.
type rebuilding struct {
	waiting int
	stop    context.CancelFunc // when nobody waits any more
	done    chan struct{}
	state   state
	err     error
}

func (b *builds) init() {
	// Each takes a snapshot and a processor. Readers leave half the processors to others.
	n := runtime.GOMAXPROCS(0)
	b.readers, b.writers = make(chan struct{}, max(1, n/2)), make(chan struct{}, max(2, n))
	b.running = make(map[syntax.DID]*rebuilding)
}

// errCold: the tree of a snapshot is not in memory.
var errCold = errors.New("repo: the tree is not in memory")

// withTree is a snapshot together with a state that may be its own.
type withTree struct {
	storage.Reader
	state state
}

// Cursor makes the snapshot's optional method available.
func (w withTree) Cursor(ctx context.Context, rng storage.Range) storage.Cursor {
	return storage.Records(ctx, w.Reader, rng)
}

// treeOf returns the tree of a snapshot of viewTree.
func (h *Host) treeOf(did syntax.DID, r storage.Reader) (*mst.Tree, error) {
	if w, ok := r.(withTree); ok && w.state.tree != nil && w.state.head == r.Head() {
		return w.state.tree, nil
	}
	if st, ok := h.cache.get(did); ok && st.head == r.Head() {
		return st.tree, nil
	}
	return nil, errCold
}

// viewTree is View for functions that need the tree. They must ask treeOf for it before they have
// any effect, return its error, and be prepared to be called again.
func (h *Host) viewTree(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	var st state
	for range treeTries {
		err := h.View(ctx, did, func(r storage.Reader) error { return fn(withTree{r, st}) })
		if !errors.Is(err, errCold) {
			return err
		}
		if st, err = h.build(ctx, did); err != nil {
			return err
		}
	}
	select {
	case h.builds.readers <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	release := sync.OnceFunc(func() { <-h.builds.readers })
	defer release()
	return h.View(ctx, did, func(r storage.Reader) error {
		st, err := h.rebuild(ctx, did, r)
		if err != nil {
			return err
		}
		release()
		h.cache.putIfAbsent(did, st)
		return fn(withTree{r, st})
	})
}

// build rebuilds a tree, or waits for one that is being rebuilt. It may be out of date when build
// returns.
func (h *Host) build(ctx context.Context, did syntax.DID) (state, error) {
	b := &h.builds
	b.mu.Lock()
	x := b.running[did]
	if x == nil {
		run, stop := context.WithCancel(context.WithoutCancel(ctx))
		x = &rebuilding{stop: stop, done: make(chan struct{})}
		b.running[did] = x
		go h.runBuild(run, did, x)
	}
	x.waiting++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if x.waiting--; x.waiting == 0 {
			x.stop()
			if b.running[did] == x { // who comes now needs another one
				delete(b.running, did)
			}
		}
	}()
	select {
	case <-x.done:
		return x.state, x.err
	case <-ctx.Done():
		return state{}, ctx.Err()
	}
}

func (h *Host) runBuild(ctx context.Context, did syntax.DID, x *rebuilding) {
	defer close(x.done)
	b := &h.builds
	select {
	case b.readers <- struct{}{}:
	case <-ctx.Done(): // nobody waits any more
		return
	}
	defer func() { <-b.readers }()
	x.err = h.View(ctx, did, func(r storage.Reader) (err error) {
		if st, ok := h.cache.get(did); ok && st.head == r.Head() { // meanwhile
			x.state = st
			return nil
		}
		x.state, err = h.rebuild(ctx, did, r)
		return err
	})
	if x.err == nil {
		h.cache.putIfAbsent(did, x.state)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running[did] == x {
		delete(b.running, did)
	}
}

// rebuild makes the state of a snapshot.
func (h *Host) rebuild(ctx context.Context, did syntax.DID, r storage.Reader) (state, error) {
	st, err := rebuild(ctx, did, r)
	if err == nil {
		st.indexed, err = h.indexes.current(ctx, r)
	}
	return st, err
}
