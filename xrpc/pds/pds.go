package pds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/mailqueue"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/passkey"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/proxy/appview"
	"github.com/pdskit/pdskit/xrpc/proxy/readafter"
	"github.com/pdskit/pdskit/xrpc/recent"
	"github.com/pdskit/pdskit/xrpc/session"
	"github.com/pdskit/pdskit/xrpc/site"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Server is a Personal Data Server. Make one with New. It is safe for concurrent use. Do not change
// its fields, or add methods and pages, once it serves requests.
type Server struct {
	// Methods are the XRPC methods. They can be replaced and wrapped.
	Methods *xrpc.Server
	// Mux serves the pages and all other paths.
	Mux *http.ServeMux
	// Accounts manages the accounts, and Host their repositories.
	Accounts *account.Store
	Host     *repo.Host
	// Credentials manages the credentials of the accounts.
	Credentials *credential.Store
	// Sessions has the authenticators, for further methods.
	Sessions *session.Sessions
	// Site is shared by the server's pages, for further pages. It is nil in a program built without
	// pages.
	Site *site.Site
	// Passkeys registers and verifies passkeys. It is nil if the server's URL has no host name or
	// is not https, or if the program was built without passkeys.
	Passkeys *passkey.Passkeys
	// OAuth is the OAuth provider. It is nil if OAuth is off.
	OAuth *provider.Provider
	// Service serves the accounts, and Repos their repositories. Repos.Write is for further methods
	// that write records of their callers.
	Service *server.Service
	Repos   *atproto.Service
	// Outbox serves the event stream.
	Outbox *stream.Outbox
	// Mail stores messages until the Mailer has accepted them. It is nil without a Mailer, or with
	// Config.Outbox.
	Mail *mailqueue.Queue
	// Proxy forwards the methods that the server does not have.
	Proxy *proxy.Proxy
	// Audit records what administrators and moderators do.
	Audit *audit.Log
	// Errors are the most recent warnings and errors that were logged.
	Errors *recent.Errors

	notices  credential.Notices // of the Service
	cfg      Config
	log      *slog.Logger
	clock    clock
	crawler  *crawl.Notifier // nil: no relays are asked
	prober   *prober
	relays   relays
	handler  http.Handler
	sweep    int // how many accounts maintenance looks through at a time
	started  time.Time
	node     node
	onDemand onDemand
}

// New returns the server of a configuration. It completes the changes of accounts that a crash
// interrupted, and starts no goroutines. The error is check.ErrNoBlobs if the store refers to blobs
// and has none of them, for example because a disk is not mounted.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, Mux: http.NewServeMux(), sweep: sweepAccounts, started: cfg.Now()}
	s.openTrail()
	if err := s.openNode(); err != nil {
		return nil, err
	}
	box, err := sealed.New(cfg.Secrets.MasterKeys...)
	if err != nil {
		return nil, fmt.Errorf("pds: Config.Secrets.MasterKeys: %w", err)
	}
	s.openClock()
	s.Accounts = account.Open(repo.Config{
		Store: cfg.Store, Now: cfg.Now, CheckClock: s.checkClock, Hold: limit.Hold,
		TempDir: cfg.Temp, Temp: cfg.TempFiles, WaitForReaders: cfg.WaitForReaders, CacheBytes: cfg.TreeCache, SpoolBytes: cfg.SpoolBytes,
		BlobQuota: s.blobQuota, UnusedBlobs: s.unusedBlobs,
		Indexes: append([]repo.Index{linkIndex()}, cfg.Indexes...),
	}, box)
	s.Host = s.Accounts.Host()
	if err := s.openMail(box); err != nil {
		return nil, err
	}
	s.Credentials = credential.New(credential.Config{Accounts: s.Accounts, Enter: session.HashQueue(), Notices: s.mailNotices(), From: from, Now: cfg.Now})
	if !cfg.Node.SkipRepair {
		if err := s.Accounts.Repair(context.Background()); err != nil {
			return nil, err
		}
		if err := s.Accounts.Checker().BlobsThere(context.Background()); err != nil {
			return nil, err
		}
	}
	s.openHealth()
	s.Outbox = &stream.Outbox{Events: cfg.Store.Events, Skipped: func(e storage.Event, err error) {
		s.log.Error("an event is damaged and not shown as JSON, or not all of it", "seq", e.Seq, "did", e.DID, "err", err)
	}}
	s.openCrawler()
	if err := s.openAccounts(); err != nil {
		return nil, err
	}
	if err := s.openSite(); err != nil {
		return nil, err
	}
	if err := s.openOAuth(); err != nil {
		return nil, err
	}
	s.openMethods()
	s.openPages()
	s.openJetstream()
	s.openOperator()
	s.handler = s.bounded(http.HandlerFunc(s.route))
	if cfg.Setup != nil {
		cfg.Setup(s)
	}
	return s, nil
}

