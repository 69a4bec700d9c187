package durable

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pdskit/pdskit/storage"
)

type soloKV struct{ *Solo }

var _ storage.KV = soloKV{}

// hostKeys is the host as an account: its keys are stored in the same way.
func (s *Solo) hostKeys() *account { return &account{core: s.core, sets: new(sets)} }

func (s soloKV) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	var v *snapshot
	err := s.turnOf(ctx, func() error {
		v = s.hostKeys().begin()
		return nil
	})
	if err != nil {
		return err
	}
	defer v.end()
	return fn(reader{v, s.cfg.Now()})
}

// Write implements storage.KV. fn may wait for something else, so it runs outside of the object's
// transaction, but while this goroutine is the only writer. Its writes are collected and stored
// when it has returned.
func (s soloKV) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	return s.turnOf(ctx, func() error {
		host := s.hostKeys()
		now := s.cfg.Now()
		tx := &soloTx{reader: reader{host.snapshot(), now}, writes: make(map[string]storage.KVWrite)}
		if err := fn(tx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil || len(tx.writes) == 0 {
			return err
		}
		list := make([]storage.KVWrite, 0, len(tx.writes))
		for _, w := range tx.writes {
			list = append(list, w)
		}
		slices.SortFunc(list, func(a, b storage.KVWrite) int { return cmp.Compare(a.Key, b.Key) })
		return s.transact(host, func() error { return host.writeKeys(list, now) })
	})
}

// soloTx reads what it has written: its snapshot, which is not of the past but of the present, has
// that in the place of what is overwritten.
type soloTx struct {
	reader
	writes map[string]storage.KVWrite
}

func (tx *soloTx) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if key == "" {
		return errors.New("durable: empty key")
	}
	w := storage.KVWrite{Key: key, Value: append([]byte{}, value...), Expires: expires}
	tx.write(w, oldValue{encodePair(w.Value, w.Expires), true})
	return nil
}

func (tx *soloTx) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil || key == "" {
		return err
	}
	tx.write(storage.KVWrite{Key: key}, oldValue{})
	return nil
}

func (tx *soloTx) write(w storage.KVWrite, now oldValue) {
	tx.c.mu.Lock()
	defer tx.c.mu.Unlock()
	tx.writes[w.Key] = w
	tx.old = tx.old.Set(tx.keys()+w.Key, now)
}
