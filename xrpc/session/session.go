// Package session serves password sessions: a client logs in with an account's password or an app
// password, gets an access token and a refresh token, and sends the access token with its requests.
//
// A host mounts the methods, and passes the authenticators to other methods:
//
//	sessions := session.New(session.Config{
//		Credentials: credentials, Key: key,
//		ServiceDID: "did:web:pds.example.com", URL: "https://pds.example.com",
//	})
//	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
//	srv.Handle(sessions.Routes()...)
//	repos := &atproto.Service{Host: host, Accounts: directory, Auth: atproto.Auth{
//		User: sessions.User(session.RefuseTakenDown), Optional: sessions.Optional(), Upload: sessions.Uploader(),
//		Guard: sessions.Guard,
//	}}
//
// # Tokens
//
// Tokens are JSON Web Tokens, signed with HMAC-SHA256 (RFC 7519). An access token is valid for two
// hours, and only while its session exists and the account's credentials do not change. Each use
// checks the account, and the transaction of a change checks it again (see [repo.Guard]). A refresh
// token can be exchanged once: see [credential.Store.RotateSession].
//
// # Second factors
//
// If an account demands a second factor, createSession responds to its password with
// AuthFactorTokenRequired. The client then sends a code too: of the authenticator app, a recovery
// code, or one sent by mail. A wrong code counts as a wrong password. App passwords need no code.
//
// # Other credentials
//
// The package also verifies the other credentials that a server gets: the administrator's password
// (HTTP basic authentication), and service tokens of the moderation service, of accounts that move
// here, and of services that upload blobs for an account. It signs service tokens for its accounts
// (com.atproto.server.getServiceAuth).
//
// Behaviour follows the official server down to error names.
package session

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/memo"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// Config configures Sessions. Credentials, Key, ServiceDID and URL are required.
type Config struct {
	// Credentials are the credentials of the accounts.
	Credentials *credential.Store
	// Key signs the tokens. It has at least 16 random bytes. Whoever has it can log in as anybody.
	Key []byte
	// ServiceDID is the DID of this server, "did:web:pds.example.com", and the audience of all
	// tokens.
	ServiceDID syntax.DID
	// URL is the public URL of this server, "https://pds.example.com". Responses have an account's
	// DID document only if it names this URL.
	URL string
	// Resolver resolves the DID documents of accounts, and the keys of the issuers of service
	// tokens. Nil: a new identity.Resolver.
	Resolver Resolver
	// AdminPassword is the password of the user "admin". Empty: there is no administrator.
	AdminPassword string
	// Moderator is the DID of the moderation service. Empty: there is none. After that service has
	// changed its key, tokens signed with the old key are accepted as long as the Resolver keeps
	// its document: for an hour, or for a day while it cannot be fetched, unless
	// com.atproto.identity.refreshIdentity is called for it.
	Moderator syntax.DID
	// OAuth, if not nil, verifies the OAuth sessions of the accounts. Nil: their tokens are
	// refused.
	OAuth OAuth
	// Guesses limits how often passwords may be guessed. Nil: the limits of the official server, by
	// account and network; see package rate. Behind a reverse proxy, requests need the addresses of
	// clients, as from limit.Proxies. Unlimited{}: no limit.
	Guesses Guesses
	// Shared remembers used service tokens in the store, for several nodes.
	Shared bool
	// SendCode, if not nil, mails a code to an account whose second factor is codes sent by mail:
	// see [credential.Store.NewFactorCode]. Its error becomes the response. Nil: no codes are sent,
	// so those accounts need another factor or an app password to log in.
	SendCode func(ctx context.Context, a account.Account, code string) error
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger logs failures that no response reports. Nil: nothing is logged.
	Logger *slog.Logger
}

// OAuth verifies OAuth sessions of accounts; *provider.Provider of package xrpc/oauth/provider
// implements it. Such a session is accepted wherever a session of this package is, with the
// permissions of its Principal. It must be safe for concurrent use.
type OAuth interface {
	// Authenticate is called for requests whose Authorization header has a scheme other than Bearer
	// and Basic. Its Principal has the credential auth.OAuthSession. It refuses accounts that are
	// taken down.
	Authenticate(r *xrpc.Request) (auth.Principal, error)
	// Caller returns the caller of a Principal of Authenticate, for package account. It is valid as
	// long as the session exists.
	Caller(p auth.Principal) account.Caller
}

// Resolver is the part of an [identity.Resolver] that this package uses.
type Resolver = serviceauth.Resolver

