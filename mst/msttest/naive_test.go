package msttest

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

// naive is a library as simple as it can be: a map from which the tree is made
// anew each time. It can be given faults by name, and then the suite must find them.
type naive struct{ faults map[string]bool }

func newNaive(faults ...string) *naive {
	n := &naive{make(map[string]bool)}
	for _, f := range faults {
		n.faults[f] = true
	}
	return n
}

// has reports whether the library has a fault.
func (n *naive) has(fault string) bool { return n.faults[fault] }

func (n *naive) library() Library {
	return Library{
		Empty:       func() (Tree, error) { return n.tree(nil), nil },
		Load:        n.load,
		Build:       n.build,
		Invert:      n.invert,
		VerifyProof: n.verifyProof,
		Diff:        n.diff,
	}
}

func (n *naive) tree(m Model) *naiveTree {
	if m == nil {
		m = make(Model)
	}
	return &naiveTree{n: n, m: m}
}

type naiveTree struct {
	n      *naive
	m      Model
	tall   int // the greatest height there has been
	source func() error
	last   atomic.Pointer[string]
}

// model returns the tree's entries, once its source is read.
func (t *naiveTree) model() (Model, error) {
	if t.source != nil {
		if err := t.source(); err != nil {
			return nil, err
		}
	}
	return t.m, nil
}

// blocks are the tree's nodes.
func (t *naiveTree) blocks() ([]car.Block, error) {
	m, err := t.model()
	if err != nil {
		return nil, err
	}
	if t.n.has("the root stays tall") && t.tall > 0 {
		var nodes []car.Block
		m.node(m.Keys(), t.tall, &nodes)
		return nodes, nil
	}
	return m.Nodes(), nil
}

func (t *naiveTree) Root() (cid.Cid, error) {
	nodes, err := t.blocks()
	if err != nil || t.n.has("the empty tree has no root") && len(t.m) == 0 {
		return cid.Undef, err
	}
	return nodes[0].CID, nil
}

func (t *naiveTree) Get(key string) (cid.Cid, error) {
	m, err := t.model()
	if err != nil {
		return cid.Undef, err
	}
	if t.n.has("readers share a place") {
		mine := key
		t.last.Store(&mine)
		runtime.Gosched()
		key = *t.last.Load()
	}
	if t.n.has("Get finds deleted keys") && !m[key].Defined() && mst.ValidKey(key) == nil {
		return Value(0), nil
	}
	return m[key], nil
}

func (t *naiveTree) Entries() iter.Seq2[mst.Entry, error] { return t.Walk("") }

func (t *naiveTree) Walk(from string) iter.Seq2[mst.Entry, error] {
	return func(yield func(mst.Entry, error) bool) {
		m, err := t.model()
		if err != nil {
			yield(mst.Entry{}, err)
			return
		}
		list := m.Entries()
		if t.n.has("the last entry is left out") && len(list) > 0 {
			list = list[:len(list)-1]
		}
		for _, e := range list {
			if e.Key < from || t.n.has("a walk begins behind its key") && e.Key == from {
				continue
			}
			if !yield(e, nil) && !t.n.has("a walk cannot be stopped") {
				return
			}
		}
	}
}

func (t *naiveTree) Nodes() iter.Seq2[car.Block, error] {
	return func(yield func(car.Block, error) bool) {
		list, err := t.blocks()
		if err != nil {
			yield(car.Block{}, err)
			return
		}
		switch {
		case t.n.has("nodes come by size"):
			slices.SortStableFunc(list[1:], func(a, b car.Block) int { return len(b.Data) - len(a.Data) })
		case t.n.has("a node comes twice"):
			list = append(list, list[len(list)-1])
		case t.n.has("a node is left out") && len(list) > 1:
			list = list[:len(list)-1]
		}
		for _, b := range list {
			if !yield(b, nil) {
				return
			}
		}
	}
}

func (t *naiveTree) Apply(ops []mst.Op) (Tree, error) {
	c, err := t.Change(ops)
	return c.Tree, err
}

