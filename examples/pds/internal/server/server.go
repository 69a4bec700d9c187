// Package server puts the reference server together: the library's packages,
// accounts, and the methods of com.atproto.server.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/pds/internal/check"
	"github.com/pdskit/pdskit/examples/pds/internal/clientaddr"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/mail"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/atproto/blobtype"
	atprotoserver "github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/proxy/readafter"
	"github.com/pdskit/pdskit/xrpc/session"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Version is what /xrpc/_health tells.
const Version = "0.1.0"

// Server is a running server.
type Server struct {
	cfg         *config.Config
	now         func() time.Time
	clock       clock
	secrets     *config.Secrets
	log         *slog.Logger
	url         string // public
	plcURL      string
	data        *datadir.Dir
	store       storage.Store
	accounts    *account.Store
	credentials *credential.Store
	host        *repo.Host
	sessions    *session.Sessions
	service     *atprotoserver.Service // of the accounts
	outbox      *stream.Outbox
	plc         *identity.PLCClient
	resolver    *identity.Resolver
	proxy       *proxy.Proxy
	catalog     *lexicon.Catalog
	// appViewHTTP asks the AppView for what read-after-write needs.
	appViewHTTP *http.Client
	mail        mail.Sender
	resetDelay  time.Duration // of the service
	// moderators' mail has a sender of its own.
	moderation mail.Sender

	listener  net.Listener
	http      *http.Server
	plcDir    *plctest.Directory // nil unless it is in the process
	plcServer *http.Server
	stop      context.CancelFunc // of the maintenance
	stopped   chan struct{}
	// background is what else runs until stop.
	background sync.WaitGroup
	relays     relays
	op         operation
}

// Start opens the data directory and starts to listen. The server serves when it returns.
func Start(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Server, error) {
	return start(ctx, cfg, log, func(*Server) {})
}