// Guesses counts attempts to guess passwords. It must be safe for concurrent use. Its errors become
// responses, so they should be *xrpc.Error.
type Guesses interface {
	// Password is called before a password is checked, and done afterwards. account is a DID, or
	// the given name if no account has it.
	Password(r *xrpc.Request, account string) (done func(right bool), err error)
	// Admin is called after the administrator's password was checked. Its error becomes the
	// response even if the password is right.
	Admin(r *xrpc.Request, right bool) error
}

// Sessions serves the sessions of a server's accounts. It is safe for concurrent use.
type Sessions struct {
	cfg         Config
	accounts    *account.Store
	credentials *credential.Store
	resolver    Resolver
	now         func() time.Time
	log         *slog.Logger
	verified    *memo.Texts[*claims] // tokens
	// services, uploaders and moderators verify service tokens of others: see openServiceAuth.
	services, uploaders, moderators *serviceauth.Verifier
}

// minKey is the length in bytes of the shortest key.
const minKey = 16

// New returns the sessions of a configuration. It panics if something required is missing.
func New(cfg Config) *Sessions {
	switch {
	case cfg.Credentials == nil:
		panic("session: Config.Credentials is missing: give the credential.Store of the accounts that log in")
	case len(cfg.Key) < minKey:
		panic("session: Config.Key is too short: give at least 16 random bytes, always the same, since all sessions end with the key")
	case cfg.ServiceDID == "":
		panic("session: Config.ServiceDID is missing: give the DID of this server, as did:web:pds.example.com")
	case cfg.URL == "":
		panic("session: Config.URL is missing: give the public address of this server, as https://pds.example.com")
	}
	if _, err := syntax.ParseDID(string(cfg.ServiceDID)); err != nil {
		panic(fmt.Sprintf("session: Config.ServiceDID: %v", err))
	}
	if _, err := syntax.ParseDID(string(cfg.Moderator)); err != nil && cfg.Moderator != "" {
		panic(fmt.Sprintf("session: Config.Moderator: %v", err))
	}
	if cfg.Resolver == nil {
		cfg.Resolver = &identity.Resolver{Now: cfg.Now}
	}
	if cfg.Guesses == nil {
		cfg.Guesses = rate.New(rate.Config{Now: cfg.Now})
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sessions{
		cfg: cfg, accounts: cfg.Credentials.Accounts(), credentials: cfg.Credentials, resolver: cfg.Resolver, now: cfg.Now, log: cfg.Logger,
		verified: memo.NewTexts[*claims](maxVerified, maxVerifiedBytes),
	}
	s.openServiceAuth()
	return s
}

// Config returns the configuration with its defaults, without the secrets Key and AdminPassword.
// Other services take their common settings from it.
func (s *Sessions) Config() Config {
	cfg := s.cfg
	cfg.Key, cfg.AdminPassword = nil, ""
	return cfg
}

// Routes returns the methods com.atproto.server.createSession, getSession, refreshSession,
// deleteSession, createAppPassword, listAppPasswords, revokeAppPassword and getServiceAuth.
func (s *Sessions) Routes() []xrpc.Route {
	user := s.User(RefuseTakenDown)
	route := func(nsid string, who xrpc.Authenticator, h xrpc.Handler, needs ...auth.Permission) xrpc.Route {
		return xrpc.Route{NSID: nsid, Auth: who, Handler: h, Needs: needs}
	}
	return []xrpc.Route{
		route(api.ServerCreateSessionNSID, nil, Procedure(s.createSession)),
		route(api.ServerGetSessionNSID, user, Query(s.getSession)),
		route(api.ServerRefreshSessionNSID, s.refresh(false), Procedure(s.refreshSession)),
		route(api.ServerDeleteSessionNSID, s.refresh(true), Procedure(s.deleteSession)),
		route(api.ServerCreateAppPasswordNSID, user, Procedure(s.createAppPassword), auth.ManageCredentials),
		route(api.ServerListAppPasswordsNSID, user, Query(s.listAppPasswords), auth.ReadCredentials),
		route(api.ServerRevokeAppPasswordNSID, user, Procedure(s.revokeAppPassword), auth.ManageCredentials),
		route(api.ServerGetServiceAuthNSID, s.User(AcceptTakenDown), Query(s.getServiceAuth), auth.Call(auth.FromInput, auth.FromInput)),
	}
}

// Unlimited is a [Guesses] without limits.
type Unlimited struct{}

// Password implements [Guesses].
func (Unlimited) Password(*xrpc.Request, string) (done func(right bool), err error) {
	return func(bool) {}, nil
}

// Admin implements [Guesses].
func (Unlimited) Admin(*xrpc.Request, bool) error { return nil }
