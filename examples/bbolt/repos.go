package main

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	bolt "go.etcd.io/bbolt"
)

// repos implements storage.Repos.
type repos struct{ *DB }

// repoRow is the row of a repository. Its records are a set: Replace makes a new one beside the
// old. Records of the set that have no revision of their own have that of the set.
type repoRow struct {
	set    uint64
	setRev syntax.TID
	head   storage.Head
	commit []byte
}

// getRepo returns the row of a repository, or false if there is none.
func getRepo(tx *bolt.Tx, did syntax.DID) (r repoRow, ok bool, err error) {
	b := tx.Bucket(reposBucket).Get([]byte(did))
	if b == nil {
		return r, false, nil
	}
	r, err = parseRepo(b)
	return r, true, err
}

func parseRepo(b []byte) (r repoRow, err error) {
	var set, setRev, commit, data, rev, block []byte
	if err = unpack(b, &set, &setRev, &commit, &data, &rev, &block); err != nil {
		return r, err
	}
	r = repoRow{set: parseNumber(set), setRev: syntax.TID(setRev), commit: bytes.Clone(block)}
	r.head.Rev = syntax.TID(rev)
	if len(commit) == 0 && len(data) == 0 {
		return r, nil // an account without a head
	}
	if r.head.Commit, err = cid.Cast(commit); err == nil {
		r.head.Data, err = cid.Cast(data)
	}
	if err != nil {
		err = fmt.Errorf("%w: head: %w", storage.ErrCorrupt, err)
	}
	return r, err
}

func putRepo(tx *bolt.Tx, did syntax.DID, r repoRow) error {
	return tx.Bucket(reposBucket).Put([]byte(did),
		pack(number(r.set), []byte(r.setRev), r.head.Commit.Bytes(), r.head.Data.Bytes(), []byte(r.head.Rev), r.commit))
}

func missing(did syntax.DID) error {
	return fmt.Errorf("%w: repository %s", storage.ErrNotFound, did)
}

func (s repos) Head(ctx context.Context, did syntax.DID) (head storage.Head, err error) {
	err = s.read(ctx, func(tx *bolt.Tx) error {
		r, _, err := getRepo(tx, did)
		if err == nil && r.head == (storage.Head{}) {
			err = missing(did)
		}
		head = r.head
		return err
	})
	return head, err
}

