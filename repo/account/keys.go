package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Signer returns an account's signing key.
func (s *Store) Signer(ctx context.Context, did syntax.DID) (crypto.Signer, error) {
	if key, ok := s.keys.Get(did); ok {
		return key, nil
	}
	var secret []byte
	err := s.store.Repos.View(ctx, did, func(r storage.Reader) (err error) {
		secret, err = r.Get(ctx, signingKey)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNotFound
	} else if err != nil {
		return nil, err
	}
	raw, err := s.box.Open(string(did)+"/"+signingKey, secret)
	if err != nil {
		return nil, fmt.Errorf("account: signing key of %s: %w", did, err)
	}
	key, err := crypto.ParsePrivateKey(crypto.K256, raw)
	if err != nil {
		return nil, fmt.Errorf("account: signing key of %s: %w", did, err)
	}
	s.keys.Put(did, key)
	return key, nil
}

// Reserved keys are made before the account that they are for comes here, so that
// its DID document can name them. They lie in the global namespace, sealed, by
// their did:key; and the did:key by the DID, if that is known.
const (
	reservedPrefix    = "reservedkey/"
	reservedForPrefix = "reservedfor/"
)

// reservedLife is how long a reserved key is kept.
const reservedLife = 90 * 24 * time.Hour

// ReserveKey makes a key, or returns the one that is reserved for the DID.
func (s *Store) ReserveKey(ctx context.Context, did syntax.DID) (didKey string, err error) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return "", err
	}
	fresh := key.PublicKey().DIDKey()
	secret := s.box.Seal(reservedPrefix+fresh, key.Bytes())
	err = s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		didKey = fresh
		if did != "" {
			switch have, err := tx.Get(ctx, reservedForPrefix+string(did)); {
			case err == nil:
				didKey = string(have)
				return nil
			case !errors.Is(err, storage.ErrNotFound):
				return err
			}
			if err := tx.Set(ctx, reservedForPrefix+string(did), []byte(fresh), s.now().Add(reservedLife)); err != nil {
				return err
			}
		}
		return tx.Set(ctx, reservedPrefix+fresh, secret, s.now().Add(reservedLife))
	})
	return didKey, err
}

// ReservedKey returns the key that is reserved for a DID, or nil.
func (s *Store) ReservedKey(ctx context.Context, did syntax.DID) (key *crypto.PrivateKey, err error) {
	var didKey string
	var secret []byte
	err = s.store.KV.Read(ctx, func(r storage.KVReader) error {
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
	raw, err := s.box.Open(reservedPrefix+didKey, secret)
	if err != nil {
		return nil, err
	}
	return crypto.ParsePrivateKey(crypto.K256, raw)
}

// ReleaseKey forgets the key that was reserved for a DID, once its account has it.
func (s *Store) ReleaseKey(ctx context.Context, did syntax.DID) error {
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		didKey, err := tx.Get(ctx, reservedForPrefix+string(did))
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		return errors.Join(tx.Delete(ctx, reservedForPrefix+string(did)), tx.Delete(ctx, reservedPrefix+string(didKey)))
	})
}
