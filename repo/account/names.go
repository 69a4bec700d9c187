package account

import (
	"context"
	"errors"
	"slices"
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

// Release gives up what Reserve held, but for what has become an account's own: the DID may have
// one by another request.
func (s *Store) Release(ctx context.Context, a Account) error {
	unlock, err := s.names.lock(ctx, a.DID)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.settle(ctx, a.DID, a.names()); err != nil || a.Invite == "" {
		return err
	}
	if now, err := s.ByDID(ctx, a.DID); err == nil && now.Invite == a.Invite {
		return nil
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error { return returnInvite(ctx, tx, a.Invite, a.DID) })
}

// ChangeHandle gives an account another handle, with the events of the step. An
// account that has the handle already only gets the events. When the handle is
// reserved, and before it is changed, register is called to tell others. No other change of the
// account's names comes between. If the change is then refused, register is called once more,
// with the handle that the account keeps.
func (s *Store) ChangeHandle(ctx context.Context, who Caller, handle syntax.Handle, register func(context.Context, syntax.Handle) error, events ...storage.Event) error {
	tell := func(ctx context.Context, a Account, back bool) error {
		if back {
			return register(ctx, a.Handle)
		}
		return register(ctx, handle)
	}
	return s.rename(ctx, who, handlePrefix+string(handle), ErrHandleTaken, tell, func(a *Account, _ storage.Reader, c *storage.Change) error {
		a.Handle = handle
		c.Events = append(c.Events, events...)
		return nil
	})
}

// ChangeEmail gives an account another e-mail address, which is not confirmed. If the one that it
// has is confirmed, a session must have a token that was sent there for the purpose UpdateEmail.
// All tokens that were sent by mail become void.
func (s *Store) ChangeEmail(ctx context.Context, who Caller, email, token string) error {
	may := func(a *Account, r storage.Reader, c *storage.Change) error {
		switch {
		case who.trusted, who.returning, a.EmailConfirmedAt.IsZero():
			return nil
		case token == "":
			return ErrTokenRequired
		}
		return s.useMailToken(ctx, r, a, UpdateEmail, token, c)
	}
	// Whether an address is taken is not for everybody to know.
	if err := s.look(ctx, who, may); err != nil {
		return err
	}
	none := func(context.Context, Account, bool) error { return nil }
	return s.rename(ctx, who, emailPrefix+strings.ToLower(email), ErrEmailTaken, none, func(a *Account, r storage.Reader, c *storage.Change) error {
		if err := may(a, r, c); err != nil {
			return err
		}
		a.Email, a.EmailConfirmedAt = email, time.Time{}
		voidMail(c)
		return nil
	})
}

// rename changes a unique name: reserve the new one, take the step, confirm the
// new and give up the old. fn sets the name. tell tells others of the new name before the step, and
// that it is taken back if the step is refused.
func (s *Store) rename(ctx context.Context, who Caller, key string, taken error, tell func(ctx context.Context, a Account, back bool) error, fn func(*Account, storage.Reader, *storage.Change) error) error {
	unlock, err := s.names.lock(ctx, who.DID)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := s.Authenticate(ctx, who)
	if err != nil {
		return err
	}
	// From here on, all is done or taken back even if the client hangs up.
	ctx = context.WithoutCancel(ctx)
	err = s.store.KV.Write(ctx, func(tx storage.KVTx) error { return s.reserve(ctx, tx, key, who.DID, taken) })
	if err != nil {
		return err
	}
	if err = tell(ctx, old, false); err == nil {
		if err = s.change(ctx, who, fn); err != nil && !errors.Is(err, ErrNotFound) {
			err = errors.Join(err, tell(ctx, old, true))
		}
	}
	return errors.Join(err, s.settle(ctx, who.DID, append(old.names(), key)))
}

// settle makes names agree with an account, if there is one: those that it has are its own for
// good, and others of the given keys are given up. The caller holds the lock of the names.
func (s *Store) settle(ctx context.Context, did syntax.DID, keys []string) error {
	for {
		have, err := s.namesOf(ctx, did)
		if err != nil {
			return err
		}
		err = s.store.KV.Write(ctx, func(tx storage.KVTx) error {
			for _, key := range have {
				if owner, err := tx.Get(ctx, key); err != nil && !errors.Is(err, storage.ErrNotFound) {
					return err
				} else if err == nil && string(owner) != string(did) {
					continue // the reservation was too old; Check says so
				}
				if err := tx.Set(ctx, key, []byte(did), time.Time{}); err != nil {
					return err
				}
			}
			for _, key := range keys {
				if slices.Contains(have, key) {
					continue
				}
				if err := drop(ctx, tx, key, did); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		// Another process may have changed the account meanwhile.
		if now, err := s.namesOf(ctx, did); err != nil || slices.Equal(now, have) {
			return err
		}
		keys = append(keys, have...)
	}
}

// namesOf returns the keys of the names of an account as it is now; none if there is none.
func (s *Store) namesOf(ctx context.Context, did syntax.DID) ([]string, error) {
	a, err := s.ByDID(ctx, did)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return a.names(), nil
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
func (s *Store) Delete(ctx context.Context, host *repo.Host, did syntax.DID, events ...storage.Event) error {
	return s.delete(ctx, host, did, func(*Account, storage.Reader, *storage.Change) error { return nil }, events)
}

// DeleteByToken is Delete on the word of somebody who has the account's password, as it still is,
// and a token that was sent by mail for it. Otherwise the error is ErrWrongPassword, ErrMailToken
// or ErrMailTokenOld.
func (s *Store) DeleteByToken(ctx context.Context, host *repo.Host, p Proof, token string, events ...storage.Event) error {
	return s.delete(ctx, host, p.Account.DID, func(a *Account, r storage.Reader, c *storage.Change) error {
		if a.Credentials != p.Account.Credentials {
			return ErrWrongPassword
		}
		return s.useMailToken(ctx, r, a, DeleteAccount, token, c)
	}, events)
}

// delete deletes an account after a step that may allows and that ends its sessions.
func (s *Store) delete(ctx context.Context, host *repo.Host, did syntax.DID, may func(*Account, storage.Reader, *storage.Change) error, events []storage.Event) error {
	unlock, err := s.names.lock(ctx, did)
	if err != nil {
		return err
	}
	defer unlock()
	ctx = context.WithoutCancel(ctx)
	var names []string
	err = s.change(ctx, Trusted(did), func(a *Account, r storage.Reader, c *storage.Change) error {
		if err := may(a, r, c); err != nil {
			return err
		}
		names = a.names()
		return s.raise(ctx, a, r, c, "", false)
	})
	if err != nil {
		return err
	}
	if err := host.Delete(ctx, did, events...); errors.Is(err, repo.ErrRepoNotFound) {
		return ErrNotFound
	} else if err != nil {
		return err
	}
	s.keys.Drop(did)
	return s.settle(ctx, did, names)
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
	if err := s.indexInvites(ctx); err != nil {
		return err
	}
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
