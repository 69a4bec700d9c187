package main

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	bolt "go.etcd.io/bbolt"
)

// reader implements storage.Reader on a snapshot. Its namespace has the methods Get and Keys.
type reader struct {
	namespace
	repo repoRow
}

// recordRow is the row of a record. Its bytes are those of the value.
type recordRow struct {
	cid   cid.Cid
	rev   syntax.TID
	blobs []cid.Cid
	data  []byte
}

func parseRecord(b []byte) (r recordRow, err error) {
	var c, rev, blobs []byte
	if err = unpack(b, &c, &rev, &blobs, &r.data); err != nil {
		return r, err
	}
	r.rev = syntax.TID(rev)
	if r.cid, err = cid.Cast(c); err != nil {
		return r, fmt.Errorf("%w: record: %w", storage.ErrCorrupt, err)
	}
	for len(blobs) > 0 {
		n, c, err := cid.CidFromBytes(blobs)
		if err != nil {
			return r, fmt.Errorf("%w: blobs of a record: %w", storage.ErrCorrupt, err)
		}
		r.blobs, blobs = append(r.blobs, c), blobs[n:]
	}
	return r, nil
}

// record makes a record of a row. The row's bytes are copied, or left out.
func (r *reader) record(path string, value []byte, keysOnly bool) (storage.Record, error) {
	row, err := parseRecord(value)
	rec := storage.Record{Path: path, CID: row.cid, Rev: r.revision(row.rev)}
	if !keysOnly {
		rec.Data = append([]byte{}, row.data...)
	}
	return rec, err
}

// revision is the revision of a row, which may be that of the whole set.
func (r *reader) revision(own syntax.TID) syntax.TID {
	if own == "" {
		return r.repo.setRev
	}
	return own
}

func (r *reader) prefix() string { return string(number(r.repo.set)) }

// rows yields the rows of the repository in a bucket whose keys begin with the set.
func (r *reader) rows(ctx context.Context, bucket []byte, rng storage.Range) iter.Seq2[row, error] {
	with := func(fn func(*bolt.Bucket) error) error { return fn(r.tx.Bucket(bucket)) }
	return rows(ctx, with, within(r.prefix(), rng))
}

func (r *reader) Head() storage.Head { return r.repo.head }

func (r *reader) Commit(ctx context.Context) ([]byte, error) {
	if r.repo.head == (storage.Head{}) {
		return nil, fmt.Errorf("%w: the account has no commit", storage.ErrNotFound)
	}
	return bytes.Clone(r.repo.commit), ctx.Err()
}

func (r *reader) Record(ctx context.Context, path string) (storage.Record, error) {
	if err := ctx.Err(); err != nil {
		return storage.Record{}, err
	}
	value := r.tx.Bucket(recordsBucket).Get([]byte(r.prefix() + path))
	if value == nil {
		return storage.Record{}, fmt.Errorf("%w: record %q", storage.ErrNotFound, path)
	}
	return r.record(path, value, false)
}

func (r *reader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	if c.Defined() {
		for x, err := range r.rows(ctx, cidsBucket, storage.Prefix(c.KeyString())) {
			if err != nil {
				return storage.Record{}, err
			}
			return r.Record(ctx, string(x.key[8+c.ByteLen():]))
		}
	}
	if err := ctx.Err(); err != nil {
		return storage.Record{}, err
	}
	return storage.Record{}, fmt.Errorf("%w: block %s", storage.ErrNotFound, c)
}

func (r *reader) Records(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for x, err := range r.rows(ctx, recordsBucket, rng) {
			var rec storage.Record
			if err == nil {
				rec, err = r.record(string(x.key[8:]), x.value, rng.KeysOnly)
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

func (r *reader) RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for rec, err := range r.Records(ctx, storage.Range{}) {
			if err == nil && rec.Rev <= rev {
				continue
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

func (r *reader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	return func(yield func(storage.BlobRef, error) bool) {
		var rng storage.Range
		if after.Defined() {
			rng.From = storage.Prefix(after.KeyString()).To
		}
		for x, err := range r.rows(ctx, refsBucket, rng) {
			var ref storage.BlobRef
			if err == nil {
				var n int
				if n, ref.Blob, err = cid.CidFromBytes(x.key[8:]); err != nil {
					err = fmt.Errorf("%w: reference to a blob: %w", storage.ErrCorrupt, err)
				}
				ref.Path, ref.Rev = string(x.key[8+n:]), r.revision(syntax.TID(x.value))
			}
			if err == nil && ref.Rev <= since {
				continue
			}
			if !yield(ref, err) || err != nil {
				return
			}
		}
	}
}

func (r *reader) HasBlobRef(ctx context.Context, blob cid.Cid) (bool, error) {
	if !blob.Defined() {
		return false, ctx.Err()
	}
	for x, err := range r.rows(ctx, refsBucket, storage.Prefix(blob.KeyString())) {
		return err == nil && strings.HasPrefix(string(x.key[8:]), blob.KeyString()), err
	}
	return false, ctx.Err()
}