func (t *naiveTree) Change(ops []mst.Op) (c Change, err error) {
	before, err := t.model()
	if err != nil {
		return Change{}, err
	}
	after := maps.Clone(before)
	if t.n.has("Apply changes the tree itself") || t.n.has("half of a failed batch stays") {
		after = before
	}
	tall := t.tall
	for _, op := range ops {
		if err := mst.ValidKey(op.Key); err != nil && !t.n.has("illegal keys are written") {
			return Change{}, err
		}
		if _, _, ok := dag.Split(op.Value); op.Value.Defined() && !ok && !t.n.has("illegal values are written") {
			return Change{}, fmt.Errorf("illegal value %v", op.Value)
		}
		if !op.Value.Defined() && !before[op.Key].Defined() && !t.n.has("missing keys are deleted") {
			return Change{}, fmt.Errorf("no key %q", op.Key)
		}
		c.Prev = append(c.Prev, before[op.Key])
		if op.Value.Defined() {
			after[op.Key] = op.Value
			tall = max(tall, Height(op.Key))
		} else {
			delete(after, op.Key)
		}
	}
	if len(after) > 10_000 && !t.n.has("flat nodes are written that cannot be read") {
		return Change{}, errors.New("too many keys for me")
	}
	next := t.n.tree(after)
	next.tall = tall
	if t.n.has("half of a failed batch stays") {
		t.m = before
		next.m = maps.Clone(after)
	}
	c.Tree = next
	if len(after) > 500 && !t.n.has("Apply changes the tree itself") {
		return c, nil
	}
	had, has := BlockMap(t.n.tree(maps.Clone(before)).m.Nodes()), BlockMap(after.Nodes())
	if t.n.has("Apply changes the tree itself") {
		c.Tree = t
		t.tall = tall
	}
	for _, b := range after.Nodes() {
		switch {
		case had[b.CID] == nil:
			c.New = append(c.New, b)
		case t.n.has("old nodes are called new"):
			c.New = append(c.New, b)
		case !t.n.has("no proof"):
			c.Proof = append(c.Proof, b)
		}
	}
	for r := range had {
		if has[r] == nil && (!t.n.has("a removed node is forgotten") || len(c.Removed) == 0) {
			c.Removed = append(c.Removed, r)
		}
	}
	if t.n.has("the proof has paths only") {
		c.Proof = nil
		seen := BlockMap(c.New)
		for _, op := range ops {
			path, err := mstPath(after, op.Key)
			if err != nil {
				return Change{}, err
			}
			for _, b := range path {
				if seen[b.CID] == nil {
					seen[b.CID] = b.Data
					c.Proof = append(c.Proof, b)
				}
			}
		}
	}
	if t.n.has("values before are forgotten") {
		clear(c.Prev)
	}
	return c, nil
}

// mstPath is the path of a key in the tree of a model.
func mstPath(m Model, key string) ([]car.Block, error) {
	t, err := mst.Load(BlockMap(m.Nodes()), m.Root(), mst.Limits{})
	if err != nil {
		return nil, err
	}
	return t.Proof(key)
}

func (t *naiveTree) Proof(key string) ([]car.Block, error) {
	m, err := t.model()
	if err != nil {
		return nil, err
	}
	path, err := mstPath(m, key)
	if t.n.has("proofs end early") && len(path) > 1 {
		path = path[:len(path)-1]
	}
	return path, err
}

func (n *naive) verifyProof(root cid.Cid, key string, blocks []car.Block) (cid.Cid, error) {
	if n.has("proofs are believed") {
		for i := range blocks {
			blocks[i].CID = dag.Sum(dag.CBOR, blocks[i].Data)
		}
		if root = blocks[0].CID; len(blocks) == 0 {
			return cid.Undef, errors.New("no blocks")
		}
	}
	v, _, err := mst.VerifyProof(root, key, blocks)
	if errors.Is(err, mst.ErrProof) && n.has("a missing block means a missing key") {
		return cid.Undef, nil
	}
	return v, err
}

func (n *naive) build(entries []mst.Entry) (Tree, error) {
	m := make(Model)
	last := ""
	for _, e := range entries {
		if err := mst.ValidKey(e.Key); err != nil && !n.has("illegal keys are built") {
			return nil, err
		}
		if _, _, ok := dag.Split(e.Value); !ok {
			return nil, errors.New("illegal value")
		}
		if e.Key < last && !n.has("entries are built in any order") || e.Key == last && !n.has("entries are built twice") {
			return nil, errors.New("keys out of order")
		}
		last = e.Key
		m[e.Key] = e.Value
	}
	if len(m) > 10_000 {
		return nil, errors.New("too many keys for me")
	}
	return n.tree(m), nil
}

func (n *naive) diff(a, b Tree) iter.Seq2[mst.DiffEntry, error] {
	return func(yield func(mst.DiffEntry, error) bool) {
		old, err := a.(*naiveTree).model()
		if err != nil {
			yield(mst.DiffEntry{}, err)
			return
		}
		new, err := b.(*naiveTree).model()
		if err != nil {
			yield(mst.DiffEntry{}, err)
			return
		}
		both := maps.Clone(old)
		maps.Copy(both, new)
		for _, k := range both.Keys() {
			d := mst.DiffEntry{Key: k, Old: old[k], New: new[k]}
			if d.Old == d.New && !n.has("equal values differ") || !d.New.Defined() && n.has("deleted keys do not differ") {
				continue
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func (n *naive) invert(src mst.Source, root cid.Cid, ops []mst.InvertOp) (cid.Cid, error) {
	if n.has("only whole trees are inverted") {
		if _, err := n.load(src, root); err != nil {
			return cid.Undef, err
		}
	}
	t, err := mst.Open(src, root, mst.Limits{})
	if err != nil {
		return cid.Undef, err
	}
	if n.has("claims are not checked") {
		inverse := make([]mst.Op, len(ops))
		for i, op := range ops {
			inverse[i] = mst.Op{Key: op.Key, Value: op.Prev}
		}
		c, err := t.Apply(inverse)
		if err != nil {
			return cid.Undef, err
		}
		return c.Root, nil
	}
	switch {
	case n.has("the normalised order only"):
		return invertOneByOne(src, root, normalised(ops))
	case n.has("the order given backward only"):
		backward := slices.Clone(ops)
		slices.Reverse(backward)
		return invertOneByOne(src, root, backward)
	}
	was, err := mst.Invert(t, ops)
	if errors.Is(err, mst.ErrPartial) && n.has("what is missing is ignored") {
		return root, nil
	}
	if err != nil {
		return cid.Undef, err
	}
	return was.Root(), nil
}
