package memory

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/pdskit/pdskit/internal/pmap"
	"github.com/pdskit/pdskit/storage"
)

type pair struct {
	value   []byte
	expires time.Time
}

func (p pair) live(now time.Time) bool { return p.expires.IsZero() || now.Before(p.expires) }

// set sets a key. Whenever the map has grown to a power of two, it also drops
// what has expired, so that the cost per key stays the same.
func set(m pmap.Map[pair], key string, value []byte, expires, now time.Time) pmap.Map[pair] {
	if !expires.IsZero() {
		expires = expires.Truncate(time.Millisecond).UTC()
	}
	m = m.Set(key, pair{append([]byte{}, value...), expires})
	if n := m.Len(); n >= 64 && n&(n-1) == 0 {
		for key, p := range m.Range("", "", false) {
			if !p.live(now) {
				m = m.Delete(key)
			}
		}
	}
	return m
}

type kv struct {
	*db
	moving bool // writes a store that is shut, too
}

// kvView reads a snapshot, or in a transaction what it has written.
type kvView struct {
	m       pmap.Map[pair]
	now     time.Time
	written []string // keys
}

func (v *kvView) Get(ctx context.Context, key string) ([]byte, error) {
	return get(ctx, v.m, key, v.now)
}

func (v *kvView) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	return keys(ctx, v.m, rng, v.now)
}

func (v *kvView) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if key == "" {
		return errors.New("memory: empty key")
	}
	v.m = set(v.m, key, value, expires, v.now)
	v.written = append(v.written, key)
	return nil
}

func (v *kvView) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v.m = v.m.Delete(key)
	v.written = append(v.written, key)
	return nil
}

func (d kv) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now, _ := d.db.read()
	return fn(&kvView{m: now.global, now: d.now()})
}

func (d kv) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	write := d.write
	if d.moving {
		write = d.writeShut
	}
	return write(ctx, func(s *state) error {
		v := &kvView{m: s.global, now: d.now()}
		if err := fn(v); err != nil {
			return err
		}
		s.global = v.m
		for _, key := range v.written {
			s.note(storage.ChangedKey, key)
		}
		return ctx.Err()
	})
}
