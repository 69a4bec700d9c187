package accounts

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// RefreshLife is how long a refresh token may be used.
const RefreshLife = 90 * 24 * time.Hour

// refreshGrace is how long a refresh token that was used may be used again, for a
// client that lost the answer. It then gets the same successor.
const refreshGrace = 2 * time.Hour

// Session is one refresh token of an account.
type Session struct {
	ID          string    `json:"-"`
	Expires     time.Time `json:"expires"`
	Next        string    `json:"next,omitempty"`        // ID of the successor, once used
	AppPassword string    `json:"appPassword,omitempty"` // name of the app password it began with
	Privileged  bool      `json:"privileged,omitempty"`  // of that app password
}

const sessionPrefix = "session/"

// newTokenID returns 256 random bits as text.
func newTokenID() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// write is a KVWrite of a session.
func (x Session) write() (storage.KVWrite, error) {
	doc, err := json.Marshal(x)
	return storage.KVWrite{Key: sessionPrefix + x.ID, Value: doc, Expires: x.Expires}, err
}

// NewSession prepares a session: its refresh token, and what to write in the account's namespace.
// app is the app password it begins with, or nil.
func (s *Store) NewSession(app *AppPassword) (x Session, write storage.KVWrite, err error) {
	x = Session{ID: newTokenID(), Expires: s.now().Add(RefreshLife)}
	if app != nil {
		x.AppPassword, x.Privileged = app.Name, app.Privileged
	}
	write, err = x.write()
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
// used before gives the same successor for two hours; then, and if it is not
// known, the error is ErrTokenRevoked.
func (s *Store) RotateSession(ctx context.Context, did syntax.DID, id string) (next Session, err error) {
	err = s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		doc, err := r.Get(ctx, sessionPrefix+id)
		if errors.Is(err, storage.ErrNotFound) {
			return ErrTokenRevoked
		} else if err != nil {
			return err
		}
		old := Session{ID: id}
		if err := json.Unmarshal(doc, &old); err != nil {
			return err
		}
		now := s.now()
		if !now.Before(old.Expires) {
			return ErrTokenRevoked
		}
		next = Session{ID: old.Next, Expires: now.Add(RefreshLife), AppPassword: old.AppPassword, Privileged: old.Privileged}
		if old.Next != "" {
			// Used before. Its successor must still be there: it may have been revoked.
			_, err := r.Get(ctx, sessionPrefix+old.Next)
			if errors.Is(err, storage.ErrNotFound) {
				return ErrTokenRevoked
			}
			return err
		}
		next.ID = newTokenID()
		old.Next = next.ID
		if grace := now.Add(refreshGrace); grace.Before(old.Expires) {
			old.Expires = grace
		}
		used, err1 := old.write()
		fresh, err2 := next.write()
		c.Checks = append(c.Checks, storage.KVCheck{Key: sessionPrefix + id, Value: doc})
		c.KV = append(c.KV, used, fresh)
		return errors.Join(err1, err2)
	})
	return next, err
}

// EndSession revokes a refresh token. One that is not known is no error.
func (s *Store) EndSession(ctx context.Context, did syntax.DID, id string) error {
	err := s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		c.KV = append(c.KV, storage.KVWrite{Key: sessionPrefix + id})
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
	for pair, err := range r.Keys(ctx, within(sessionPrefix)) {
		if err != nil {
			return err
		}
		var x Session
		if err := json.Unmarshal(pair.Value, &x); err != nil {
			return err
		}
		if name == "" || x.AppPassword == name {
			c.KV = append(c.KV, storage.KVWrite{Key: pair.Key})
		}
	}
	return nil
}
