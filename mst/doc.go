// Package mst implements the Merkle Search Tree in which a repository keeps its records: a map from
// keys (collection "/" record key) to CIDs. Its root hash depends on nothing but its contents.
//
// # The tree
//
// Every key has a height: the number of leading zero bits of its SHA-256 hash, divided by two and
// rounded down. A node of height h holds, in order, the keys of height h in its range. Between two
// keys it may link to a node of height h-1, which holds the lower keys that lie between them. So
// three quarters of all keys are in leaves, and the keys alone determine the shape.
//
// # Trees are values
//
// A Tree never changes. Apply returns a new tree that shares all unchanged nodes with the old one.
// The old tree stays as it was, also when Apply fails. Any number of goroutines may read a tree
// without a lock. A node is kept as the bytes of its block, less than 100 bytes a key in all, and
// edits work on those bytes: if only the hash of a child changed, 32 bytes are overwritten in a
// copy.
//
// # Strictness
//
// There is exactly one valid encoding of every tree. Load, Open and the verifiers refuse everything
// else with an *Error: CBOR that is not canonical, keys that are not fully compressed, keys out of
// order anywhere in the tree, keys in a node of another height than their own, children of the
// wrong height, illegal keys, links of another form, blocks that do not match their CID. Each node
// gets the bounds of its keys from its parent. So no node can be used twice, and a small file
// cannot stand for an exponentially large tree. Limits bounds the rest.
//
// # Proofs
//
// Change.Proof is the covering proof of a change. With these nodes and the new ones, anybody can
// undo the operations of a commit and compare the result with the tree before (Sync specification,
// "commit validation"). [Invert] does that on a tree of which only those blocks are known.
// [Tree.Proof] and [VerifyProof] are about single keys, present or absent.
//
// See the Repository specification, section "Merkle Search Tree".
package mst
