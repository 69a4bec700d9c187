// Package appview connects a host with an AppView of the app.bsky lexicons, and with moderation
// services. It forwards the methods that the host does not serve itself (package proxy), and adds
// an account's newest writes to the AppView's responses (package readafter).
//
//	view := appview.New(appview.Config{
//		Sessions: sessions, Host: host,
//		AppView: proxy.Service{DID: "did:web:api.bsky.app", URL: "https://api.bsky.app"},
//	})
//	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
//	view.Mount(srv)
//
// Mount adds these methods, and forwards all others that the server does not have:
//
//   - app.bsky.actor.getPreferences and putPreferences: preferences are stored with the account;
//   - app.bsky.feed.getFeed, which needs a token for the feed's generator;
//   - app.bsky.notification.registerPush and unregisterPush, whose body names the service;
//   - com.atproto.moderation.createReport, also for accounts that are taken down.
//
// A host without an AppView leaves Config.AppView empty: its clients then have to name the service.
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
	// Sessions are the sessions of the host's accounts. The service uses the accounts, URL,
	// resolver and clock of their configuration. The resolver must be able to resolve services.
	Sessions *session.Sessions
	// Host has the accounts' repositories.
	Host *repo.Host
	// AppView serves methods of any namespace for which the client names no other service. An empty
	// ID means "bsky_appview". The zero value: there is none.
	AppView proxy.Service
	// Moderation serves the methods of tools.ozone, and Reports receives reports. An empty ID means
	// "atproto_labeler". The zero value: there is none.
	Moderation, Reports proxy.Service
	// CDN is a pattern of image URLs: see [readafter.Images]. Empty: images come from this host.
	CDN string
	// MaxAnswer bounds the bytes of a response that is edited. 0: 10 MiB.
	MaxAnswer int64
	// HeaderTimeout, BodyTimeout and Development are those of [proxy.Proxy].
	HeaderTimeout, BodyTimeout time.Duration
	Development                bool
	// HTTP makes all requests. Nil: a client that reaches only public addresses by HTTPS, and
	// another one for the services of this configuration.
	HTTP *http.Client
	// Proxy, if not nil, may change the proxy that forwards methods, after it was configured.
	Proxy func(p *proxy.Proxy)
	// Schemas validates the bodies of forwarded methods. Nil: [lexicon.Builtin].
	Schemas *lexicon.Catalog
}

// Service serves the methods that the AppView and the host share. It is safe for concurrent use.
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

// New returns the service of a configuration. It panics if something required is missing.
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

// Proxy returns the proxy that forwards methods. Do not change it once it serves.
func (s *Service) Proxy() *proxy.Proxy { return s.proxy }

// Mount adds the methods to a server, and forwards those that it does not have.
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