// start is Start with a change of the server before it makes what serves accounts.
func start(ctx context.Context, cfg *config.Config, log *slog.Logger, change func(*Server)) (_ *Server, err error) {
	s := &Server{cfg: cfg, log: log, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	defer func() {
		if err != nil {
			s.Shutdown(ctx)
		}
	}()
	if s.data, err = datadir.Open(ctx, cfg.DataDirectory, datadir.Options{Blobs: cfg.BlobDirectory, Now: s.now}); err != nil {
		return nil, err
	}
	if err := s.checkKeys(ctx); err != nil {
		return nil, err
	}
	if s.secrets, err = cfg.Secrets(); err != nil {
		return nil, err
	}
	if s.mail, err = mail.New(cfg.Mail.SMTP, cfg.Mail.From, log, cfg.Mail.Sink); err != nil {
		return nil, err
	}
	s.moderation = s.mail
	if m := cfg.Mail; m.ModerationSMTP != m.SMTP || m.ModerationFrom != m.From {
		if s.moderation, err = mail.New(m.ModerationSMTP, m.ModerationFrom, log, m.Sink); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(cfg.Bind, fmt.Sprint(cfg.Port)))
	if err != nil {
		return nil, err
	}
	s.listener = &limit.Listener{Listener: listener, Shared: clientaddr.Trust(cfg.Limits.TrustedProxies).Contains}
	s.url = cfg.PublicURL(s.listener.Addr().(*net.TCPAddr).Port)
	if err := s.openStore(ctx); err != nil {
		return nil, err
	}
	if err := s.openDirectory(); err != nil {
		return nil, err
	}
	s.outbox = &stream.Outbox{Events: s.store.Events}
	s.crawler()
	s.openClock()
	s.openHealth()
	change(s)
	s.openAccounts()
	s.http = &http.Server{Handler: s.handler(), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	limit.Harden(s.http)
	// HTTP/2 without TLS is for proxies in front that speak it.
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	if err := s.serveMetrics(); err != nil {
		return nil, err
	}
	maintain, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.stopped = stop, make(chan struct{})
	s.startClock(maintain)
	go s.maintain(maintain)
	if cfg.TLS.ACME {
		if s.http.TLSConfig, err = s.acmeTLS(); err != nil {
			return nil, err
		}
		go s.http.ServeTLS(s.listener, "", "")
	} else {
		go s.http.Serve(s.listener)
	}
	s.startCrawler(maintain)
	s.background.Go(func() { s.relays.run(maintain) })
	return s, nil
}

// openStore opens the accounts and the host.
func (s *Server) openStore(ctx context.Context) (err error) {
	s.store = s.data.Store
	box, err := sealed.New(s.secrets.MasterKeys...)
	if err != nil {
		return err
	}
	s.accounts = account.Open(repo.Config{
		Store: s.store, Now: s.now, CheckClock: s.checkClock, Hold: limit.Hold,
		TempDir: filepath.Join(s.cfg.DataDirectory, datadir.Temp), CacheBytes: s.cfg.TreeCache, SpoolBytes: s.cfg.SpoolLimit,
		BlobQuota: func(context.Context, syntax.DID) (int64, error) { return s.cfg.BlobQuota, nil },
		Indexes:   []repo.Index{linkIndex()},
	}, box)
	s.host = s.accounts.Host()
	s.credentials = credential.New(credential.Config{Accounts: s.accounts, Enter: session.HashQueue(), Now: s.now})
	if err := s.accounts.Repair(ctx); err != nil {
		return err
	}
	return (check.Server{Store: s.store, Accounts: s.accounts, Folder: s.data.Blobs}).BlobsThere(ctx)
}

// linkIndex makes a new like, repost, follow or block take the place of an earlier one of the same
// subject. Earlier versions kept keys below "link/" for that.
func linkIndex() repo.Index {
	index := repo.SubjectIndex("link", readafter.Links())
	index.Replaces = []string{"link/"}
	return index
}

// openDirectory connects to the did:plc directory, or starts one.
func (s *Server) openDirectory() (err error) {
	s.plcURL = s.cfg.PLC
	if s.plcURL == "" {
		s.plcDir, err = plctest.New(plctest.Config{File: filepath.Join(s.cfg.DataDirectory, datadir.PLC), NoRateLimits: true, Now: s.now})
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", "localhost:0")
		if err != nil {
			return err
		}
		s.plcURL = fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
		s.plcServer = &http.Server{Handler: s.plcDir, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
		go s.plcServer.Serve(l)
	}
	s.plc = &identity.PLCClient{URL: s.plcURL}
	s.resolver = &identity.Resolver{
		PLC: s.plc, Development: s.cfg.DevMode, Timeout: s.cfg.IdentityTimeout, Now: s.now,
		TTL: s.cfg.IdentityTTL, StaleFor: s.cfg.IdentityMaxTTL - s.cfg.IdentityTTL,
	}
	if s.resolver.StaleFor <= 0 {
		s.resolver.StaleFor = -1
	}
	s.appViewHTTP = newAppViewHTTP()
	return nil
}

// openAccounts makes ready what serves the accounts.
func (s *Server) openAccounts() {
	s.op.limits = s.limiter()
	s.sessions = session.New(session.Config{
		Credentials: s.credentials, Key: s.secrets.JWTSecret, ServiceDID: s.cfg.ServiceDID, URL: s.url, Resolver: s.resolver,
		AdminPassword: s.secrets.AdminPassword, Moderator: s.cfg.Proxy.Moderation.DID, Guesses: s.op.limits, Now: s.now, Logger: s.log,
	})
	var rotation []crypto.Signer
	for _, key := range s.secrets.PLCRotationKeys {
		rotation = append(rotation, key)
	}
	appView, _ := s.defaultService("app.bsky.actor.getPreferences")
	s.service = atprotoserver.New(atprotoserver.Config{
		Sessions: s.sessions, Directory: s.plc, RotationKeys: rotation, RecoveryKey: s.cfg.RecoveryKey,
		Mailer: mailer{s.mail, s.moderation}, CheckClock: s.checkClock, ResetDelay: s.resetDelay, AppView: appView.Ref(),
		Policy: atprotoserver.Policy{
			Domains: s.cfg.HandleDomains, InviteRequired: s.cfg.InviteRequired, InviteInterval: s.cfg.InviteInterval, InviteEpoch: s.cfg.InviteEpoch,
			PrivacyPolicy: s.cfg.PrivacyPolicy, TermsOfService: s.cfg.TermsOfService, ContactEmail: s.cfg.ContactEmail,
		},
	})
}

// mailer sends the messages of accounts. Those of moderators have a sender of their own.
type mailer struct{ usual, moderation mail.Sender }

func (m mailer) Send(ctx context.Context, msg atprotoserver.Mail) error {
	by := m.usual
	if msg.Kind == atprotoserver.Plain {
		by = m.moderation
	}
	return by.Send(ctx, mail.Message{To: msg.To, Subject: msg.Subject, Text: msg.Text})
}

// handler is everything that is served.
func (s *Server) handler() http.Handler {
	s.catalog = lexicon.Builtin()
	methods := &xrpc.Server{Catalog: s.catalog, Logger: s.log, Compress: true, Decoders: map[string]func(io.Reader) (io.Reader, error){
		"br": func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
	}}
	service := &atproto.Service{
		Host:       s.host,
		Accounts:   s.service,
		Takedowns:  s.accounts,
		Auth:       atproto.Auth{User: s.sessions.User(session.RefuseTakenDown), Optional: s.sessions.Optional(), Upload: s.sessions.Uploader(), Guard: s.sessions.Guard},
		Schemas:    s.catalog,
		Outbox:     s.outbox,
		BlobLimit:  s.cfg.BlobLimit,
		Sniff:      blobtype.Sniff,
		ImportKeys: s.service.ImportKeys, UnverifiedImports: true,
	}
	if service.ImportLimit = s.cfg.ImportLimit; !s.cfg.AcceptImports {
		service.ImportLimit = -1
		methods.Handle(xrpc.Route{
			NSID: "com.atproto.repo.importRepo", Auth: s.sessions.User(session.RefuseTakenDown), Needs: []auth.Permission{auth.ManageRepo},
			Handler: xrpc.RawProcedure(refuseImport),
		})
	}
	service.CountWrites = s.op.limits.Writes
	s.proxy = s.forwarding()
	if s.cfg.Proxy.AppView.URL != "" {
		service.Elsewhere = s.recordElsewhere
	}
	service.Mount(methods)
	methods.Handle(s.sessions.Routes()...)
	methods.Handle(s.service.Routes()...)
	methods.Handle(s.forwarded()...)
	methods.Fallback, methods.Divert = s.proxy.Route(), s.divert
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tls-check", s.tlsCheck)
	mux.Handle("/.well-known/", s.service.WellKnown())
	mux.HandleFunc("GET /robots.txt", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "# Hello!\n\n# Crawling the public API is allowed\nUser-agent: *\nAllow: /\n")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "This is an AT Protocol Personal Data Server (PDS), made with pdskit.\n\nMost API routes are under /xrpc/\n")
	})
	return s.operate(methods, s.route(methods, mux))
}

