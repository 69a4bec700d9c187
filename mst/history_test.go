package mst_test

import (
	"math/rand/v2"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// FuzzHistory runs a history of batches: two bytes are one operation, and the first of them also
// says whether the batch ends with it and whether the tree is then read anew, node by node. After
// each batch the tree is the model's, what it calls new and removed is the difference of both
// trees, and its slice alone leads back.
func FuzzHistory(f *testing.F) {
	keys := msttest.Keys(rand.New(rand.NewPCG(7, 7)), 64)
	f.Add([]byte{0x81, 1, 0x82, 2, 0x81, 0, 0xc2, 0, 0x83, 3})
	f.Add([]byte{0, 1, 1, 1, 2, 1, 3, 1, 4, 1, 5, 1, 0x86, 1, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 0xc6, 0, 0x80, 9})
	long := make([]byte, 400)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range long {
		long[i] = byte(rng.Uint32())
	}
	f.Add(long)
	f.Fuzz(func(t *testing.T, history []byte) {
		model, tree := make(msttest.Model), mst.Empty()
		ops := make(map[string]mst.Op)
		for ; len(history) >= 2 && len(history) < 2000; history = history[2:] {
			what, value := history[0], history[1]
			op := mst.Op{Key: keys[what&63]}
			if value%3 > 0 {
				op.Value = msttest.Value(int(value))
			}
			if _, there := model[op.Key]; there || op.Value.Defined() {
				ops[op.Key] = op
			}
			if what < 0x80 && len(history) >= 4 {
				continue
			}
			tree = historyStep(t, tree, model, ops)
			if clear(ops); what >= 0xc0 {
				var err error
				if tree, err = mst.Open(msttest.BlockMap(model.Nodes()), model.Root(), mst.Limits{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// historyStep applies a batch to a tree and to its model, and checks the outcome.
func historyStep(t *testing.T, tree *mst.Tree, model msttest.Model, batch map[string]mst.Op) *mst.Tree {
	var ops []mst.Op
	var inverse []mst.InvertOp
	for _, op := range batch { // in any order
		ops = append(ops, op)
		inverse = append(inverse, mst.InvertOp{Key: op.Key, Value: op.Value, Prev: model[op.Key]})
	}
	root := tree.Root()
	nodes := make(map[cid.Cid]int) // 1: only before, 2: only after
	for _, b := range model.Nodes() {
		nodes[b.CID] |= 1
	}
	c, err := tree.Apply(ops)
	if err != nil {
		t.Fatal(err)
	}
	if err := model.Apply(ops); err != nil {
		t.Fatal(err)
	}
	for _, b := range model.Nodes() {
		nodes[b.CID] |= 2
	}
	if c.Root != model.Root() || c.Tree.Root() != c.Root {
		t.Fatalf("root %s, want %s: %v", c.Root, model.Root(), ops)
	}
	slice := make(mst.BlockMap)
	for _, b := range c.New {
		if nodes[b.CID] != 2 {
			t.Fatalf("node %s is not new: %v", b.CID, ops)
		}
		nodes[b.CID] = 0
		slice[b.CID] = b.Data
	}
	for _, id := range c.Removed {
		if nodes[id] != 1 {
			t.Fatalf("node %s was not removed: %v", id, ops)
		}
		nodes[id] = 0
	}
	for id, where := range nodes {
		if where == 1 || where == 2 {
			t.Fatalf("node %s is not accounted for: %v", id, ops)
		}
	}
	for _, b := range c.Proof {
		slice[b.CID] = b.Data
	}
	partial, err := mst.Open(slice, c.Root, mst.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := mst.Invert(partial, inverse)
	if err != nil || before.Root() != root {
		t.Fatalf("undone: %v, %v: %v", before, err, ops)
	}
	return c.Tree
}
