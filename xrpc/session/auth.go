package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
)

func badToken(name, message string) error {
	return &xrpc.Error{Status: http.StatusBadRequest, Name: name, Message: message}
}

var (
	errWrongPassword   = &xrpc.Error{Status: http.StatusUnauthorized, Message: "Invalid identifier or password"}
	errAuthMissing     = &xrpc.Error{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required"}
	errTakenDown       = &xrpc.Error{Status: http.StatusUnauthorized, Name: "AccountTakedown", Message: "Account has been taken down"}
	errAccountNotFound = &xrpc.Error{Status: http.StatusForbidden, Name: "AccountNotFound", Message: "Account not found"}
	errTokenRevoked    = badToken(api.ErrorExpiredToken, "Token has been revoked")
)

// Answer converts errors of packages account and credential to the *xrpc.Error for the client.
// Other errors are returned unchanged. An account or a session may change while a method runs, so
// all methods use it, unless they have a more specific error.
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
	case errors.Is(err, credential.ErrWrongPassword):
		return errWrongPassword
	case errors.Is(err, credential.ErrFactorRequired):
		return errFactorRequired
	case errors.Is(err, credential.ErrWrongFactor):
		return badToken(api.ErrorInvalidToken, "Token is invalid")
	case errors.Is(err, credential.ErrTooManyCodes):
		return errTooManyCodes
	case errors.Is(err, credential.ErrEmailNotConfirmed):
		return xrpc.InvalidRequest("Confirm your e-mail address before codes are sent to it")
	case errors.Is(err, credential.ErrMailToken):
		return badToken(api.ErrorInvalidToken, "Token is invalid")
	case errors.Is(err, credential.ErrMailTokenExpired):
		return badToken(api.ErrorExpiredToken, "Token is expired")
	case errors.Is(err, credential.ErrMailTokenRequired):
		return badToken(api.ErrorTokenRequired, "confirmation token required")
	case errors.Is(err, credential.ErrOtherEmail):
		return badToken(api.ErrorInvalidEmail, "invalid email")
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
		return "", badToken(api.ErrorInvalidToken, "Unexpected authorization type")
	}
	return strings.TrimSpace(token), nil
}

// otherScheme reports whether a request has credentials that are not of this package.
func otherScheme(r *xrpc.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return scheme != "" && !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "basic")
}

// TakenDown says how a method treats the sessions of accounts that are taken down.
type TakenDown int

const (
	// RefuseTakenDown accepts none of them. It is for most methods.
	RefuseTakenDown TakenDown = iota
	// AcceptTakenDown accepts sessions that were opened after the takedown. It is for an appeal,
	// and for moving and deleting the account.
	AcceptTakenDown
	// ReadTakenDown also accepts sessions that the takedown has ended. It is for methods that show
	// the account its own data.
	ReadTakenDown
)

// takenDownSession are the permissions of every session of an account that is taken down: to
// appeal, to move away, and to delete the account.
func takenDownSession() auth.Permissions {
	calls, _ := auth.ParseScopes("rpc?lxm=com.atproto.server.createAccount&lxm=com.atproto.moderation.createReport&lxm=app.bsky.actor.getPreferences&aud=*")
	return calls.With(auth.Only(auth.ManageLifecycle, auth.ManageIdentity, auth.ReadPersonal, auth.ReadEmail))
}

// permissions says what the session of an access token may do, by the scope in the token.
var permissions = map[string]struct {
	credential  auth.Credential
	permissions auth.Permissions
}{
	scopeAccess:      {auth.PasswordSession, auth.Everything()},
	scopeAppPassword: {auth.AppSession, auth.AppPassword(false)},
	scopePrivileged:  {auth.AppSession, auth.AppPassword(true)},
	scopeTakendown:   {auth.PasswordSession, takenDownSession()},
}

// User returns an authenticator that demands the access token of a current session. down says how
// it treats accounts that are taken down. A method that changes an account uses [Sessions.By], so
// that the session is checked again in the transaction.
func (s *Sessions) User(down TakenDown) xrpc.Authenticator {
	scopes := []string{scopeAccess, scopeAppPassword, scopePrivileged}
	if down != RefuseTakenDown {
		scopes = append(scopes, scopeTakendown)
	}
	return func(r *xrpc.Request) (p auth.Principal, err error) {
		if s.cfg.OAuth != nil && otherScheme(r) {
			return s.cfg.OAuth.Authenticate(r)
		}
		token, err := bearer(r)
		if err != nil {
			return p, err
		}
		c, err := s.verify(token, false, scopes...)
		if err != nil {
			return p, err
		}
		kind := permissions[c.Scope]
		p = auth.Principal{
			Role: auth.User, Credential: kind.credential, DID: syntax.DID(c.Subject), Session: c.Session, Permissions: kind.permissions,
			Credentials: c.Credentials, TakenDown: down != RefuseTakenDown,
		}
		acct, checks, err := s.accounts.Admit(r.Context(), s.callerOf(p))
		switch {
		case err == nil:
			p.Active = acct.Status() == account.Active
			p.Basis = make([]auth.Value, len(checks))
			for i, c := range checks {
				p.Basis[i] = auth.Value{Key: c.Key, Value: c.Value}
			}
		case down != ReadTakenDown || !errors.Is(err, account.ErrTakenDown):
			return auth.Principal{}, Answer(err)
		}
		return p, nil
	}
}

