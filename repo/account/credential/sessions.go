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

// RefreshLife is how long a refresh token may be used.
const RefreshLife = 90 * 24 * time.Hour

// refreshGrace is how long a refresh token that was used may be used again, for a
// client that lost the answer. It then gets the same successor.
const refreshGrace = 2 * time.Hour

// maxUsed bounds how many used tokens of a session are remembered for their grace.
const maxUsed = 200

// Session is a session of an account: a chain of refresh tokens, of which the last is good.
type Session struct {
	// ID is that of a refresh token: the name of the session, a dot, and the token's own part.
	ID          string `json:"-"`
	AppPassword string `json:"appPassword,omitempty"` // name of the app password it began with
	Privileged  bool   `json:"privileged,omitempty"`  // of that app password
	// Credentials is the value of the account's counter that it was made under.
	Credentials int64 `json:"credentials,omitempty"`
}

// Name is the part of the ID that stays the same for as long as the session lasts.
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

// NewSession prepares a session of an account: its refresh token, and what to write in the
// account's namespace, in the step that makes the account. app is the app password it begins with,
// or nil. For an account that is there, see StartSession.
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

// StartSession opens a session for somebody who has logged in. If the account's password, or the
// app password, is not what it was then, the error is ErrWrongPassword; if a second factor is
// missing, ErrFactorRequired, and if it is not there any more, ErrWrongFactor. If the account was
// taken down it is account.ErrTakenDown, unless that is accepted; app passwords open no session of
// such an account. The account returned is that of the moment at which the session began. Of more
// than 1000 sessions, the oldest end.
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

// RotateSession exchanges a refresh token for its successor. A token that was
// used before gives the same successor for two hours. After that it has been in the hands
// of two: nobody knows who of them is the owner, so the session ends, with all its tokens. The
// error is then account.ErrTokenRevoked, as for a token that is not known, or whose app password is
// not there any more, or that was made under other credentials. It is account.ErrTakenDown for an
// account that was taken down. The account returned is that of the moment of the exchange.
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

// EndSession revokes a session, given any of its refresh tokens. One that is not known is no error.
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
	// Name names the session within the account. Nothing can be done with it but to end the
	// session.
	Name string
	// AppPassword is the name of the app password it began with; empty: the account's password.
	AppPassword string
	// Created is when it began; zero for those of versions that did not note it. Renewed is when
	// its tokens were renewed last: that is when it was last used, to a few hours, since clients
	// renew tokens while they use them. Ends is when it ends if it is not renewed.
	Created, Renewed, Ends time.Time
	// From is Config.From of who renewed it last. It may be empty.
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

// Sessions returns the sessions of an account that go on, on the word of a caller, the last renewed
// first.
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

// EndOpenSession ends a session by its name (OpenSession.Name), for a caller. It is no error if no
// session has the name.
func (s *Store) EndOpenSession(ctx context.Context, who account.Caller, name string) error {
	_, err := s.accounts.Update(ctx, who, func(_ *account.Account, step *repo.Step) error {
		step.Remove(sessionPrefix + name)
		return nil
	})
	return err
}

// EndSessions signs an account out everywhere: all sessions end, but for that of the caller. App
// passwords stay.
func (s *Store) EndSessions(ctx context.Context, who account.Caller) error {
	_, err := s.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		return s.accounts.Raise(ctx, a, step, account.Kept{AppPasswords: true, Session: who.Session})
	})
	return err
}

// EndOtherSessions is EndSessions that leaves apps alone: those let in by OAuth, and those with
// passwords of their own.
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
