package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// Reseal seals all secrets that are sealed with an old key again, with the box's first key. Each
// secret has its own transaction, so Reseal can be interrupted and run again. It returns how many
// secrets it sealed. No other process may seal with an old key meanwhile. progress, if not nil, is
// called with the number of accounts processed.
func (s *Store) Reseal(ctx context.Context, progress func(accounts int)) (sealed int, err error) {
	n := 0
	for info, err := range s.store.Repos.List(ctx, "") {
		if err != nil {
			return sealed, err
		}
		if info.Head == (storage.Head{}) {
			continue
		}
		some, err := s.resealKeys(ctx, info.DID)
		if err != nil {
			return sealed, fmt.Errorf("%s: %w", info.DID, err)
		}
		sealed += some
		if n++; progress != nil {
			progress(n)
		}
	}
	reserved, err := s.resealReserved(ctx)
	return sealed + reserved, err
}

// resealKeys seals an account's secrets anew, and returns how many.
func (s *Store) resealKeys(ctx context.Context, did syntax.DID) (sealed int, err error) {
	_, err = s.host.Step(ctx, did, func(step *repo.Step) error {
		sealed = 0
		for _, key := range sealedKeys {
			old, err := step.Get(ctx, key)
			if errors.Is(err, storage.ErrNotFound) || err == nil && !s.keys.box.Stale(old) {
				continue
			} else if err != nil {
				return err
			}
			fresh, err := s.keys.box.Reseal(place(did, key), old)
			if err != nil {
				return err
			}
			sealed++
			step.Expect(key, old)
			step.Set(key, fresh, time.Time{})
		}
		return nil
	})
	if errors.Is(err, repo.ErrRepoNotFound) {
		return 0, nil // deleted meanwhile
	}
	return sealed, err
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
			if s.keys.box.Stale(pair.Value) {
				stale = append(stale, pair)
			}
		}
		for _, pair := range stale {
			fresh, err := s.keys.box.Reseal(pair.Key, pair.Value)
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
