package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
)

func badToken(name, message string) error {
	return &xrpc.Error{Status: http.StatusBadRequest, Name: name, Message: message}
}

var (
	errAuthMissing     = &xrpc.Error{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required"}
	errTakenDown       = &xrpc.Error{Status: http.StatusUnauthorized, Name: "AccountTakedown", Message: "Account has been taken down"}
	errAccountNotFound = &xrpc.Error{Status: http.StatusForbidden, Name: "AccountNotFound", Message: "Account not found"}
)

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

// access is which sessions a method accepts.
type access struct {
	full       bool // not those of app passwords
	takendown  bool // also that of an account that was taken down
	notRemoved bool // the account must not be taken down
	unchecked  bool // the handler looks at the account itself
}

// scopes are those that the method accepts.
func (a access) scopes() []string {
	list := []string{scopeAccess}
	if !a.full {
		list = append(list, scopeAppPassword, scopePrivileged)
	}
	if a.takendown {
		list = append(list, scopeTakendown)
	}
	return list
}

// user demands an access token of certain kinds. It sets the request's principal; the principal's Session is
// the token's scope.
func (s *Server) user(a access) xrpc.Authenticator {
	scopes := a.scopes()
	return func(r *xrpc.Request) error {
		token, err := bearer(r)
		if err != nil {
			return err
		}
		c, err := s.verify(token, false, scopes...)
		if err != nil {
			return err
		}
		p := atproto.Principal{DID: syntax.DID(c.Subject), Session: c.Scope}
		if c.Scope != scopeAccess {
			p.Permit = permitApp
		}
		if !a.unchecked {
			if acct, err := s.account(r, p.DID); err != nil {
				return err
			} else if a.notRemoved && acct.Status() == atproto.TakenDown {
				return errTakenDown
			}
		}
		r.Principal = p
		return nil
	}
}

// permitApp is what app passwords may do to a repository: all but replace it.
func permitApp(action, _ string) error {
	if action == "manage" {
		return badToken("InvalidToken", "Bad token scope")
	}
	return nil
}

// caller is the account that makes a request.
func caller(r *xrpc.Request) syntax.DID {
	p, _ := r.Principal.(atproto.Principal)
	return p.DID
}

// hasScope reports whether the caller's session has one of the scopes.
func hasScope(r *xrpc.Request, scopes ...string) bool {
	p, _ := r.Principal.(atproto.Principal)
	scope, _ := p.Session.(string)
	return slices.Contains(scopes, scope)
}

// optional accepts an access token, the administrator's password, or nothing.
func (s *Server) optional() xrpc.Authenticator {
	user := s.user(access{takendown: true, unchecked: true})
	return func(r *xrpc.Request) error {
		if r.Header.Get("Authorization") == "" {
			return nil
		}
		if _, _, ok := r.BasicAuth(); ok {
			return s.admin(r)
		}
		return user(r)
	}
}

// admin demands the administrator's password.
func (s *Server) admin(r *xrpc.Request) error {
	user, password, ok := r.BasicAuth()
	got, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(s.secrets.AdminPassword))
	if !ok || user != "admin" || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return &xrpc.Error{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required",
			Header: http.Header{"Www-Authenticate": {`Basic realm="admin"`}}}
	}
	r.Principal = atproto.Principal{Admin: true}
	return nil
}

// refreshToken is the principal of the methods that take a refresh token.
type refreshToken struct {
	did syntax.DID
	id  string
}

// refresh demands a refresh token, which may have expired where that does no harm.
func (s *Server) refresh(expired bool) xrpc.Authenticator {
	return func(r *xrpc.Request) error {
		token, err := bearer(r)
		if err != nil {
			return err
		}
		c, err := s.verify(token, expired, scopeRefresh)
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
		err = errAccountNotFound
	}
	return a, err
}