func (s repos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (seq int64, err error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	err = s.write(ctx, func(tx *bolt.Tx) error {
		seq, err = s.apply(tx, did, c, 0)
		return err
	})
	return seq, err
}

// apply carries out a change. set, if not 0, takes the place of the repository's records.
func (s *DB) apply(tx *bolt.Tx, did syntax.DID, c *storage.Change, set uint64) (int64, error) {
	r, ok, err := getRepo(tx, did)
	switch none := (storage.Head{}); {
	case err != nil:
		return 0, err
	case r.head != none && c.Prev == none:
		return 0, fmt.Errorf("%w: repository %s", storage.ErrExists, did)
	case !ok && c.Prev != none:
		return 0, missing(did)
	case r.head != c.Prev:
		return 0, fmt.Errorf("%w: head is %s", storage.ErrConflict, r.head.Rev)
	}
	keys := account(tx, did, s.now())
	for _, check := range c.Checks {
		value, there, err := keys.get(check.Key)
		if err != nil {
			return 0, err
		}
		if there != (check.Value != nil) || !bytes.Equal(value, check.Value) {
			return 0, fmt.Errorf("%w: key %q has another value", storage.ErrConflict, check.Key)
		}
	}
	// Everything holds: now the writes, which fail only if the disk does.
	switch {
	case set != 0:
		if ok {
			err = tx.Bucket(deadBucket).Put(number(r.set), nil)
		}
		if err == nil {
			err = tx.Bucket(deadBucket).Delete(number(set))
		}
		r.set, r.setRev = set, c.Head.Rev
	case !ok:
		r.set, err = newSet(tx)
	}
	if err != nil {
		return 0, err
	}
	if c.Head != c.Prev {
		r.head, r.commit = c.Head, c.Commit
	}
	for i := range c.Records {
		if err := putRecord(tx, r.set, &c.Records[i], c.Head.Rev); err != nil {
			return 0, err
		}
	}
	for _, w := range c.KV {
		if w.Value == nil {
			err = keys.delete(w.Key)
		} else {
			err = keys.set(w.Key, w.Value, w.Expires)
		}
		if err != nil {
			return 0, err
		}
	}
	if err := putRepo(tx, did, r); err != nil {
		return 0, err
	}
	return s.appendEvents(tx, c.Events)
}

// newSet returns the number of a set that was never used.
func newSet(tx *bolt.Tx) (uint64, error) { return tx.Bucket(recordsBucket).NextSequence() }

// putRecord carries out one change of a record, in its row and in both indexes.
func putRecord(tx *bolt.Tx, set uint64, c *storage.RecordChange, rev syntax.TID) error {
	records, cids, refs := tx.Bucket(recordsBucket), tx.Bucket(cidsBucket), tx.Bucket(refsBucket)
	key := append(number(set), c.Path...)
	if old := records.Get(key); old != nil {
		r, err := parseRecord(old)
		if err != nil {
			return err
		}
		if err := cids.Delete(indexKey(set, r.cid, c.Path)); err != nil {
			return err
		}
		for _, b := range r.blobs {
			if err := refs.Delete(indexKey(set, b, c.Path)); err != nil {
				return err
			}
		}
	}
	if !c.CID.Defined() {
		return records.Delete(key)
	}
	var blobs []byte
	for _, b := range c.Blobs {
		blobs = append(blobs, b.Bytes()...)
		if err := refs.Put(indexKey(set, b, c.Path), []byte(rev)); err != nil {
			return err
		}
	}
	if err := cids.Put(indexKey(set, c.CID, c.Path), nil); err != nil {
		return err
	}
	return records.Put(key, pack(c.CID.Bytes(), []byte(rev), blobs, c.Data))
}

// indexKey is a key of an index by CID.
func indexKey(set uint64, c cid.Cid, path string) []byte {
	return append(append(number(set), c.Bytes()...), path...)
}

func (s repos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	return s.read(ctx, func(tx *bolt.Tx) error {
		r, ok, err := getRepo(tx, did)
		if err == nil && !ok {
			err = missing(did)
		}
		if err != nil {
			return err
		}
		return fn(&reader{account(tx, did, s.now()), r})
	})
}

func (s repos) Delete(ctx context.Context, did syntax.DID, list []storage.Event) (seq int64, err error) {
	if err := storage.ValidateEvents(list); err != nil {
		return 0, err
	}
	err = s.write(ctx, func(tx *bolt.Tx) error {
		r, ok, err := getRepo(tx, did)
		if err == nil && !ok {
			err = missing(did)
		}
		if err != nil {
			return err
		}
		if err := tx.Bucket(reposBucket).Delete([]byte(did)); err != nil {
			return err
		}
		if err := tx.Bucket(deadBucket).Put(number(r.set), nil); err != nil {
			return err
		}
		mine := storage.Prefix(string(did) + "\x00")
		if _, err := deleteRows(tx.Bucket(keysBucket), mine, nil); err != nil {
			return err
		}
		for key := range scan(tx.Bucket(byDIDBucket), mine) {
			if err := tx.Bucket(eventsBucket).Delete(key[len(key)-8:]); err != nil {
				return err
			}
		}
		if _, err := deleteRows(tx.Bucket(byDIDBucket), mine, nil); err != nil {
			return err
		}
		seq, err = s.appendEvents(tx, list)
		return err
	})
	if err == nil {
		_ = s.sweep(ctx) // what it leaves is swept later
	}
	return seq, err
}

func (s repos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return func(yield func(storage.RepoInfo, error) bool) {
		var r storage.Range
		if after != "" {
			r.From = string(after) + "\x00"
		}
		for x, err := range rows(ctx, s.snapshots(ctx, reposBucket), r) {
			info := storage.RepoInfo{DID: syntax.DID(x.key)}
			if err == nil {
				var row repoRow
				row, err = parseRepo(x.value)
				info.Head = row.head
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// snapshots calls functions with a bucket, each in a snapshot of its own.
func (s *DB) snapshots(ctx context.Context, bucket []byte) func(func(*bolt.Bucket) error) error {
	return func(fn func(*bolt.Bucket) error) error {
		return s.read(ctx, func(tx *bolt.Tx) error { return fn(tx.Bucket(bucket)) })
	}
}
