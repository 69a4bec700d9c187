package main

import (
	"context"
	"errors"
	"iter"

	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	indigomst "github.com/bluesky-social/indigo/atproto/repo/mst"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// indigoLibrary describes indigo's tree. A tree is loaded, must be complete, and is verified.
func indigoLibrary() msttest.Library {
	load := func(src mst.Source, root cid.Cid) (*indigomst.Tree, error) {
		return indigomst.LoadTreeFromStore(context.Background(), indigoSource{checkedSource{src}}, root)
	}
	return msttest.Library{
		InPlace: true,
		Empty: func() (msttest.Tree, error) {
			t := indigomst.NewEmptyTree()
			return &indigoTree{&t}, nil
		},
		Load: func(src mst.Source, root cid.Cid) (msttest.Tree, error) {
			t, err := load(src, root)
			if err == nil && t.IsPartial() {
				err = indigomst.ErrPartialTree
			}
			if err == nil {
				err = t.Verify()
			}
			if err != nil {
				return nil, err
			}
			return &indigoTree{t}, nil
		},
		Invert: func(src mst.Source, root cid.Cid, ops []mst.InvertOp) (cid.Cid, error) {
			t, err := load(src, root)
			if err != nil {
				return cid.Undef, indigoError(err)
			}
			return indigoInvert(t, ops)
		},
	}
}

// indigoInvert undoes operations, as indigo does it for commit messages.
func indigoInvert(t *indigomst.Tree, ops []mst.InvertOp) (cid.Cid, error) {
	var list []indigorepo.Operation
	for _, op := range ops {
		list = append(list, indigorepo.Operation{Path: op.Key, Value: optional(op.Value), Prev: optional(op.Prev)})
	}
	list, err := indigorepo.NormalizeOps(list)
	if err != nil {
		return cid.Undef, err
	}
	for _, op := range list {
		if err := indigorepo.InvertOp(t, &op); err != nil {
			return cid.Undef, indigoError(err)
		}
	}
	c, err := (&indigoTree{t}).Root()
	return c, indigoError(err)
}

// indigoError gives an error the name that the suite knows it by.
func indigoError(err error) error {
	if errors.Is(err, indigomst.ErrPartialTree) || ipld.IsNotFound(err) {
		return errors.Join(mst.ErrPartial, err)
	}
	return err
}

func optional(c cid.Cid) *cid.Cid {
	if !c.Defined() {
		return nil
	}
	return &c
}

// indigoSource is a store of blocks in indigo's form.
type indigoSource struct{ src mst.Source }

func (s indigoSource) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	data, err := s.src.Block(c)
	if errors.Is(err, mst.ErrPartial) {
		return nil, &ipld.ErrNotFound{Cid: c}
	}
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(data, c)
}

type indigoTree struct{ t *indigomst.Tree }

func (t *indigoTree) Root() (cid.Cid, error) {
	c, err := t.t.RootCID()
	if err != nil {
		return cid.Undef, err
	}
	return *c, nil
}

func (t *indigoTree) Get(key string) (cid.Cid, error) {
	v, err := t.t.Get([]byte(key))
	if err != nil || v == nil {
		return cid.Undef, err
	}
	return *v, nil
}

func (t *indigoTree) Entries() iter.Seq2[mst.Entry, error] {
	return entries(func(yield func(mst.Entry) error) error {
		return t.t.Walk(func(key []byte, v cid.Cid) error { return yield(mst.Entry{Key: string(key), Value: v}) })
	})
}

// Nodes writes the nodes as they are in memory, the parents first.
func (t *indigoTree) Nodes() iter.Seq2[car.Block, error] {
	return func(yield func(car.Block, error) bool) {
		if _, err := t.t.RootCID(); err != nil { // which names all children
			yield(car.Block{}, err)
			return
		}
		indigoNodes(t.t.Root, yield)
	}
}

func indigoNodes(n *indigomst.Node, yield func(car.Block, error) bool) bool {
	data := n.NodeData()
	b, c, err := data.Bytes()
	if err != nil {
		yield(car.Block{}, err)
		return false
	}
	if !yield(car.Block{CID: *c, Data: b}, nil) {
		return false
	}
	for _, e := range n.Entries {
		if e.IsChild() && e.Child == nil {
			yield(car.Block{}, indigomst.ErrPartialTree)
			return false
		}
		if e.Child != nil && !indigoNodes(e.Child, yield) {
			return false
		}
	}
	return true
}

// Apply looks first whether all operations can be carried out, as indigo's tree has no batches.
func (t *indigoTree) Apply(ops []mst.Op) (msttest.Tree, error) {
	for _, op := range ops {
		if v, err := t.Get(op.Key); err != nil || !v.Defined() && !op.Value.Defined() {
			return nil, cannot(op, err)
		}
	}
	for _, op := range ops {
		if _, err := indigorepo.ApplyOp(t.t, op.Key, optional(op.Value)); err != nil {
			return nil, err
		}
	}
	return t, nil
}
