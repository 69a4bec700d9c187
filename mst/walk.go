package mst

import (
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
)

// Get returns the value of a key, and whether it is there.
func (t *Tree) Get(key string) (cid.Cid, bool, error) {
	for n := t.root; n != nil; {
		value, link, kid := n.seekLink(key)
		if value > 0 {
			return n.linkCID(value), true, nil
		}
		if link == 0 {
			return cid.Undef, false, nil
		}
		if n = n.kids()[kid].Load(); n == nil {
			w := walker{t: t} // it reads what is not known yet
			return w.find(key, false)
		}
	}
	return cid.Undef, false, nil
}

// seekLink is seek for those who only need the offset of the value or, if that is 0, of the link
// before the key, and the link's number.
func (n *node) seekLink(key string) (value, link, kid int) {
	data := n.data
	count, pos := uintAt(data, len(nodeStart))
	link = n.leftLink()
	before := 0
	for ; count > 0; count-- {
		size, start := uintAt(data, pos+len(entryStart))
		prefix, tree := uintAt(data, start+size+len(keyPrefix))
		tree += len(keyTree)
		if prefix <= before {
			if prefix < before {
				return 0, link, kid
			}
			suffix, rest := data[start:start+size], key[prefix:]
			same := 0
			if size > 0 && len(rest) > 0 {
				if suffix[0] > rest[0] {
					return 0, link, kid
				}
				if suffix[0] == rest[0] {
					same = commonPrefix(suffix, rest)
				}
			}
			if same == size && same == len(rest) {
				value = tree + len(null) + len(keyValue)
				if data[tree] != null[0] {
					value = tree + linkLen + len(keyValue)
				}
				return value, 0, 0
			}
			if same < size && (same == len(rest) || suffix[same] > rest[same]) {
				return 0, link, kid
			}
			before = prefix + same
		}
		if link > 0 {
			kid++
		}
		pos = tree + len(null) + len(keyValue) + linkLen
		if link = 0; data[tree] != null[0] {
			link = tree
			pos += linkLen - len(null)
		}
	}
	return 0, link, kid
}

// Item is one element of a walk in pre-order: a node, or a key with its value.
type Item struct {
	Node  car.Block // undefined CID: the item is a key
	Key   string
	Value cid.Cid
}

// PreOrder yields all nodes and keys in the order that a CAR file should have: each node before
// everything it links to, and links from left to right (Repository specification, "CAR File
// Serialization").
func (t *Tree) PreOrder() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if t.root == nil {
			yield(Item{Node: emptyBlock}, nil)
			return
		}
		w := preorder{t: t, item: yield}
		w.node(t.root, t.cid, edge{}, edge{})
	}
}

// PreOrderOf is [Tree.PreOrder] restricted to the nodes for which want is true, and their keys.
// Nodes below an unwanted node are not visited.
func (t *Tree) PreOrderOf(want func(node cid.Cid) bool) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		switch {
		case !want(t.Root()):
		case t.root == nil:
			yield(Item{Node: emptyBlock}, nil)
		default:
			w := preorder{t: t, item: yield, want: want}
			w.node(t.root, t.cid, edge{}, edge{})
		}
	}
}

// Walk yields all keys that are not less than from, with their values, in ascending order. It does
// not read subtrees before from.
func (t *Tree) Walk(from string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if t.root == nil {
			return
		}
		w := keyWalk{t: t, from: from, yield: yield}
		w.node(t.root, edge{}, edge{})
	}
}

// Nodes yields all nodes in pre-order.
func (t *Tree) Nodes() iter.Seq2[car.Block, error] {
	return func(yield func(car.Block, error) bool) {
		if t.root == nil {
			yield(emptyBlock, nil)
			return
		}
		w := preorder{t: t, block: yield}
		w.node(t.root, t.cid, edge{}, edge{})
	}
}

// preorder walks nodes, and keys if wanted, depth first. One of its functions is there.
type preorder struct {
	t     *Tree
	want  func(cid.Cid) bool // nil: all nodes
	item  func(Item, error) bool
	block func(car.Block, error) bool
	keys  keyArena
}

// node walks a subtree whose bounds are lo and hi; false if the walk is over.
func (w *preorder) node(n *node, c cid.Cid, lo, hi edge) bool {
	switch {
	case w.item != nil && !w.item(Item{Node: block(n.data, c)}, nil), w.block != nil && !w.block(block(n.data, c), nil):
		return false
	case w.block != nil:
		return w.kids(n, lo, hi)
	}
	es, link := n.entries()
	kid, key := 0, ""
	for index := 0; ; index++ {
		if link > 0 {
			if !w.kid(n, index, kid, link, lo, hi) {
				return false
			}
			kid++
		}
		e, ok := es.next()
		if !ok {
			return true
		}
		key = w.keys.make(key[:e.prefix], e.suffix)
		if !w.item(Item{Key: key, Value: n.linkCID(e.value)}, nil) {
			return false
		}
		link = e.tree
	}
}

// kids walks the subtrees of a node, without looking at keys.
func (w *preorder) kids(n *node, lo, hi edge) bool {
	if n.links == 0 {
		return true
	}
	es, link := n.entries()
	kid := 0
	for index := 0; ; index++ {
		if link > 0 {
			if !w.kid(n, index, kid, link, lo, hi) {
				return false
			}
			kid++
		}
		e, ok := es.next()
		if !ok {
			return true
		}
		link = e.tree
	}
}

// kid walks one subtree of a node: that of the gap before the index-th key.
func (w *preorder) kid(n *node, index, kid, link int, lo, hi edge) bool {
	if w.want != nil && !w.want(n.linkCID(link)) {
		return true
	}
	lo, hi = n.around(index, lo, hi)
	k, err := w.t.kid(n, kid, link, lo, hi)
	switch {
	case err == nil:
		return w.node(k, n.linkCID(link), lo, hi)
	case w.item != nil:
		w.item(Item{}, err)
	default:
		w.block(car.Block{}, err)
	}
	return false
}

// keyArena makes strings of keys, more and more of them to an allocation, up to
// 4 KiB.
type keyArena struct {
	buf  []byte
	used int
}

// make returns the string of two parts.
func (a *keyArena) make(prefix, suffix string) string {
	n := len(prefix) + len(suffix)
	if len(a.buf)-a.used < n {
		a.buf, a.used = make([]byte, max(n, min(max(128, 2*len(a.buf)), 4<<10))), 0
	}
	b := a.buf[a.used : a.used+n]
	copy(b[copy(b, prefix):], suffix)
	a.used += n
	return stringOf(b)
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
		var n node
		n.set(stringOf(b.Data), 0, 0)
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
