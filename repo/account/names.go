package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// ChangeHandle gives an account another handle, and announces it to the network even if it is the
// same handle.
//
// register, if not nil, puts the handle into the DID document. It is called after the handle is
// reserved and before the account is changed. If the change is then refused, register is called
// again with the handle that the account has. register may be called several times. After its last
// call the document has the account's handle, whatever other operations run concurrently. register
// must not change the account's names itself: such changes are serialized.
//
// Errors are [ErrHandleTaken], those of register, and those of [Store.Authenticate].
func (s *Store) ChangeHandle(ctx context.Context, who Caller, handle syntax.Handle, register func(context.Context, syntax.Handle) error) error {
	return s.reindex(ctx, who, indexChange{
		taken: ErrHandleTaken,
		next:  func(a *Account) { a.Handle = handle },
		notify: func(ctx context.Context, a Account) error {
			if register == nil {
				return nil
			}
			return register(ctx, a.Handle)
		},
		after: func(a *Account, step *repo.Step) error {
			if !who.returning {
				step.Events = append(step.Events, s.host.IdentityEvent(a.DID, a.Handle))
			}
			return nil
		},
	})
}

// ChangeEmail gives an account another e-mail address, which is not confirmed. also, if not nil, is
// called in the same step. A server whose sessions may change the address demands a proof there.
// Package credential does so: use its ChangeEmail if tokens are sent by mail.
//
// Errors are [ErrEmailTaken], those of also, and those of [Store.Authenticate].
func (s *Store) ChangeEmail(ctx context.Context, who Caller, email string, also func(*Account, *repo.Step) error) error {
	return s.reindex(ctx, who, indexChange{
		taken:  ErrEmailTaken,
		next:   func(a *Account) { a.Email, a.EmailConfirmedAt = email, time.Time{} },
		before: also,
	})
}

// Deactivate makes an account inactive and announces it to the network. All sessions but the
// caller's end. deleteAfter, if not zero, is when the owner wants the account to be deleted: see
// [Store.DeletionsDue].
func (s *Store) Deactivate(ctx context.Context, who Caller, deleteAfter time.Time) error {
	return s.reindex(ctx, who, indexChange{
		next: func(a *Account) {
			if a.DeactivatedAt.IsZero() {
				a.DeactivatedAt = s.present()
			}
			a.DeleteAfter = deleteAfter
		},
		after: func(a *Account, step *repo.Step) error {
			step.Events = append(step.Events, s.statusEvent(*a))
			return s.Raise(ctx, a, step, Kept{AppPasswords: true, Session: who.Session})
		},
	})
}

// Activate makes an account active, unless it is taken down. It announces the status, the identity
// and the head of the repository to the network.
func (s *Store) Activate(ctx context.Context, who Caller) error {
	return s.reindex(ctx, who, indexChange{
		next: func(a *Account) { a.DeactivatedAt, a.DeleteAfter = time.Time{}, time.Time{} },
		after: func(a *Account, step *repo.Step) error {
			step.Events = append(step.Events, s.statusEvent(*a), s.host.IdentityEvent(a.DID, a.Handle))
			step.Sync = true
			return nil
		},
	})
}

// indexChange is a change of what an account is found by.
type indexChange struct {
	next  func(*Account) // makes the change
	taken error          // if a key is another account's
	// first and also are part of the step, before and after next. They may be nil.
	before, after func(*Account, *repo.Step) error
	// notify, if not nil, informs others before the step of the account as it will be, and, if the
	// step is refused, of the account as it is.
	notify func(context.Context, Account) error
}

// maxMoves bounds how often an operation begins anew because the account's names have changed
// under it.
const maxMoves = 8

// errMoved: what an account is found by is not what the operation began with.
var errMoved = fmt.Errorf("%w: the account's names have changed meanwhile", storage.ErrConflict)

// reindex changes what an account is found by: claim the new keys, make the step, give up the old
// ones. A change of none is only the step. Such operations take turns within a process; those of
// others are noticed.
func (s *Store) reindex(ctx context.Context, who Caller, x indexChange) error {
	done, err := s.host.Turn(ctx, who.DID)
	if err != nil {
		return err
	}
	defer done()
	for try := 0; ; try++ {
		err := s.reindexOnce(ctx, who, x)
		if !errors.Is(err, errMoved) || try == maxMoves {
			return err
		}
	}
}

