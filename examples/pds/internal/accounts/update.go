package accounts

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// maxRetries bounds how often a lost race is run again.
const maxRetries = 20

// update takes a step in an account's namespace: fn reads and fills in checks, writes and
// events. It may be called more than once. Nothing to do is no step.
func (s *Store) update(ctx context.Context, did syntax.DID, fn func(storage.Reader, *storage.Change) error) error {
	for try := 0; ; try++ {
		var c storage.Change
		err := s.store.Repos.View(ctx, did, func(r storage.Reader) (err error) {
			c.Prev, c.Head = r.Head(), r.Head()
			return fn(r, &c)
		})
		if errors.Is(err, storage.ErrNotFound) {
			return ErrNotFound
		}
		if err != nil || len(c.KV)+len(c.Events) == 0 {
			return err
		}
		_, err = s.store.Repos.Apply(ctx, did, &c)
		if !errors.Is(err, storage.ErrConflict) || try == maxRetries {
			return err
		}
	}
}

// Update changes an account. fn may add writes and events to the step; it may be
// called more than once. Update returns the account as it is then.
func (s *Store) Update(ctx context.Context, did syntax.DID, fn func(*Account, *storage.Change) error) (out Account, err error) {
	err = s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		return s.change(ctx, r, c, func(a *Account) error {
			err := fn(a, c)
			out = *a
			return err
		})
	})
	return out, err
}

// change adds a changed account to a step.
func (s *Store) change(ctx context.Context, r storage.Reader, c *storage.Change, fn func(*Account) error) error {
	old, err := r.Get(ctx, accountKey)
	if err != nil {
		return err
	}
	a, err := s.parse(old)
	if err != nil {
		return err
	}
	if err := fn(&a); err != nil {
		return err
	}
	doc, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if string(doc) != string(old) {
		c.Checks = append(c.Checks, storage.KVCheck{Key: accountKey, Value: old})
		c.KV = append(c.KV, storage.KVWrite{Key: accountKey, Value: doc})
	}
	return nil
}
