package credential

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// RefreshLife is how long a refresh token is valid.
const RefreshLife = 90 * 24 * time.Hour

// refreshGrace is how long a refresh token that was used may be used again, for a
// client that lost the answer. It then gets the same successor.
const refreshGrace = 2 * time.Hour

// maxUsed bounds how many used tokens of a session are remembered for their grace.
const maxUsed = 200

// Session is a session of an account: a chain of refresh tokens. Only the last one is valid.
type Session struct {
	// ID is the ID of a refresh token: the name of the session, a dot, and a part of the token's
	// own.
	ID          string `json:"-"`
	AppPassword string `json:"appPassword,omitempty"` // name of the app password it began with
	Privileged  bool   `json:"privileged,omitempty"`  // of that app password
	// Credentials is the value of the account's counter under which the session was made.
	Credentials int64 `json:"credentials,omitempty"`
}

// Name returns the part of the ID that is the same for the whole session.
func (x Session) Name() string {
	name, _, _ := strings.Cut(x.ID, ".")
	return name
}

// chain is a session as it is stored, by its name.
type chain struct {
	Session
	AppHash string      `json:"appHash,omitempty"` // of that app password, since another may get its name
	Current string      `json:"current"`           // own part of the token that is good
	Used    []usedToken `json:"used,omitempty"`    // those before it that are in their grace, in their order
	Created time.Time   `json:"created,omitzero"`  // zero: before this was kept
	Expires time.Time   `json:"expires"`
	From    string      `json:"from,omitempty"` // where it was last renewed: Config.From
}

type usedToken struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until"`
}

const sessionPrefix = "session/"

// write is a KVWrite of a session.
func (x chain) write(name string) (storage.KVWrite, error) {
	doc, err := json.Marshal(x)
	return storage.KVWrite{Key: sessionPrefix + name, Value: doc, Expires: x.Expires}, err
}

// NewSession prepares the first session of an account that is about to be made: its refresh token,
// and the write for the batch that makes the account. app is the app password of the session, or
// nil. For an existing account, use [Store.StartSession].
func (s *Store) NewSession(a account.Account, app *AppPassword) (x Session, write storage.KVWrite, err error) {
	return s.newSession(a, app, "")
}

func (s *Store) newSession(a account.Account, app *AppPassword, from string) (x Session, write storage.KVWrite, err error) {
	x.Credentials = a.Credentials
	now := s.now()
	c := chain{Created: now.UTC(), Expires: now.Add(RefreshLife), From: from}
	if app != nil {
		x.AppPassword, x.Privileged, c.AppHash = app.Name, app.Privileged, app.Hash
	}
	name := rand.Text()
	c.Session, c.Current = x, rand.Text()
	x.ID = name + "." + c.Current
	write, err = c.write(name)
	return x, write, err
}

// readSession returns a session by its name, and the text that it is stored as.
func readSession(ctx context.Context, r storage.KVReader, name string) (x chain, doc []byte, err error) {
	if doc, err = r.Get(ctx, sessionPrefix+name); err == nil {
		err = json.Unmarshal(doc, &x)
	}
	return x, doc, err
}

// term is until when a session is good: a moment, and another value of the account's counter.
type term struct {
	credentials int64
	expires     time.Time
}

// term returns that of a session by its name, and the text that the session is stored as.
func (s *Store) term(ctx context.Context, r storage.KVReader, name string) (x term, doc []byte, err error) {
	if doc, err = r.Get(ctx, sessionPrefix+name); err != nil {
		return x, nil, err
	}
	x, err = s.terms.Of(doc, func(doc []byte) (term, error) {
		var c chain
		err := json.Unmarshal(doc, &c)
		return term{c.Credentials, c.Expires}, err
	})
	return x, doc, err
}

