package session

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
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
	errTokenRevoked    = badToken("ExpiredToken", "Token has been revoked")
)

// Answer is what a client is told of an error of package account. Others are returned as they
// are. Anything may have become of the account or the session while a method ran, so all methods
// end here, unless they have something better to say.
func Answer(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, account.ErrTokenRevoked):
		return errTokenRevoked
	case errors.Is(err, account.ErrTakenDown):
		return errTakenDown
	case errors.Is(err, account.ErrNotFound), errors.Is(err, repo.ErrRepoNotFound):
		return errAccountNotFound
	case errors.Is(err, credential.ErrMailToken):
		return badToken("InvalidToken", "Token is invalid")
	case errors.Is(err, credential.ErrMailTokenExpired):
		return badToken("ExpiredToken", "Token is expired")
	case errors.Is(err, credential.ErrMailTokenRequired):
		return badToken("TokenRequired", "confirmation token required")
	case errors.Is(err, credential.ErrOtherEmail):
		return badToken("InvalidEmail", "invalid email")
	case errors.Is(err, credential.ErrNoEmail):
		return xrpc.InvalidRequest("account does not have an email address")
	case errors.Is(err, account.ErrEmailTaken):
		return xrpc.InvalidRequest("This email address is already in use, please use a different email.")
	case errors.Is(err, storage.ErrConflict):
		return &xrpc.Error{Status: http.StatusConflict, Name: "ConcurrentWrites", Message: "The account is being changed from elsewhere, please try again"}
	}
	return err
}

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

// Access is which sessions a method accepts.
type Access struct {
	Full      bool // not those of app passwords
	TakenDown bool // also that of an account that was taken down
	Reads     bool // also one that the takedown ended: the method shows the account its own data
}

// scopes are those that the method accepts.
func (a Access) scopes() []string {
	list := []string{ScopeAccess}
	if !a.Full {
		list = append(list, ScopeAppPassword, ScopePrivileged)
	}
	if a.TakenDown {
		list = append(list, ScopeTakendown)
	}
	return list
}

// session is what the Session of a principal of package atproto is here.
type session struct {
	scope string
	who   account.Caller
}

// User demands an access token of certain kinds, of a session that goes on. Whatever the method
// changes must be changed on the word of the caller that it finds in the principal, so that it is
// looked at in the transaction too.
func (s *Sessions) User(a Access) xrpc.Authenticator {
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
		who := s.credentials.Caller(credential.Token{DID: syntax.DID(c.Subject), Credentials: c.Credentials, Session: c.Session, TakenDown: a.TakenDown})
		acct, checks, err := s.accounts.Admit(r.Context(), who)
		p := atproto.Principal{DID: who.DID, Session: session{c.Scope, who}, Guard: s.guard(who)}
		switch {
		case err == nil:
			p.Seen = &atproto.Seen{Account: Hosted(acct), Checks: checks}
		case !a.Reads || !errors.Is(err, account.ErrTakenDown):
			return Answer(err)
		}
		if c.Scope != ScopeAccess {
			p.Permit = permitApp
		}
		r.Principal = p
		return nil
	}
}

// guard looks at a caller in the transaction of a change of its repository.
func (s *Sessions) guard(who account.Caller) repo.Guard {
	check := s.accounts.Guard(who)
	return func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error) {
		checks, err := check(ctx, r)
		return checks, Answer(err)
	}
}

// By is the caller on whose word a method changes an account.
func By(r *xrpc.Request) account.Caller {
	p, _ := r.Principal.(atproto.Principal)
	x, _ := p.Session.(session)
	return x.who
}

// permitApp is what app passwords may do to a repository: all but replace it.
func permitApp(action, _ string) error {
	if action == "manage" {
		return badToken("InvalidToken", "Bad token scope")
	}
	return nil
}

// Caller is the account that makes a request.
func Caller(r *xrpc.Request) syntax.DID {
	p, _ := r.Principal.(atproto.Principal)
	return p.DID
}

// HasScope reports whether the caller's session has one of the scopes.
func HasScope(r *xrpc.Request, scopes ...string) bool {
	p, _ := r.Principal.(atproto.Principal)
	x, _ := p.Session.(session)
	return slices.Contains(scopes, x.scope)
}

// Optional accepts an access token, the administrator's password, or nothing.
func (s *Sessions) Optional() xrpc.Authenticator {
	user := s.User(Access{TakenDown: true, Reads: true})
	return func(r *xrpc.Request) error {
		if r.Header.Get("Authorization") == "" {
			return nil
		}
		if _, _, ok := r.BasicAuth(); ok {
			return s.Admin(r)
		}
		return user(r)
	}
}

// Admin demands the administrator's password. Wrong ones are counted, by whatever method.
func (s *Sessions) Admin(r *xrpc.Request) error {
	user, password, ok := r.BasicAuth()
	got, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(s.cfg.AdminPassword))
	right := ok && s.cfg.AdminPassword != "" && user == "admin" && subtle.ConstantTimeCompare(got[:], want[:]) == 1
	if ok {
		if err := s.cfg.Guesses.Admin(r, right); err != nil {
			return err
		}
	}
	if !right {
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
func (s *Sessions) refresh(expired bool) xrpc.Authenticator {
	return func(r *xrpc.Request) error {
		token, err := bearer(r)
		if err != nil {
			return err
		}
		c, err := s.verify(token, expired, ScopeRefresh)
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
func (s *Sessions) account(r *xrpc.Request, did syntax.DID) (account.Account, error) {
	a, err := s.accounts.ByDID(r.Context(), did)
	if errors.Is(err, account.ErrNotFound) {
		err = errAccountNotFound
	}
	return a, err
}

// Hosted is what package atproto needs to know of an account.
func Hosted(a account.Account) atproto.Account {
	return atproto.Account{DID: a.DID, Handle: a.Handle, Created: a.Created, Status: atproto.Status(a.Status()), Moderated: a.Moderated}
}