// linkIndex makes a new like, repost, follow or block take the place of an earlier one of the same
// subject. Earlier versions kept keys below "link/" for that.
func linkIndex() repo.Index {
	index := repo.SubjectIndex("link", readafter.Links())
	index.Replaces = []string{"link/"}
	return index
}

// openAccounts makes ready what serves the accounts.
func (s *Server) openAccounts() error {
	cfg := &s.cfg
	key, err := cfg.Secrets.sessionKey()
	if err != nil {
		return err
	}
	if err := s.openRates(); err != nil {
		return err
	}
	s.Sessions = session.New(session.Config{
		OAuth:       s.oauthSessions(),
		Credentials: s.Credentials, Key: key, ServiceDID: cfg.ServiceDID, URL: cfg.URL, Resolver: cfg.Resolver,
		AdminPassword: cfg.Secrets.AdminPassword, Moderator: cfg.Moderation.DID, Guesses: cfg.Rates, Shared: cfg.Node.Shared, SendCode: s.sendCode, Now: cfg.Now, Logger: s.log,
	})
	s.Service = server.New(server.Config{
		Sessions: s.Sessions, Directory: cfg.Directory, RotationKeys: cfg.Secrets.RotationKeys, RecoveryKey: cfg.RecoveryKey,
		Mailer: cfg.Mailer, Outbox: cfg.Outbox, CheckClock: s.checkClock, Policy: cfg.Policy, ResetDelay: cfg.ResetDelay, Audit: s.Audit,
	})
	if cfg.Mailer != nil {
		s.notices = s.Service.Notices()
	}
	return nil
}

// from is the network that a request comes from.
func from(ctx context.Context) string {
	network := limit.ClientOf(ctx).Network
	if !network.IsValid() {
		return ""
	}
	if network.IsSingleIP() {
		return network.Addr().String()
	}
	return network.String()
}

// sendCode sends a code that is a second factor.
func (s *Server) sendCode(ctx context.Context, a account.Account, code string) error {
	return s.Service.SendCode(ctx, a, code)
}

// Moving reports whether an account is being migrated to or from this server, so that it may upload
// all its blobs: see [rate.Config].
func (s *Server) Moving(ctx context.Context, did string) bool {
	moves, err := s.moves(ctx, syntax.DID(did))
	return err == nil && moves
}

// Bounds of accounts that are not active. An active account may upload a thousand blobs a day. One
// that moves may upload many more, and anybody can make one that only seems to: its repository is
// imported first, so what no record refers to is not part of a move.
const (
	movingQuota  = 32 << 30 // bytes, where there is no quota
	movingUnused = 1000
)

// moves is Moving, with what went wrong.
func (s *Server) moves(ctx context.Context, did syntax.DID) (bool, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if errors.Is(err, account.ErrNotFound) {
		return false, nil
	}
	return a.Status() == account.Deactivated, err
}

// blobQuota is that of the configuration, or of an account that is not active.
func (s *Server) blobQuota(ctx context.Context, did syntax.DID) (int64, error) {
	if s.cfg.BlobQuota > 0 {
		return s.cfg.BlobQuota, nil
	}
	if moves, err := s.moves(ctx, did); err != nil || !moves {
		return 0, err
	}
	return movingQuota, nil
}

