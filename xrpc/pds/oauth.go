package pds

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/resolve"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/passkey"
	"github.com/pdskit/pdskit/xrpc/records"
	"github.com/pdskit/pdskit/xrpc/session"
	"github.com/pdskit/pdskit/xrpc/site"
	"github.com/pdskit/pdskit/xrpc/site/owner"
)

// hasOAuth reports whether apps are let in.
func (s *Server) hasOAuth() bool { return withPages && !s.cfg.OAuth.Off }

// oauthSessions are the sessions of apps, for those who ask for a session. Nil: there are none.
func (s *Server) oauthSessions() session.OAuth {
	if !s.hasOAuth() {
		return nil
	}
	return apps{s}
}

// apps are the sessions of a provider that is made later: its pages need what asks for sessions.
type apps struct{ s *Server }

func (a apps) Authenticate(r *xrpc.Request) (auth.Principal, error) { return a.s.OAuth.Authenticate(r) }

func (a apps) Caller(p auth.Principal) account.Caller { return a.s.OAuth.Caller(p) }

func (a apps) CountSessions(ctx context.Context, did syntax.DID) (int, error) {
	return a.s.OAuth.CountSessions(ctx, did)
}

// openSite makes ready what pages have in common.
func (s *Server) openSite() error {
	if !withPages {
		return nil
	}
	cfg := &s.cfg
	secret, err := cfg.Secrets.oauthSecret()
	if err != nil {
		return err
	}
	brand := cfg.Brand
	for to, from := range map[*string]string{&brand.Terms: cfg.Policy.TermsOfService, &brand.Privacy: cfg.Policy.PrivacyPolicy} {
		if *to == "" {
			*to = from
		}
	}
	s.Site = site.New(site.Config{
		Credentials: s.Credentials, Origin: cfg.URL, Secret: secret, Brand: brand, NewDevice: s.newDevice, Now: cfg.Now, Logger: s.log,
		Limit: func(r *http.Request, action string) error { return cfg.Rates.Endpoint(r, action, "") },
	})
	s.Site.Mount(s.Mux)
	if passkey.Possible(cfg.URL) {
		s.Passkeys = passkey.New(passkey.Config{Credentials: s.Credentials, URL: cfg.URL, Name: s.Site.Brand().Name, Now: cfg.Now})
	}
	return nil
}

// openOAuth makes ready what lets apps in.
func (s *Server) openOAuth() error {
	if !s.hasOAuth() {
		return nil
	}
	cfg := &s.cfg
	secret, err := cfg.Secrets.oauthSecret()
	if err != nil {
		return err
	}
	if cfg.OAuth.Replays == nil && !cfg.Node.Shared { // the provider's own are stored
		cfg.OAuth.Replays = &dpop.Memory{}
	}
	sets := provider.Published{Schemas: s.permissionSets()}
	logins, shown := s.pages(sets)
	s.OAuth = provider.New(provider.Config{
		Accounts: s.Accounts, Issuer: cfg.URL, ServiceDID: cfg.ServiceDID, Secret: secret, Logins: logins, Pages: shown,
		Trusted: cfg.OAuth.Trusted, Sets: sets, HTTP: cfg.HTTP, Allowed: s.appAllowed(pages.Words{Sets: sets}),
		CallReplays: cfg.OAuth.Replays, Limit: cfg.Rates.Endpoint, Now: cfg.Now, Logger: s.log,
	})
	return nil
}

// pages are those on which people sign in and consent, and who is signed in. The account pages come
// with them, since people sign in there for both.
func (s *Server) pages(sets provider.Sets) (provider.Logins, provider.Pages) {
	cfg := &s.cfg
	if cfg.OAuth.Pages != nil {
		return cfg.OAuth.Pages(s)
	}
	own := pages.Config{Site: s.Site, Passwords: s.Sessions, Service: s.Service, Sets: sets, SendCode: s.Service.SendCode}
	if s.Passkeys != nil {
		own.Passkeys = s.Passkeys
	}
	web := pages.New(own)
	web.Mount(s.Mux)
	if !cfg.OAuth.NoAccountPages {
		cfg := owner.Config{Site: s.Site, Service: s.Service, OAuth: provider.Apps{Accounts: s.Accounts, Now: cfg.Now}, Sets: sets}
		if s.Passkeys != nil {
			cfg.Passkeys = s.Passkeys
		}
		owner.New(cfg).Mount(s.Mux)
	}
	return web, web
}

// newDevice tells the owner of an account by mail that somebody has signed in with a new browser.
func (s *Server) newDevice(ctx context.Context, a account.Account, in site.SignIn) {
	s.Service.SignedIn(ctx, a, in.At, in.Agent, in.Address)
}

// appAllowed tells the owner of an account by mail of an app that has new permissions.
func (s *Server) appAllowed(words pages.Words) func(*http.Request, account.Account, provider.Allowance) {
	return func(r *http.Request, a account.Account, x provider.Allowance) {
		app := server.AllowedApp{Name: pages.AppName(x.Client), ID: x.Client.ID, At: x.At, Agent: r.UserAgent(), Address: site.Address(r)}
		for _, p := range words.Of(r.Context(), x.New) {
			app.May = append(app.May, p.String())
		}
		s.Service.AppAllowed(r.Context(), a, app)
	}
}

// How long permission sets are cached: how long they are fresh, how long a stale one is used if it
// cannot be fetched, and how long a failure is cached.
const (
	setTTL      = time.Hour
	setStale    = 24 * time.Hour
	setNegative = 30 * time.Second
)

// permissionSets resolves the permission sets that apps ask for.
func (s *Server) permissionSets() *resolve.Resolver {
	cfg := &s.cfg
	r := &resolve.Resolver{
		Records: &records.Reader{DIDs: cfg.Resolver, HTTP: cfg.HTTP}, TTL: setTTL, StaleFor: setStale, NegativeTTL: setNegative, Now: cfg.Now,
	}
	if cfg.Resolver.DNS != nil {
		r.DNS = cfg.Resolver.DNS
	}
	return r
}

// mountsOAuth reports whether a path is one of OAuth, which says itself what other origins may do.
func (s *Server) mountsOAuth(path string) bool {
	return s.OAuth != nil && (strings.HasPrefix(path, "/oauth/") || strings.HasPrefix(path, "/.well-known/oauth-"))
}
