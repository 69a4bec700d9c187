package durable

import (
	"bytes"
	"context"
	"iter"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// reader is a view's snapshot, read as the contract says.
type reader struct {
	*snapshot
	now time.Time
}

var _ storage.Reader = reader{}

func (r reader) Head() storage.Head { return r.state.head }

func (r reader) Commit(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.state.head == (storage.Head{}) {
		return nil, notFound(storage.ErrNotFound, "commit of %s", r.did)
	}
	return bytes.Clone(r.state.block), nil
}

// in is a prefix of records, CIDs or blobs in the repository's set.
func (r reader) in(prefix string) string { return r.prefix + in(r.state.set, prefix) }

// keys is the prefix of the account's keys.
func (r reader) keys() string { return r.prefix + in(r.state.keys, prefixKV) }

// rev gives an empty revision its meaning.
func (r reader) rev(rev syntax.TID) syntax.TID {
	if rev == "" {
		return r.state.base
	}
	return rev
}

func (r reader) record(path string, b []byte, keysOnly bool) (storage.Record, error) {
	row, err := decodeRow(b, keysOnly)
	if err != nil {
		return storage.Record{}, err
	}
	rec := storage.Record{Path: path, CID: row.cid, Rev: r.rev(row.rev)}
	if !keysOnly {
		rec.Data = append([]byte{}, row.data...)
	}
	return rec, nil
}

func (r reader) Record(ctx context.Context, path string) (storage.Record, error) {
	b, err := r.get(ctx, r.in(prefixRecord)+path)
	if err != nil {
		return storage.Record{}, notFound(err, "record %q", path)
	}
	return r.record(path, b, false)
}

func (r reader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	if err := ctx.Err(); err != nil {
		return storage.Record{}, err
	}
	if _, _, ok := dag.Split(c); !ok {
		return storage.Record{}, notFound(storage.ErrNotFound, "block %s", c)
	}
	prefix := r.in(prefixCID) + c.KeyString()
	key, found, err := r.first(ctx, prefix, prefix+"\xff") // paths are ASCII
	if err != nil {
		return storage.Record{}, err
	}
	if !found {
		return storage.Record{}, notFound(storage.ErrNotFound, "block %s", c)
	}
	return r.Record(ctx, key[len(prefix):])
}

// items yields what decode makes of the pairs of a range. decode may skip some.
func items[T any](ctx context.Context, v *snapshot, from, to string, reverse bool, most int, decode func(key string, value []byte) (item T, skip bool, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		stopped := false
		err := v.scan(ctx, from, to, reverse, most, func(key string, value []byte) bool {
			item, skip, err := decode(key, value)
			if err == nil && skip {
				return true
			}
			stopped = !yield(item, err) || err != nil
			return !stopped
		})
		if err != nil && !stopped {
			yield(none, err)
		}
	}
}

// within puts a range of keys behind a prefix.
func within(prefix string, r storage.Range) (from, to string) {
	from, to = prefix+r.From, end(prefix)
	if r.To != "" {
		to = prefix + r.To
	}
	return from, to
}

func (r reader) Records(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
	prefix := r.in(prefixRecord)
	from, to := within(prefix, rng)
	most := 0
	if rng.KeysOnly {
		most = rowHead
	}
	return items(ctx, r.snapshot, from, to, rng.Reverse, most, func(key string, value []byte) (storage.Record, bool, error) {
		rec, err := r.record(key[len(prefix):], value, rng.KeysOnly)
		return rec, false, err
	})
}

func (r reader) RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[storage.Record, error] {
	prefix := r.in(prefixRecord)
	from, to := within(prefix, storage.Range{})
	return items(ctx, r.snapshot, from, to, false, 0, func(key string, value []byte) (storage.Record, bool, error) {
		rec, err := r.record(key[len(prefix):], value, false)
		return rec, rec.Rev <= rev, err
	})
}

func (r reader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	prefix := r.in(prefixBlob)
	from, to := prefix, end(prefix)
	if after.Defined() {
		from += after.KeyString() + "\xff" // paths are ASCII
	}
	return items(ctx, r.snapshot, from, to, false, 0, func(key string, value []byte) (ref storage.BlobRef, skip bool, err error) {
		key = strings.TrimPrefix(key, prefix)
		if len(key) < dag.CIDLen {
			return ref, false, corrupt("reference", errRow)
		}
		if ref.Blob, err = castCID(key[:dag.CIDLen]); err != nil {
			return ref, false, corrupt("reference", err)
		}
		ref.Path, ref.Rev = key[dag.CIDLen:], r.rev(syntax.TID(value))
		return ref, ref.Rev <= since, nil
	})
}

func (r reader) HasBlobRef(ctx context.Context, blob cid.Cid) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if _, _, ok := dag.Split(blob); !ok {
		return false, nil
	}
	prefix := r.in(prefixBlob) + blob.KeyString()
	_, found, err := r.first(ctx, prefix, prefix+"\xff")
	return found, err
}

func (r reader) Get(ctx context.Context, key string) ([]byte, error) {
	b, err := r.get(ctx, r.keys()+key)
	if err != nil {
		return nil, notFound(err, "key %q", key)
	}
	value, expires, err := decodePair(b)
	if err != nil {
		return nil, err
	}
	if expired(expires, r.now) {
		return nil, notFound(storage.ErrNotFound, "key %q", key)
	}
	return append([]byte{}, value...), nil
}

func expired(expires, now time.Time) bool { return !expires.IsZero() && !now.Before(expires) }

func (r reader) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	prefix := r.keys()
	from, to := within(prefix, rng)
	most := 0
	if rng.KeysOnly {
		most = pairHead
	}
	return items(ctx, r.snapshot, from, to, rng.Reverse, most, func(key string, value []byte) (p storage.KVPair, skip bool, err error) {
		p.Key = key[len(prefix):]
		if p.Value, p.Expires, err = decodePair(value); err != nil {
			return p, false, err
		}
		p.Value = append([]byte{}, p.Value...)
		if rng.KeysOnly {
			p.Value = nil
		}
		return p, expired(p.Expires, r.now), nil
	})
}
