package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Replace writes the new records as a set that is not the repository's, a batch at a time, so that
// the account is read and written in between. A last step makes it the repository's set. Sets that
// are not, or no longer, the repository's are loose: they are deleted a few keys at a time, once no
// view reads them.

// Bounds of what one transaction of Replace, or of a sweep, writes or deletes. The values of a
// batch are in memory.
const (
	batchRecords = 2000
	batchBytes   = 4 << 20
)

// staged is a set that Replace is filling.
type staged struct {
	*DB
	o     *object
	set   uint64 // 0: nothing was written yet
	batch []storage.RecordChange
	size  int64
}

func (db repos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (seq int64, err error) {
	o, err := db.acquire(ctx, did, true)
	if err != nil {
		return 0, err
	}
	defer db.release(o)
	// What earlier calls have left goes first: else it would grow with every call that fails for
	// want of room.
	if err := db.sweep(ctx, o); err != nil {
		return 0, err
	}
	s := staged{DB: db.DB, o: o}
	// Whatever comes of it, what is loose then is deleted: the old records or the new ones.
	defer func() { s.end(ctx) }()
	for r, err := range records {
		if err == nil {
			err = s.add(ctx, r)
		}
		if err != nil {
			return 0, err
		}
	}
	if err := s.flush(ctx); err != nil {
		return 0, err
	}
	c, err := final()
	if err == nil {
		err = c.ValidateReplacement()
	}
	if err != nil {
		return 0, err
	}
	return db.step(ctx, did, true, func(o *object) (*storage.Change, error) {
		if err := db.check(o, c); err != nil {
			return nil, err
		}
		set := s.set
		if set == 0 {
			set = o.nextSet()
		}
		o.state.alone = false
		return c, o.exchange(set, c.Head.Rev)
	})
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
	o := s.o
	if err := s.enter(ctx, o); err != nil {
		return err
	}
	defer o.leave()
	set := s.set
	err := o.transact(func() error {
		if set == 0 {
			set = o.nextSet()
			if s.marker != nil {
				if err := s.marker.Mark(o.did); err != nil {
					return err
				}
			}
			if err := o.loosen(set); err != nil {
				return err
			}
		}
		for i := range s.batch {
			if err := o.add(set, &s.batch[i], "", o.setHidden); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	if s.set == 0 {
		s.set = set
		if o.staging == nil {
			o.staging = make(map[uint64]bool)
		}
		o.staging[set] = true
	}
	clear(s.batch)
	s.batch, s.size = s.batch[:0], 0
	return nil
}

// end deletes what is loose. What cannot be deleted now is deleted by later steps.
func (s *staged) end(ctx context.Context) {
	if s.set != 0 {
		s.o.turn <- struct{}{}
		delete(s.o.staging, s.set)
		s.o.leave()
	}
	_ = s.sweep(ctx, s.o)
}

// sweep deletes loose sets, as far as no view reads them. Others can use the object in between.
func (db *DB) sweep(ctx context.Context, o *object) error {
	for more := true; more; {
		if err := db.enter(ctx, o); err != nil {
			return err
		}
		if more = o.sweepable() != nil; more {
			if err := o.transact(func() (err error) {
				more, err = o.sweepSome()
				return err
			}); err != nil {
				o.leave()
				return err
			}
		}
		o.leave()
	}
	return nil
}

// nextSet returns a number for a set that there is not.
func (o *object) nextSet() uint64 {
	n := o.state.set
	for _, set := range o.state.loose {
		n = max(n, set)
	}
	for set := range o.staging {
		n = max(n, set)
	}
	return n + 1
}

// loosen notes that a set is not the repository's. It is part of a transaction.
func (o *object) loosen(set uint64) error {
	o.state.loose = append(slices.Clip(o.state.loose), set)
	return o.setHidden(keyLoose+setName(set), nil)
}

// tighten undoes loosen.
func (o *object) tighten(set uint64) error {
	o.state.loose = slices.DeleteFunc(slices.Clone(o.state.loose), func(s uint64) bool { return s == set })
	key := keyLoose + setName(set)
	return o.deleteHidden(key, key+"\x00")
}

// exchange makes a set that of the repository, and the one that it has a loose one. base is the
// revision of its records. It is part of a step, which writes the state.
func (o *object) exchange(set uint64, base syntax.TID) error {
	if slices.Contains(o.state.loose, set) {
		if err := o.tighten(set); err != nil {
			return err
		}
	}
	if err := o.loosen(o.state.set); err != nil {
		return err
	}
	o.state.set, o.state.base = set, base
	return nil
}

// looseSets reads which sets are loose, and whether values have pieces.
func (o *object) looseSets() (list []uint64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var malformed error
	err = o.store.Scan(Scan{From: keyLoose, To: keyPiece, MaxValue: KeysOnly}, func(key string, _ []byte) bool {
		set, err := strconv.ParseUint(key[len(keyLoose):], 16, 64)
		if err != nil || setName(set) != key[len(keyLoose):] {
			malformed = corrupt("set", errRow)
			return false
		}
		list = append(list, set)
		return true
	})
	if err = errors.Join(err, malformed); err == nil {
		o.store.pieces, err = o.store.any(keyPiece)
	}
	return list, err
}

// sweepable returns a set that can be deleted; nil if there is none. The caller has the turn, so
// that no view begins.
func (o *object) sweepable() *uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, set := range o.state.loose {
		used := o.staging[set]
		for v := range o.views {
			used = used || v.state.set == set
		}
		if !used {
			return &set
		}
	}
	return nil
}

// sweepSome deletes some keys of a loose set, or, when there are none left, the note that it is
// loose. It reports whether it did, and is part of a transaction.
func (o *object) sweepSome() (did bool, err error) {
	set := o.sweepable()
	if set == nil {
		return false, nil
	}
	for _, kind := range []string{prefixRecord, prefixCID, prefixBlob} {
		prefix := in(*set, kind)
		last, n, size := "", 0, 0
		o.mu.Lock()
		err := o.store.Scan(Scan{From: prefix, To: end(prefix), Rows: batchRecords}, func(key string, value []byte) bool {
			last = key
			n++
			size += len(key) + len(value)
			return size < batchBytes
		})
		o.mu.Unlock()
		if err != nil {
			return false, fmt.Errorf("durable: object of %s: %w", o.did, err)
		}
		if n > 0 {
			return true, o.deleteHidden(prefix, last+"\x00")
		}
	}
	return true, o.tighten(*set)
}