// callerOf is a principal as package account knows it.
func (s *Sessions) callerOf(p auth.Principal) account.Caller {
	if p.Credential == auth.OAuthSession && s.cfg.OAuth != nil {
		return s.cfg.OAuth.Caller(p)
	}
	return s.credentials.Caller(credential.Token{DID: p.DID, Credentials: p.Credentials, Session: p.Session, TakenDown: p.TakenDown})
}

// By returns the caller of a request, for methods of packages account and credential, which check
// it in their transaction.
func (s *Sessions) By(r *xrpc.Request) account.Caller { return s.callerOf(r.Principal) }

// Guard returns a guard that checks a principal in the transaction that changes its repository. It
// is for atproto.Auth. It does not check the account's status: a deactivated account keeps its
// sessions, but must not write records. A host's own method that writes records calls
// atproto.Service.Write, which checks both.
func (s *Sessions) Guard(p auth.Principal) repo.Guard {
	check := s.accounts.Guard(s.callerOf(p))
	return func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error) {
		checks, err := check(ctx, r)
		return checks, Answer(err)
	}
}

// Optional returns an authenticator that accepts an access token, the administrator's password, or
// no credentials.
func (s *Sessions) Optional() xrpc.Authenticator {
	user := s.User(ReadTakenDown)
	return func(r *xrpc.Request) (auth.Principal, error) {
		if r.Header.Get("Authorization") == "" {
			return auth.Principal{}, nil
		}
		if _, _, ok := r.BasicAuth(); ok {
			return s.Admin(r)
		}
		return user(r)
	}
}

// Admin is an authenticator that demands the administrator's password. Wrong passwords are counted
// across methods.
func (s *Sessions) Admin(r *xrpc.Request) (auth.Principal, error) {
	user, password, ok := r.BasicAuth()
	right := false
	if ok {
		var err error
		if right, err = s.CheckAdmin(r, user, password); err != nil {
			return auth.Principal{}, err
		}
	}
	if !right {
		return auth.Principal{}, &xrpc.Error{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required",
			Header: http.Header{"Www-Authenticate": {`Basic realm="admin"`}}}
	}
	return auth.Principal{
		Role: auth.Administrator, Credential: auth.AdminCredentials, Permissions: auth.Only(auth.Administer, auth.Moderate),
	}, nil
}

// CheckAdmin reports whether a user name and password are the administrator's, and counts the guess
// like those of Admin. Respond with its error, of Config.Guesses, even if the password is right. It
// takes the same time whatever is wrong. It is for the administrator's sign-in page.
func (s *Sessions) CheckAdmin(r *xrpc.Request, user, password string) (right bool, err error) {
	got, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(s.cfg.AdminPassword))
	right = subtle.ConstantTimeCompare(got[:], want[:]) == 1 && s.cfg.AdminPassword != "" && user == "admin"
	if err := s.cfg.Guesses.Admin(r, right); err != nil {
		return false, err
	}
	return right, nil
}

// AdminMark returns a value that changes when the administrator's password changes, and does not
// reveal it. Sessions that began with the password carry it.
func (s *Sessions) AdminMark() []byte {
	h := hmac.New(sha256.New, s.cfg.Key)
	h.Write([]byte("administrator\x00" + s.cfg.AdminPassword))
	return h.Sum(nil)
}

// HasAdmin reports whether there is an administrator.
func (s *Sessions) HasAdmin() bool { return s.cfg.AdminPassword != "" }

// refresh demands a refresh token, which may have expired where that does no harm.
func (s *Sessions) refresh(expired bool) xrpc.Authenticator {
	return func(r *xrpc.Request) (p auth.Principal, err error) {
		token, err := bearer(r)
		if err != nil {
			return p, err
		}
		c, err := s.verify(token, expired, scopeRefresh)
		if err != nil {
			return p, err
		}
		if c.ID == "" {
			return p, badToken(api.ErrorInvalidToken, "Unexpected missing refresh token id")
		}
		return auth.Principal{
			Role: auth.User, Credential: auth.RefreshToken, DID: syntax.DID(c.Subject), Session: c.Session, Token: c.ID, Credentials: c.Credentials,
		}, nil
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
