package mst

import (
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
)

// Get returns the value of a key, and whether it is there.
func (t *Tree) Get(key string) (cid.Cid, bool, error) {
	w := walker{t: t}
	v, ok, err := w.find(key, false)
	if err != nil || !ok {
		return cid.Undef, false, err
	}
	return v.cid(), true, nil
}

// Item is a step of a walk in pre-order: a node, or a key with its value.
type Item struct {
	Node  car.Block // undefined CID: the item is a key
	Key   string
	Value cid.Cid
}

// PreOrder yields all nodes and keys in the order in which a CAR file should
// have nodes and records: each node before all that it links to, and links from left
// to right (Repository specification, "CAR File Serialization").
func (t *Tree) PreOrder() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if t.root == nil {
			yield(Item{Node: block(emptyNode, &emptyDigest)}, nil)
			return
		}
		w := preorder{t: t, nodes: true, keys: true, yield: yield}
		w.node(t.root, t.digest, "", "")
	}
}

// Walk yields all keys that are not less than from, in ascending order, with
// their values. Subtrees before from are not read.
func (t *Tree) Walk(from string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if t.root == nil {
			return
		}
		w := preorder{t: t, keys: true, from: from, yield: func(it Item, err error) bool {
			return yield(Entry{Key: it.Key, Value: it.Value}, err)
		}}
		w.node(t.root, t.digest, "", "")
	}
}

// Nodes yields all nodes in pre-order.
func (t *Tree) Nodes() iter.Seq2[car.Block, error] {
	return func(yield func(car.Block, error) bool) {
		if t.root == nil {
			yield(block(emptyNode, &emptyDigest), nil)
			return
		}
		w := preorder{t: t, nodes: true, yield: func(it Item, err error) bool { return yield(it.Node, err) }}
		w.node(t.root, t.digest, "", "")
	}
}

// preorder walks a tree depth first.
type preorder struct {
	t           *Tree
	nodes, keys bool
	from        string // keys less than this are left out
	yield       func(Item, error) bool
	buf         [maxHeight + 1][]byte // keys, per height
}

// node walks a subtree; false if the walk is over.
func (w *preorder) node(n *node, d digest, lo, hi string) bool {
	if w.nodes && !w.yield(Item{Node: block(n.data, &d)}, nil) {
		return false
	}
	es, link := n.entries()
	kid, prev := 0, lo
	sub := func(hi string) bool {
		if link == 0 {
			return true
		}
		at := kid
		kid++
		if w.from != "" && hi != "" && hi <= w.from {
			return true
		}
		k, err := w.t.kid(n, at, link, prev, hi)
		if err != nil {
			w.yield(Item{}, err)
			return false
		}
		return w.node(k, n.digestAt(link), prev, hi)
	}
	if !w.keys && len(n.kids) == 0 {
		return true
	}
	for en, ok := es.next(); ok; en, ok = es.next() {
		b := append(w.buf[n.height][:en.prefix], en.suffix...)
		w.buf[n.height] = b
		key := string(b)
		if !sub(key) {
			return false
		}
		if w.keys && key >= w.from {
			v := n.valueAt(en.value)
			if !w.yield(Item{Key: key, Value: v.cid()}, nil) {
				return false
			}
		}
		prev, link = key, en.tree
	}
	return sub(hi)
}

// Stats describes the shape of a tree.
type Stats struct {
	Keys   int
	Nodes  int
	Bytes  int64 // of all nodes' blocks
	Height int   // of the root; -1 for the empty tree
	Widest int   // the most entries of one node
}

// Stats measures the tree. It visits every node.
func (t *Tree) Stats() (s Stats, err error) {
	s.Height = -1
	if t.root == nil {
		return s, nil
	}
	s.Height = int(t.root.height)
	for b, err := range t.Nodes() {
		if err != nil {
			return s, err
		}
		n := node{data: stringOf(b.Data)}
		s.Nodes++
		s.Bytes += int64(len(b.Data))
		s.Keys += n.count()
		s.Widest = max(s.Widest, n.count())
	}
	return s, nil
}

// Map returns all entries of a tree, for tests and small trees.
func (t *Tree) Map() (map[string]cid.Cid, error) {
	m := make(map[string]cid.Cid)
	for e, err := range t.Walk("") {
		if err != nil {
			return nil, err
		}
		m[e.Key] = e.Value
	}
	return m, nil
}