func (s *Store) reindexOnce(ctx context.Context, who Caller, x indexChange) error {
	old, err := s.Authenticate(ctx, who)
	if err != nil {
		return err
	}
	next := old
	x.next(&next)
	var op *operation
	had, keys := old.indexKeys(), next.indexKeys()
	if !slices.Equal(had, keys) {
		var claims []claim
		for _, key := range keys {
			if !slices.Contains(had, key) {
				claims = append(claims, claim{key, x.taken})
			}
		}
		if op, err = s.begin(ctx, who.DID, claims, note{Keys: union(had, keys)}, nil); err != nil {
			return err
		}
	}
	// From here on, all is done or taken back even if the client hangs up.
	ctx = context.WithoutCancel(ctx)
	if x.notify != nil {
		err = x.notify(ctx, next)
	}
	if err == nil && op != nil {
		err = op.renew(ctx)
	}
	if err == nil {
		_, err = s.change(ctx, who, op, func(a *Account, step *repo.Step) error {
			before := a.indexKeys()
			for _, fn := range []func(*Account, *repo.Step) error{x.before, func(a *Account, _ *repo.Step) error { x.next(a); return nil }, x.after} {
				if fn == nil {
					continue
				}
				if err := fn(a, step); err != nil {
					return err
				}
			}
			if now := a.indexKeys(); !slices.Equal(before, now) && !op.covers(before, now) {
				return errMoved
			}
			return nil
		})
		if err != nil && x.notify != nil {
			err = errors.Join(err, s.takeBack(ctx, who.DID, x.notify))
		}
	}
	if op == nil {
		return err
	}
	if ended := op.finish(ctx); err != nil {
		return errors.Join(err, ended)
	}
	return nil // what finish could not do, Repair does
}

// takeBack notifies others of an account as it is, until it is still so afterwards.
func (s *Store) takeBack(ctx context.Context, did syntax.DID, notify func(context.Context, Account) error) error {
	var notified []string
	for range maxMoves {
		a, err := s.ByDID(ctx, did)
		if err != nil {
			return err
		}
		if notified != nil && slices.Equal(notified, a.indexKeys()) {
			return nil
		}
		notified = a.indexKeys()
		if err := notify(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// Delete removes an account with its repository, and then releases its names. An event announces
// the deletion to the network. The caller is checked under the account's lock; see also
// [Store.DeleteIf]. If Delete returns nil, the account is gone durably.
func (s *Store) Delete(ctx context.Context, who Caller) error { return s.DeleteIf(ctx, who, nil) }

// DeleteIf is [Store.Delete] with a condition: may, if not nil, reads the account and its
// namespace, and its error refuses the deletion. See [repo.Host.DeleteStep] for changes by other
// processes in between.
func (s *Store) DeleteIf(ctx context.Context, who Caller, may func(Account, storage.KVReader) error) error {
	done, err := s.host.Turn(ctx, who.DID)
	if err != nil {
		return err
	}
	defer done()
	for try := 0; ; try++ {
		err := s.deleteOnce(ctx, who, may)
		if !errors.Is(err, errMoved) || try == maxMoves {
			return err
		}
	}
}

func (s *Store) deleteOnce(ctx context.Context, who Caller, may func(Account, storage.KVReader) error) error {
	var old Account
	err := s.View(ctx, who, func(a Account, r storage.KVReader) error {
		if old = a; may != nil {
			return may(a, r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	made := old.Made
	op, err := s.begin(ctx, who.DID, nil, note{Keys: old.indexKeys(), Deletes: &made}, func(tx storage.KVTx) error {
		return s.countMade(ctx, tx, old)
	})
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	err = s.host.DeleteStep(ctx, who.DID, func(step *repo.Step) error {
		a, _, err := s.admit(ctx, step, who)
		if err != nil {
			return err
		}
		if a.Made != made || !op.covers(a.indexKeys(), nil) {
			return errMoved
		}
		if may != nil {
			if err := may(a, step); err != nil {
				return err
			}
		}
		step.Events = append(step.Events, s.host.AccountEvent(who.DID, commit.Deleted))
		return nil
	})
	s.keys.Forget(who.DID)
	if ended := op.finish(ctx); err != nil {
		return errors.Join(notFound(err), ended)
	}
	return nil
}

// countMade counts an account that is there, though the operation that made it has not ended.
func (s *Store) countMade(ctx context.Context, tx storage.KVTx, a Account) error {
	list, err := notes(ctx, tx, a.DID)
	if err != nil {
		return err
	}
	key := pendingOf(a.DID) + a.Made
	n := list[key]
	if !n.Makes {
		return nil
	}
	n.Makes = false
	if err := putNote(ctx, tx, key, n); err != nil {
		return err
	}
	return addCount(ctx, tx, 1)
}
