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

// session is one refresh token of an account.
type session struct {
	Expires time.Time `json:"expires"`
	Next    string    `json:"next,omitempty"` // ID of the successor, once used
}

const sessionPrefix = "session/"

// newTokenID returns 256 random bits as text.
func newTokenID() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// write is a KVWrite of a session.
func (x session) write(id string) (storage.KVWrite, error) {
	doc, err := json.Marshal(x)
	return storage.KVWrite{Key: sessionPrefix + id, Value: doc, Expires: x.Expires}, err
}

// NewSession prepares a session: the ID of its refresh token, and what to write
// in the account's namespace.
func (s *Store) NewSession() (id string, write storage.KVWrite, err error) {
	id = newTokenID()
	write, err = session{Expires: s.now().Add(RefreshLife)}.write(id)
	return id, write, err
}

// StartSession opens a session and returns the ID of its refresh token.
func (s *Store) StartSession(ctx context.Context, did syntax.DID) (string, error) {
	id, write, err := s.NewSession()
	if err != nil {
		return "", err
	}
	return id, s.update(ctx, did, func(storage.Reader) ([]storage.KVCheck, []storage.KVWrite, error) {
		return nil, []storage.KVWrite{write}, nil
	})
}

// RotateSession exchanges a refresh token for its successor. A token that was
// used before gives the same successor for two hours; then, and if it is not
// known, the error is ErrTokenRevoked.
func (s *Store) RotateSession(ctx context.Context, did syntax.DID, id string) (next string, err error) {
	err = s.update(ctx, did, func(r storage.Reader) ([]storage.KVCheck, []storage.KVWrite, error) {
		doc, err := r.Get(ctx, sessionPrefix+id)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, nil, ErrTokenRevoked
		} else if err != nil {
			return nil, nil, err
		}
		var old session
		if err := json.Unmarshal(doc, &old); err != nil {
			return nil, nil, err
		}
		now := s.now()
		if !now.Before(old.Expires) {
			return nil, nil, ErrTokenRevoked
		}
		if old.Next != "" {
			next = old.Next
			return nil, nil, nil
		}
		next = newTokenID()
		old.Next = next
		if grace := now.Add(refreshGrace); grace.Before(old.Expires) {
			old.Expires = grace
		}
		used, err1 := old.write(id)
		fresh, err2 := session{Expires: now.Add(RefreshLife)}.write(next)
		return []storage.KVCheck{{Key: sessionPrefix + id, Value: doc}}, []storage.KVWrite{used, fresh}, errors.Join(err1, err2)
	})
	return next, err
}

// EndSession revokes a refresh token. One that is not known is no error.
func (s *Store) EndSession(ctx context.Context, did syntax.DID, id string) error {
	err := s.update(ctx, did, func(r storage.Reader) ([]storage.KVCheck, []storage.KVWrite, error) {
		return nil, []storage.KVWrite{{Key: sessionPrefix + id}}, nil
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// maxRetries bounds how often a lost race is run again.
const maxRetries = 20

// update changes an account's namespace after reading it: fn returns what must
// still hold, and what to write. It may be called more than once.
func (s *Store) update(ctx context.Context, did syntax.DID, fn func(storage.Reader) ([]storage.KVCheck, []storage.KVWrite, error)) error {
	for try := 0; ; try++ {
		var change storage.Change
		err := s.store.Repos.View(ctx, did, func(r storage.Reader) (err error) {
			change.Prev, change.Head = r.Head(), r.Head()
			change.Checks, change.KV, err = fn(r)
			return err
		})
		if errors.Is(err, storage.ErrNotFound) {
			return ErrNotFound
		}
		if err != nil || len(change.KV) == 0 {
			return err
		}
		_, err = s.store.Repos.Apply(ctx, did, &change)
		if !errors.Is(err, storage.ErrConflict) || try == maxRetries {
			return err
		}
	}
}
