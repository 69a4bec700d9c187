package msttest

import (
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
)

// PackageMST describes package mst as a Library; it is also an example. With lazy, Load reads nodes
// when they are needed (mst.Open). Otherwise it reads them at once (mst.Load).
func PackageMST(lazy bool) Library {
	load := mst.Load
	if lazy {
		load = mst.Open
	}
	return Library{
		Empty: func() (Tree, error) { return packageTree{mst.Empty()}, nil },
		Load: func(src mst.Source, root cid.Cid) (Tree, error) {
			t, err := load(src, root, mst.Limits{})
			if err != nil {
				return nil, err
			}
			return packageTree{t}, nil
		},
		Build: func(entries []mst.Entry) (Tree, error) {
			t, err := mst.BuildSorted(entries)
			if err != nil {
				return nil, err
			}
			return packageTree{t}, nil
		},
		Invert: func(src mst.Source, root cid.Cid, ops []mst.InvertOp) (cid.Cid, error) {
			t, err := mst.Open(src, root, mst.Limits{})
			if err == nil {
				t, err = mst.Invert(t, ops)
			}
			if err != nil {
				return cid.Undef, err
			}
			return t.Root(), nil
		},
		VerifyProof: func(root cid.Cid, key string, blocks []car.Block) (cid.Cid, error) {
			v, _, err := mst.VerifyProof(root, key, blocks)
			return v, err
		},
		Diff: func(old, new Tree) iter.Seq2[mst.DiffEntry, error] {
			return mst.Diff(old.(packageTree).Tree, new.(packageTree).Tree)
		},
	}
}

type packageTree struct{ *mst.Tree }

func (t packageTree) Root() (cid.Cid, error) { return t.Tree.Root(), nil }

func (t packageTree) Get(key string) (cid.Cid, error) {
	v, _, err := t.Tree.Get(key)
	return v, err
}

func (t packageTree) Entries() iter.Seq2[mst.Entry, error] { return t.Walk("") }

func (t packageTree) Apply(ops []mst.Op) (Tree, error) {
	c, err := t.Change(ops)
	return c.Tree, err
}

func (t packageTree) Change(ops []mst.Op) (Change, error) {
	c, err := t.Tree.Apply(ops)
	if err != nil {
		return Change{}, err
	}
	return Change{packageTree{c.Tree}, c.New, c.Removed, c.Proof, c.Prev}, nil
}
