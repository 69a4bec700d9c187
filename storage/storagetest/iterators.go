package storagetest

import (
	"context"
	"errors"
	"iter"
)

// iterator is any of the contract's iterators, without its values.
type iterator iter.Seq[error]

func untyped[T any](seq iter.Seq2[T, error]) iterator {
	return func(yield func(error) bool) {
		for _, err := range seq {
			if !yield(err) {
				return
			}
		}
	}
}

// stops checks that an iterator over many values ends with the context's error
// when that is canceled after the first.
func stops(e *env, many int, name string, open func(context.Context) iterator) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	n := 0
	var last error
	for last = range open(ctx) {
		if last != nil {
			break
		}
		n++
		cancel()
	}
	if !errors.Is(last, context.Canceled) || n >= many {
		e.Errorf("%s, canceled after the first value: %d values, error %v", name, n, last)
	}
}
