package memory

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/pmap"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// until yields what seq does, until the context ends, and then its error.
func until[T any](ctx context.Context, seq iter.Seq[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if err := ctx.Err(); err != nil {
			yield(none, err)
			return
		}
		for v := range seq {
			if !yield(v, nil) {
				return
			}
			if err := ctx.Err(); err != nil {
				yield(none, err)
				return
			}
		}
	}
}

// copied returns bytes that are the caller's, or nil where only keys were asked for.
func copied(b []byte, keysOnly bool) []byte {
	if keysOnly {
		return nil
	}
	return append([]byte{}, b...)
}

// reader is a snapshot of one repository.
type reader struct {
	*repoState
	now time.Time
}

func (r reader) Head() storage.Head { return r.head }

func (r reader) Commit(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.head == (storage.Head{}) {
		return nil, fmt.Errorf("%w: the account has no commit", storage.ErrNotFound)
	}
	return bytes.Clone(r.commit), nil
}

func (r reader) Record(ctx context.Context, path string) (storage.Record, error) {
	if err := ctx.Err(); err != nil {
		return storage.Record{}, err
	}
	if rec, ok := r.records.Get(path); ok {
		rec.Data = copied(rec.Data, false)
		return rec.Record, nil
	}
	return storage.Record{}, fmt.Errorf("%w: record %q", storage.ErrNotFound, path)
}

func (r reader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	if err := ctx.Err(); err != nil {
		return storage.Record{}, err
	}
	for _, path := range r.byCID.Range(c.KeyString()+"\x00", c.KeyString()+"\x01", false) {
		return r.Record(ctx, path)
	}
	return storage.Record{}, fmt.Errorf("%w: block %s", storage.ErrNotFound, c)
}

func (r reader) Records(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
	return until(ctx, func(yield func(storage.Record) bool) {
		for _, rec := range r.records.Range(rng.From, rng.To, rng.Reverse) {
			rec.Data = copied(rec.Data, rng.KeysOnly)
			if !yield(rec.Record) {
				return
			}
		}
	})
}

func (r reader) RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[storage.Record, error] {
	return until(ctx, func(yield func(storage.Record) bool) {
		for _, rec := range r.records.Range("", "", false) {
			if rec.Rev <= rev {
				continue
			}
			rec.Data = copied(rec.Data, false)
			if !yield(rec.Record) {
				return
			}
		}
	})
}

func (r reader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	start := ""
	if after.Defined() {
		start = after.KeyString() + "\xff" // paths are ASCII
	}
	return until(ctx, func(yield func(storage.BlobRef) bool) {
		for key, rev := range r.blobs.Range(start, "", false) {
			if rev <= since {
				continue
			}
			_, digest, _ := dag.SplitBytes(key[:dag.CIDLen])
			if !yield(storage.BlobRef{Blob: dag.CID(dag.Raw, &digest), Path: key[dag.CIDLen:], Rev: rev}) {
				return
			}
		}
	})
}

func (r reader) HasBlobRef(ctx context.Context, blob cid.Cid) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if !blob.Defined() {
		return false, nil
	}
	for range r.blobs.Range(blob.KeyString(), blob.KeyString()+"\xff", false) {
		return true, nil
	}
	return false, nil
}

func (r reader) Get(ctx context.Context, key string) ([]byte, error) {
	return get(ctx, r.kv, key, r.now)
}

func (r reader) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	return keys(ctx, r.kv, rng, r.now)
}

func get(ctx context.Context, m pmap.Map[pair], key string, now time.Time) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p, ok := m.Get(key); ok && p.live(now) {
		return copied(p.value, false), nil
	}
	return nil, fmt.Errorf("%w: key %q", storage.ErrNotFound, key)
}

func keys(ctx context.Context, m pmap.Map[pair], rng storage.Range, now time.Time) iter.Seq2[storage.KVPair, error] {
	return until(ctx, func(yield func(storage.KVPair) bool) {
		for key, p := range m.Range(rng.From, rng.To, rng.Reverse) {
			if !p.live(now) {
				continue
			}
			if !yield(storage.KVPair{Key: key, Value: copied(p.value, rng.KeysOnly), Expires: p.expires}) {
				return
			}
		}
	})
}
