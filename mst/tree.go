package mst

import (
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

// Tree is an immutable tree. The zero value is the empty tree. Any number of goroutines may use a
// tree at once.
//
// A tree from Open reads nodes from its Source when they are needed, so its methods may fail. Those
// of a tree from Load or Build do not.
//
// CIDs, blocks and some of the keys that a tree returns share its memory, so that a walk copies
// little. They stay valid as long as somebody holds them. Do not change the bytes of blocks.
type Tree struct {
	root *node   // nil: the empty tree
	cid  cid.Cid // of the root, unless the tree is empty
	lazy *lazy   // nil: all nodes are known
}

// Source returns the blocks of trees. Block takes no context: bind one when you construct the
// Source. The tree checks the bytes and keeps them, so they must not be changed. The tree returns
// errors to its caller, wrapped. The error for a missing block should be, or wrap, ErrPartial.
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

// Checked is a Source whose blocks are known to match their CIDs, such as those of a car.Reader.
// They are not hashed again.
type Checked struct{ Source }

// lazy is where a tree's unknown nodes come from.
type lazy struct {
	src  Source
	pool sync.Pool // of *decoder
}

func newLazy(src Source, lim Limits) *lazy {
	l := &lazy{src: src}
	l.pool.New = func() any { return newDecoder(src, lim) }
	return l
}

// newDecoder returns a decoder for the blocks of a source.
func newDecoder(src Source, lim Limits) *decoder {
	_, hashed := src.(Checked)
	return &decoder{lim: lim.withDefaults(), hashed: hashed}
}

// Empty returns the empty tree.
func Empty() *Tree { return new(Tree) }

// Root returns the CID of the root node. The root of the empty tree is a node without entries.
func (t *Tree) Root() cid.Cid {
	if t.root == nil {
		return emptyCID
	}
	return t.cid
}

// IsEmpty reports whether the tree has no keys.
func (t *Tree) IsEmpty() bool { return t.root == nil }

// Open returns the tree of a root. It reads and checks only the root at once. Other nodes are read
// when they are needed, each once, and checked as Load does.
func Open(src Source, root cid.Cid, lim Limits) (*Tree, error) {
	if err := checkRoot(root); err != nil {
		return nil, err
	}
	if src == nil {
		return nil, errNilSource
	}
	l := newLazy(src, lim)
	if root == emptyCID {
		return &Tree{lazy: l}, nil
	}
	n, err := l.load(root, "", "", -1)
	if err != nil {
		return nil, err
	}
	return &Tree{root: n, cid: root, lazy: l}, nil
}

// checkRoot checks the form of a root's CID.
func checkRoot(root cid.Cid) error {
	if codec, _, ok := dag.Split(root); !ok || codec != dag.CBOR {
		return &Error{Node: root, Err: ErrLink}
	}
	return nil
}

func (l *lazy) load(c cid.Cid, lo, hi string, height int) (*node, error) {
	data, err := l.src.Block(c)
	if err != nil {
		return nil, &Error{Node: c, Err: err}
	}
	d := l.pool.Get().(*decoder)
	defer l.pool.Put(d)
	height, links, err := d.check(data, c, bounds{lo, hi, height})
	if err != nil {
		return nil, err
	}
	return newNode(stringOf(data), height, links), nil
}

// kid returns the node that a link leads to: the i-th of the kids, whose link stands at an
// offset, between two bounds.
func (t *Tree) kid(n *node, i, link int, lo, hi edge) (*node, error) {
	kid := &n.kids()[i]
	if k := kid.Load(); k != nil {
		return k, nil
	}
	k, err := t.lazy.load(n.linkCID(link), lo.key(), hi.key(), int(n.height)-1)
	if err != nil {
		return nil, err
	}
	kid.Store(k) // whoever comes second stores an equal node
	return k, nil
}

// Load reads and checks a whole tree. It costs about one hash for every key and every node. It
// needs little memory besides the tree itself.
func Load(src Source, root cid.Cid, lim Limits) (*Tree, error) {
	if err := checkRoot(root); err != nil {
		return nil, err
	}
	if src == nil {
		return nil, errNilSource
	}
	if root == emptyCID {
		return Empty(), nil
	}
	l := loader{src: src, decoder: newDecoder(src, lim)}
	n, err := l.subtree(root, bounds{height: -1})
	if err != nil {
		return nil, err
	}
	return &Tree{root: n, cid: root}, nil
}

// loader reads a whole tree, depth first.
type loader struct {
	*decoder
	maker
	src    Source
	nodes  int
	frames [maxHeight + 1]struct{ lo, hi []byte } // buffers of keys, per height
}

func (l *loader) subtree(c cid.Cid, b bounds) (*node, error) {
	if l.nodes++; l.nodes > l.lim.Nodes {
		return nil, &Error{Node: c, Err: ErrTooLarge}
	}
	data, err := l.src.Block(c)
	if err != nil {
		return nil, &Error{Node: c, Err: err}
	}
	height, links, err := l.check(data, c, b)
	if err != nil {
		return nil, err
	}
	n := l.node(stringOf(data), height, links)
	if links == 0 {
		return n, nil
	}
	// Every kid lies between the keys on both its sides, which are kept in
	// buffers of this height: the heights below have their own.
	f := &l.frames[height]
	kids := n.kids()
	es, pending := n.entries() // the link whose upper bound is not known yet
	lo := b.lo
	f.hi = f.hi[:0]
	load := func(hi string) error {
		k, err := l.subtree(n.linkCID(pending), bounds{lo, hi, height - 1})
		if err == nil {
			kids[0].Store(k)
			kids = kids[1:]
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
