package accounts

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// reservation is how long a name is held for a step that has not been taken.
const reservation = 10 * time.Minute

// Reserve holds an account's handle and e-mail address for it, and uses its
// invite code, if it has one.
func (s *Store) Reserve(ctx context.Context, a Account) error {
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		if err := s.reserve(ctx, tx, handlePrefix+string(a.Handle), a.DID, ErrHandleTaken); err != nil {
			return err
		}
		if err := s.reserve(ctx, tx, emailPrefix+strings.ToLower(a.Email), a.DID, ErrEmailTaken); err != nil {
			return err
		}
		if a.Invite == "" {
			return nil
		}
		return useInvite(ctx, tx, a.Invite, a.DID, s.now())
	})
}

// Release gives up what Reserve held.
func (s *Store) Release(ctx context.Context, a Account) error {
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		for _, key := range a.names() {
			if err := drop(ctx, tx, key, a.DID); err != nil {
				return err
			}
		}
		if a.Invite == "" {
			return nil
		}
		return returnInvite(ctx, tx, a.Invite, a.DID)
	})
}

// ChangeHandle gives an account another handle, with the events of the step. An
// account that has the handle already only gets the events. When the handle is
// reserved, and before it is changed, register is called to tell others.
func (s *Store) ChangeHandle(ctx context.Context, did syntax.DID, handle syntax.Handle, register func() error, events ...storage.Event) error {
	return s.rename(ctx, did, handlePrefix, string(handle), ErrHandleTaken, register, func(a *Account, c *storage.Change) (old string) {
		old, a.Handle = string(a.Handle), handle
		c.Events = append(c.Events, events...)
		return old
	})
}

// ChangeEmail gives an account another e-mail address, which is not confirmed.
func (s *Store) ChangeEmail(ctx context.Context, did syntax.DID, email string) error {
	return s.rename(ctx, did, emailPrefix, strings.ToLower(email), ErrEmailTaken, func() error { return nil }, func(a *Account, c *storage.Change) (old string) {
		old, a.Email, a.EmailConfirmedAt = strings.ToLower(a.Email), email, time.Time{}
		for _, p := range []Purpose{ConfirmEmail, UpdateEmail} {
			c.KV = append(c.KV, storage.KVWrite{Key: mailTokenPrefix + string(p)})
		}
		return old
	})
}

// rename changes a unique name: reserve the new one, take the step, confirm the
// new and give up the old. fn sets the name and returns the old one.
func (s *Store) rename(ctx context.Context, did syntax.DID, prefix, name string, taken error, register func() error, fn func(*Account, *storage.Change) string) error {
	if _, err := s.ByDID(ctx, did); err != nil {
		return err
	}
	err := s.store.KV.Write(ctx, func(tx storage.KVTx) error { return s.reserve(ctx, tx, prefix+name, did, taken) })
	if err == nil {
		err = register()
	}
	if err != nil {
		return err
	}
	var old string
	_, err = s.Update(ctx, did, func(a *Account, c *storage.Change) error {
		old = fn(a, c)
		return nil
	})
	if err != nil {
		return err // the reservation expires
	}
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		if err := tx.Set(ctx, prefix+name, []byte(did), time.Time{}); err != nil || old == name {
			return err
		}
		return drop(ctx, tx, prefix+old, did)
	})
}

// reserve holds a name for an account, unless it has the name for good.
func (s *Store) reserve(ctx context.Context, tx storage.KVTx, key string, did syntax.DID, taken error) error {
	switch owner, err := tx.Get(ctx, key); {
	case err == nil && string(owner) != string(did):
		if left, err := s.abandoned(ctx, tx, key); err != nil {
			return err
		} else if !left {
			return taken
		}
	case err == nil:
		return nil
	case !errors.Is(err, storage.ErrNotFound):
		return err
	}
	return tx.Set(ctx, key, []byte(did), s.now().Add(reservation))
}

// abandoned reports whether a name is held by a reservation that lasts longer than reservations do:
// it was made by a clock that was ahead, and would bar the name until then.
func (s *Store) abandoned(ctx context.Context, tx storage.KVTx, key string) (bool, error) {
	for pair, err := range tx.Keys(ctx, storage.Range{From: key, To: key + "\x00"}) {
		return err == nil && !pair.Expires.IsZero() && pair.Expires.After(s.now().Add(reservation+time.Minute)), err
	}
	return false, nil
}

// drop gives up a name, if it is the account's.
func drop(ctx context.Context, tx storage.KVTx, key string, did syntax.DID) error {
	owner, err := tx.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) || err == nil && string(owner) != string(did) {
		return nil
	} else if err != nil {
		return err
	}
	return tx.Delete(ctx, key)
}

// names are the keys of an account's names.
func (a Account) names() []string {
	return []string{handlePrefix + string(a.Handle), emailPrefix + strings.ToLower(a.Email), createdKey(a.Created, a.DID)}
}

// Delete removes an account with its repository, and then its names. The events
// are appended in the same step as the repository goes.
func (s *Store) Delete(ctx context.Context, host *repo.Host, a Account, events ...storage.Event) error {
	if err := host.Delete(ctx, a.DID, events...); err != nil {
		return err
	}
	s.keys.Drop(a.DID)
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		for _, key := range a.names() {
			if err := drop(ctx, tx, key, a.DID); err != nil {
				return err
			}
		}
		return nil
	})
}

// confirm makes an account's names permanent.
func (s *Store) confirm(ctx context.Context, a Account) error {
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		for _, key := range a.names() {
			if err := tx.Set(ctx, key, []byte(a.DID), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Repair makes the names agree with the accounts, which a crash between a step
// and its confirmation can leave apart. Call it at start, before anything else.
func (s *Store) Repair(ctx context.Context) error {
	have := make(map[string]string)
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		for _, prefix := range []string{handlePrefix, emailPrefix, createdPrefix} {
			for pair, err := range r.Keys(ctx, storage.Prefix(prefix)) {
				if err != nil {
					return err
				}
				if pair.Expires.IsZero() {
					have[pair.Key] = string(pair.Value)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var unconfirmed []Account
	for a, err := range s.All(ctx) {
		if err != nil {
			return err
		}
		missing := false
		for _, key := range a.names() {
			missing = missing || have[key] != string(a.DID)
			delete(have, key)
		}
		if missing {
			unconfirmed = append(unconfirmed, a)
		}
	}
	for _, a := range unconfirmed {
		if err := s.confirm(ctx, a); err != nil {
			return err
		}
	}
	if len(have) == 0 {
		return nil
	}
	// What is left are names that accounts have given up, or whose account is gone.
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		for key, did := range have {
			if err := drop(ctx, tx, key, syntax.DID(did)); err != nil {
				return err
			}
		}
		return nil
	})
}
