package account

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// A Caller is on whose word an account is read or changed. Every change takes a Caller, and looks
// at it in its own transaction: a session may end, and an account be taken down, while a request
// runs. The zero Caller is nobody.
//
// There are three kinds: somebody who stands above the account's sessions ([Trusted]), its owner
// who comes back from another host ([Returning]), and whoever a package that gives out tokens
// vouches for ([NewCaller]), such as package credential.
type Caller struct {
	// DID is the account.
	DID syntax.DID
	// Session is the name of the session that the caller acts by; empty: none. A deactivation keeps
	// the session that it was asked for by.
	Session string

	admit            Admission
	above, returning bool
}

// An Admission looks at a caller in a snapshot of its account's repository, in which the account is
// a. It returns what a change that relies on the answer must find as it is, besides the account, or
// an error if the caller is not good: ErrTokenRevoked, ErrTakenDown, or one of its own.
type Admission func(ctx context.Context, r storage.KVReader, a Account) ([]storage.KVCheck, error)

// NewCaller returns a caller whom admit looks at. It panics if admit is nil.
func NewCaller(did syntax.DID, session string, admit Admission) Caller {
	if admit == nil {
		panic("account: NewCaller needs an Admission; account.Trusted is the caller who is not looked at")
	}
	return Caller{DID: did, Session: session, admit: admit}
}

// Trusted is the caller for what an administrator, or the server itself, does with an account.
func Trusted(did syntax.DID) Caller {
	return Caller{DID: did, above: true, admit: func(context.Context, storage.KVReader, Account) ([]storage.KVCheck, error) {
		return nil, nil
	}}
}

// Returning is the caller for what somebody does who proved to be the owner of an account's DID
// by another server's key, as of a moment at which the account was as given: for as long as it
// is deactivated, and its credentials have not changed. The network is told nothing of it.
func Returning(a Account) Caller {
	under := a.Credentials
	return Caller{DID: a.DID, above: true, returning: true, admit: func(_ context.Context, _ storage.KVReader, a Account) ([]storage.KVCheck, error) {
		switch {
		case under != a.Credentials || a.DeactivatedAt.IsZero():
			return nil, a.Ended(under)
		case a.TakedownRef != "":
			return nil, ErrTakenDown
		}
		return nil, nil
	}}
}

// Above reports whether the caller stands above the account's sessions, as Trusted and Returning
// do: it needs no proof that only the owner of a session may be asked for.
func (c Caller) Above() bool { return c.above }

// Authenticate returns the account of a caller, which must be good at the moment. The error is
// ErrNotFound, ErrTokenRevoked, ErrTakenDown, or one of the caller's Admission.
//
// ErrTakenDown stands for two things, as clients are to be told of both alike: the account was
// taken down and the caller does not accept that; or the caller was good until the takedown.
func (s *Store) Authenticate(ctx context.Context, who Caller) (a Account, err error) {
	a, _, err = s.Admit(ctx, who)
	return a, err
}

// Admit is Authenticate that also returns what must be as it is for the caller to be good, as
// Guard does.
func (s *Store) Admit(ctx context.Context, who Caller) (a Account, checks []storage.KVCheck, err error) {
	err = s.store.Repos.View(ctx, who.DID, func(r storage.Reader) error {
		a, checks, err = s.admit(ctx, r, who)
		return err
	})
	return a, checks, notFound(err)
}

// Guard returns what looks at a caller in the transaction of a change of its repository. Its
// errors are those of Authenticate.
func (s *Store) Guard(who Caller) repo.Guard {
	return func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error) {
		_, checks, err := s.admit(ctx, r, who)
		return checks, notFound(err)
	}
}

// View gives fn the account of a caller, who is looked at, and a snapshot of its namespace.
func (s *Store) View(ctx context.Context, who Caller, fn func(Account, storage.KVReader) error) error {
	err := s.store.Repos.View(ctx, who.DID, func(r storage.Reader) error {
		a, _, err := s.admit(ctx, r, who)
		if err != nil {
			return err
		}
		return fn(a, r)
	})
	return notFound(err)
}

// admit checks that a caller is good in a snapshot. It returns the account, and what a change
// that relies on that must find as it is: the account, first, and what the caller's Admission adds.
func (s *Store) admit(ctx context.Context, r storage.KVReader, who Caller) (a Account, checks []storage.KVCheck, err error) {
	doc, err := r.Get(ctx, accountKey)
	if err != nil {
		return a, nil, err
	}
	checks = []storage.KVCheck{{Key: accountKey, Value: doc}}
	if a, err = s.parse(doc); err != nil {
		return a, nil, err
	}
	if who.admit == nil {
		return Account{}, nil, ErrTokenRevoked
	}
	more, err := who.admit(ctx, r, a)
	if err != nil {
		return Account{}, nil, err
	}
	return a, append(checks, more...), nil
}

// Update changes an account. fn changes the account that it is given, and may add checks, writes
// and events to the step, whose snapshot it may read. It is called again if the account has changed
// meanwhile. Names, and what else the account is found by, must stay: ErrNameChange. Update returns
// the account as it is then.
func (s *Store) Update(ctx context.Context, who Caller, fn func(*Account, *repo.Step) error) (out Account, err error) {
	return s.change(ctx, who, nil, fn)
}

// change makes a step on the word of a caller, who is looked at in it. fn may change the account;
// what it is found by only to keys that are the account's already, or that the operation has
// claimed. The step is only made if the account is still as fn saw it.
func (s *Store) change(ctx context.Context, who Caller, op *operation, fn func(*Account, *repo.Step) error) (out Account, err error) {
	_, err = s.host.Step(ctx, who.DID, func(step *repo.Step) error {
		a, checks, err := s.admit(ctx, step, who)
		if err != nil {
			return err
		}
		step.Checks = append(step.Checks, checks...)
		old := a.indexKeys()
		if err := fn(&a, step); err != nil {
			return err
		}
		now := a.indexKeys()
		if a.DID != who.DID || !slices.Equal(old, now) && !op.covers(old, now) {
			return ErrNameChange
		}
		out = a
		doc, err := json.Marshal(a)
		if err != nil || string(doc) == string(checks[0].Value) {
			return err
		}
		step.KV = append(step.KV, storage.KVWrite{Key: accountKey, Value: doc})
		return nil
	})
	return out, notFound(err)
}

// Kept says what outlasts the raising of a counter.
type Kept struct {
	// AppPasswords: app passwords, and other grants that a new password makes void but nothing else
	// does, go on.
	AppPasswords bool
	// Apps: sessions that apps have go on, whether they began by OAuth or with an app password.
	Apps bool
	// Session is the name of a session that goes on; empty: none.
	Session string
}

// Raise adds to a step of Update that the account's credentials have changed: sessions, tokens and
// app passwords that carry the old value become void, except those in keep.
func (s *Store) Raise(ctx context.Context, a *Account, step *repo.Step, keep Kept) error {
	a.Credentials++
	a.CredentialsAt = s.present()
	for _, fn := range s.raised {
		if err := fn(ctx, *a, step, keep); err != nil {
			return err
		}
	}
	return nil
}

// OnRaise has fn called in each step that raises a counter, with the account as it is with the new
// value. fn carries over what it keeps of what was made under the value before, and deletes the
// rest; whatever it does not see is void all the same. It must be called before the Store is used.
// Package credential calls it for sessions and app passwords.
func (s *Store) OnRaise(fn func(ctx context.Context, a Account, step *repo.Step, keep Kept) error) {
	s.raised = append(s.raised, fn)
}
