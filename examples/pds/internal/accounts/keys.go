package accounts

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// keyCache keeps opened signing keys: to unseal one for every commit would cost
// more than to sign with it.
type keyCache struct {
	mu   sync.Mutex
	keys map[syntax.DID]*crypto.PrivateKey
}

// maxCachedKeys bounds the cache, at some 300 bytes a key.
const maxCachedKeys = 10_000

func (c *keyCache) get(did syntax.DID) *crypto.PrivateKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys[did]
}

func (c *keyCache) put(did syntax.DID, key *crypto.PrivateKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxCachedKeys {
		c.keys = make(map[syntax.DID]*crypto.PrivateKey)
	}
	c.keys[did] = key
}

func (c *keyCache) drop(did syntax.DID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, did)
}

// Signer returns an account's signing key.
func (s *Store) Signer(ctx context.Context, did syntax.DID) (crypto.Signer, error) {
	if key := s.keys.get(did); key != nil {
		return key, nil
	}
	var sealed []byte
	err := s.store.Repos.View(ctx, did, func(r storage.Reader) (err error) {
		sealed, err = r.Get(ctx, signingKey)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNotFound
	} else if err != nil {
		return nil, err
	}
	raw, err := s.sealer.Open(string(did)+"/"+signingKey, sealed)
	if err != nil {
		return nil, fmt.Errorf("accounts: signing key of %s: %w", did, err)
	}
	key, err := crypto.ParsePrivateKey(crypto.K256, raw)
	if err != nil {
		return nil, fmt.Errorf("accounts: signing key of %s: %w", did, err)
	}
	s.keys.put(did, key)
	return key, nil
}
