package mst

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
)

// prove fills in the covering proof: of every operation's key, the path in the new
// tree, and where it is there, the paths of the keys before and after it. (Where it
// is not, those are on its path.) Without operations it is the root.
func (e *editor) prove(c *Change) error {
	root := c.Tree.root
	if root == nil {
		if e.t.root == nil {
			c.Proof = []car.Block{emptyBlock}
		}
		return nil
	}
	w := walker{t: c.Tree, visit: func(n *node, id cid.Cid) {
		if e.fresh.add(n) {
			c.Proof = append(c.Proof, block(n.data, id))
		}
	}}
	if len(e.edits) == 0 {
		w.visit(root, c.Root)
	}
	for i := range e.edits {
		if e.edits[i].isolated {
			continue // its path is made
		}
		if _, _, err := w.find(e.edits[i].key, true); err != nil {
			return err
		}
	}
	return nil
}

// walker goes down a tree.
type walker struct {
	t       *Tree
	visit   func(n *node, c cid.Cid) // called with every node on the way; may be nil
	partial bool                     // a path ends where a node is missing, without an error
}

// kid is Tree.kid. With partial, it returns nil for a node that is missing.
func (w *walker) kid(n *node, i, link int, lo, hi edge) (*node, error) {
	k, err := w.t.kid(n, i, link, lo, hi)
	if w.partial && errors.Is(err, ErrPartial) {
		return nil, nil
	}
	return k, err
}

// find looks for a key. With neighbours, it also visits the paths to the keys
// before and after, if the key is there.
func (w *walker) find(key string, neighbours bool) (v cid.Cid, ok bool, err error) {
	n, c := w.t.root, w.t.cid
	if n == nil {
		return cid.Undef, false, nil
	}
	var lo, hi edge
	for {
		if w.visit != nil {
			w.visit(n, c)
		}
		s := n.seek(key)
		if s.found {
			if neighbours {
				err = w.neighbours(n, &s, lo, hi)
			}
			return n.linkCID(s.value), true, err
		}
		if s.link == 0 {
			return cid.Undef, false, nil
		}
		if w.visit == nil && n.kids()[s.kid].Load() == nil && HeightForKey(key) >= int(n.height) {
			return cid.Undef, false, nil // it would be in this node or above
		}
		lo, hi = n.around(s.index, lo, hi)
		next, err := w.kid(n, s.kid, s.link, lo, hi)
		if err != nil || next == nil {
			return cid.Undef, false, err
		}
		n, c = next, n.linkCID(s.link)
	}
}

// neighbours visits the last nodes before and the first nodes after a key of a node
// whose bounds are lo and hi.
func (w *walker) neighbours(n *node, s *place, lo, hi edge) error {
	kid := s.kid
	if s.link > 0 {
		before, _ := n.around(s.index, lo, hi)
		if err := w.edge(n, kid, s.link, before, edge{n, s.index}, false); err != nil {
			return err
		}
		kid++
	}
	if s.after == 0 {
		return nil
	}
	_, after := n.around(s.index+1, lo, hi)
	return w.edge(n, kid, s.after, edge{n, s.index}, after, true)
}

// edge visits the first or the last node of every height below a link, whose
// bounds are lo and hi.
func (w *walker) edge(n *node, kid, link int, lo, hi edge, first bool) error {
	for link > 0 {
		next, err := w.kid(n, kid, link, lo, hi)
		if err != nil || next == nil {
			return err
		}
		w.visit(next, n.linkCID(link))
		n = next
		var es entries
		es, link = n.entries()
		gap := 0
		kid = 0
		if !first {
			gap, kid = es.left, int(n.links)-1
			for e, more := es.next(); more; e, more = es.next() {
				link = e.tree
			}
		}
		lo, hi = n.around(gap, lo, hi)
	}
	return nil
}

// Proof returns the nodes on the path of a key, root first. They prove to anybody who knows the
// root that the key has its value, or that it is not in the tree.
func (t *Tree) Proof(key string) (path []car.Block, err error) {
	if err := ValidKey(key); err != nil {
		return nil, err
	}
	if t.root == nil {
		return []car.Block{emptyBlock}, nil
	}
	w := walker{t: t, visit: func(n *node, c cid.Cid) { path = append(path, block(n.data, c)) }}
	if _, _, err := w.find(key, false); err != nil {
		return nil, err
	}
	return path, nil
}

// VerifyProof checks the blocks of a proof against a root and returns what they prove about a key:
// its value, or that it is not in the tree. Other blocks are ignored. An error means that nothing
// is proven; it wraps ErrProof if a block of the path is missing.
//
// The path of a key that is not in the tree ends at the key's height, because a lower node could
// not contain the key. [Tree.Proof] continues to the leaf, for verifiers that do not know this.
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
