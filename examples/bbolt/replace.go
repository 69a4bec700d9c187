package main

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	bolt "go.etcd.io/bbolt"
)

// Replace stages the records as a set that no repository has, in transactions of a few megabytes.
// The last transaction gives the set to the repository. A set is in the bucket of dead ones until
// then, so that one that a dead process has left is swept.
func (s repos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (seq int64, err error) {
	var set uint64
	err = s.write(ctx, func(tx *bolt.Tx) error {
		if set, err = newSet(tx); err == nil {
			s.setStaging(set, true)
			err = tx.Bucket(deadBucket).Put(number(set), nil)
		}
		return err
	})
	defer func() {
		s.setStaging(set, false)
		_ = s.sweep(context.WithoutCancel(ctx)) // the old set, or this one; what it leaves is swept later
	}()
	if err != nil {
		return 0, err
	}
	const batchBytes = 2 << 20
	var batch []storage.RecordChange
	size := int64(0)
	flush := func() error {
		err := s.write(ctx, func(tx *bolt.Tx) error {
			for i := range batch {
				if err := putRecord(tx, set, &batch[i], ""); err != nil { // its revision is that of the set
					return err
				}
			}
			return nil
		})
		batch, size = batch[:0], 0
		return err
	}
	for r, err := range records {
		if err != nil {
			return 0, err
		}
		r.Data, r.Blobs = bytes.Clone(r.Data), slices.Clone(r.Blobs)
		batch = append(batch, r)
		if size += r.Cost(); size >= batchBytes {
			if err := flush(); err != nil {
				return 0, err
			}
		}
	}
	if err := flush(); err != nil {
		return 0, err
	}
	c, err := final()
	if err == nil {
		err = c.ValidateReplacement()
	}
	if err != nil {
		return 0, err
	}
	err = s.write(ctx, func(tx *bolt.Tx) error {
		seq, err = s.apply(tx, did, c, set)
		return err
	})
	return seq, err
}

func (s *DB) setStaging(set uint64, staging bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if staging {
		s.staging[set] = true
	} else {
		delete(s.staging, set)
	}
}

// sweepRows bounds a transaction that deletes what nothing refers to.
const sweepRows = 5000

// errNothing makes a transaction that has nothing to do end without a commit.
var errNothing = errors.New("nothing to sweep")

// sweep deletes the sets that belong to no repository and that no Replace is filling.
func (s *DB) sweep(ctx context.Context) error {
	for {
		err := s.write(ctx, func(tx *bolt.Tx) error {
			for key := range scan(tx.Bucket(deadBucket), storage.Range{}) {
				s.mu.Lock()
				busy := s.staging[parseNumber(key)]
				s.mu.Unlock()
				if busy {
					continue
				}
				n := 0
				for _, bucket := range [][]byte{recordsBucket, cidsBucket, refsBucket} {
					deleted, err := deleteSome(tx.Bucket(bucket), storage.Prefix(string(key)), sweepRows-n)
					if err != nil {
						return err
					}
					if n += deleted; n >= sweepRows {
						return nil // and again
					}
				}
				return tx.Bucket(deadBucket).Delete(bytes.Clone(key)) // it is empty
			}
			return errNothing
		})
		if errors.Is(err, errNothing) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// deleteSome deletes rows of a range, at most so many.
func deleteSome(b *bolt.Bucket, r storage.Range, most int) (n int, err error) {
	return deleteRows(b, r, func([]byte, []byte) (del, stop bool) {
		most--
		return most >= 0, most <= 0
	})
}

// deleteRows deletes rows of a range: those that choose says, until it says stop, or all.
func deleteRows(b *bolt.Bucket, r storage.Range, choose func(key, value []byte) (del, stop bool)) (n int, err error) {
	var keys [][]byte // a bucket must not change while it is scanned
	for key, value := range scan(b, r) {
		del, stop := true, false
		if choose != nil {
			del, stop = choose(key, value)
		}
		if del {
			keys = append(keys, bytes.Clone(key))
		}
		if stop {
			break
		}
	}
	for _, key := range keys {
		if err := b.Delete(key); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
