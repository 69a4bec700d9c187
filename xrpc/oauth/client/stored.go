package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"iter"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Stored is a SessionStore, a StateStore and a Locker in a storage.KV, for all processes that share
// it. KV is required. It is safe for concurrent use. It does not encrypt values: see Config.Seal.
//
// A lock is a lease: if its holder has crashed, it ends after its ttl. The clocks of the processes
// must not differ by more than some seconds.
type Stored struct {
	KV storage.KV
	// Prefix begins all keys; default "oauth-client/".
	Prefix string
	// Now is the clock; default time.Now.
	Now func() time.Time
}

func (s *Stored) key(kind, name string) string {
	p := s.Prefix
	if p == "" {
		p = "oauth-client/"
	}
	return p + kind + "/" + name
}

func (s *Stored) sessionKey(id SessionID) string { return s.key("session", string(id)) }

// Get implements SessionStore.
func (s *Stored) Get(ctx context.Context, id SessionID) (value []byte, err error) {
	err = s.KV.Read(ctx, func(r storage.KVReader) error {
		v, err := r.Get(ctx, s.sessionKey(id))
		value = bytes.Clone(v)
		return err
	})
	return value, err
}

// CompareAndSwap implements SessionStore.
func (s *Stored) CompareAndSwap(ctx context.Context, id SessionID, old, new []byte) error {
	key := s.sessionKey(id)
	return s.KV.Write(ctx, func(tx storage.KVTx) error {
		v, err := tx.Get(ctx, key)
		switch {
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return err
		case (err == nil) != (old != nil) || !bytes.Equal(v, old):
			return ErrConflict
		}
		return tx.Set(ctx, key, new, time.Time{})
	})
}

// Delete implements SessionStore.
func (s *Stored) Delete(ctx context.Context, id SessionID, old []byte) error {
	key := s.sessionKey(id)
	return s.KV.Write(ctx, func(tx storage.KVTx) error {
		v, err := tx.Get(ctx, key)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			return nil
		case err != nil:
			return err
		case old != nil && !bytes.Equal(v, old):
			return ErrConflict
		}
		return tx.Delete(ctx, key)
	})
}

// List implements SessionStore. Concurrent changes may or may not be seen.
func (s *Stored) List(ctx context.Context, did syntax.DID) iter.Seq2[SessionID, error] {
	return func(yield func(SessionID, error) bool) {
		prefix := s.key("session", "")
		want := prefix
		if did != "" {
			want += string(did) + "/"
		}
		// In pages, so that no transaction is open while the caller works.
		for from := want; ; {
			var page []SessionID
			err := s.KV.Read(ctx, func(r storage.KVReader) error {
				page = page[:0]
				all := storage.Prefix(want)
				all.From, all.KeysOnly = from, true
				for pair, err := range r.Keys(ctx, all) {
					if err != nil {
						return err
					}
					if page = append(page, SessionID(strings.TrimPrefix(pair.Key, prefix))); len(page) == 100 {
						break
					}
				}
				return nil
			})
			if err != nil {
				yield("", err)
				return
			}
			for _, id := range page {
				if !yield(id, nil) {
					return
				}
			}
			if len(page) < 100 {
				return
			}
			from = s.sessionKey(page[len(page)-1]) + "\x00"
		}
	}
}

// Put implements StateStore.
func (s *Stored) Put(ctx context.Context, key string, value []byte, expires time.Time) error {
	return s.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, s.key("login", key), value, expires) })
}

// Take implements StateStore.
func (s *Stored) Take(ctx context.Context, key string) (value []byte, err error) {
	key = s.key("login", key)
	err = s.KV.Write(ctx, func(tx storage.KVTx) error {
		v, err := tx.Get(ctx, key)
		if err != nil {
			return err
		}
		value = bytes.Clone(v)
		return tx.Delete(ctx, key)
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// unlockTimeout is how long it may take to give a lease back. Else it ends by itself.
const unlockTimeout = 5 * time.Second

// Lock implements Locker.
func (s *Stored) Lock(ctx context.Context, name string, ttl time.Duration) (unlock func(), err error) {
	now := s.Now
	if now == nil {
		now = time.Now
	}
	key, owner := s.key("lock", name), rand.Text()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		got := false
		err := s.KV.Write(ctx, func(tx storage.KVTx) error {
			v, err := tx.Get(ctx, key)
			if got = errors.Is(err, storage.ErrNotFound) || err == nil && string(v) == owner; got {
				return tx.Set(ctx, key, []byte(owner), now().Add(ttl))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if got {
			ctx := context.WithoutCancel(ctx)
			return sync.OnceFunc(func() {
				ctx, cancel := context.WithTimeout(ctx, unlockTimeout)
				defer cancel()
				s.KV.Write(ctx, func(tx storage.KVTx) error {
					if v, err := tx.Get(ctx, key); err != nil || string(v) != owner {
						return err
					}
					return tx.Delete(ctx, key)
				})
			}), nil
		}
		if err := sleep.For(ctx, wait/2+mathrand.N(wait)); err != nil {
			return nil, err
		}
	}
}