// unusedBlobs bounds the uploads of an account that is not active.
func (s *Server) unusedBlobs(ctx context.Context, did syntax.DID) (int, error) {
	if moves, err := s.moves(ctx, did); err != nil || !moves {
		return 0, err
	}
	return movingUnused, nil
}

// openMethods registers the methods.
func (s *Server) openMethods() {
	cfg := &s.cfg
	m := &xrpc.Server{Catalog: cfg.Catalog, Logger: s.log, Compress: true, Decoders: cfg.Decoders, Observe: s.observe, Trace: cfg.Hooks.Trace}
	repos := &atproto.Service{
		Host: s.Host, Accounts: s.Service, Takedowns: s.Accounts, BlobURL: cfg.BlobURL,
		Auth: atproto.Auth{
			User: s.Sessions.User(session.RefuseTakenDown), Optional: s.Sessions.Optional(), Upload: s.Sessions.Uploader(), Guard: s.Sessions.Guard,
		},
		Schemas: cfg.Catalog, Outbox: s.Outbox, BlobLimit: cfg.BlobLimit, Sniff: cfg.Sniff,
		ImportKeys: s.Service.ImportKeys, ImportLimit: cfg.ImportLimit, UnverifiedImports: true,
	}
	if cfg.ImportLimit < 0 {
		m.Handle(xrpc.Route{
			NSID: "com.atproto.repo.importRepo", Auth: s.Sessions.User(session.RefuseTakenDown), Needs: []auth.Permission{auth.ManageRepo},
			Handler: xrpc.RawProcedure(refuseImport),
		})
	}
	m.Admit, m.Limit, repos.CountWrites = cfg.Rates.Admit, cfg.Rates.Limit, cfg.Rates.Writes
	view := s.appView()
	repos.Elsewhere = view.Elsewhere()
	repos.Mount(m)
	m.Handle(s.Sessions.Routes()...)
	m.Handle(s.Service.Routes()...)
	view.Mount(m)
	s.Methods, s.Repos, s.Proxy = m, repos, view.Proxy()
}

// appView is what the AppView and the moderation services do for the server.
func (s *Server) appView() *appview.Service {
	to := func(x Service) proxy.Service { return proxy.Service{DID: x.DID, URL: x.URL} }
	cfg := &s.cfg
	return appview.New(appview.Config{
		Sessions: s.Sessions, Host: s.Host, AppView: to(cfg.AppView.Service), Moderation: to(cfg.Moderation), Reports: to(cfg.Reports),
		CDN: cfg.AppView.CDN, MaxAnswer: cfg.AppView.MaxResponse, HeaderTimeout: cfg.AppView.HeaderTimeout, BodyTimeout: cfg.AppView.BodyTimeout,
		Development: cfg.Development, HTTP: cfg.HTTP, Proxy: cfg.Proxy, Schemas: cfg.Catalog,
	})
}

// refuseImport stands in for importRepo where imports are turned off.
func refuseImport(w http.ResponseWriter, r *xrpc.Request) error {
	return xrpc.InvalidRequest("Service is not accepting repo imports")
}

// openPages registers the pages that every server has.
func (s *Server) openPages() {
	s.Mux.Handle("/.well-known/", s.Service.WellKnown())
	if withPages && s.OAuth != nil {
		s.OAuth.Mount(s.Mux)
	}
	s.Mux.HandleFunc("GET /robots.txt", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "# Hello!\n\n# Crawling the public API is allowed\nUser-agent: *\nAllow: /\n")
	})
	s.Mux.HandleFunc("GET /tls-check", s.tlsCheck)
	home := s.cfg.Home
	if home == nil {
		home = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "This is an AT Protocol Personal Data Server (PDS), made with pdskit.\n\nMost API routes are under /xrpc/\n")
		})
	}
	s.Mux.Handle("GET /{$}", home)
}

// bounded bounds what clients may hold, and reads their addresses from what a trusted proxy says.
func (s *Server) bounded(next http.Handler) http.Handler {
	s.relays.hosts = s.cfg.Relays
	limits := &limit.Limiter{Class: s.class(limit.NewMethods()), Privileged: s.relays.contains, Refused: s.refused}
	return s.cfg.Proxies.Handler(limits.Handler(next))
}

