package repo

import (
	"container/list"
	"context"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// state is what a host knows of one repository: a head and its tree.
type state struct {
	head    storage.Head
	tree    *mst.Tree
	size    int64 // of the tree: the sum of treeBytes
	indexed bool  // the store has the rows of all indexes for this head
}

// bytes estimates the memory of a cached state: what goes with any tree, its records, and what is
// not used of the last pieces of memory that a small tree was built in.
func (s state) bytes() int64 { return 3584 + s.size + min(s.size/2, 8192) }

// treeBytes estimates the memory that a record's path and CID take in a tree. Neighbours share the
// begin of their paths, but whoever chooses long paths can keep them from that.
func treeBytes(path string) int64 { return recordBytes + int64(max(0, len(path)-usualPath)) }

const (
	recordBytes = 110 // with a path of usual length
	usualPath   = 40
)

// treeCache keeps the most recently used states within a bound of bytes.
//
// A state that is larger than the whole bound has a place of its own, beside the others. And
// whatever leaves the cache is still found while somebody uses its tree, so that no second one is
// built beside it.
type treeCache struct {
	limit int64

	// mu guards these. No other lock is taken while it is held.
	mu           sync.Mutex
	entries      map[syntax.DID]*list.Element // of cached
	recent       list.List                    // of cached; front: most recent
	size         int64                        // bytes of the entries
	large        cached                       // larger than limit; its tree is nil if there is none
	largeUsed    time.Time
	evicted      map[syntax.DID]evictedState // whose trees somebody may still use
	hits, misses uint64
}

// largeIdle is how long a tree that is larger than the cache is kept when nobody uses it.
const largeIdle = time.Minute

type cached struct {
	did   syntax.DID
	state state
}

// evictedState is a state whose tree somebody may still have. It goes when the tree is collected.
// Until somebody asks for this very repository, nothing looks at the pointer: while the garbage
// collector runs, it keeps what it is asked for.
type evictedState struct {
	state   state // without its tree
	tree    weak.Pointer[mst.Tree]
	cleanup runtime.Cleanup // forgets it
}

// evictedTree says which tree of a repository was collected.
type evictedTree struct {
	did  syntax.DID
	tree weak.Pointer[mst.Tree]
}

func (c *treeCache) get(did syntax.DID) (state, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	if e, ok := c.entries[did]; ok {
		c.hits++
		c.recent.MoveToFront(e)
		return e.Value.(cached).state, true
	}
	if c.large.state.tree != nil && c.large.did == did {
		c.hits++
		c.largeUsed = time.Now()
		return c.large.state, true
	}
	if a, ok := c.evicted[did]; ok {
		if a.state.tree = a.tree.Value(); a.state.tree != nil {
			c.hits++
			c.insert(did, a.state)
			return a.state, true
		}
	}
	c.misses++
	return state{}, false
}

// putIfAbsent is put for a state that may be outdated: the state never replaces a cached one.
func (c *treeCache) putIfAbsent(did syntax.DID, st state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[did] == nil && (c.large.state.tree == nil || c.large.did != did) {
		c.insert(did, st)
	}
}

func (c *treeCache) put(did syntax.DID, st state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(did)
	c.insert(did, st)
}

// insert adds a state where there is none.
func (c *treeCache) insert(did syntax.DID, st state) {
	c.removeEvicted(did)
	c.expire()
	if st.bytes() > c.limit {
		c.keepWeak(c.large)
		c.large, c.largeUsed = cached{did, st}, time.Now()
		return
	}
	if c.entries == nil {
		c.entries = make(map[syntax.DID]*list.Element)
	}
	c.entries[did] = c.recent.PushFront(cached{did, st})
	for c.size += st.bytes(); c.size > c.limit; {
		last := c.recent.Back().Value.(cached)
		c.remove(last.did)
		c.keepWeak(last)
	}
}

// expire lets go of a large state that nobody uses.
func (c *treeCache) expire() {
	if c.large.state.tree != nil && time.Since(c.largeUsed) > largeIdle {
		c.keepWeak(c.large)
		c.large = cached{}
	}
}

// keepWeak keeps a weak reference to the tree of a state that leaves the cache.
func (c *treeCache) keepWeak(x cached) {
	tree := x.state.tree
	if tree == nil {
		return
	}
	if c.evicted == nil {
		c.evicted = make(map[syntax.DID]evictedState)
	}
	e := evictedTree{x.did, weak.Make(tree)}
	x.state.tree = nil
	c.evicted[x.did] = evictedState{x.state, e.tree, runtime.AddCleanup(tree, c.collected, e)}
}

// collected forgets a tree that nobody has any more.
func (c *treeCache) collected(e evictedTree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.evicted[e.did].tree == e.tree {
		delete(c.evicted, e.did)
	}
}

// removeEvicted forgets the weak reference to a repository's tree.
func (c *treeCache) removeEvicted(did syntax.DID) {
	if e, ok := c.evicted[did]; ok {
		e.cleanup.Stop()
		delete(c.evicted, did)
	}
}

func (c *treeCache) drop(did syntax.DID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(did)
}

func (c *treeCache) remove(did syntax.DID) {
	c.removeEvicted(did)
	if c.large.did == did {
		c.large = cached{}
	}
	if e, ok := c.entries[did]; ok {
		c.size -= c.recent.Remove(e).(cached).state.bytes()
		delete(c.entries, did)
	}
}

// keyedLocks is one lock per account, existing only while somebody wants it.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[syntax.DID]*keyedLock
}

type keyedLock struct {
	held    chan struct{} // has room for one: full while held
	waiters int           // including the holder
}

// lock waits for an account's lock or for the context to end.
func (k *keyedLocks) lock(ctx context.Context, did syntax.DID) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = make(map[syntax.DID]*keyedLock)
	}
	l := k.locks[did]
	if l == nil {
		l = &keyedLock{held: make(chan struct{}, 1)}
		k.locks[did] = l
	}
	l.waiters++
	k.mu.Unlock()

	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.waiters--; l.waiters == 0 {
			delete(k.locks, did)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
