package mst_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

// TestConcurrentReaders reads and changes one tree, whose nodes are loaded as
// they are needed, from many goroutines. It is for the race detector.
func TestConcurrentReaders(t *testing.T) {
	var ops []mst.Op
	for i := range 2000 {
		key := fmt.Sprintf("com.example.note/key%04d", i)
		ops = append(ops, mst.Op{Key: key, Value: dag.Sum(dag.CBOR, []byte(key))})
	}
	whole, err := mst.Empty().Apply(ops)
	if err != nil {
		t.Fatal(err)
	}
	blocks := mst.BlockMap{}
	for _, b := range whole.New {
		blocks[b.CID] = b.Data
	}
	tree, err := mst.Open(blocks, whole.Root, mst.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := g; i < len(ops); i += 3 {
				if v, ok, err := tree.Get(ops[i].Key); err != nil || !ok || v != ops[i].Value {
					t.Errorf("%s: %v %v %v", ops[i].Key, v, ok, err)
				}
				if i%100 != g {
					continue
				}
				c, err := tree.Apply([]mst.Op{{Key: ops[i].Key, Value: cid.Undef}})
				if err != nil {
					t.Error(err)
					continue
				}
				if _, ok, err := c.Tree.Get(ops[i].Key); ok || err != nil {
					t.Errorf("%s is still there (%v)", ops[i].Key, err)
				}
			}
			n := 0
			for _, err := range tree.Walk("") {
				if err != nil {
					t.Error(err)
				}
				n++
			}
			if n != len(ops) {
				t.Errorf("%d keys", n)
			}
		})
	}
	wg.Wait()
}