// ServeHTTP serves everything: methods, pages, health.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.made()
	s.handler.ServeHTTP(w, r)
}

// made panics if the server is not one of New.
func (s *Server) made() {
	if s.handler == nil {
		panic("pds: a Server is made by New: its zero value serves nothing")
	}
}

// route answers requests with the method OPTIONS, but for those of OAuth and of the administrator's
// pages, and passes others on. Methods do not go through the mux, which would answer paths with two
// slashes by a redirection that web pages cannot follow.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	name, isMethod := strings.CutPrefix(r.URL.Path, "/xrpc/")
	switch {
	case r.Method == http.MethodOptions && !s.mountsOAuth(r.URL.Path) && !strings.HasPrefix(r.URL.Path, operator.Root):
		xrpc.CORS(w, r)
	case isMethod && strings.TrimSuffix(name, "/") == "_health":
		s.health(w, r)
	case isMethod:
		s.Methods.ServeHTTP(w, r)
	default:
		s.Mux.ServeHTTP(w, r)
	}
}

// Run does the background work of a server until the context ends. It checks the clock, sends mail,
// and asks relays to read the server. Every minute it completes interrupted changes of accounts,
// and every hour it deletes what is no longer used. Of several nodes, only one that is not draining
// does these last three. At the end Run ends all subscriptions and returns nil. Call it once, while
// the server serves. A server that does not run between requests calls Maintain instead.
func (s *Server) Run(ctx context.Context) error {
	s.made()
	var all sync.WaitGroup
	all.Go(func() { s.clock.watch.Run(ctx) })
	all.Go(func() { s.beat(ctx) })
	if r, ok := s.cfg.Rates.(interface{ Run(context.Context) }); ok {
		all.Go(func() { r.Run(ctx) })
	}
	s.node.leaseJobs.Go(func() {
		s.lead(ctx, leaseMaintenance, func(ctx context.Context, t term) {
			var both sync.WaitGroup
			both.Go(func() { s.maintain(ctx, t) })
			both.Go(func() { s.repair(ctx) })
			both.Wait()
		})
	})
	if s.crawler != nil {
		s.node.leaseJobs.Go(func() { s.lead(ctx, leaseCrawl, s.crawl) })
	}
	all.Go(func() { s.relays.run(ctx) })
	if s.Mail != nil {
		all.Go(func() { s.Mail.Run(ctx) })
	}
	<-ctx.Done()
	err := s.Outbox.Close()
	s.node.leaseJobs.Wait()
	all.Wait()
	return err
}

// Close sends the mail that is due, until the context ends. The next server of the store sends the
// rest. Call it after the last request. Close the store after it.
func (s *Server) Close(ctx context.Context) error {
	err := s.Outbox.Close() // Run may never have been called
	s.Service.Close(ctx)
	if s.Mail != nil {
		s.Mail.Close(ctx)
	}
	s.prober.wait(ctx)
	return err
}

// URL returns the server's public URL, without a trailing slash.
func (s *Server) URL() string { return s.cfg.URL }

// hostname is that of the address.
func (s *Server) hostname() string {
	u, _ := url.Parse(s.cfg.URL)
	return u.Hostname()
}

// observe tells of a request.
func (s *Server) observe(r *xrpc.Request, status int, took time.Duration) {
	if status >= http.StatusInternalServerError && status != http.StatusNotImplemented {
		s.prober.reportFailure()
	}
	if r.NSID == "com.atproto.repo.uploadBlob" && status == http.StatusOK {
		s.onDemand.uploaded.Store(true)
	}
	s.logRequest(r, status, took)
	if s.cfg.Hooks.Request != nil {
		s.cfg.Hooks.Request(r, status, took)
	}
}

// refused tells of a request for which there was no room.
func (s *Server) refused(r *http.Request, e *limit.Error) {
	s.log.Debug("no room for a request", "class", e.What, "status", e.Status(), "from", r.RemoteAddr)
	if s.cfg.Hooks.Refused != nil {
		s.cfg.Hooks.Refused(r, e)
	}
}
