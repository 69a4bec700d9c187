package account

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// A Caller is on whose word an account is read or changed: that of a token of one of its
// sessions, or somebody who stands above those (Trusted). Every change that a session may make
// takes a Caller and looks at it in its own transaction.
type Caller struct {
	DID syntax.DID
	// Credentials is the value of the account's counter when the token was made.
	Credentials int64
	// Session is the name of the token's session. Tokens from before tokens had it have none.
	Session string
	// TakenDown accepts an account that was taken down.
	TakenDown bool

	trusted, returning bool
}

// Trusted is the caller for what an administrator, or the server itself, does with an account.
func Trusted(did syntax.DID) Caller { return Caller{DID: did, trusted: true} }

// Returning is the caller for what somebody does who proved to be the owner of an account's DID
// by another server's key, as of a moment at which the account was as given: for as long as it
// is deactivated, and its credentials have not changed.
func Returning(a Account) Caller {
	return Caller{DID: a.DID, Credentials: a.Credentials, returning: true}
}

// Authenticate returns the account of a caller, which must be good at the moment. The error is
// ErrNotFound, ErrTokenRevoked or ErrTakenDown.
//
// ErrTakenDown stands for two things, as clients are to be told of both alike: the account was
// taken down and the caller does not accept that; or it was good until the takedown, which ended
// all sessions.
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
	if errors.Is(err, storage.ErrNotFound) {
		err = ErrNotFound
	}
	return a, checks, err
}

// Guard returns what looks at a caller in the transaction of a change of its repository. Its
// errors are those of Authenticate.
func (s *Store) Guard(who Caller) repo.Guard {
	return func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error) {
		_, checks, err := s.admit(ctx, r, who)
		if errors.Is(err, storage.ErrNotFound) {
			err = ErrNotFound
		}
		return checks, err
	}
}

// admit checks that a caller is good in a snapshot. It returns the account, and what a change
// that relies on that must find as it is: the account and the session.
func (s *Store) admit(ctx context.Context, r storage.Reader, who Caller) (a Account, checks []storage.KVCheck, err error) {
	doc, err := r.Get(ctx, accountKey)
	if err != nil {
		return a, nil, err
	}
	checks = []storage.KVCheck{{Key: accountKey, Value: doc}}
	if a, err = s.parse(doc); err != nil || who.trusted {
		return a, checks, err
	}
	good := who.Credentials == a.Credentials && (!who.returning || !a.DeactivatedAt.IsZero())
	if who.Session != "" {
		// The session says under which value it is now: it may have been kept by a change that
		// ended the others.
		x, text, err := s.term(ctx, r, who.Session)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			good = false
		case err != nil:
			return a, nil, err
		default:
			good = x.credentials == a.Credentials && s.now().Before(x.expires)
			checks = append(checks, storage.KVCheck{Key: sessionPrefix + who.Session, Value: text})
		}
	}
	down := a.TakedownRef != ""
	switch {
	case !good && down && a.TakedownCredentials == a.Credentials && who.Credentials == a.Credentials-1:
		return a, nil, ErrTakenDown
	case !good:
		return a, nil, ErrTokenRevoked
	case down && !who.TakenDown:
		return a, nil, ErrTakenDown
	}
	return a, checks, nil
}

// raise adds to a step that an account's credentials have changed: nothing that was made under
// the value before is good any longer. A session of the name keep, if there is one, goes on.
// App passwords go on too where they are kept: what the step does not see is void all the same.
func (s *Store) raise(ctx context.Context, a *Account, r storage.Reader, c *storage.Change, keep string, keepApps bool) error {
	a.Credentials++
	a.CredentialsAt = s.now().UTC().Truncate(time.Millisecond)
	for x, err := range documents[chain](ctx, r, sessionPrefix) {
		if err != nil {
			return err
		}
		write := storage.KVWrite{Key: x.key}
		if keep != "" && x.key == sessionPrefix+keep {
			x.value.Credentials = a.Credentials
			if write, err = x.value.write(keep); err != nil {
				return err
			}
		}
		c.KV = append(c.KV, write)
	}
	for p, err := range documents[AppPassword](ctx, r, appPasswordPrefix) {
		if err != nil {
			return err
		}
		write := storage.KVWrite{Key: p.key}
		if keepApps && p.value.Credentials == a.Credentials-1 {
			p.value.Credentials = a.Credentials
			if write.Value, err = json.Marshal(p.value); err != nil {
				return err
			}
		}
		c.KV = append(c.KV, write)
	}
	return nil
}

// Deactivate makes an account inactive. It ends all sessions but the caller's. events makes
// those of the step from the account as it is then.
func (s *Store) Deactivate(ctx context.Context, who Caller, deleteAfter time.Time, events func(Account) []storage.Event) error {
	return s.change(ctx, who, func(a *Account, r storage.Reader, c *storage.Change) error {
		if a.DeactivatedAt.IsZero() {
			a.DeactivatedAt = s.now().UTC().Truncate(time.Millisecond)
		}
		a.DeleteAfter = deleteAfter
		if err := s.raise(ctx, a, r, c, who.Session, true); err != nil {
			return err
		}
		c.Events = append(c.Events, events(*a)...)
		return nil
	})
}

// voidMail adds to a step that no token that was sent by mail is good any longer.
func voidMail(c *storage.Change) {
	for _, p := range purposes {
		c.KV = append(c.KV, storage.KVWrite{Key: mailTokenPrefix + string(p)})
	}
}