// StartSession opens a session for a login. If the password or app password has changed since, the
// error is [ErrWrongPassword]. If a second factor is missing, it is [ErrFactorRequired], and if the
// factor was removed, [ErrWrongFactor]. If the account is taken down, it is [account.ErrTakenDown],
// unless takenDown is set and the login was not with an app password. The returned account is that
// of the same transaction. An account has at most 1000 sessions; a new one ends the oldest.
func (s *Store) StartSession(ctx context.Context, p Proof, takenDown bool) (a account.Account, x Session, err error) {
	a, err = s.accounts.Update(ctx, account.Trusted(p.Account.DID), func(now *account.Account, step *repo.Step) error {
		checks, err := s.ProofChecks(ctx, step, *now, p)
		if err != nil {
			return err
		}
		step.Checks = append(step.Checks, checks...)
		if now.TakedownRef != "" && (!takenDown || p.App != nil) {
			return account.ErrTakenDown
		}
		if err := makeRoom(ctx, *now, step); err != nil {
			return err
		}
		var write storage.KVWrite
		x, write, err = s.newSession(*now, p.App, s.origin(ctx))
		step.KV = append(step.KV, write)
		return err
	})
	if errors.Is(err, account.ErrNotFound) {
		err = ErrWrongPassword
	}
	return a, x, err
}

// maxSessions bounds the sessions of an account, all of which are looked at when its counter is
// raised.
const maxSessions = 1000

// makeRoom adds to a step the end of sessions that are too many beside a new one: first of those that
// are void, then of those that were never renewed, as those of programs that log in each time, then
// of those that were renewed the longest ago.
func makeRoom(ctx context.Context, a account.Account, step *repo.Step) error {
	rank := func(x chain) int {
		switch {
		case x.Credentials != a.Credentials:
			return 0
		case x.Created.Add(RefreshLife).Equal(x.Expires):
			return 1
		}
		return 2
	}
	keys, err := storedjson.Surplus(ctx, step, sessionPrefix, maxSessions, func(x, y chain) int {
		return cmp.Or(rank(x)-rank(y), x.Expires.Compare(y.Expires))
	})
	for _, key := range keys {
		step.Remove(key)
	}
	return err
}

// RotateSession exchanges a refresh token for its successor. A token that is used again within two
// hours gives the same successor. A later use means that two parties have the token, and nobody
// knows which of them is the owner. So the session ends, with all its tokens.
//
// The error is then [account.ErrTokenRevoked], as it is for an unknown token, for one whose app
// password was revoked, and for one with an outdated counter. For an account that is taken down it
// is [account.ErrTakenDown]. The returned account is that of the same transaction.
func (s *Store) RotateSession(ctx context.Context, did syntax.DID, id string) (a account.Account, next Session, err error) {
	name, own, _ := strings.Cut(id, ".")
	revoked := false
	a, err = s.accounts.Update(ctx, account.Trusted(did), func(a *account.Account, step *repo.Step) error {
		revoked = false
		if a.TakedownRef != "" {
			return account.ErrTakenDown
		}
		x, doc, err := readSession(ctx, step, name)
		if errors.Is(err, storage.ErrNotFound) {
			return account.ErrTokenRevoked
		} else if err != nil {
			return err
		}
		step.Expect(sessionPrefix+name, doc)
		end := func() error {
			revoked = true
			step.Remove(sessionPrefix + name)
			return nil
		}
		if !s.now().Before(x.Expires) || x.Credentials != a.Credentials {
			return end()
		}
		if x.AppPassword != "" {
			check, err := sameApp(ctx, step, *a, x.AppPassword, x.AppHash)
			if errors.Is(err, storage.ErrNotFound) {
				return end()
			} else if err != nil {
				return err
			}
			step.Checks = append(step.Checks, check)
		}
		x.Used = slices.DeleteFunc(x.Used, func(u usedToken) bool { return !s.now().Before(u.Until) })
		successor, fresh := x.successor(own)
		next = x.Session
		switch {
		case fresh:
			x.Used = append(x.Used, usedToken{own, s.now().Add(refreshGrace)})
			x.Used = x.Used[max(0, len(x.Used)-maxUsed):]
			x.Current, x.Expires, x.From = rand.Text(), s.now().Add(RefreshLife), s.origin(ctx)
			next.ID = name + "." + x.Current
			write, err := x.write(name)
			step.KV = append(step.KV, write)
			return err
		case successor != "":
			next.ID = name + "." + successor
			return nil
		}
		return end()
	})
	if err == nil && revoked {
		err = account.ErrTokenRevoked
	}
	if err != nil {
		next = Session{}
	}
	return a, next, err
}

