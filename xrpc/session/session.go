// Package session serves password sessions: a client logs in with an account's password or an app
// password, gets an access and a refresh token, and shows the access token with its requests.
//
// A host mounts the methods, and gives the authenticators to the methods of others:
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
// Tokens are JSON Web Tokens, signed with HMAC-SHA256 (RFC 7519). An access token is good for two
// hours, and only while its session and the account's credentials are what they were: each use is
// checked with the account, and whatever the request changes is checked in the same transaction
// (see [repo.Guard]). A refresh token is good for one exchange. See
// [credential.Store.RotateSession].
//
// # Second factors
//
// Where an account asks for a second factor, createSession answers AuthFactorTokenRequired to its
// password, and takes a code with it then: of the authenticator app, a recovery code, or one sent
// by mail. A wrong code counts as a wrong password. App passwords need none.
//
// # Other credentials
//
// The package also verifies what else an account's server is shown: the administrator's password
// (HTTP basic authentication), service tokens of the moderation service, of accounts that move
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
	// Credentials are those that clients show, with the accounts that they are of.
	Credentials *credential.Store
	// Key signs the tokens. Whoever has it can log in as anybody: it has at least 16 random bytes.
	Key []byte
	// ServiceDID is the DID of this server, "did:web:pds.example.com". It is the audience of all
	// tokens.
	ServiceDID syntax.DID
	// URL is the public address of this server, "https://pds.example.com". Answers have an
	// account's DID document only if it names this address.
	URL string
	// Resolver resolves the DID documents of accounts, and the keys of those who sign service
	// tokens. Nil: a new identity.Resolver.
	Resolver Resolver
	// AdminPassword is the password of the user "admin". Empty: nobody is administrator.
	AdminPassword string
	// Moderator is the DID of the service that moderates the accounts. Empty: none does.
	Moderator syntax.DID
	// OAuth, if not nil, knows the OAuth sessions of the accounts. Nil: their tokens are refused.
	OAuth OAuth
	// Guesses bounds how often passwords may be guessed. Nil: the limits of the official server, by
	// account and network; see package rate. Behind a proxy, requests need the addresses of
	// clients, as from limit.Proxies. Unlimited{}: there is no bound.
	Guesses Guesses
	// Shared remembers the service tokens that were used in the store, for several nodes.
	Shared bool
	// SendCode, if not nil, sends a code to the address of an account whose second factor are codes
	// sent by mail: see [credential.Store.NewFactorCode]. Its error is answered. Nil: nobody gets
	// one, so those accounts need another factor, or an app password, to log in.
	SendCode func(ctx context.Context, a account.Account, code string) error
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger gets failures that a client is not told. Nil: silent.
	Logger *slog.Logger
}

// OAuth knows the OAuth sessions of accounts; *provider.Provider of package xrpc/oauth/provider
// does. Wherever a session of this package is good, so is one of those, with the permissions of its
// Principal. It must be safe for concurrent use.
type OAuth interface {
	// Authenticate is called for requests whose Authorization header has another scheme than Bearer
	// and Basic. Its Principal has the credential auth.OAuthSession. It refuses accounts that are
	// taken down.
	Authenticate(r *xrpc.Request) (auth.Principal, error)
	// Caller is a Principal of Authenticate as package account knows it: it is good as long as the
	// session goes on.
	Caller(p auth.Principal) account.Caller
}

// Resolver is what this package needs of an [identity.Resolver].
type Resolver = serviceauth.Resolver

// Guesses counts passwords that are tried. It must be safe for concurrent use. Its errors are
// answered, so they should be of type *xrpc.Error.
type Guesses interface {
	// Password is called before a password is checked, and done after it. The account is a DID, or
	// the name that was given if no account has it.
	Password(r *xrpc.Request, account string) (done func(right bool), err error)
	// Admin is called after the administrator's password was checked. Its error is answered even if
	// the password is right.
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

// New returns the sessions of a configuration. It panics if something that is required is missing.
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

// Config returns the configuration without its secrets, which are Key and AdminPassword, and with
// the defaults filled in. Services beside the sessions take from it what they have in common.
func (s *Sessions) Config() Config {
	cfg := s.cfg
	cfg.Key, cfg.AdminPassword = nil, ""
	return cfg
}

// Routes are the methods: com.atproto.server.createSession, getSession, refreshSession,
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

// Unlimited lets passwords be guessed without any bound.
type Unlimited struct{}

// Password implements [Guesses].
func (Unlimited) Password(*xrpc.Request, string) (done func(right bool), err error) {
	return func(bool) {}, nil
}

// Admin implements [Guesses].
func (Unlimited) Admin(*xrpc.Request, bool) error { return nil }
