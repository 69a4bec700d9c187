package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
)

func badToken(name, message string) error {
	return &xrpc.Error{Status: http.StatusBadRequest, Name: name, Message: message}
}

var errAuthMissing = &xrpc.Error{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required"}

// bearer returns the token of a request.
func bearer(r *xrpc.Request) (string, error) {
	h := r.Header.Get("Authorization")
	scheme, token, _ := strings.Cut(h, " ")
	switch {
	case h == "":
		return "", errAuthMissing
	case !strings.EqualFold(scheme, "bearer") || token == "":
		return "", badToken("InvalidToken", "Unexpected authorization type")
	}
	return strings.TrimSpace(token), nil
}

// authUser demands an access token.
func (s *Server) authUser(r *xrpc.Request) error {
	token, err := bearer(r)
	if err != nil {
		return err
	}
	c, err := s.verify(token, scopeAccess, false)
	if err != nil {
		return err
	}
	r.Principal = atproto.Principal{DID: syntax.DID(c.Subject)}
	return nil
}

// authOptional accepts an access token, the administrator's password, or nothing.
func (s *Server) authOptional(r *xrpc.Request) error {
	if r.Header.Get("Authorization") == "" {
		return nil
	}
	if _, _, ok := r.BasicAuth(); ok {
		return s.authAdmin(r)
	}
	return s.authUser(r)
}

// authAdmin demands the administrator's password.
func (s *Server) authAdmin(r *xrpc.Request) error {
	user, password, ok := r.BasicAuth()
	got, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(s.secrets.AdminPassword))
	if !ok || user != "admin" || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return &xrpc.Error{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required",
			Header: http.Header{"WWW-Authenticate": {`Basic realm="admin"`}}}
	}
	r.Principal = atproto.Principal{Admin: true}
	return nil
}

// refreshToken is the principal of the methods that take a refresh token.
type refreshToken struct {
	did syntax.DID
	id  string
}

// authRefresh demands a refresh token, which may have expired where that does no harm.
func (s *Server) authRefresh(expired bool) xrpc.Authenticator {
	return func(r *xrpc.Request) error {
		token, err := bearer(r)
		if err != nil {
			return err
		}
		c, err := s.verify(token, scopeRefresh, expired)
		if err != nil {
			return err
		}
		if c.ID == "" {
			return badToken("InvalidToken", "Unexpected missing refresh token id")
		}
		r.Principal = refreshToken{syntax.DID(c.Subject), c.ID}
		return nil
	}
}

// account is the account of the caller.
func (s *Server) account(r *xrpc.Request, did syntax.DID) (accounts.Account, error) {
	a, err := s.accounts.ByDID(r.Context(), did)
	if errors.Is(err, accounts.ErrNotFound) {
		return a, &xrpc.Error{Status: http.StatusForbidden, Name: "AccountNotFound", Message: "Account not found"}
	}
	return a, err
}
