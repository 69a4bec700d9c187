package account

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// A Caller says who reads or changes an account. Every change takes a Caller and checks it in its
// own transaction, because a session may end, or an account be taken down, while a request runs.
// The zero Caller is nobody: it is refused.
//
// There are three kinds: an authority above the account's sessions ([Trusted]), its owner who comes
// back from another host ([Returning]), and a caller for whom a package that issues tokens vouches
// ([NewCaller]), such as package credential.
type Caller struct {
	// DID is the account.
	DID syntax.DID
	// Session is the name of the session by which the caller acts. Empty means none. Some changes,
	// such as a deactivation, end all sessions but this one.
	Session string

	admit            Admission
	above, returning bool
}

// An Admission decides whether a caller is valid. It is called with a snapshot of the account's
// repository, in which the account is a. It returns further preconditions for a change by this
// caller (the account itself is one anyway), or an error if the caller is not valid:
// [ErrTokenRevoked], [ErrTakenDown], or one of its own.
type Admission func(ctx context.Context, r storage.KVReader, a Account) ([]storage.KVCheck, error)

// NewCaller returns a caller that admit checks. It panics if admit is nil.
func NewCaller(did syntax.DID, session string, admit Admission) Caller {
	if admit == nil {
		panic("account: NewCaller needs an Admission; account.Trusted is the caller who is not looked at")
	}
	return Caller{DID: did, Session: session, admit: admit}
}

// Trusted returns the caller for an administrator, or for the server itself.
func Trusted(did syntax.DID) Caller {
	return Caller{DID: did, above: true, admit: func(context.Context, storage.KVReader, Account) ([]storage.KVCheck, error) {
		return nil, nil
	}}
}

// Returning returns the caller for an owner who has proved to own the account's DID by another
// server's key. a is the account at that moment. The caller is valid as long as the account is
// deactivated and its credentials have not changed. Its changes are not announced to the network.
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

// Above reports whether the caller stands above the account's sessions, as [Trusted] and
// [Returning] do. Such a caller needs no further proof, such as a token sent by mail.
func (c Caller) Above() bool { return c.above }

// Authenticate returns the account of a caller. If the caller is not valid now, the error is
// [ErrNotFound], [ErrTokenRevoked], [ErrTakenDown], or one of the caller's Admission.
//
// ErrTakenDown has two meanings, which clients see alike: the account is taken down and the caller
// does not accept that, or the takedown has ended the caller's session.
func (s *Store) Authenticate(ctx context.Context, who Caller) (a Account, err error) {
	a, _, err = s.Admit(ctx, who)
	return a, err
}

// Admit is [Store.Authenticate] that also returns the caller's preconditions, as a guard does.
func (s *Store) Admit(ctx context.Context, who Caller) (a Account, checks []storage.KVCheck, err error) {
	err = s.store.Repos.View(ctx, who.DID, func(r storage.Reader) error {
		a, checks, err = s.admit(ctx, r, who)
		return err
	})
	return a, checks, notFound(err)
}

// Guard returns a guard that checks a caller in the transaction of a change. Its errors are those
// of [Store.Authenticate].
func (s *Store) Guard(who Caller) repo.Guard {
	return func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error) {
		_, checks, err := s.admit(ctx, r, who)
		return checks, notFound(err)
	}
}

// View checks a caller, and calls fn with its account and a snapshot of the account's namespace.
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

// Update changes an account. fn modifies the account that it gets. It may read the step's snapshot,
// and add checks, writes and events to the step. If the account has changed in the meantime, fn is
// called again. fn must not change names or other fields by which accounts are found
// ([ErrNameChange]). Update returns the changed account.
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

// Kept says which credentials stay valid when the counter is raised.
type Kept struct {
	// AppPasswords keeps app passwords, and other grants that only a new password makes void.
	AppPasswords bool
	// Apps keeps the sessions of apps, whether they began with OAuth or with an app password.
	Apps bool
	// Session is the name of one session to keep. Empty means none.
	Session string
	// Traces: sessions that end are kept as void, so that it is known of each that it ended now and
	// not before.
	Traces bool
}

// Raise raises the account's counter in a step of Update: sessions, tokens and app passwords that
// carry the old value become void, except those in keep.
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

// OnRaise registers a function that is called in each step that raises a counter, with the account
// and its new value. fn carries over the credentials in keep to the new value, and deletes the
// others. A credential that fn overlooks is void in any case. Call OnRaise before the Store is
// used. Package credential uses it for sessions and app passwords.
func (s *Store) OnRaise(fn func(ctx context.Context, a Account, step *repo.Step, keep Kept) error) {
	s.raised = append(s.raised, fn)
}
