package msttest

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
)

// shape is a node of a model's tree: its keys, and the nodes before, between and after them. nil is
// the empty subtree.
type shape struct {
	cid  cid.Cid
	keys []string
	kids []*shape // one more than keys
}

// shape returns the root of the model's tree, whose nodes these are.
func (m Model) shape(nodes []car.Block) *shape {
	at, top := 0, 0
	keys := m.Keys()
	heights := make(map[string]int, len(keys))
	for _, k := range keys {
		heights[k] = Height(k)
		top = max(top, heights[k])
	}
	var node func(keys []string, height int) *shape
	node = func(keys []string, height int) *shape {
		n := &shape{cid: nodes[at].CID} // both are in pre-order
		at++
		var gap []string
		closeGap := func() {
			var kid *shape
			if len(gap) > 0 {
				kid = node(gap, height-1)
			}
			n.kids, gap = append(n.kids, kid), nil
		}
		for _, k := range keys {
			if heights[k] < height {
				gap = append(gap, k)
				continue
			}
			closeGap()
			n.keys = append(n.keys, k)
		}
		closeGap()
		return n
	}
	return node(keys, top)
}

// needed returns the nodes of the tree after operations that somebody needs who undoes them one by
// one, in the order given. It follows from the models before and after each single operation,
// and from what an operation has to look at:
//
//   - Every operation needs the path of its key. If the key is not there, the path ends at an
//     empty subtree: the nodes below the key's height are needed to split them at the key.
//   - Deleting a key also needs the inner edges of the subtrees on both its sides, as far down as
//     both have nodes, since those become one.
//   - If the root loses its last key, the tree begins at the first node below it that has keys, which
//     is needed to see that it has some.
//
// A node that an operation before has made is not needed, because it is known. The empty tree is
// known by its CID.
func needed(after Model, undo []mst.InvertOp) mst.BlockMap {
	now, nodes := maps.Clone(after), after.Nodes()
	blocks := BlockMap(nodes)
	need := make(mst.BlockMap)
	known := make(map[cid.Cid]bool) // nodes that were made on the way
	read := func(n *shape) {
		if n.cid != mst.Empty().Root() && !known[n.cid] {
			need[n.cid] = blocks[n.cid]
		}
	}
	for _, op := range undo {
		root := now.shape(nodes)
		for n := root; n != nil; {
			read(n)
			i, found := slices.BinarySearch(n.keys, op.Key)
			if !found {
				n = n.kids[i]
				continue
			}
			if op.Prev.Defined() {
				break
			}
			l, r := n.kids[i], n.kids[i+1]
			if n == root && len(n.keys) == 1 && (l == nil) != (r == nil) {
				top := cmp.Or(l, r)
				for read(top); len(top.keys) == 0; read(top) {
					top = top.kids[0]
				}
			}
			for l != nil && r != nil {
				read(l)
				read(r)
				l, r = l.kids[len(l.kids)-1], r.kids[0]
			}
			break
		}
		if op.Prev.Defined() {
			now[op.Key] = op.Prev
		} else {
			delete(now, op.Key)
		}
		had := BlockMap(nodes)
		nodes = now.Nodes()
		for _, b := range nodes {
			if had[b.CID] == nil {
				known[b.CID] = true
			}
		}
	}
	return need
}

// normalised returns operations in the normalised order: deletions before others, then by key.
func normalised(ops []mst.InvertOp) []mst.InvertOp {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b mst.InvertOp) int {
		if a.Value.Defined() != b.Value.Defined() {
			if b.Value.Defined() {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Key, b.Key)
	})
	return ops
}

// orders returns the normalised order of operations, and then all orders or, if there are more than
// most, so many by chance.
func orders(rng *rand.Rand, ops []mst.InvertOp, most int) (list [][]mst.InvertOp) {
	list = append(list, normalised(ops))
	all := 1
	for i := 2; i <= len(ops) && all <= most; i++ {
		all *= i
	}
	if all > most {
		for range most {
			p := slices.Clone(ops)
			rng.Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
			list = append(list, p)
		}
		return list
	}
	p := slices.Clone(ops)
	var permute func(n int)
	permute = func(n int) {
		if n == len(p) {
			list = append(list, slices.Clone(p))
			return
		}
		for i := n; i < len(p); i++ {
			p[n], p[i] = p[i], p[n]
			permute(n + 1)
			p[n], p[i] = p[i], p[n]
		}
	}
	permute(0)
	return list
}
