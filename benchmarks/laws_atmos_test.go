package main

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	atmoscbor "github.com/jcalabro/atmos/cbor"
	atmosmst "github.com/jcalabro/atmos/mst"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// checkedSource checks hashes: the contenders do it when they read a CAR file, before
// blocks come into a store.
type checkedSource struct{ src mst.Source }

var errHash = errors.New("block does not match its CID")

func (s checkedSource) Block(c cid.Cid) ([]byte, error) {
	data, err := s.src.Block(c)
	if err != nil {
		return nil, err
	}
	if sum, err := c.Prefix().Sum(data); err != nil || sum != c {
		return nil, errHash
	}
	return data, nil
}

// cannot says that an operation cannot be carried out.
func cannot(op mst.Op, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("no key %q", op.Key)
}

var errStop = errors.New("stop")

// entries makes an iterator of a walk that an error ends.
func entries(walk func(yield func(mst.Entry) error) error) iter.Seq2[mst.Entry, error] {
	return func(yield func(mst.Entry, error) bool) {
		err := walk(func(e mst.Entry) error {
			if !yield(e, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(mst.Entry{}, err)
		}
	}
}

// atmosLibrary describes atmos' tree. A tree is loaded whole.
func atmosLibrary() msttest.Library {
	return msttest.Library{
		InPlace: true,
		Empty: func() (msttest.Tree, error) {
			store := atmosSource{mst.BlockMap{}, mst.BlockMap{}}
			return &atmosTree{atmosmst.NewTree(store), store}, nil
		},
		Load: func(src mst.Source, root cid.Cid) (msttest.Tree, error) {
			c, err := atmoscbor.ParseCIDBytes(root.Bytes())
			if err != nil {
				return nil, err
			}
			store := atmosSource{checkedSource{src}, mst.BlockMap{}}
			t := atmosmst.LoadTree(store, c)
			if err := t.LoadAll(); err != nil {
				return nil, err
			}
			return &atmosTree{t, store}, nil
		},
		Diff: atmosDiff,
	}
}

func atmosDiff(old, new msttest.Tree) iter.Seq2[mst.DiffEntry, error] {
	return func(yield func(mst.DiffEntry, error) bool) {
		store := mst.BlockMap{}
		var roots [2]atmoscbor.CID
		for i, t := range []msttest.Tree{old, new} {
			first := true
			for b, err := range t.Nodes() {
				if err != nil {
					yield(mst.DiffEntry{}, err)
					return
				}
				if store[b.CID] = b.Data; first {
					roots[i], first = atmosCID(b.CID), false
				}
			}
		}
		list, err := atmosmst.Diff(atmosSource{store, nil}, roots[0], roots[1])
		if err != nil {
			yield(mst.DiffEntry{}, err)
			return
		}
		for _, d := range list {
			if !yield(mst.DiffEntry{Key: d.Key, Old: fromAtmos(d.Old), New: fromAtmos(d.New)}, nil) {
				return
			}
		}
	}
}

// fromAtmos is a CID of atmos' in the form of go-cid; nil is undefined.
func fromAtmos(c *atmoscbor.CID) cid.Cid {
	if c == nil {
		return cid.Undef
	}
	return must(cid.Cast(c.Bytes()))
}

// atmosSource is a store of blocks in atmos' form: some to read, and some that were written.
type atmosSource struct {
	src     mst.Source
	written mst.BlockMap
}

func (s atmosSource) GetBlock(c atmoscbor.CID) ([]byte, error) {
	id := fromAtmos(&c)
	if data, ok := s.written[id]; ok {
		return data, nil
	}
	data, err := s.src.Block(id)
	if errors.Is(err, mst.ErrPartial) {
		return nil, fmt.Errorf("%w: %w", atmosmst.ErrBlockNotFound, err)
	}
	return data, err
}

func (s atmosSource) PutBlock(c atmoscbor.CID, data []byte) error {
	s.written[fromAtmos(&c)] = bytes.Clone(data)
	return nil
}

type atmosTree struct {
	t     *atmosmst.Tree
	store atmosSource
}

func (t *atmosTree) Root() (cid.Cid, error) {
	c, err := t.t.WriteBlocks(t.store) // for Nodes, which finds no other way to them later
	if err != nil {
		return cid.Undef, err
	}
	return fromAtmos(&c), nil
}

func (t *atmosTree) Get(key string) (cid.Cid, error) {
	v, err := t.t.Get(key)
	return fromAtmos(v), err
}

func (t *atmosTree) Entries() iter.Seq2[mst.Entry, error] {
	return entries(func(yield func(mst.Entry) error) error {
		return t.t.Walk(func(key string, v atmoscbor.CID) error { return yield(mst.Entry{Key: key, Value: fromAtmos(&v)}) })
	})
}

// Nodes follows the links of the blocks in the store.
func (t *atmosTree) Nodes() iter.Seq2[car.Block, error] {
	return func(yield func(car.Block, error) bool) {
		root, err := t.Root()
		if err != nil {
			yield(car.Block{}, err)
			return
		}
		t.nodes(atmosCID(root), yield)
	}
}

func (t *atmosTree) nodes(c atmoscbor.CID, yield func(car.Block, error) bool) bool {
	data, err := t.store.GetBlock(c)
	var n atmosmst.NodeData
	if err == nil {
		n, err = atmosmst.DecodeNodeData(data)
	}
	if !yield(car.Block{CID: fromAtmos(&c), Data: data}, err) || err != nil {
		return false
	}
	if n.Left.HasVal() && !t.nodes(n.Left.Val(), yield) {
		return false
	}
	for _, e := range n.Entries {
		if e.Right.HasVal() && !t.nodes(e.Right.Val(), yield) {
			return false
		}
	}
	return true
}

// Apply looks first whether all operations can be carried out, as atmos' tree has no batches and
// leaves it to its callers to check keys.
func (t *atmosTree) Apply(ops []mst.Op) (msttest.Tree, error) {
	values := make([]atmoscbor.CID, len(ops))
	for i, op := range ops {
		if !atmosmst.IsValidMstKey(op.Key) {
			return nil, fmt.Errorf("illegal key %q", op.Key)
		}
		var err error
		if op.Value.Defined() {
			values[i], err = atmoscbor.ParseCIDBytes(op.Value.Bytes())
		} else if v, getErr := t.t.Get(op.Key); v == nil {
			err = cannot(op, getErr)
		}
		if err != nil {
			return nil, err
		}
	}
	for i, op := range ops {
		var err error
		if op.Value.Defined() {
			err = t.t.Insert(op.Key, values[i])
		} else {
			err = t.t.Remove(op.Key)
		}
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}
