package accounts

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Reseal seals everything anew that is not sealed with the keyring's first key,
// each secret in a step of its own: it can be interrupted and run again. It returns how many secrets it
// sealed. The store must have been made with a Keyring, and nobody may seal with
// another key meanwhile. progress, if not nil, is told how many accounts have been looked at.
func (s *Store) Reseal(ctx context.Context, progress func(accounts int)) (sealed int, err error) {
	ring, ok := s.sealer.(*Keyring)
	if !ok {
		return 0, errors.New("accounts: the sealer is not a keyring")
	}
	n := 0
	for info, err := range s.store.Repos.List(ctx, "") {
		if err != nil {
			return sealed, err
		}
		changed, err := s.resealKey(ctx, ring, info.DID)
		if err != nil {
			return sealed, fmt.Errorf("%s: %w", info.DID, err)
		}
		if changed {
			sealed++
		}
		if n++; progress != nil {
			progress(n)
		}
	}
	reserved, err := s.resealReserved(ctx, ring)
	return sealed + reserved, err
}

// resealKey seals an account's signing key anew.
func (s *Store) resealKey(ctx context.Context, ring *Keyring, did syntax.DID) (changed bool, err error) {
	err = s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		changed = false
		old, err := r.Get(ctx, signingKey)
		if errors.Is(err, storage.ErrNotFound) || err == nil && ring.Current(old) {
			return nil
		} else if err != nil {
			return err
		}
		fresh, err := ring.reseal(string(did)+"/"+signingKey, old)
		if err != nil {
			return err
		}
		changed = true
		c.Checks = append(c.Checks, storage.KVCheck{Key: signingKey, Value: old})
		c.KV = append(c.KV, storage.KVWrite{Key: signingKey, Value: fresh})
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil // deleted meanwhile
	}
	return changed, err
}

// resealReserved seals the keys anew that are reserved for accounts to come.
func (s *Store) resealReserved(ctx context.Context, ring *Keyring) (sealed int, err error) {
	err = s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		sealed = 0
		var stale []storage.KVPair
		for pair, err := range tx.Keys(ctx, within(reservedPrefix)) {
			if err != nil {
				return err
			}
			if !ring.Current(pair.Value) {
				stale = append(stale, pair)
			}
		}
		for _, pair := range stale {
			fresh, err := ring.reseal(pair.Key, pair.Value)
			if err == nil {
				err = tx.Set(ctx, pair.Key, fresh, pair.Expires)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", pair.Key, err)
			}
			sealed++
		}
		return nil
	})
	return sealed, err
}

func (k *Keyring) reseal(name string, old []byte) ([]byte, error) {
	secret, err := k.Open(name, old)
	if err != nil {
		return nil, err
	}
	return k.Seal(name, secret)
}
