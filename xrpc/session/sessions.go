package session

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// MaxPassword is the maximum length in characters of a new password.
const MaxPassword = 256

// maxLoginPassword is the length in bytes beyond which no password is looked at: that of the
// longest one that an account can have.
const maxLoginPassword = MaxPassword * utf8.UTFMax

// session describes an account to its owner.
func (s *Sessions) session(ctx context.Context, a account.Account) (out api.ServerGetSessionOutput, err error) {
	factors, err := s.credentials.Factors(ctx, account.Trusted(a.DID))
	if err != nil {
		return out, err
	}
	return api.ServerGetSessionOutput{
		Handle: a.Handle, DID: a.DID, DIDDoc: s.Document(ctx, a.DID), Email: a.Email, EmailConfirmed: new(!a.EmailConfirmedAt.IsZero()),
		EmailAuthFactor: new(factors.Email), Active: new(a.Status() == account.Active), Status: string(a.Status()),
	}, nil
}

// started describes a session that begins, with its tokens.
func (s *Sessions) started(ctx context.Context, a account.Account, x credential.Session) (out api.ServerCreateSessionOutput, err error) {
	access, refresh, err := s.Tokens(a, x)
	if err != nil {
		return out, err
	}
	of, err := s.session(ctx, a)
	if err != nil {
		return out, err
	}
	return api.ServerCreateSessionOutput{
		AccessJWT: access, RefreshJWT: refresh, Handle: of.Handle, DID: of.DID, DIDDoc: of.DIDDoc,
		Email: of.Email, EmailConfirmed: of.EmailConfirmed, EmailAuthFactor: of.EmailAuthFactor, Active: of.Active, Status: of.Status,
	}, nil
}

// Document returns an account's DID document as JSON, for the owner of a session. It returns nil if
// the document cannot be resolved now, or if it names another server. Clients send all further
// requests to the server that the document names; during a migration, that server does not know the
// session.
func (s *Sessions) Document(ctx context.Context, did syntax.DID) data.Raw {
	doc, err := s.resolver.ResolveDID(ctx, did)
	if err != nil {
		s.log.Warn("DID document", "did", did, "err", err)
		return nil
	}
	if !doc.HostedAt(s.cfg.URL) {
		return nil
	}
	text, err := data.MarshalJSON(doc)
	if err != nil {
		return nil
	}
	return text
}

// CheckPassword checks a password of an account, given by DID, handle or e-mail address, or with
// apps also an app password. All methods that take a password call it, so guesses are counted
// together. Unknown names are counted too, and take equally long. For a wrong password the error is
// [credential.ErrWrongPassword]. See [Answer].
func (s *Sessions) CheckPassword(r *xrpc.Request, identifier, password string, apps bool) (credential.Proof, error) {
	return s.check(r, identifier, password, apps, func(p credential.Proof) (credential.Proof, error) { return p, nil })
}

// check is CheckPassword that has a proof completed before it counts as right.
func (s *Sessions) check(r *xrpc.Request, identifier, password string, apps bool, complete func(credential.Proof) (credential.Proof, error)) (credential.Proof, error) {
	if len(password) > maxLoginPassword {
		return credential.Proof{}, errLongPassword
	}
	ctx := r.Context()
	a, err := s.accounts.Find(ctx, identifier)
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		return credential.Proof{}, err
	}
	r.Account = a.DID
	name := string(a.DID)
	if name == "" {
		name = "unknown " + strings.ToLower(strings.TrimSpace(identifier))
	}
	done, err := s.cfg.Guesses.Password(r, name)
	if err != nil {
		return credential.Proof{}, err
	}
	proof, err := s.credentials.CheckPassword(ctx, a, password, apps)
	if err == nil {
		proof, err = complete(proof)
	}
	done(err == nil)
	return proof, err
}

// createSession logs in with the account's password, and a second factor if the account asks for
// one, or with that of an app. All of it is still good when the session begins.
func (s *Sessions) createSession(ctx context.Context, r *xrpc.Request, in api.ServerCreateSessionInput) (out api.ServerCreateSessionOutput, err error) {
	proof, err := s.check(r, in.Identifier, in.Password, true, func(p credential.Proof) (credential.Proof, error) {
		return s.factor(ctx, p, in.AuthFactorToken)
	})
	if err == nil {
		err = s.askFactor(ctx, proof)
	}
	if err != nil {
		return out, err
	}
	a, x, err := s.credentials.StartSession(ctx, proof, in.AllowTakendown != nil && *in.AllowTakendown)
	if err != nil {
		return out, err
	}
	return s.started(ctx, a, x)
}

func (s *Sessions) getSession(ctx context.Context, r *xrpc.Request, _ struct{}) (out api.ServerGetSessionOutput, err error) {
	a, err := s.account(r, r.Principal.DID)
	if err != nil {
		return out, err
	}
	if out, err = s.session(ctx, a); err != nil {
		return out, err
	}
	if !r.Principal.May(auth.ReadEmail) {
		out.Email, out.EmailConfirmed, out.EmailAuthFactor = "", nil, nil
	}
	return out, nil
}

func (s *Sessions) refreshSession(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out api.ServerRefreshSessionOutput, err error) {
	a, next, err := s.credentials.RotateSession(ctx, r.Principal.DID, r.Principal.Token)
	if errors.Is(err, account.ErrNotFound) {
		return out, xrpc.InvalidRequest("Could not find user info for account: %s", r.Principal.DID)
	} else if err != nil {
		return out, err
	}
	started, err := s.started(ctx, a, next)
	return api.ServerRefreshSessionOutput(started), err
}

func (s *Sessions) deleteSession(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out xrpc.None, err error) {
	return out, s.credentials.EndSession(ctx, r.Principal.DID, r.Principal.Token)
}

var errLongPassword = &xrpc.Error{Status: http.StatusUnauthorized, Message: "Password too long. Consider resetting your password."}
