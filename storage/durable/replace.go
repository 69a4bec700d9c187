package durable

import (
	"context"
	"iter"
	"slices"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Replace writes the new records as a set that is not the repository's, a batch at a time, so that
// the account is read and written in between. A last transaction makes it the repository's set.
// Sets that are not, or no longer, the repository's are loose: they are deleted a few keys at a
// time, once no view reads them.

// host gives turns to those who write to accounts.
type host interface {
	// use calls fn with an account, in its turn, in which nobody else writes to it or begins a
	// view. Without create, one that has no object is storage.ErrNotFound.
	use(ctx context.Context, did syntax.DID, create bool, fn func(*account) error) error
	// mark notes that an account has something to tidy up, should the process end. It comes before
	// a transaction.
	mark(did syntax.DID) error
}

// staged is a set that Replace is filling.
type staged struct {
	host
	did   syntax.DID
	set   uint64 // 0: nothing was written yet
	batch []storage.RecordChange
	size  int64
}

// stage writes records as a set, and returns its number, or 0 if there are none. The caller ends
// it, also after an error.
func (s *staged) stage(ctx context.Context, records iter.Seq2[storage.RecordChange, error]) error {
	for r, err := range records {
		if err == nil {
			err = s.add(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	return s.flush(ctx)
}

// add adds a record, and writes the batch if it is full.
func (s *staged) add(ctx context.Context, r storage.RecordChange) error {
	r.Data, r.Blobs = slices.Clone(r.Data), slices.Clone(r.Blobs)
	s.batch = append(s.batch, r)
	s.size += r.Cost()
	if len(s.batch) < batchRecords && s.size < batchBytes {
		return nil
	}
	return s.flush(ctx)
}

// flush writes the batch.
func (s *staged) flush(ctx context.Context) error {
	if len(s.batch) == 0 {
		return ctx.Err()
	}
	return s.use(ctx, s.did, true, func(a *account) error {
		set := s.set
		if set == 0 {
			if err := s.mark(s.did); err != nil {
				return err
			}
		}
		err := a.transact(a, func() error {
			if set == 0 {
				set = a.nextSet()
				if err := a.loosen(set); err != nil {
					return err
				}
			}
			for i := range s.batch {
				if err := a.add(set, &s.batch[i], "", a.setHidden); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if s.set == 0 {
			s.set = set
			if a.staging == nil {
				a.staging = make(map[uint64]bool)
			}
			a.staging[set] = true
		}
		clear(s.batch)
		s.batch, s.size = s.batch[:0], 0
		return nil
	})
}

// exchange makes the set the repository's. It is part of a transaction.
func (s *staged) exchange(a *account, base syntax.TID) error {
	set := s.set
	if set == 0 {
		set = a.nextSet()
	}
	return a.exchange(set, base)
}

// sweep deletes the loose sets of an account, as far as no view reads them. Others can use it in
// between.
func sweep(ctx context.Context, h host, did syntax.DID) error {
	for more := true; more; {
		err := h.use(ctx, did, false, func(a *account) error {
			if more = a.sweepable() != nil; !more {
				return nil
			}
			return a.transact(a, func() (err error) {
				more, err = a.sweepSome()
				return err
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
