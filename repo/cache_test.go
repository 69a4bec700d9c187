package repo

import (
	"testing"

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
