package account

import (
	"context"
	"crypto/rand"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const userHandlePrefix = "userhandle/"

// UserHandle returns the account of a caller, with UserHandle set: a random name by which
// authenticators know the account (WebAuthn §5.4.3), and which says nothing about it. The first
// call makes the name, which never changes.
func (s *Store) UserHandle(ctx context.Context, who Caller) (a Account, err error) {
	for {
		if a, err = s.Authenticate(ctx, who); err != nil || a.UserHandle != "" {
			return a, err
		}
		handle := rand.Text()
		err := s.reindex(ctx, who, indexChange{
			taken: storage.ErrConflict,
			next: func(a *Account) {
				if a.UserHandle == "" {
					a.UserHandle = handle
				}
			},
		})
		if err != nil {
			return a, err
		}
	}
}

// ByUserHandle returns the account with a UserHandle, or [ErrNotFound].
func (s *Store) ByUserHandle(ctx context.Context, handle string) (a Account, err error) {
	if handle == "" || len(handle) > 64 { // of WebAuthn
		return a, ErrNotFound
	}
	var did syntax.DID
	err = s.store.KV.Read(ctx, func(r storage.KVReader) error {
		v, err := r.Get(ctx, userHandlePrefix+handle)
		did = syntax.DID(v)
		return err
	})
	if err != nil {
		return a, notFound(err)
	}
	if a, err = s.ByDID(ctx, did); err == nil && a.UserHandle != handle {
		return Account{}, ErrNotFound // it is about to get it
	}
	return a, err
}

// Secrets of an account's namespace that are sealed, as its signing keys are: those that a change
// of the master key seals anew.
var sealedKeys = []string{signingKey, nextKey, FactorSecretKey, FactorEnrolmentKey}

// Keys at which package credential keeps sealed secrets.
const (
	FactorSecretKey    = "factor/totp"
	FactorEnrolmentKey = "factor/enrolment"
)

// Seal seals a secret for an account's FactorSecretKey or FactorEnrolmentKey.
func (s *Store) Seal(did syntax.DID, key string, secret []byte) []byte {
	return s.keys.box.Seal(place(did, key), secret)
}

// Unseal opens what [Store.Seal] has sealed.
func (s *Store) Unseal(did syntax.DID, key string, sealed []byte) ([]byte, error) {
	return s.keys.box.Open(place(did, key), sealed)
}
