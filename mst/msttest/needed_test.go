package msttest

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/pdskit/pdskit/mst"
)

// Every change between two subsets of a small tree of three heights, in every order of its
// operations, can be undone with the nodes that the order needs. PDSKIT_LONG=1 takes all 1.7
// million orders; otherwise it is a sample.
func TestEveryOrderOfSmallChanges(t *testing.T) {
	var miner Miner
	var keys []string
	for _, height := range []int{0, 1, 0, 2, 0, 1, 0} {
		keys = append(keys, miner.Key(height))
	}
	subset := func(bits int) Model {
		m := make(Model)
		for i, k := range keys {
			if bits>>i&1 == 1 {
				m[k] = Value(i)
			}
		}
		return m
	}
	rng := rand.New(rand.NewPCG(1, 2))
	lib := PackageMST(true)
	every, most := 40, 24
	if os.Getenv("PDSKIT_LONG") != "" {
		every, most = 1, 5040
	}
	pair, count, cheaper := 0, 0, 0
	for a := range 1 << len(keys) {
		for b := range 1 << len(keys) {
			if pair++; pair%every != 0 || a == b {
				continue
			}
			before, after := subset(a), subset(b)
			var undo []mst.InvertOp
			for _, k := range keys {
				if before[k] != after[k] {
					undo = append(undo, mst.InvertOp{Key: k, Value: after[k], Prev: before[k]})
				}
			}
			least, greatest := len(after)+10, 0
			for _, order := range orders(rng, undo, most) {
				count++
				need := needed(after, order)
				least, greatest = min(least, len(need)), max(greatest, len(need))
				wire := slices.Clone(order)
				slices.Reverse(wire)
				was, err := lib.Invert(need, after.Root(), wire)
				if err != nil || was != before.Root() {
					t.Fatalf("from %07b to %07b, undone in the order %s with %d nodes: %v, %v", a, b, describeUndo(order), len(need), was, err)
				}
			}
			if least < greatest {
				cheaper++
			}
		}
	}
	t.Logf("%d orders; in %d changes they do not all need the same nodes", count, cheaper)
	if cheaper == 0 {
		t.Error("the order makes no difference anywhere")
	}
}