// route answers all requests with the method OPTIONS, and passes others on. Methods do not go
// through the mux, which would answer paths with two slashes by a redirection that web pages cannot
// follow.
func (s *Server) route(methods, mux http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, isMethod := strings.CutPrefix(r.URL.Path, "/xrpc/")
		switch {
		case r.Method == http.MethodOptions:
			xrpc.CORS(w, r)
		case isMethod && strings.TrimSuffix(name, "/") == "_health":
			s.health(w, r)
		case isMethod:
			methods.ServeHTTP(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// URL is the server's public address.
func (s *Server) URL() string { return s.url }

// PLC is the address of the did:plc directory, and whether it is in the process.
func (s *Server) PLC() (url string, local bool) { return s.plcURL, s.plcDir != nil }

// Secrets are the server's secrets.
func (s *Server) Secrets() *config.Secrets { return s.secrets }

// Shutdown ends subscriptions, lets requests end until the context does, and
// closes the store.
func (s *Server) Shutdown(ctx context.Context) error {
	var errs []error
	if s.stop != nil {
		s.stop()
		<-s.stopped
		s.stopClock()
		s.stopCrawler()
		s.background.Wait()
	}
	if s.outbox != nil {
		errs = append(errs, s.outbox.Close())
	}
	if s.http != nil {
		if err := s.http.Shutdown(ctx); err != nil {
			errs = append(errs, s.http.Close())
		}
	} else if s.listener != nil {
		errs = append(errs, s.listener.Close())
	}
	errs = append(errs, s.stopMore())
	if s.service != nil {
		s.service.Close(ctx)
	}
	if s.op.prober != nil {
		s.op.prober.wait(ctx)
	}
	if s.plcServer != nil {
		errs = append(errs, s.plcServer.Close())
	}
	if s.plcDir != nil {
		errs = append(errs, s.plcDir.Close())
	}
	if s.data != nil {
		errs = append(errs, s.data.Close())
	}
	return errors.Join(errs...)
}
