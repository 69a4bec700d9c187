package mst

import (
	"iter"
	"strings"

	"github.com/ipfs/go-cid"
)

// DiffEntry is a key whose value differs between two trees. An undefined CID
// means that the key is not there.
type DiffEntry struct {
	Key      string
	Old, New cid.Cid
}

// Diff yields the keys whose values differ between two trees, in ascending
// order. Subtrees that the trees share are not looked at, so the cost follows
// the number of differences, not the size of the trees.
func Diff(old, new *Tree) iter.Seq2[DiffEntry, error] {
	return func(yield func(DiffEntry, error) bool) {
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
				v := a.value()
				d = DiffEntry{Key: strings.Clone(a.key()), Old: v.cid()}
				a.advance()
			case a.done() || b.key() < a.key():
				v := b.value()
				d = DiffEntry{Key: strings.Clone(b.key()), New: v.cid()}
				b.advance()
			default:
				va, vb := a.value(), b.value()
				d.Key = strings.Clone(a.key())
				a.advance()
				b.advance()
				if va == vb {
					continue
				}
				d.Old, d.New = va.cid(), vb.cid()
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
		case sa == nil && sb == nil:
			return nil
		case sa != nil && sb != nil && *sa == *sb:
			a.skip()
			b.skip()
			continue
		}
		// Open the taller of two subtrees, or the only one: the other side may
		// hold the same subtree further down.
		c := a
		if sa == nil || sb != nil && b.height() > a.height() {
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
	n    *node
	es   entries
	en   entry // the next key, if more
	link int   // the subtree the cursor stands before; 0: none
	kid  int   // of link
	key  []byte
	lo   string
	hi   string
	more bool
}

func newCursor(t *Tree) *cursor { return &cursor{t: t, root: t.root != nil} }

func (c *cursor) top() *frame { return &c.stack[len(c.stack)-1] }

func (c *cursor) done() bool { return !c.root && len(c.stack) == 0 }

// subtree is the digest of the subtree that the cursor stands before; nil if it
// stands at a key or at the end.
func (c *cursor) subtree() *digest {
	if c.root {
		return &c.t.digest
	}
	if len(c.stack) == 0 || c.top().link == 0 {
		return nil
	}
	d := c.top().n.digestAt(c.top().link)
	return &d
}

// height of the subtree that the cursor stands before.
func (c *cursor) height() int8 {
	if c.root {
		return c.t.root.height
	}
	return c.top().n.height - 1
}

func (c *cursor) key() string  { return stringOf(c.top().key) }
func (c *cursor) value() value { return c.top().n.valueAt(c.top().en.value) }

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
		c.push(c.t.root, "", "")
		return nil
	}
	f := c.top()
	hi := f.hi
	if f.more {
		hi = string(f.key)
	}
	lo := f.lo
	n, err := c.t.kid(f.n, f.kid, f.link, lo, hi)
	if err != nil {
		return err
	}
	f.link = 0
	f.kid++
	c.push(n, lo, hi)
	return nil
}

func (c *cursor) push(n *node, lo, hi string) {
	f := frame{n: n, lo: lo, hi: hi}
	f.es, f.link = n.entries()
	f.en, f.more = f.es.next()
	if f.more {
		f.key = append(f.key, f.en.suffix...)
	}
	c.stack = append(c.stack, f)
	c.settle()
}

// advance goes past the present key.
func (c *cursor) advance() {
	f := c.top()
	f.lo, f.link = string(f.key), f.en.tree
	f.en, f.more = f.es.next()
	if f.more {
		f.key = append(f.key[:f.en.prefix], f.en.suffix...)
	}
	c.settle()
}

// settle leaves nodes that have nothing more.
func (c *cursor) settle() {
	for len(c.stack) > 0 && c.top().link == 0 && !c.top().more {
		c.stack = c.stack[:len(c.stack)-1]
	}
}
