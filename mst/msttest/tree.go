package msttest

import (
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
)

// Tree is a tree under test. Optional methods are found by type assertion: see [Changer], [Walker]
// and [Prover].
type Tree interface {
	// Root returns the CID of the root node. The empty tree has one too.
	Root() (cid.Cid, error)
	// Get returns the value of a key, or an undefined CID if there is none.
	Get(key string) (cid.Cid, error)
	// Entries yields all entries in ascending order of keys.
	Entries() iter.Seq2[mst.Entry, error]
	// Nodes yields the blocks of all nodes, each once, the root first.
	Nodes() iter.Seq2[car.Block, error]
	// Apply applies operations, at most one for each key, in any order, and returns the tree after
	// them. Deleting a missing key is an error. If the Library is InPlace, Apply may return the
	// tree itself.
	Apply(ops []mst.Op) (Tree, error)
}

// Changer is an optional interface of a Tree that reports its changes.
type Changer interface {
	// Change is Apply with a report of what it did.
	Change(ops []mst.Op) (Change, error)
}

// Change is the effect of operations on a tree. For the fields see [mst.Change].
type Change struct {
	Tree    Tree
	New     []car.Block
	Removed []cid.Cid
	Proof   []car.Block
	Prev    []cid.Cid
}

// Walker is an optional interface of a Tree that can be walked from any key.
type Walker interface {
	// Walk yields the entries whose keys are not less than from, in ascending order.
	Walk(from string) iter.Seq2[mst.Entry, error]
}

// Prover is an optional interface of a Tree that makes proofs.
type Prover interface {
	// Proof returns the nodes on the path of a key, the root first.
	Proof(key string) ([]car.Block, error)
}

// Library is an implementation under test. A nil function is an optional feature that it lacks; the
// laws about it are skipped.
type Library struct {
	// Empty returns an empty tree. It is required.
	Empty func() (Tree, error)
	// Load returns the tree of a root. It may read nodes at once or when they are needed. It must
	// refuse everything but the only valid encoding of a tree.
	Load func(src mst.Source, root cid.Cid) (Tree, error)
	// Build returns the tree of entries in strictly ascending key order. It must refuse any other
	// order.
	Build func(entries []mst.Entry) (Tree, error)
	// Invert undoes operations on a tree of which only some nodes are known, and returns the root
	// before them. It must fail if the tree does not have the values that the operations claim.
	Invert func(src mst.Source, root cid.Cid, ops []mst.InvertOp) (cid.Cid, error)
	// VerifyProof returns what the blocks of a proof prove about a key: its value, or an undefined
	// CID.
	VerifyProof func(root cid.Cid, key string, blocks []car.Block) (cid.Cid, error)
	// Diff yields the keys whose values differ, in ascending order.
	Diff func(old, new Tree) iter.Seq2[mst.DiffEntry, error]

	// InPlace means that Apply changes its receiver. The laws about immutable trees, including
	// concurrent reads, are then skipped.
	InPlace bool
}
