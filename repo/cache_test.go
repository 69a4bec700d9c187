package repo

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// stateOf is a state with a tree of its own and a size, which a number tells from others.
func stateOf(t *testing.T, n int, size int64) state {
	tree, err := mst.BuildSorted(nil)
	if err != nil {
		t.Fatal(err)
	}
	return state{head: storage.Head{Rev: syntax.TID(rune('a' + n))}, tree: tree, size: size}
}

// Each look-up is counted, wherever the tree is.
func TestHitsAndMisses(t *testing.T) {
	for name, size := range map[string]int64{"small": 100, "larger than the cache": 100_000} {
		c := &treeCache{limit: 10_000}
		c.get(someone)
		c.put(someone, stateOf(t, 1, size))
		c.get(someone)
		c.get(someone)
		if c.hits != 2 || c.misses != 1 {
			t.Errorf("%s: %d hits, %d misses", name, c.hits, c.misses)
		}
	}
	fits := stateOf(t, 1, 100)
	c := &treeCache{limit: fits.bytes()}
	if c.put(someone, fits); len(c.entries) != 1 {
		t.Error("a tree that is as large as the cache is not in it")
	}
}

// A state that may be outdated replaces none that is cached, whether that is larger than the cache
// or not; a new one replaces any.
func TestCacheKeepsTheNewestState(t *testing.T) {
	const did, other = syntax.DID("did:web:a.test"), syntax.DID("did:web:b.test")
	for name, size := range map[string]int64{"small": 100, "larger than the cache": 100_000} {
		t.Run(name, func(t *testing.T) {
			c := &treeCache{limit: 10_000}
			want := func(of syntax.DID, st state) {
				t.Helper()
				if got, ok := c.get(of); !ok || got.head != st.head || got.tree != st.tree {
					t.Errorf("%s: %v, %v, want %v", of, got.head, ok, st.head)
				}
			}
			if _, ok := c.get(did); ok {
				t.Error("the empty cache has a state")
			}
			first, second, third := stateOf(t, 1, size), stateOf(t, 2, size), stateOf(t, 3, 100)
			c.putIfAbsent(did, first)
			want(did, first)
			c.putIfAbsent(did, second)
			want(did, first)
			c.put(did, second)
			want(did, second)
			c.putIfAbsent(other, third)
			want(other, third)
			want(did, second)
			c.drop(did)
			if _, ok := c.get(did); ok {
				t.Error("what was dropped is there")
			}
			want(other, third)
		})
	}
}

// The cache keeps within its bytes, and lets go of what was used longest ago.
func TestCacheIsBounded(t *testing.T) {
	c := &treeCache{limit: 3 * state{size: 1000}.bytes()}
	dids := []syntax.DID{"did:web:a.test", "did:web:b.test", "did:web:c.test", "did:web:d.test"}
	for i, did := range dids[:3] {
		c.put(did, stateOf(t, i, 1000))
	}
	if len(c.entries) != 3 || c.size != c.limit {
		t.Errorf("%d states of %d bytes", len(c.entries), c.size)
	}
	c.get(dids[0])
	c.put(dids[3], stateOf(t, 3, 1000))
	if len(c.entries) != 3 || c.size != c.limit || c.entries[dids[1]] != nil {
		t.Errorf("%d states of %d bytes after one more", len(c.entries), c.size)
	}
}

// Trees that have left the cache are collected with all that is known of them, also while others
// leave it, without anybody asking for them.
func TestTreesThatLeaveAreCollected(t *testing.T) {
	c := &treeCache{limit: 3 * state{size: 1000}.bytes()}
	evicted := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.evicted)
	}
	var kept state
	for i := range 2000 {
		st := stateOf(t, i%20, 1000)
		if i == 500 {
			kept = st
		}
		c.put(syntax.DID("did:web:a"+strconv.Itoa(i)+".test"), st)
	}
	for range 1000 {
		if runtime.GC(); evicted() <= 1 {
			break
		}
		time.Sleep(time.Millisecond) // cleanups have a goroutine of their own
	}
	if n := evicted(); n != 1 {
		t.Errorf("%d trees that have left are known, want the one that is in use", n)
	}
	if got, ok := c.get("did:web:a500.test"); !ok || got.tree != kept.tree {
		t.Error("a tree that is in use is not found")
	}
	runtime.KeepAlive(kept.tree)
}
