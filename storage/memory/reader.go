package memory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/pmap"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// reader is a snapshot of one repository.
type reader struct {
	*repoState
	now time.Time
}

func (r reader) Head() storage.Head { return r.head }

func (r reader) Commit(ctx context.Context) ([]byte, error) { return r.commit, ctx.Err() }

func (r reader) Record(ctx context.Context, path string) (storage.Record, error) {
	if err := ctx.Err(); err != nil {
		return storage.Record{}, err
	}
	if rec, ok := r.records.Get(path); ok {
		return rec.Record, nil
	}
	return storage.Record{}, fmt.Errorf("%w: record %q", storage.ErrNotFound, path)
}

func (r reader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	prefix := c.KeyString() + "\x00"
	for _, path := range r.byCID.Range(prefix, c.KeyString()+"\x01", false) {
		return r.Record(ctx, path)
	}
	return storage.Record{}, fmt.Errorf("%w: block %s", storage.ErrNotFound, c)
}

func (r reader) Records(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for _, rec := range r.records.Range(rng.From, rng.To, rng.Reverse) {
			if err := ctx.Err(); err != nil {
				yield(storage.Record{}, err)
				return
			}
			if rng.KeysOnly {
				rec.Data = nil
			}
			if !yield(rec.Record, nil) {
				return
			}
		}
	}
}

func (r reader) RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for rec, err := range r.Records(ctx, storage.Range{}) {
			if err == nil && rec.Rev <= rev {
				continue
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

func (r reader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	return func(yield func(storage.BlobRef, error) bool) {
		start := ""
		if after.Defined() {
			start = after.KeyString() + "\xff" // paths are ASCII
		}
		for key, rev := range r.blobs.Range(start, "", false) {
			if err := ctx.Err(); err != nil {
				yield(storage.BlobRef{}, err)
				return
			}
			if rev <= since {
				continue
			}
			c, err := cid.Cast([]byte(key[:dag.CIDLen]))
			if !yield(storage.BlobRef{Blob: c, Path: key[dag.CIDLen:], Rev: rev}, err) || err != nil {
				return
			}
		}
	}
}

func (r reader) HasBlobRef(ctx context.Context, blob cid.Cid) (bool, error) {
	for range r.blobs.Range(blob.KeyString(), blob.KeyString()+"\xff", false) {
		return true, nil
	}
	return false, ctx.Err()
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
		return p.value, nil
	}
	return nil, fmt.Errorf("%w: key %q", storage.ErrNotFound, key)
}

func keys(ctx context.Context, m pmap.Map[pair], rng storage.Range, now time.Time) iter.Seq2[storage.KVPair, error] {
	return func(yield func(storage.KVPair, error) bool) {
		for key, p := range m.Range(rng.From, rng.To, rng.Reverse) {
			if err := ctx.Err(); err != nil {
				yield(storage.KVPair{}, err)
				return
			}
			if !p.live(now) {
				continue
			}
			kp := storage.KVPair{Key: key, Value: p.value, Expires: p.expires}
			if rng.KeysOnly {
				kp.Value = nil
			}
			if !yield(kp, nil) {
				return
			}
		}
	}
}

type kv struct{ *db }

// kvView reads a snapshot, or in a transaction what it has written.
type kvView struct {
	m   pmap.Map[pair]
	now time.Time
}

func (v *kvView) Get(ctx context.Context, key string) ([]byte, error) {
	return get(ctx, v.m, key, v.now)
}

func (v *kvView) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	return keys(ctx, v.m, rng, v.now)
}

func (v *kvView) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	if key == "" {
		return errors.New("memory: empty key")
	}
	v.m = v.m.Set(key, pair{append([]byte{}, value...), expires})
	return ctx.Err()
}

func (v *kvView) Delete(ctx context.Context, key string) error {
	v.m = v.m.Delete(key)
	return ctx.Err()
}

func (d kv) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.RLock()
	v := &kvView{d.global, d.now()}
	d.mu.RUnlock()
	return fn(v)
}

func (d kv) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v := &kvView{d.global, d.now()}
	if err := fn(v); err != nil {
		return err
	}
	d.global = v.m
	return nil
}

type events struct{ *db }

func (d events) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		d.mu.RLock()
		log := d.log
		d.mu.RUnlock()
		for _, e := range log.Range(from(seqKey(max(seq, 0))), "", false) {
			if err := ctx.Err(); err != nil {
				yield(storage.Event{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (d events) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, e := range d.log.Range("", "", false) {
		return e.Seq, d.newest, ctx.Err()
	}
	return d.newest + 1, d.newest, ctx.Err()
}

func (d events) Wait(ctx context.Context, seq int64) error {
	for {
		d.mu.RLock()
		newest, changed := d.newest, d.changed
		d.mu.RUnlock()
		if newest > seq {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d events) Trim(ctx context.Context, t time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	log := d.log
	for key, e := range log.Range("", "", false) {
		if e.Time.Before(t) {
			d.log = d.log.Delete(key)
		}
	}
	return nil
}
