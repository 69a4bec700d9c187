package provider

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// Authenticate is an xrpc.Authenticator for requests with the header "Authorization: DPoP …". It
// verifies the token and the proof, and checks the session and the account. A method that changes
// something must use [Provider.Guard] or [Provider.Caller], so that the session is checked in the
// transaction too.
//
// Every response gets a new nonce. An account that is taken down or deleted has no sessions.
func (p *Provider) Authenticate(r *xrpc.Request) (auth.Principal, error) {
	h := r.AnswerHeader()
	h.Set("DPoP-Nonce", p.calls.Nonce())
	h.Set("Cache-Control", "private")
	h.Add("Vary", "Authorization, DPoP")
	principal, err := p.admit(r)
	if err == nil {
		return principal, nil
	}
	return auth.Principal{}, answerCall(err)
}

// errEnded says that the session of an access token has ended.
var errEnded = answerCall(fail(codeInvalidToken, "The session has ended"))

// answerCall is what a client that has shown an access token is told of an error of this package or
// of package dpop. Others are returned as they are.
func answerCall(err error) error {
	var known *Error
	if !errors.As(err, &known) && !errors.Is(err, dpop.ErrInvalid) && !errors.Is(err, dpop.ErrNonce) {
		return err
	}
	e, _ := asError(err)
	out := &xrpc.Error{Status: http.StatusUnauthorized, Name: e.Code, Message: e.Description}
	if e.Status != 0 {
		out.Status = e.Status
	}
	if out.Status == http.StatusUnauthorized {
		out.Header = http.Header{"Www-Authenticate": {challenge(e.Code, e.Description)}}
	}
	return out
}

func (p *Provider) admit(r *xrpc.Request) (auth.Principal, error) {
	values := r.Header.Values("Authorization")
	malformed := func(message string) error {
		return &Error{Code: "InvalidToken", Description: message, Status: http.StatusBadRequest}
	}
	if len(values) != 1 {
		return auth.Principal{}, malformed("There must be one Authorization header")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "DPoP") {
		return auth.Principal{}, malformed("The token must be shown with the scheme DPoP")
	}
	if token == "" || strings.Contains(token, " ") {
		return auth.Principal{}, malformed("The Authorization header is malformed")
	}
	c, good := p.parseAccess(token)
	if !good {
		return auth.Principal{}, fail(codeInvalidToken, "The token is not one of this server")
	}
	text, err := dpop.Header(r.Header)
	if err != nil {
		return auth.Principal{}, err
	}
	proof, err := p.calls.Verify(r.Context(), text, dpop.Target{Method: r.Method, URL: p.cfg.Issuer + r.URL.EscapedPath(), Token: token, Account: string(c.Subject)})
	switch {
	case err != nil:
		return auth.Principal{}, err
	case proof.Thumbprint != c.Confirm.Thumbprint:
		return auth.Principal{}, fail(codeInvalidProof, "The token is bound to another key")
	case c.expired(p.now()):
		return auth.Principal{}, fail(codeInvalidToken, "The token has expired")
	}
	out := auth.Principal{
		Role: auth.User, Credential: auth.OAuthSession, DID: c.Subject, Session: c.Session, Token: c.ID, Client: c.Client, Credentials: c.Credentials,
	}
	var found *session
	a, checks, err := p.accounts.Admit(r.Context(), p.caller(out, &found))
	if errors.Is(err, account.ErrNotFound) {
		return auth.Principal{}, errEnded
	} else if err != nil {
		return auth.Principal{}, err
	}
	if found.JKT != proof.Thumbprint || found.Client != c.Client {
		return auth.Principal{}, fail(codeInvalidToken, "The token is not one of its session")
	}
	out.Permissions = found.permissions
	out.Active = a.Status() == account.Active
	out.Basis = make([]auth.Value, len(checks))
	for i, c := range checks {
		out.Basis[i] = auth.Value{Key: c.Key, Value: c.Value}
	}
	return out, nil
}

// Caller returns the caller of a principal that Authenticate returned, for package account. It is
// valid as long as the session exists and has the token, and the account's credentials do not
// change. Otherwise the error is an *xrpc.Error with status 401, invalid_token.
func (p *Provider) Caller(of auth.Principal) account.Caller { return p.caller(of, nil) }

func (p *Provider) caller(of auth.Principal, found **session) account.Caller {
	return account.NewCaller(of.DID, of.Session, func(ctx context.Context, r storage.KVReader, a account.Account) ([]storage.KVCheck, error) {
		x, doc, err := p.session(ctx, r, of.Session)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		now := p.now()
		if err != nil || of.Credentials != a.Credentials || x.Credentials != a.Credentials || !x.accepts(of.Token, now) || !now.Before(x.ends()) || a.TakedownRef != "" {
			return nil, errEnded
		}
		if found != nil {
			*found = x
		}
		return []storage.KVCheck{{Key: sessionPrefix + of.Session, Value: doc}}, nil
	})
}

// Guard returns a check, for the transaction that changes a repository, that the principal's session
// still exists. See [Provider.Caller].
func (p *Provider) Guard(of auth.Principal) repo.Guard { return p.accounts.Guard(p.Caller(of)) }
