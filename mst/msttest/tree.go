package msttest

import (
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
)

// Tree is a tree under test.
//
// Further abilities are found by type assertion: see Changer, Walker and Prover.
type Tree interface {
	// Root returns the CID of the root node. The empty tree has one too.
	Root() (cid.Cid, error)
	// Get returns the value of a key; an undefined CID if it is not there.
	Get(key string) (cid.Cid, error)
	// Entries yields all entries in ascending order of keys.
	Entries() iter.Seq2[mst.Entry, error]
	// Nodes yields the blocks of all nodes, each once, the root first.
	Nodes() iter.Seq2[car.Block, error]
	// Apply carries out operations, at most one per key, in any order, and returns
	// the tree after them. Deleting a key that is not there is an error. A Library that
	// is InPlace may return the tree itself.
	Apply(ops []mst.Op) (Tree, error)
}

// Changer is a Tree that accounts for its changes.
type Changer interface {
	// Change is Apply with an account of what it did.
	Change(ops []mst.Op) (Change, error)
}

// Change is what operations did to a tree: the fields of mst.Change, which see.
type Change struct {
	Tree    Tree
	New     []car.Block
	Removed []cid.Cid
	Proof   []car.Block
	Prev    []cid.Cid
}

// Walker is a Tree that can be walked from any key.
type Walker interface {
	// Walk yields the entries whose keys are not less than from, in ascending order.
	Walk(from string) iter.Seq2[mst.Entry, error]
}

// Prover is a Tree that proves what it has.
type Prover interface {
	// Proof returns the nodes on the path of a key, the root first.
	Proof(key string) ([]car.Block, error)
}

// Library is an implementation under test. A nil function is an ability that it
// does not have, whose laws are skipped.
type Library struct {
	// Empty returns an empty tree. It is needed.
	Empty func() (Tree, error)
	// Load returns the tree of a root. It may read all nodes at once or each when it
	// is needed, and must refuse whatever is not the one valid encoding of a tree.
	Load func(src mst.Source, root cid.Cid) (Tree, error)
	// Build returns the tree of entries in strictly ascending order of keys, and
	// refuses others.
	Build func(entries []mst.Entry) (Tree, error)
	// Invert undoes operations on a tree of which only some nodes are known and
	// returns the root before them. It fails if the tree does not have the values that
	// the operations claim.
	Invert func(src mst.Source, root cid.Cid, ops []mst.InvertOp) (cid.Cid, error)
	// VerifyProof returns what the blocks of a proof say about a key: its value, or
	// an undefined CID.
	VerifyProof func(root cid.Cid, key string, blocks []car.Block) (cid.Cid, error)
	// Diff yields the keys whose values differ, in ascending order.
	Diff func(old, new Tree) iter.Seq2[mst.DiffEntry, error]

	// InPlace says that Apply changes the tree it is called on. Then the laws
	// about trees as values, which also say that any number of goroutines may read one,
	// are skipped.
	InPlace bool
}
