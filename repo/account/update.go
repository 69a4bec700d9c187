package account

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
		if errors.Is(err, storage.ErrNotFound) {
			return ErrNotFound
		}
		if !errors.Is(err, storage.ErrConflict) || try == maxRetries {
			return err
		}
	}
}

// Update changes an account. fn may add writes and events to the step; it may be
// called more than once. Update returns the account as it is then.
func (s *Store) Update(ctx context.Context, who Caller, fn func(*Account, *storage.Change) error) (out Account, err error) {
	err = s.change(ctx, who, func(a *Account, _ storage.Reader, c *storage.Change) error {
		err := fn(a, c)
		out = *a
		return err
	})
	return out, err
}

// look asks, without a step, what fn says of the account of a caller.
func (s *Store) look(ctx context.Context, who Caller, fn func(*Account, storage.Reader, *storage.Change) error) error {
	err := s.store.Repos.View(ctx, who.DID, func(r storage.Reader) error {
		a, _, err := s.admit(ctx, r, who)
		if err != nil {
			return err
		}
		return fn(&a, r, &storage.Change{})
	})
	if errors.Is(err, storage.ErrNotFound) {
		err = ErrNotFound
	}
	return err
}

// change takes a step on the word of a caller, who is looked at in it. fn may change the account.
// The step is only taken if the account, and the caller's session, are still as fn saw them.
func (s *Store) change(ctx context.Context, who Caller, fn func(*Account, storage.Reader, *storage.Change) error) error {
	return s.update(ctx, who.DID, func(r storage.Reader, c *storage.Change) error {
		a, checks, err := s.admit(ctx, r, who)
		if err != nil {
			return err
		}
		c.Checks = append(c.Checks, checks...)
		if err := fn(&a, r, c); err != nil {
			return err
		}
		doc, err := json.Marshal(a)
		if err != nil || string(doc) == string(checks[0].Value) {
			return err
		}
		c.KV = append(c.KV, storage.KVWrite{Key: accountKey, Value: doc})
		return nil
	})
}