// successor finds the token that one was exchanged for; empty if it is none of the session's that
// may be used. The current one is fresh: it has no successor yet.
func (x *chain) successor(own string) (next string, fresh bool) {
	if own == x.Current {
		return "", true
	}
	i := slices.IndexFunc(x.Used, func(u usedToken) bool { return u.ID == own })
	switch {
	case i < 0:
		return "", false
	case i == len(x.Used)-1:
		return x.Current, false
	}
	return x.Used[i+1].ID, false
}

// EndSession revokes a session, given any of its refresh tokens. An unknown one is not an error.
func (s *Store) EndSession(ctx context.Context, did syntax.DID, id string) error {
	name, _, _ := strings.Cut(id, ".")
	_, err := s.accounts.Update(ctx, account.Trusted(did), func(_ *account.Account, step *repo.Step) error {
		step.Remove(sessionPrefix + name)
		return nil
	})
	if errors.Is(err, account.ErrNotFound) {
		return nil
	}
	return err
}

// OpenSession describes a current session to the owner of its account.
type OpenSession struct {
	// Name identifies the session within the account. It is no secret: it can only be used to end
	// the session.
	Name string
	// AppPassword is the name of the app password it began with; empty: the account's password.
	AppPassword string
	// Created is when the session began; it is zero for sessions of early versions. Renewed is when
	// its tokens were last renewed. Clients renew tokens while they use them, so this is when the
	// session was last used, within a few hours. Ends is when it ends if it is not renewed.
	Created, Renewed, Ends time.Time
	// From is Config.From of the last renewal. It may be empty.
	From string
}

// maxFrom is the length in bytes of the longest Config.From that is kept.
const maxFrom = 128

// origin is where the request of a context comes from.
func (s *Store) origin(ctx context.Context) string {
	if s.from == nil {
		return ""
	}
	text := s.from(ctx)
	return strings.ToValidUTF8(text[:min(len(text), maxFrom)], "")
}

// Sessions returns the current sessions of a caller's account, the last renewed first.
func (s *Store) Sessions(ctx context.Context, who account.Caller) (list []OpenSession, err error) {
	err = s.accounts.View(ctx, who, func(a account.Account, r storage.KVReader) error {
		list = nil
		for x, err := range storedjson.Documents[chain](ctx, r, sessionPrefix) {
			if err != nil {
				return err
			}
			c := x.Value
			if c.Credentials != a.Credentials || !s.now().Before(c.Expires) {
				continue
			}
			list = append(list, OpenSession{
				Name: strings.TrimPrefix(x.Key, sessionPrefix), AppPassword: c.AppPassword,
				Created: c.Created, Renewed: c.Expires.Add(-RefreshLife), Ends: c.Expires, From: c.From,
			})
		}
		return nil
	})
	slices.SortFunc(list, func(a, b OpenSession) int { return b.Renewed.Compare(a.Renewed) })
	return list, err
}

// EndOpenSession ends a session of the caller's account by its name (OpenSession.Name). An unknown
// name is not an error.
func (s *Store) EndOpenSession(ctx context.Context, who account.Caller, name string) error {
	_, err := s.accounts.Update(ctx, who, func(_ *account.Account, step *repo.Step) error {
		step.Remove(sessionPrefix + name)
		return nil
	})
	return err
}

// EndSessions signs an account out everywhere: it ends all sessions but the caller's. App passwords
// stay valid.
func (s *Store) EndSessions(ctx context.Context, who account.Caller) error {
	_, err := s.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		return s.accounts.Raise(ctx, a, step, account.Kept{AppPasswords: true, Session: who.Session})
	})
	return err
}

// EndOtherSessions is [Store.EndSessions] that does not end the sessions of apps: those that began
// with OAuth or with an app password.
func (s *Store) EndOtherSessions(ctx context.Context, who account.Caller) error {
	_, err := s.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		return s.accounts.Raise(ctx, a, step, account.Kept{AppPasswords: true, Apps: true, Session: who.Session})
	})
	return err
}

// endSessions adds to a step the end of the sessions that began with an app password.
func endSessions(ctx context.Context, step *repo.Step, name string) error {
	for x, err := range storedjson.Documents[chain](ctx, step, sessionPrefix) {
		if err != nil {
			return err
		}
		if x.Value.AppPassword == name {
			step.Remove(x.Key)
		}
	}
	return nil
}
