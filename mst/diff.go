package mst

import (
	"iter"
	"strings"

	"github.com/ipfs/go-cid"
)

// DiffEntry is a key whose value differs between two trees. An undefined CID means that the tree
// does not have the key.
type DiffEntry struct {
	Key      string
	Old, New cid.Cid
}

// Diff yields the keys whose values differ between two trees, in ascending order. It skips subtrees
// that both trees share, so its cost depends on the number of differences, not on the size of the
// trees.
func Diff(old, new *Tree) iter.Seq2[DiffEntry, error] {
	return func(yield func(DiffEntry, error) bool) {
		if old == nil || new == nil {
			yield(DiffEntry{}, errNilTree)
			return
		}
		a, b := newCursor(old), newCursor(new)
		for {
			if err := align(a, b); err != nil {
				yield(DiffEntry{}, err)
				return
			}
			var d DiffEntry
			switch {
			case a.done() && b.done():
				return
			case b.done() || !a.done() && a.key() < b.key():
				d = DiffEntry{Key: strings.Clone(a.key()), Old: a.value()}
				a.advance()
			case a.done() || b.key() < a.key():
				d = DiffEntry{Key: strings.Clone(b.key()), New: b.value()}
				b.advance()
			default:
				if d.Old, d.New = a.value(), b.value(); d.Old == d.New {
					a.advance()
					b.advance()
					continue
				}
				d.Key = strings.Clone(a.key())
				a.advance()
				b.advance()
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// align moves both cursors to keys, or to their ends, past subtrees that are equal.
func align(a, b *cursor) error {
	for {
		sa, sb := a.subtree(), b.subtree()
		switch {
		case !sa.Defined() && !sb.Defined():
			return nil
		case sa == sb:
			a.skip()
			b.skip()
			continue
		}
		// Open the taller of two subtrees, or the only one: the other side may
		// hold the same subtree further down.
		c := a
		if !sa.Defined() || sb.Defined() && b.height() > a.height() {
			c = b
		}
		if err := c.open(); err != nil {
			return err
		}
	}
}

// cursor walks a tree in key order, stopping at subtrees before it enters them.
type cursor struct {
	t     *Tree
	stack []frame
	root  bool // the root has not been entered
}

// frame is a node on the cursor's path.
type frame struct {
	n      *node
	es     entries
	en     entry // the next key, if more
	more   bool
	index  int // of that key
	link   int // the subtree the cursor stands before; 0: none
	kid    int // of link
	key    []byte
	lo, hi edge
}

func newCursor(t *Tree) *cursor { return &cursor{t: t, root: t.root != nil} }

func (c *cursor) top() *frame { return &c.stack[len(c.stack)-1] }

func (c *cursor) done() bool { return !c.root && len(c.stack) == 0 }

// subtree is the CID of the subtree that the cursor stands before; undefined if it
// stands at a key or at the end.
func (c *cursor) subtree() cid.Cid {
	if c.root {
		return c.t.cid
	}
	if len(c.stack) == 0 {
		return cid.Undef
	}
	if f := c.top(); f.link > 0 {
		return f.n.linkCID(f.link)
	}
	return cid.Undef
}

// height of the subtree that the cursor stands before.
func (c *cursor) height() int8 {
	if c.root {
		return c.t.root.height
	}
	return c.top().n.height - 1
}

func (c *cursor) key() string    { return stringOf(c.top().key) }
func (c *cursor) value() cid.Cid { return c.top().n.linkCID(c.top().en.value) }

// skip goes past the subtree.
func (c *cursor) skip() {
	if c.root {
		c.root = false
		return
	}
	f := c.top()
	f.link = 0
	f.kid++
	c.settle()
}

// open enters the subtree.
func (c *cursor) open() error {
	if c.root {
		c.root = false
		c.push(c.t.root, edge{}, edge{})
		return nil
	}
	f := c.top()
	lo, hi := f.n.around(f.index, f.lo, f.hi)
	n, err := c.t.kid(f.n, f.kid, f.link, lo, hi)
	if err != nil {
		return err
	}
	f.link = 0
	f.kid++
	c.push(n, lo, hi)
	return nil
}

// push enters a node. The buffers of nodes that were left are used again.
func (c *cursor) push(n *node, lo, hi edge) {
	depth := len(c.stack)
	if depth == cap(c.stack) {
		c.stack = append(c.stack, frame{})
	} else {
		c.stack = c.stack[:depth+1]
	}
	f := &c.stack[depth]
	*f = frame{n: n, key: f.key[:0], lo: lo, hi: hi}
	f.es, f.link = n.entries()
	f.next()
	c.settle()
}

// next reads the next key.
func (f *frame) next() {
	if f.en, f.more = f.es.next(); f.more {
		f.key = append(f.key[:f.en.prefix], f.en.suffix...)
	}
}

// advance goes past the present key.
func (c *cursor) advance() {
	f := c.top()
	f.link = f.en.tree
	f.index++
	f.next()
	c.settle()
}

// settle leaves nodes that have nothing more.
func (c *cursor) settle() {
	for len(c.stack) > 0 && c.top().link == 0 && !c.top().more {
		c.stack = c.stack[:len(c.stack)-1]
	}
}
