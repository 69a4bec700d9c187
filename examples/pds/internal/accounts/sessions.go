package accounts

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
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
}

// chain is a session as it is stored, by its name.
type chain struct {
	Session
	Current string      `json:"current"`        // own part of the token that is good
	Used    []usedToken `json:"used,omitempty"` // those before it that are in their grace, in their order
	Expires time.Time   `json:"expires"`
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

// NewSession prepares a session: its refresh token, and what to write in the account's namespace.
// app is the app password it begins with, or nil.
func (s *Store) NewSession(app *AppPassword) (x Session, write storage.KVWrite, err error) {
	if app != nil {
		x.AppPassword, x.Privileged = app.Name, app.Privileged
	}
	name, first := rand.Text(), rand.Text()
	x.ID = name + "." + first
	write, err = chain{Session: x, Current: first, Expires: s.now().Add(RefreshLife)}.write(name)
	return x, write, err
}

// StartSession opens a session.
func (s *Store) StartSession(ctx context.Context, did syntax.DID, app *AppPassword) (Session, error) {
	x, write, err := s.NewSession(app)
	if err != nil {
		return x, err
	}
	return x, s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		c.KV = append(c.KV, write)
		return nil
	})
}

// RotateSession exchanges a refresh token for its successor. A token that was
// used before gives the same successor for two hours. After that it has been in the hands
// of two: nobody knows who of them is the owner, so the session ends, with all its tokens. The
// error is then ErrTokenRevoked, as for a token that is not known.
func (s *Store) RotateSession(ctx context.Context, did syntax.DID, id string) (next Session, err error) {
	name, own, _ := strings.Cut(id, ".")
	revoked := false
	err = s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		doc, err := r.Get(ctx, sessionPrefix+name)
		if errors.Is(err, storage.ErrNotFound) {
			return ErrTokenRevoked
		} else if err != nil {
			return err
		}
		var x chain
		if err := json.Unmarshal(doc, &x); err != nil {
			return err
		}
		now := s.now()
		if !now.Before(x.Expires) {
			return ErrTokenRevoked
		}
		x.Used = slices.DeleteFunc(x.Used, func(u usedToken) bool { return !now.Before(u.Until) })
		successor, fresh := x.successor(own)
		c.Checks = append(c.Checks, storage.KVCheck{Key: sessionPrefix + name, Value: doc})
		next, revoked = x.Session, false
		switch {
		case fresh:
			x.Used = append(x.Used, usedToken{own, now.Add(refreshGrace)})
			x.Used = x.Used[max(0, len(x.Used)-maxUsed):]
			x.Current, x.Expires = rand.Text(), now.Add(RefreshLife)
			next.ID = name + "." + x.Current
			write, err := x.write(name)
			c.KV = append(c.KV, write)
			return err
		case successor != "":
			next.ID = name + "." + successor
			return nil
		}
		revoked = true
		c.KV = append(c.KV, storage.KVWrite{Key: sessionPrefix + name})
		return nil
	})
	if err == nil && revoked {
		err = ErrTokenRevoked
	}
	return next, err
}

// successor finds the token that one was exchanged for; empty if it is none of the session's that may
// be used. The current one is fresh: it has no successor yet.
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
	err := s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		c.KV = append(c.KV, storage.KVWrite{Key: sessionPrefix + name})
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// endSessions revokes the sessions that began with an app password; with an empty
// name, all.
func endSessions(ctx context.Context, r storage.Reader, name string, c *storage.Change) error {
	for x, err := range documents[chain](ctx, r, sessionPrefix) {
		if err != nil {
			return err
		}
		if name == "" || x.value.AppPassword == name {
			c.KV = append(c.KV, storage.KVWrite{Key: x.key})
		}
	}
	return nil
}
