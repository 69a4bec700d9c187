package mst

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
)

// InvertOp is an operation of a commit as its event tells it: a key with its
// value after and its value before, either of them undefined.
type InvertOp struct {
	Key         string
	Value, Prev cid.Cid
}

// Invert undoes operations on a tree, which may be known in part (Open with the
// blocks of one event), and returns the tree before them, as far as it is known. At most one operation per
// key.
//
// All operations are undone in one descent, so their order does not matter, and
// no node is read that one order or another would not need: the smallest set of blocks
// that proves a commit is enough. If the tree does not have the values that the
// operations claim, the error wraps ErrMismatch; if a needed node is missing, ErrPartial.
func Invert(t *Tree, ops []InvertOp) (*Tree, error) {
	inverse := make([]Op, len(ops))
	for i, op := range ops {
		inverse[i] = Op{Key: op.Key, Value: op.Prev}
	}
	e := newEditor(t, Limits{}.withDefaults().Entries) // nothing is written: the limit is that of readers
	defer e.release()
	values := make([]cid.Cid, len(ops))
	if err := e.prepare(inverse, values); err != nil {
		return nil, err
	}
	before, err := e.run()
	if err != nil {
		if errors.Is(err, ErrKeyNotFound) {
			err = fmt.Errorf("%w: %w", ErrMismatch, err)
		}
		return nil, err
	}
	for i, op := range ops {
		if values[i] != op.Value {
			return nil, &Error{Key: op.Key, Err: ErrMismatch}
		}
	}
	return before, nil
}
