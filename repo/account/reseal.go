package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Reseal seals all stale secrets again with the box's first key, each in a transaction of its own,
// so that it can be interrupted and run again. It returns how many secrets it sealed. Nobody may
// seal with another key meanwhile. progress, if not nil, gets the number of accounts looked at.
func (s *Store) Reseal(ctx context.Context, progress func(accounts int)) (sealed int, err error) {
	n := 0
	for info, err := range s.store.Repos.List(ctx, "") {
		if err != nil {
			return sealed, err
		}
		changed, err := s.resealKey(ctx, info.DID)
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
	reserved, err := s.resealReserved(ctx)
	return sealed + reserved, err
}

// resealKey seals an account's signing key anew.
func (s *Store) resealKey(ctx context.Context, did syntax.DID) (changed bool, err error) {
	err = s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		changed = false
		old, err := r.Get(ctx, signingKey)
		if errors.Is(err, storage.ErrNotFound) || err == nil && !s.box.Stale(old) {
			return nil
		} else if err != nil {
			return err
		}
		fresh, err := s.box.Reseal(string(did)+"/"+signingKey, old)
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
func (s *Store) resealReserved(ctx context.Context) (sealed int, err error) {
	err = s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		sealed = 0
		var stale []storage.KVPair
		for pair, err := range tx.Keys(ctx, storage.Prefix(reservedPrefix)) {
			if err != nil {
				return err
			}
			if s.box.Stale(pair.Value) {
				stale = append(stale, pair)
			}
		}
		for _, pair := range stale {
			fresh, err := s.box.Reseal(pair.Key, pair.Value)
			if err == nil {
				err = tx.Set(ctx, pair.Key, fresh, pair.Expires)
			}
			if err != nil {
				return err
			}
			sealed++
		}
		return nil
	})
	return sealed, err
}
