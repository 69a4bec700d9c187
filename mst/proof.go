package mst

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
)

// proof fills in the covering proof: of every operation's key, the path in the new
// tree, and where it is there, the paths of the keys before and after it. (Where it
// is not, those are on its path.)
func (e *editor) proof(c *Change) error {
	if c.Tree.root == nil {
		return nil
	}
	have := e.fresh
	w := walker{t: c.Tree, visit: func(n *node, d *digest) {
		if !have[*d] {
			have[*d] = true
			c.Proof = append(c.Proof, block(n.data, d))
		}
	}}
	for i := range e.edits {
		if _, _, err := w.find(e.edits[i].key, true); err != nil {
			return err
		}
	}
	return nil
}

// walker goes down a tree.
type walker struct {
	t      *Tree
	visit  func(n *node, d *digest) // called with every node on the way
	key    []byte                   // the last key that was read
	lo, hi []byte                   // the bounds of what is below
}

// find looks for a key. With neighbours, it also visits the paths to the keys
// before and after, if the key is there.
func (w *walker) find(key string, neighbours bool) (v value, ok bool, err error) {
	n, d := w.t.root, w.t.digest
	if n == nil {
		return v, false, nil
	}
	w.lo, w.hi = w.lo[:0], w.hi[:0]
	for {
		if w.visit != nil {
			w.visit(n, &d)
		}
		es, link := n.entries()
		kid := 0 // of link, if there is one
		buf := w.key[:0]
		for en, more := es.next(); more; en, more = es.next() {
			buf = append(buf[:en.prefix], en.suffix...)
			if string(buf) < key {
				w.lo = append(w.lo[:0], buf...)
				if link > 0 {
					kid++
				}
				link = en.tree
				continue
			}
			w.key = buf
			if string(buf) == key {
				if neighbours {
					err = w.neighbours(n, kid, link, en.tree, key)
				}
				return n.valueAt(en.value), true, err
			}
			w.hi = append(w.hi[:0], buf...)
			break
		}
		w.key = buf
		if link == 0 {
			return v, false, nil
		}
		next, err := w.t.kid(n, kid, link, string(w.lo), string(w.hi))
		if err != nil {
			return v, false, err
		}
		n, d = next, n.digestAt(link)
	}
}

// neighbours visits the last nodes before and the first nodes after a key of a
// node, given the links on both its sides, of which kid is the first.
func (w *walker) neighbours(n *node, kid, before, after int, key string) error {
	if before > 0 {
		if err := w.edge(n, kid, before, string(w.lo), key, false); err != nil {
			return err
		}
		kid++
	}
	if after == 0 {
		return nil
	}
	hi := string(w.hi)
	es, _ := n.entries() // the key after this one, if the node has one
	for en, more := es.next(); more; en, more = es.next() {
		w.key = append(w.key[:en.prefix], en.suffix...)
		if string(w.key) > key {
			hi = string(w.key)
			break
		}
	}
	return w.edge(n, kid, after, key, hi, true)
}

// edge visits the first or the last node of every height below a link, whose
// bounds are lo and hi.
func (w *walker) edge(n *node, kid, link int, lo, hi string, first bool) error {
	for link > 0 {
		next, err := w.t.kid(n, kid, link, lo, hi)
		if err != nil {
			return err
		}
		d := n.digestAt(link)
		w.visit(next, &d)
		n = next
		es, left := n.entries()
		kid, link = 0, left
		buf := w.key[:0]
		for en, more := es.next(); more; en, more = es.next() {
			buf = append(buf[:en.prefix], en.suffix...)
			if first {
				hi = string(buf)
				break
			}
			lo, link = string(buf), en.tree
		}
		w.key = buf
		if !first {
			kid = len(n.kids) - 1
		}
	}
	return nil
}

// Proof returns the nodes on the path of a key, root first: they prove to a
// holder of the root that the key has its value, or that it is not in the tree.
func (t *Tree) Proof(key string) (path []car.Block, err error) {
	if err := ValidKey(key); err != nil {
		return nil, err
	}
	if t.root == nil {
		return []car.Block{block(emptyNode, &emptyDigest)}, nil
	}
	w := walker{t: t, visit: func(n *node, d *digest) { path = append(path, block(n.data, d)) }}
	if _, _, err := w.find(key, false); err != nil {
		return nil, err
	}
	return path, nil
}

// VerifyProof checks the blocks of a proof against a root and returns what they
// prove about a key: its value, or that it is not in the tree. Blocks that are
// not needed do no harm. An error means that they prove nothing; it wraps
// ErrProof if a block of the path is missing.
func VerifyProof(root cid.Cid, key string, blocks []car.Block) (v cid.Cid, found bool, err error) {
	if err := ValidKey(key); err != nil {
		return cid.Undef, false, err
	}
	m := make(BlockMap, len(blocks))
	for _, b := range blocks {
		m[b.CID] = b.Data
	}
	t, err := Open(m, root, Limits{})
	if err == nil {
		v, found, err = t.Get(key)
	}
	if err != nil {
		return cid.Undef, false, proofError(err)
	}
	return v, found, nil
}

// proofError makes the lack of a block a failure of the proof.
func proofError(err error) error {
	if errors.Is(err, ErrPartial) {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	return err
}
