package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/memo"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
)

// KeysConfig configures Keys. Store's Repos and KV, and Box, are required.
type KeysConfig struct {
	// Store keeps the sealed keys.
	Store storage.Store
	// Box seals and unseals the keys.
	Box *sealed.Box
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Keys manages the signing keys of accounts, and those reserved for future accounts. It is safe for
// concurrent use.
//
// Unsealing a key costs more than signing, so unsealed keys are cached in memory. A cached key that
// another process has since replaced signs nothing: keys are StoredSigners, so the store compares
// the key in the transaction of each commit. If it differs, the host calls Forget.
type Keys struct {
	store storage.Store
	box   *sealed.Box
	now   func() time.Time

	open  *memo.Map[syntax.DID, *openKey]
	mu    sync.Mutex
	moves int // how often a key was put or forgotten
	// day is when the day began in which so many keys were reserved.
	day      time.Time
	reserved int
}

// maxKeys is how many keys are kept in memory, at some 300 bytes each.
const maxKeys = 10_000

// NewKeys returns the keys of a store. It panics if the store's Repos or KV, or the box, is
// missing.
func NewKeys(cfg KeysConfig) *Keys {
	switch {
	case cfg.Store.Repos == nil || cfg.Store.KV == nil:
		panic("account: KeysConfig.Store needs Repos and KV: give it the store of the repo.Host")
	case cfg.Box == nil:
		panic("account: KeysConfig.Box is missing: signing keys are only stored sealed; see sealed.New")
	}
	k := &Keys{store: cfg.Store, box: cfg.Box, now: cfg.Now, open: memo.New[syntax.DID, *openKey](maxKeys)}
	if k.now == nil {
		k.now = time.Now
	}
	return k
}

// openKey is a key in memory, and how it is stored: a repo.StoredSigner.
type openKey struct {
	*crypto.PrivateKey
	sealed []byte
}

func (k *openKey) Stored() storage.KVCheck {
	return storage.KVCheck{Key: signingKey, Value: k.sealed}
}

// place is what a sealed key is bound to.
func place(did syntax.DID, key string) string { return string(did) + "/" + key }

func (k *Keys) seal(did syntax.DID, key string, secret *crypto.PrivateKey) []byte {
	return k.box.Seal(place(did, key), secret.Bytes())
}

func (k *Keys) unseal(did syntax.DID, key string, sealed []byte) (*crypto.PrivateKey, error) {
	raw, err := k.box.Open(place(did, key), sealed)
	if err == nil {
		var secret *crypto.PrivateKey
		if secret, err = crypto.ParsePrivateKey(crypto.K256, raw); err == nil {
			return secret, nil
		}
	}
	return nil, fmt.Errorf("account: signing key of %s: %w", did, err)
}

// Signer returns an account's signing key, or [ErrNotFound]. Use it as Signer of [repo.Config].
func (k *Keys) Signer(ctx context.Context, did syntax.DID) (crypto.Signer, error) {
	if key, ok := k.open.Get(did); ok {
		return key, nil
	}
	k.mu.Lock()
	moves := k.moves
	k.mu.Unlock()
	var secret []byte
	err := k.store.Repos.View(ctx, did, func(r storage.Reader) (err error) {
		secret, err = r.Get(ctx, signingKey)
		return err
	})
	if err != nil {
		return nil, notFound(err)
	}
	private, err := k.unseal(did, signingKey, secret)
	if err != nil {
		return nil, err
	}
	key := &openKey{private, slices.Clone(secret)}
	k.mu.Lock()
	defer k.mu.Unlock()
	if moves == k.moves { // else it may be another one by now
		k.open.Put(did, key)
	}
	return key, nil
}

// put keeps a key that is stored now, sealed like this.
func (k *Keys) put(did syntax.DID, key *crypto.PrivateKey, sealed []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.moves++
	k.open.Put(did, &openKey{key, sealed})
}

// Forget drops an account's cached key. The next use reads it again.
func (k *Keys) Forget(did syntax.DID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.moves++
	k.open.Drop(did)
}

// Signer returns the signing key that an account has in the store, or ErrNotFound.
func (s *Store) Signer(ctx context.Context, did syntax.DID) (crypto.Signer, error) {
	key, err := s.host.Signer(ctx, did)
	return key, notFound(err)
}

// A reserved key is made before its account moves here, so that the DID document can already name
// it. It is stored in the global namespace, sealed, under its did:key. If the DID is known, the
// did:key is stored under the DID.
const (
	reservedPrefix    = "reservedkey/"
	reservedForPrefix = "reservedfor/"
)

// reservedLife is how long a reserved key is kept. Strangers can reserve keys. If they reserve more
// than manyReserved in a day, further keys are kept for floodedLife only, which is long enough for
// a migration.
const (
	reservedLife = 90 * 24 * time.Hour
	manyReserved = 1000
	floodedLife  = 2 * time.Hour
)

// lifeOfReserved returns how long a key is kept that is reserved now.
func (k *Keys) lifeOfReserved(now time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if age := now.Sub(k.day); age < 0 || age >= 24*time.Hour {
		k.day, k.reserved = now, 0
	}
	if k.reserved++; k.reserved > manyReserved {
		return floodedLife
	}
	return reservedLife
}

// Reserve makes a key for an account that will move here, and returns it as a did:key. If a key is
// already reserved for the DID, it returns that one. The DID is empty if it is not known yet. A
// reservation lasts 90 days. Beyond a thousand reservations in a day, further ones last two hours.
func (k *Keys) Reserve(ctx context.Context, did syntax.DID) (didKey string, err error) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return "", err
	}
	fresh := key.PublicKey().DIDKey()
	secret := k.box.Seal(reservedPrefix+fresh, key.Bytes())
	ends := k.now().Add(k.lifeOfReserved(k.now()))
	err = k.store.KV.Write(ctx, func(tx storage.KVTx) error {
		didKey = fresh
		if did != "" {
			switch have, err := tx.Get(ctx, reservedForPrefix+string(did)); {
			case err == nil:
				didKey = string(have)
				return nil
			case !errors.Is(err, storage.ErrNotFound):
				return err
			}
			if err := tx.Set(ctx, reservedForPrefix+string(did), []byte(fresh), ends); err != nil {
				return err
			}
		}
		return tx.Set(ctx, reservedPrefix+fresh, secret, ends)
	})
	return didKey, err
}

// Reserved returns the key that is reserved for a DID, or nil.
func (k *Keys) Reserved(ctx context.Context, did syntax.DID) (key *crypto.PrivateKey, err error) {
	var didKey string
	var secret []byte
	err = k.store.KV.Read(ctx, func(r storage.KVReader) error {
		v, err := r.Get(ctx, reservedForPrefix+string(did))
		if err != nil {
			return err
		}
		didKey = string(v)
		secret, err = r.Get(ctx, reservedPrefix+didKey)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	raw, err := k.box.Open(reservedPrefix+didKey, secret)
	if err != nil {
		return nil, err
	}
	return crypto.ParsePrivateKey(crypto.K256, raw)
}

// Release deletes the reservation for a DID, once its account has the key.
func (k *Keys) Release(ctx context.Context, did syntax.DID) error {
	return k.store.KV.Write(ctx, func(tx storage.KVTx) error {
		didKey, err := tx.Get(ctx, reservedForPrefix+string(did))
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		return errors.Join(tx.Delete(ctx, reservedForPrefix+string(did)), tx.Delete(ctx, reservedPrefix+string(didKey)))
	})
}
