// Package appview connects a host with an AppView of the app.bsky lexicons, and with moderation
// services: what the host does not answer by itself is passed on to them (package proxy), and what
// an account has just written is put into the AppView's answers (package readafter).
//
//	view := appview.New(appview.Config{
//		Sessions: sessions, Host: host,
//		AppView: proxy.Service{DID: "did:web:api.bsky.app", URL: "https://api.bsky.app"},
//	})
//	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
//	view.Mount(srv)
//
// Mount adds these methods, and passes on all others that the server does not have:
//
//   - app.bsky.actor.getPreferences and putPreferences: preferences are kept with the account;
//   - app.bsky.feed.getFeed, which needs a token for the feed's generator;
//   - app.bsky.notification.registerPush and unregisterPush, whose body names the service;
//   - com.atproto.moderation.createReport, also for an account that was taken down.
//
// A host without an AppView leaves Config.AppView empty: its clients then have to name the service
// that they mean.
package appview

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/proxy/readafter"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Config configures a Service. Sessions and Host are required.
type Config struct {
	// Sessions are the sessions of the host's accounts. Accounts, address, resolver and clock are
	// those of its configuration. The resolver must be able to resolve services.
	Sessions *session.Sessions
	// Host has the accounts' repositories.
	Host *repo.Host
	// AppView answers methods of any namespace that the client names no other service for. An empty
	// ID is "bsky_appview". The zero value: there is none.
	AppView proxy.Service
	// Moderation has the methods of tools.ozone, and Reports gets reports. An empty ID is
	// "atproto_labeler". The zero value: there is none.
	Moderation, Reports proxy.Service
	// CDN is the pattern of the addresses of images: see [readafter.Images]. Empty: they are those
	// of this host.
	CDN string
	// MaxAnswer is the size in bytes of the largest answer that is edited. 0: 10 MiB.
	MaxAnswer int64
	// HeaderTimeout, BodyTimeout and Development are those of [proxy.Proxy].
	HeaderTimeout, BodyTimeout time.Duration
	Development                bool
	// HTTP makes all requests. Nil: a client that reaches public addresses only, by HTTPS only, and
	// another one for the services of this configuration.
	HTTP *http.Client
	// Proxy, if not nil, may change what forwards methods, when the rest has been set.
	Proxy func(p *proxy.Proxy)
	// Schemas validates the bodies of methods that are passed on. Nil: [lexicon.Builtin].
	Schemas *lexicon.Catalog
}

// Service serves what the AppView and the host do together. It is safe for concurrent use.
type Service struct {
	cfg      Config
	sessions *session.Sessions
	accounts *account.Store
	now      func() time.Time
	proxy    *proxy.Proxy
	// http asks the AppView, whose address the operator has given.
	http *http.Client
}

// The usual IDs of services.
const (
	appViewID = "bsky_appview"
	labelerID = "atproto_labeler"
)

// New returns the service of a configuration. It panics if something that is required is missing.
func New(cfg Config) *Service {
	switch {
	case cfg.Sessions == nil:
		panic("appview: Config.Sessions is missing: make it with session.New")
	case cfg.Host == nil:
		panic("appview: Config.Host is missing: give the repo.Host of the accounts' repositories")
	}
	for to, id := range map[*proxy.Service]string{&cfg.AppView: appViewID, &cfg.Moderation: labelerID, &cfg.Reports: labelerID} {
		if to.ID == "" && to.DID != "" {
			to.ID = id
		}
	}
	if cfg.Schemas == nil {
		cfg.Schemas = lexicon.Builtin()
	}
	common := cfg.Sessions.Config()
	s := &Service{
		cfg: cfg, sessions: cfg.Sessions, accounts: common.Credentials.Accounts(), now: common.Now,
		http: cfg.HTTP,
	}
	if s.http == nil {
		s.http = safehttp.NewClient(safehttp.Config{AllowPrivate: true, AllowHTTP: true})
	}
	s.proxy = s.forwarding(common)
	if cfg.Proxy != nil {
		cfg.Proxy(s.proxy)
	}
	return s
}

// Proxy passes on the methods that the host does not have. It must not be changed once it serves.
func (s *Service) Proxy() *proxy.Proxy { return s.proxy }

// Mount adds the methods to a server, and passes on those that it does not have.
func (s *Service) Mount(srv *xrpc.Server) {
	srv.Handle(s.Routes()...)
	srv.Fallback, srv.Divert = s.proxy.Route(), s.divert
}

// forwarding passes on the methods that the server does not have: to the service
// that the client names, else to the AppView, or for moderation to its services. What the
// caller has just written is put into the AppView's answers.
func (s *Service) forwarding(common session.Config) *proxy.Proxy {
	p := &proxy.Proxy{
		HTTP:          s.cfg.HTTP,
		Resolver:      common.Resolver,
		Signer:        s.accounts.Signer,
		Auth:          s.sessions.User(session.RefuseTakenDown),
		Now:           s.now,
		Default:       s.defaultService,
		HeaderTimeout: s.cfg.HeaderTimeout,
		BodyTimeout:   s.cfg.BodyTimeout,
		Development:   s.cfg.Development,
	}
	for _, known := range []proxy.Service{s.cfg.AppView, s.cfg.Moderation, s.cfg.Reports} {
		if known != (proxy.Service{}) {
			p.Known = append(p.Known, known)
		}
	}
	if s.cfg.AppView.URL == "" {
		return p
	}
	merger := &readafter.Merger{
		Repos:   s.cfg.Host,
		Handle:  s.handleOf,
		AppView: &readafter.Queries{Service: s.cfg.AppView, Signer: s.accounts.Signer, HTTP: s.http, Now: s.now},
		Now:     s.now,
		Images:  readafter.Images{CDN: s.cfg.CDN, Host: common.URL},
		MaxBody: s.cfg.MaxAnswer,
	}
	merger.Attach(p)
	return p
}

// defaultService is the service for a method where the client names none.
func (s *Service) defaultService(method syntax.NSID) (proxy.Service, bool) {
	to := s.cfg.AppView
	switch m := string(method); {
	case strings.HasPrefix(m, "tools.ozone."):
		to = s.cfg.Moderation
	case m == createReport:
		to = s.cfg.Reports
	}
	return to, to != proxy.Service{}
}

// handleOf is the handle of an account here.
func (s *Service) handleOf(ctx context.Context, did syntax.DID) (syntax.Handle, error) {
	a, err := s.accounts.ByDID(ctx, did)
	return a.Handle, err
}
