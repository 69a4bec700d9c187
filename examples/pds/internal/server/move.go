package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// createMovedAccount makes an account for a DID that exists, and whose owner
// proves to be it by a service token. It starts deactivated and with an empty repository, and
// nobody is told. If it was made before and is still deactivated, so that the move was
// interrupted, a new session is all it needs.
func (s *Server) createMovedAccount(ctx context.Context, r *xrpc.Request, a accounts.Account, in createAccountInput) (out createAccountOutput, err error) {
	if requester, _ := r.Principal.(syntax.DID); requester != in.DID {
		return out, &xrpc.Error{Status: http.StatusUnauthorized, Message: "Missing auth to create account with did: " + string(in.DID)}
	}
	a.DID = in.DID
	switch have, err := s.accounts.ByDID(ctx, a.DID); {
	case err == nil && have.DeactivatedAt.IsZero():
		return out, xrpc.InvalidRequest("Account already exists: %s", a.DID)
	case err == nil:
		return s.movedSession(ctx, have)
	case !errors.Is(err, accounts.ErrNotFound):
		return out, err
	}
	key, err := s.accounts.ReservedKey(ctx, a.DID)
	if err == nil && key == nil {
		key, err = crypto.GenerateKey(crypto.K256)
	}
	if err != nil {
		return out, err
	}
	if err := s.reserve(ctx, a); err != nil {
		return out, err
	}
	ctx = context.WithoutCancel(ctx)
	a.Password = accounts.HashPassword(in.Password)
	a.DeactivatedAt = time.Now().UTC().Truncate(time.Millisecond)
	if _, err := s.accounts.Create(ctx, s.host, a, key, repo.Batch{Silent: true}); err != nil {
		return out, errors.Join(err, s.accounts.Release(ctx, a))
	}
	if err := s.accounts.ReleaseKey(ctx, a.DID); err != nil {
		s.log.Error("forget a reserved key", "did", a.DID, "err", err)
	}
	return s.movedSession(ctx, a)
}

// movedSession opens a session of an account that moves here.
func (s *Server) movedSession(ctx context.Context, a accounts.Account) (out createAccountOutput, err error) {
	x, err := s.accounts.StartSession(ctx, a.DID, nil)
	if err != nil {
		return out, err
	}
	out = createAccountOutput{Handle: a.Handle, DID: a.DID, DIDDoc: s.document(ctx, a.DID)}
	out.AccessJWT, out.RefreshJWT, err = s.tokens(a, x)
	return out, err
}

// optionalService accepts the service token of an account elsewhere, or nothing. It sets the
// request's principal to the account's DID.
func (s *Server) optionalService() xrpc.Authenticator {
	demand := s.services.Authenticator(func(r *xrpc.Request, t serviceauth.Token) error {
		if t.Issuer != string(t.DID()) {
			return &xrpc.Error{Status: http.StatusUnauthorized, Name: "UntrustedIss", Message: "Untrusted issuer"}
		}
		r.Principal = t.DID()
		return nil
	})
	return func(r *xrpc.Request) error {
		if r.Header.Get("Authorization") == "" {
			return nil
		}
		return demand(r)
	}
}
