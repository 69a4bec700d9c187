package repo

import (
	"container/list"
	"context"
	"sync"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// state is what a host knows of one repository: a head and its tree.
type state struct {
	head    storage.Head
	tree    *mst.Tree
	records int
	indexed bool // the store has the rows of all indexes for this head
}

// bytes estimates the memory of a cached state.
func (s state) bytes() int64 { return 2048 + 110*int64(s.records) }

// treeCache keeps the most recently used states within a bound of bytes.
type treeCache struct {
	limit int64

	mu      sync.Mutex
	entries map[syntax.DID]*list.Element // of cached
	recent  list.List                    // front: most recent
	size    int64

	hits, misses uint64
}

type cached struct {
	did   syntax.DID
	state state
}

func (c *treeCache) get(did syntax.DID) (state, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[did]
	if !ok {
		c.misses++
		return state{}, false
	}
	c.hits++
	c.recent.MoveToFront(e)
	return e.Value.(cached).state, true
}

// offer is put for a state that may be an old one: it does not take the place of
// another.
func (c *treeCache) offer(did syntax.DID, st state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[did] == nil {
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
	if st.bytes() > c.limit {
		return
	}
	if c.entries == nil {
		c.entries = make(map[syntax.DID]*list.Element)
	}
	c.entries[did] = c.recent.PushFront(cached{did, st})
	for c.size += st.bytes(); c.size > c.limit; {
		c.remove(c.recent.Back().Value.(cached).did)
	}
}

func (c *treeCache) drop(did syntax.DID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(did)
}

func (c *treeCache) remove(did syntax.DID) {
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
