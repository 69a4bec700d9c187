package mst_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// tallTree is a tree whose keys have these heights, in this order.
func tallTree(heights ...int) (m msttest.Model, keys []string) {
	var miner msttest.Miner
	m = make(msttest.Model)
	for i, h := range heights {
		keys = append(keys, miner.Key(h))
		m[keys[i]] = msttest.Value(i)
	}
	return m, keys
}

// holds returns the CID of the node that holds a key.
func holds(t *testing.T, m msttest.Model, key string) cid.Cid {
	t.Helper()
	tree, err := mst.BuildSorted(m.Entries())
	if err != nil {
		t.Fatal(err)
	}
	path, err := tree.Proof(key)
	if err != nil {
		t.Fatal(err)
	}
	return path[len(path)-1].CID
}

// Slices that one order of single operations can do with, although one descent cannot.
func TestInvertWithTheNodesOfOneOrder(t *testing.T) {
	for _, c := range []struct {
		name    string
		heights []int // of the keys before and after
		created []int // which keys the operations created
		deleted []int // and deleted
		spare   int   // the node that holds this key is not needed
	}{
		// The subtrees on both sides of the created key 1 become one, unless key 2 is put between
		// them first.
		{"a key of the same height comes back beside a created one", []int{0, 1, 1, 0, 2}, []int{1}, []int{2}, 0},
		// Without key 1, nothing is left on that side of key 2.
		{"a subtree is emptied before its neighbour joins it", []int{3, 1, 2, 1, 0}, []int{1, 2}, nil, 3},
		// Both sides of two created keys, of which the lower one is alone on its side.
		{"a subtree on the right is emptied first", []int{3, 0, 1, 2, 1}, []int{3, 4}, nil, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, keys := tallTree(c.heights...)
			before, after := maps.Clone(all), maps.Clone(all)
			var ops []mst.InvertOp
			for _, i := range c.created {
				delete(before, keys[i])
				ops = append(ops, mst.InvertOp{Key: keys[i], Value: all[keys[i]]})
			}
			for _, i := range c.deleted {
				delete(after, keys[i])
				ops = append(ops, mst.InvertOp{Key: keys[i], Prev: all[keys[i]]})
			}
			slice := msttest.BlockMap(after.Nodes())
			delete(slice, holds(t, after, keys[c.spare]))
			for range 2 {
				tree, err := mst.Open(slice, after.Root(), mst.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				was, err := mst.Invert(tree, ops)
				if err != nil || was.Root() != before.Root() {
					t.Errorf("%v, %v", was, err)
				}
				ops[0], ops[len(ops)-1] = ops[len(ops)-1], ops[0]
			}
			// What the operations claim is checked all the same.
			tree, err := mst.Open(slice, after.Root(), mst.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range ops {
				false := append([]mst.InvertOp(nil), ops...)
				if false[i].Value.Defined() {
					false[i].Value = msttest.Value(999)
				} else {
					false[i].Value = false[i].Prev
				}
				if _, err := mst.Invert(tree, false); !errors.Is(err, mst.ErrMismatch) {
					t.Errorf("a false claim about %q: %v", ops[i].Key, err)
				}
			}
		})
	}
}

// countingSource counts the blocks that were read.
type countingSource struct {
	mst.BlockMap
	reads int
}

func (s *countingSource) Block(c cid.Cid) ([]byte, error) {
	data, err := s.BlockMap.Block(c)
	if err == nil {
		s.reads++
	}
	return data, err
}

// Many operations on a slice that lacks any one node: no node is read twice, however often Invert
// tries, and however many operations have to do with it.
func TestInvertReadsAHostileSliceOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	keys := msttest.Keys(rng, 400)
	after := make(msttest.Model)
	var ops []mst.InvertOp
	for i, key := range keys {
		switch v := msttest.Value(i); i % 4 {
		case 0:
			ops = append(ops, mst.InvertOp{Key: key, Prev: v})
		case 1:
			ops = append(ops, mst.InvertOp{Key: key, Value: v})
			after[key] = v
		default:
			after[key] = v
		}
	}
	nodes := after.Nodes()
	refused := 0
	for _, missing := range nodes[1:] {
		src := &countingSource{BlockMap: msttest.BlockMap(nodes)}
		delete(src.BlockMap, missing.CID)
		tree, err := mst.Open(src, after.Root(), mst.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mst.Invert(tree, ops); err != nil {
			if !errors.Is(err, mst.ErrPartial) {
				t.Fatal(err)
			}
			refused++
		}
		if src.reads >= len(nodes) {
			t.Errorf("%d reads of %d nodes", src.reads, len(nodes))
		}
	}
	if refused == 0 {
		t.Error("no node is needed")
	}
}

// An absent key cannot be below its own height, so the path down to there proves its absence.
func TestShortestProofOfAbsence(t *testing.T) {
	m, keys := tallTree(0, 2, 0, 1, 0, 3, 0, 2)
	for _, absent := range []int{1, 3} { // of height 2 and 1
		without := maps.Clone(m)
		delete(without, keys[absent])
		tree, err := mst.BuildSorted(without.Entries())
		if err != nil {
			t.Fatal(err)
		}
		path, err := tree.Proof(keys[absent])
		if err != nil {
			t.Fatal(err)
		}
		enough := 3 - mst.HeightForKey(keys[absent]) + 1
		if len(path) <= enough {
			t.Fatalf("the path has %d nodes", len(path))
		}
		if v, found, err := mst.VerifyProof(tree.Root(), keys[absent], path[:enough]); err != nil || found || v.Defined() {
			t.Errorf("%v, %v, %v", v, found, err)
		}
		if _, _, err := mst.VerifyProof(tree.Root(), keys[absent], path[:enough-1]); !errors.Is(err, mst.ErrProof) {
			t.Errorf("one node less: %v", err)
		}
	}
}
