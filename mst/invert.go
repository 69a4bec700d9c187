package mst

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
)

// InvertOp is an operation of a commit, as its event describes it: a key with its new and its old
// value. An undefined value means that the key was not there.
type InvertOp struct {
	Key         string
	Value, Prev cid.Cid
}

// Invert undoes operations on a tree and returns the tree before them. There is at most one
// operation for each key; their order does not matter. Only a part of the tree may be known (Open
// with the blocks of one event). Then only a part of the result is known too.
//
// The known nodes suffice if any order of undoing single operations needs no others. If the tree
// does not have the values that the operations claim, the error wraps ErrMismatch. If every order
// needs a missing node, it wraps ErrPartial.
//
// First, Invert undoes all operations in one descent, which is fast but may read a node that
// another order does not need. For example, when a key is deleted, the subtrees on its two sides
// are merged, so both are read. If another key is first put between them, or if one of them is
// first emptied, they are not merged and need not be read. So if a node is missing, Invert tries
// again in stages, each one descent:
//
//  1. It puts back the keys that were deleted or updated.
//  2. It deletes the keys that were created, from the lowest height to the greatest.
//
// No order needs fewer nodes than this one. There are at most as many stages as operations, and no
// node is read or checked twice.
func Invert(t *Tree, ops []InvertOp) (*Tree, error) {
	if t == nil {
		return nil, errNilTree
	}
	before, _, err := undo(t, ops, false)
	if !errors.Is(err, ErrPartial) {
		return before, err
	}
	stages := inStages(ops)
	if len(stages) < 2 {
		return nil, err
	}
	// All that the stages read is read now, between the bounds that it has in this tree. Between
	// two stages, the bounds of a node may be wider.
	w := walker{t: t, visit: func(*node, cid.Cid) {}, partial: true}
	for i := range ops {
		if _, _, err := w.find(ops[i].Key, true); err != nil {
			return nil, err
		}
	}
	before = &Tree{root: t.root, cid: t.cid, lazy: nothingMore}
	for _, stage := range stages {
		next, _, stageErr := undo(before, stage, false)
		if errors.Is(stageErr, ErrPartial) {
			return nil, err
		} else if stageErr != nil {
			return nil, stageErr
		}
		before = next
	}
	before.lazy = t.lazy
	return before, nil
}

// InvertRoot is [Invert] for callers that need only the root of the tree before. It is faster,
// since it hashes the new nodes but does not keep them.
func InvertRoot(t *Tree, ops []InvertOp) (cid.Cid, error) {
	if t == nil {
		return cid.Undef, errNilTree
	}
	_, root, err := undo(t, ops, true)
	if errors.Is(err, ErrPartial) { // another order may need fewer nodes
		var before *Tree
		if before, err = Invert(t, ops); err == nil {
			root = before.Root()
		}
	}
	return root, err
}

// nothingMore knows no nodes.
var nothingMore = newLazy(BlockMap(nil), Limits{})

// inStages puts operations into the order in which undoing them needs the fewest nodes.
func inStages(ops []InvertOp) (stages [][]InvertOp) {
	type staged struct {
		stage int // -1: put; otherwise the height of the key that is deleted
		op    InvertOp
	}
	list := make([]staged, len(ops))
	for i, op := range ops {
		list[i] = staged{-1, op}
		if !op.Prev.Defined() {
			list[i].stage = HeightForKey(op.Key)
		}
	}
	slices.SortStableFunc(list, func(a, b staged) int { return cmp.Compare(a.stage, b.stage) })
	for i, s := range list {
		if i == 0 || s.stage != list[i-1].stage {
			stages = append(stages, nil)
		}
		last := &stages[len(stages)-1]
		*last = append(*last, s.op)
	}
	return stages
}

// undo undoes operations in one descent. If only the root is wanted, the tree is nil.
func undo(t *Tree, ops []InvertOp, rootOnly bool) (*Tree, cid.Cid, error) {
	inverse := make([]Op, len(ops))
	for i, op := range ops {
		inverse[i] = Op{Key: op.Key, Value: op.Prev}
	}
	e := newEditor(t, Limits{}.withDefaults().Entries) // nothing is written: the limit is that of readers
	defer e.release()
	if rootOnly {
		e.rootOnly, e.room = true, e.rooms
	}
	values := make([]cid.Cid, len(ops))
	if err := e.prepare(inverse, values); err != nil {
		return nil, cid.Undef, err
	}
	before, err := e.run()
	if err != nil {
		if errors.Is(err, ErrKeyNotFound) {
			err = fmt.Errorf("%w: %w", ErrMismatch, err)
		}
		return nil, cid.Undef, err
	}
	for i, op := range ops {
		if values[i] != op.Value {
			return nil, cid.Undef, &Error{Key: op.Key, Err: ErrMismatch}
		}
	}
	root := before.Root()
	if rootOnly { // its nodes lie in the editor's room
		before = nil
	}
	return before, root, nil
}
