package mst

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

// Tree is an immutable tree. The zero value is the empty tree. Any number of
// goroutines may use a tree at once.
//
// A tree from Open reads nodes from its Source as they are needed, so that its
// methods can fail where those of a tree from Load or Build cannot.
type Tree struct {
	root   *node // nil: the empty tree
	digest dag.Digest
	lazy   *lazy // nil: all nodes are known
}

// Source has the blocks of trees. A Source is bound to whatever context its maker
// chose. The tree keeps the bytes and checks them; they must not be changed. An error
// passes through to the caller, wrapped; for a block that is not there it should be, or
// wrap, ErrPartial.
type Source interface {
	Block(c cid.Cid) ([]byte, error)
}

// BlockMap is a Source in memory.
type BlockMap map[cid.Cid][]byte

// Block implements Source.
func (m BlockMap) Block(c cid.Cid) ([]byte, error) {
	if data, ok := m[c]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrPartial, c)
}

// lazy is where a tree's unknown nodes come from.
type lazy struct {
	src  Source
	pool sync.Pool // of *decoder
}

// maker makes nodes in batches, for less work and less garbage.
type maker struct {
	nodes []node
	kids  []atomic.Pointer[node]
}

const batch = 64

func (m *maker) node(data string, height, links int) *node {
	if len(m.nodes) == 0 {
		m.nodes = make([]node, batch)
	}
	n := &m.nodes[0]
	m.nodes = m.nodes[1:]
	n.data, n.height = data, int8(height)
	if links > 0 {
		if len(m.kids) < links {
			m.kids = make([]atomic.Pointer[node], max(batch, links))
		}
		n.kids = m.kids[:links:links]
		m.kids = m.kids[links:]
	}
	return n
}

// Empty returns the empty tree.
func Empty() *Tree { return new(Tree) }

// Root returns the CID of the root node. That of the empty tree is the CID of a
// node without entries.
func (t *Tree) Root() cid.Cid {
	if t.root == nil {
		return emptyCID
	}
	return dag.CID(dag.CBOR, &t.digest)
}

// IsEmpty reports whether the tree has no keys.
func (t *Tree) IsEmpty() bool { return t.root == nil }

// Open returns the tree of a root whose nodes are read when they are needed, each once,
// and checked like Load does. Only the root is read at once.
func Open(src Source, root cid.Cid, lim Limits) (*Tree, error) {
	t := &Tree{lazy: &lazy{src: src}}
	lim = lim.withDefaults()
	t.lazy.pool.New = func() any { return &decoder{lim: lim} }
	if err := t.setRoot(root); err != nil || t.root != nil || root == emptyCID {
		return t, err
	}
	var err error
	t.root, err = t.lazy.load(&t.digest, bounds{height: -1})
	return t, err
}

// setRoot checks the form of a root's CID. It leaves t.root nil.
func (t *Tree) setRoot(root cid.Cid) error {
	codec, digest, ok := dag.Split(root)
	if !ok || codec != dag.CBOR {
		return &Error{Node: root, Err: ErrLink}
	}
	t.digest = digest
	return nil
}

func (l *lazy) load(digest *dag.Digest, b bounds) (*node, error) {
	c := dag.CID(dag.CBOR, digest)
	data, err := l.src.Block(c)
	if err != nil {
		return nil, &Error{Node: c, Err: err}
	}
	d := l.pool.Get().(*decoder)
	defer l.pool.Put(d)
	return d.load(data, digest, b, new(maker))
}

// kid returns the node that a link leads to: the i-th of the non-null links,
// which stands at an offset. What it may hold must be said for the first time.
func (t *Tree) kid(n *node, i, link int, lo, hi string) (*node, error) {
	if k := n.kids[i].Load(); k != nil {
		return k, nil
	}
	digest := n.digestAt(link)
	k, err := t.lazy.load(&digest, bounds{lo, hi, int(n.height) - 1})
	if err != nil {
		return nil, err
	}
	n.kids[i].Store(k) // whoever comes second stores an equal node
	return k, nil
}

// Load reads and checks a whole tree. It costs about one hash of every key and
// every node. Memory beyond the tree's own does not grow with the tree.
func Load(src Source, root cid.Cid, lim Limits) (*Tree, error) {
	t := new(Tree)
	if err := t.setRoot(root); err != nil {
		return nil, err
	}
	if root == emptyCID {
		return t, nil
	}
	l := loader{src: src, decoder: decoder{lim: lim.withDefaults()}}
	var err error
	if t.root, err = l.subtree(&t.digest, bounds{height: -1}); err != nil {
		return nil, err
	}
	return t, nil
}

// loader reads a whole tree, depth first.
type loader struct {
	decoder
	maker
	src    Source
	nodes  int
	frames [maxHeight + 1]struct{ lo, hi []byte } // buffers of keys, per height
}

func (l *loader) subtree(digest *dag.Digest, b bounds) (*node, error) {
	c := dag.CID(dag.CBOR, digest)
	if l.nodes++; l.nodes > l.lim.Nodes {
		return nil, &Error{Node: c, Err: ErrTooLarge}
	}
	data, err := l.src.Block(c)
	if err != nil {
		return nil, &Error{Node: c, Err: err}
	}
	n, err := l.decoder.load(data, digest, b, &l.maker)
	if err != nil || len(n.kids) == 0 {
		return n, err
	}
	// Every kid lies between the keys on both its sides, which are kept in
	// buffers of this height: the heights below have their own.
	f := &l.frames[n.height]
	kid, pending := 0, 0 // the link whose upper bound is not known yet
	es, left := n.entries()
	pending = left
	lo := b.lo
	f.hi = f.hi[:0]
	load := func(hi string) error {
		digest := n.digestAt(pending)
		k, err := l.subtree(&digest, bounds{lo, hi, int(n.height) - 1})
		if err == nil {
			n.kids[kid].Store(k)
			kid++
		}
		return err
	}
	for e, ok := es.next(); ok; e, ok = es.next() {
		f.hi = append(f.hi[:e.prefix], e.suffix...)
		if pending > 0 {
			if err := load(stringOf(f.hi)); err != nil {
				return nil, err
			}
		}
		if pending = e.tree; pending > 0 {
			f.lo = append(f.lo[:0], f.hi...)
			lo = stringOf(f.lo)
		}
	}
	if pending > 0 {
		if err := load(b.hi); err != nil {
			return nil, err
		}
	}
	return n, nil
}
