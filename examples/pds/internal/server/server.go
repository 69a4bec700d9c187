// Package server runs the reference server: it runs package pds on a data directory, and serves it
// with TLS, metrics, and a did:plc directory for development.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/pds/internal/certs"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/selfcheck"
	"github.com/pdskit/pdskit/examples/pds/internal/update"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/xrpc/atproto/blobtype"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
	"github.com/pdskit/pdskit/xrpc/mail"
	adminpages "github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Server is a running server.
type Server struct {
	cfg       *config.Config
	secrets   *config.Secrets
	log       *slog.Logger
	url       string // public
	plcURL    string
	directory *identity.PLCClient
	data      *datadir.Dir
	pds       *pds.Server
	meters    meters
	doctor    *doctor.Doctor
	certs     *certs.Certs // nil: TLS is somebody else's

	listener net.Listener
	http     *http.Server
	servers  []*http.Server     // besides that
	plcDir   *plctest.Directory // nil unless it is in the process
	stop     context.CancelFunc // of what runs besides
	running  sync.WaitGroup
}

// Start opens the data directory and starts to listen. The server serves when it returns.
func Start(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Server, error) {
	return start(ctx, cfg, log, changes{})
}

// changes are those of a test, before the server serves.
type changes struct {
	config func(*pds.Config)
	server func(*pds.Server)
}

// start is Start with last changes.
func start(ctx context.Context, cfg *config.Config, log *slog.Logger, change changes) (_ *Server, err error) {
	s := &Server{cfg: cfg, log: log, doctor: &doctor.Doctor{}}
	defer func() {
		if err != nil {
			s.Shutdown(ctx)
		}
	}()
	if cfg.NodeID == "" {
		cfg.NodeID = pds.NodeID()
	}
	behind := func(newest, served int64) {
		log.Error("the database has lost events that were served: has a standby taken over that had not received all? See \"Restore to a moment\" in nodes.md", "newest", newest, "served", served)
	}
	if s.data, err = datadir.Open(ctx, cfg.DataDirectory, datadir.Options{Database: cfg.DatabaseURL, Node: cfg.NodeID, Behind: behind, Blobs: cfg.BlobDirectory, S3: cfg.S3, KeepDeleted: cfg.KeepDeleted, Now: cfg.Now, Use: datadir.Serve}); err != nil {
		return nil, err
	}
	if err := s.openSecrets(ctx); err != nil {
		return nil, err
	}
	if s.listener, err = listen("PDS_PORT, PDS_BIND_ADDRESS", net.JoinHostPort(cfg.Bind, fmt.Sprint(cfg.Port))); err != nil {
		return nil, err
	}
	s.listener = &limit.Listener{Listener: s.listener, Shared: limit.Proxies(cfg.Limits.TrustedProxies).Contains}
	s.url = cfg.PublicURL(s.listener.Addr().(*net.TCPAddr).Port)
	if err := s.openDirectory(); err != nil {
		return nil, err
	}
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	if change.config != nil {
		change.config(&config)
	}
	if s.pds, err = pds.New(config); err != nil {
		return nil, s.data.Explain(err)
	}
	if change.server != nil {
		change.server(s.pds)
	}
	s.registerMetrics()
	s.openDoctor()
	return s, s.serve(ctx)
}

// serve starts everything.
func (s *Server) serve(ctx context.Context) error {
	echo := &doctor.Echo{Key: selfcheck.EchoKey(s.secrets.MasterKeys), Proxies: s.cfg.Limits.TrustedProxies, Next: s.pds, Now: s.cfg.Now}
	s.http = &http.Server{Handler: echo, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
	limit.Harden(s.http)
	// HTTP/2 without TLS is for proxies in front that speak it.
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	s.serveMetrics()
	if s.cfg.TLS.ACME {
		var err error
		if s.http.TLSConfig, err = s.acmeTLS(); err != nil {
			return err
		}
		go s.http.ServeTLS(s.listener, "", "")
	} else {
		go s.http.Serve(s.listener)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.running.Go(func() { s.pds.Run(run) })
	s.running.Go(func() { s.warnOfAddresses(run) })
	if s.cfg.UpdateFeed != "" {
		c := &update.Checker{Feed: s.cfg.UpdateFeed, Dir: s.cfg.DataDirectory, Version: Version, Logger: s.log, Now: s.cfg.Now}
		s.running.Go(func() { c.Run(run) })
	}
	if s.certs != nil {
		go s.certs.Run(run) // the authority may take its time: nobody waits for that at the end
	}
	if !s.cfg.DevMode {
		s.running.Go(func() { s.doctor.Run(run) })
	}
	return nil
}

// openSecrets reads the secrets, or makes new ones where there are no accounts that have others.
func (s *Server) openSecrets(ctx context.Context) (err error) {
	for _, err := range s.data.Store.Repos.List(ctx, "") {
		if err == nil {
			err = s.cfg.CheckKeys()
		}
		if err != nil {
			return err
		}
		break
	}
	s.secrets, err = s.cfg.Secrets()
	return err
}

// openDirectory connects to the did:plc directory, or starts one.
func (s *Server) openDirectory() (err error) {
	if s.plcURL = s.cfg.PLC; s.plcURL != "" {
		return nil
	}
	s.plcDir, err = plctest.New(plctest.Config{File: filepath.Join(s.cfg.DataDirectory, datadir.PLC), NoRateLimits: true, Now: s.cfg.Now})
	if err != nil {
		return err
	}
	l, err := s.listenPLC()
	if err != nil {
		return err
	}
	s.plcURL = fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	s.serveMore(&http.Server{Handler: s.plcDir, WriteTimeout: time.Minute}, l)
	return nil
}

// usualPLC is the port of the did:plc directory of a development server, if it is free.
const usualPLC = 2582

// listenPLC listens for the did:plc directory: on the same port as at the last start, if that is
// free, so that tools need not be told another address each time.
func (s *Server) listenPLC() (net.Listener, error) {
	dir := s.cfg.DataDirectory
	noted := datadir.ReadPort(dir, datadir.PLCPort)
	first := noted
	if noted == 0 && s.cfg.Port != 0 { // who wants any port gets any
		first = usualPLC
	}
	var l net.Listener
	var err error
	for _, port := range []int{first, 0} {
		if l, err = net.Listen("tcp", fmt.Sprintf("localhost:%d", port)); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	switch {
	case noted == 0:
		err = datadir.WritePort(dir, datadir.PLCPort, port)
	case noted != port:
		s.log.Warn("the port of the did:plc directory is taken: it has another one until the next start", "port", noted, "now", port)
	}
	return l, err
}

// config is that of the whole PDS.
func (s *Server) config() (pds.Config, error) {
	cfg := s.cfg
	mailer, err := openMail(cfg.Mail, s.log)
	if err != nil {
		return pds.Config{}, err
	}
	var rotation []crypto.Signer
	for _, key := range s.secrets.PLCRotationKeys {
		rotation = append(rotation, key)
	}
	s.directory = &identity.PLCClient{URL: s.plcURL}
	resolver := &identity.Resolver{
		PLC: s.directory, Development: cfg.DevMode, Timeout: cfg.IdentityTimeout, Now: cfg.Now, TTL: cfg.IdentityTTL, StaleFor: cfg.IdentityMaxTTL - cfg.IdentityTTL,
	}
	if resolver.StaleFor <= 0 {
		resolver.StaleFor = -1
	}
	c := pds.Config{
		URL: s.url, ServiceDID: cfg.ServiceDID, Store: s.data.Store, Version: Version, Development: cfg.DevMode, Now: cfg.Now, Logger: s.log, Hooks: s.meters.hooks(),
		Secrets:     pds.Secrets{MasterKeys: s.secrets.MasterKeys, SessionKey: s.secrets.JWTSecret, RotationKeys: rotation, AdminPassword: s.secrets.AdminPassword},
		RecoveryKey: cfg.RecoveryKey,
		Policy: server.Policy{
			Domains: cfg.HandleDomains, InviteRequired: cfg.InviteRequired, InviteInterval: cfg.InviteInterval, InviteEpoch: cfg.InviteEpoch,
			PrivacyPolicy: cfg.PrivacyPolicy, TermsOfService: cfg.TermsOfService, ContactEmail: cfg.ContactEmail,
		},
		Mailer: mailer, Directory: s.directory, Resolver: resolver,
		AppView: pds.AppView{
			Service: pds.Service(cfg.Proxy.AppView), CDN: cfg.Proxy.CDN,
			HeaderTimeout: cfg.Proxy.HeadersTimeout, BodyTimeout: cfg.Proxy.BodyTimeout, MaxResponse: cfg.Proxy.MaxResponse,
		},
		OAuth:      pds.OAuth{Trusted: cfg.TrustedApps},
		Brand:      site.Brand{Name: cfg.ServiceName, Logo: cfg.Logo, Accent: cfg.Colour, Home: cfg.Home, Support: cfg.Support},
		Moderation: pds.Service(cfg.Proxy.Moderation), Reports: pds.Service(cfg.Proxy.Reports),
		Operator: pds.Operator{Off: !cfg.AdminPages, Sizes: s.sizes, BackupHelp: "pds backup DIRECTORY", Doctor: s.doctor},
		Relays:   cfg.Crawlers, TimeServers: selfcheck.TimeServers(cfg.PLC, cfg.Crawlers), SignAnyway: !cfg.ClockCheck,
		BlobLimit: cfg.BlobLimit, BlobQuota: cfg.BlobQuota, ImportLimit: cfg.ImportLimit, Sniff: blobtype.Sniff,
		TreeCache: cfg.TreeCache, SpoolBytes: cfg.SpoolLimit, Temp: filepath.Join(cfg.DataDirectory, datadir.Temp), Backfill: cfg.Backfill,
		Proxies: cfg.Limits.TrustedProxies, Probe: s.probe, Node: pds.Node{ID: cfg.NodeID, Shared: cfg.DatabaseURL != "", Lease: cfg.NodeLease},
		Decoders: map[string]func(io.Reader) (io.Reader, error){
			"br": func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
		},
	}
	if cfg.DevMode {
		c.Home = http.HandlerFunc(s.home)
	}
	if !cfg.AcceptImports {
		c.ImportLimit = -1
	}
	if c.Jetstream, err = openJetstream(cfg); err != nil {
		return c, err
	}
	c.Rates = pds.NoRates{}
	if cfg.Limits.Enabled {
		limits := rate.Config{BypassKey: cfg.Limits.BypassKey, Bypass: cfg.Limits.Bypass, Now: cfg.Now, Moving: func(ctx context.Context, did string) bool { return s.pds.Moving(ctx, did) }}
		if c.Node.Shared {
			if limits.Shared, err = pds.SharedLimits(c.Store.KV, c.Secrets, s.log); err != nil {
				return c, err
			}
		}
		c.Rates = rate.New(limits)
	}
	return c, nil
}

// sizes are what the administrator is shown of the disk.
func (s *Server) sizes(context.Context) []adminpages.Size {
	list := []adminpages.Size{{Name: datadir.Database, Bytes: s.databaseBytes()}}
	if n, _, ok := datadir.Space(s.cfg.DataDirectory); ok {
		list = append(list, adminpages.Size{Name: s.cfg.DataDirectory + ": free", Bytes: n})
	}
	return list
}

// databaseBytes is the size of the database with its journal.
func (s *Server) databaseBytes() (total int64) {
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(filepath.Join(s.cfg.DataDirectory, datadir.Database+suffix)); err == nil {
			total += info.Size()
		}
	}
	return total
}

// probe writes a file beside the database and one beside the blobs, or asks their bucket.
func (s *Server) probe(ctx context.Context) error {
	return errors.Join(pds.ProbeDir(s.cfg.DataDirectory), s.data.Probe(ctx))
}

// mailer sends the messages of accounts. Those of moderators have a sender of their own.
type mailer struct{ usual, moderation mail.Sender }

func openMail(cfg config.Mail, log *slog.Logger) (m mailer, err error) {
	if m.usual, err = mail.New(mail.Config{URL: cfg.SMTP, From: cfg.From, Log: log, File: cfg.Sink}); err != nil {
		return m, err
	}
	m.moderation = m.usual
	if cfg.ModerationSMTP != cfg.SMTP || cfg.ModerationFrom != cfg.From {
		m.moderation, err = mail.New(mail.Config{URL: cfg.ModerationSMTP, From: cfg.ModerationFrom, Log: log, File: cfg.Sink})
	}
	return m, err
}

func (m mailer) Send(ctx context.Context, msg server.Mail) error {
	by := m.usual
	if msg.Kind == server.Plain {
		by = m.moderation
	}
	return by.Send(ctx, mail.Message{ID: msg.ID, To: msg.To, Subject: msg.Subject, Text: msg.Text})
}

// URL is the server's public address.
func (s *Server) URL() string { return s.url }

// PLC is the address of the did:plc directory, and whether it is in the process.
func (s *Server) PLC() (url string, local bool) { return s.plcURL, s.plcDir != nil }

// Secrets are the server's secrets.
func (s *Server) Secrets() *config.Secrets { return s.secrets }

// Routes are the names of the XRPC methods that the server has itself.
func (s *Server) Routes() map[string]bool { return s.meters.methods }

// Drain prepares the end: the health says so from now on, what this node leads is given back, and
// connections are not kept. It returns when load balancers have had the time to notice, or the
// context ends.
func (s *Server) Drain(ctx context.Context) {
	s.http.SetKeepAlivesEnabled(false)
	limited, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()
	s.pds.Drain(limited)
	sleep.For(ctx, s.cfg.DrainDelay)
}

// Shutdown ends subscriptions, lets requests end until the context does, and
// closes the store.
func (s *Server) Shutdown(ctx context.Context) error {
	var errs []error
	if s.stop != nil {
		s.stop() // what it ends may take as long as a mail server does: requests end meanwhile
	}
	if s.http != nil {
		if err := s.http.Shutdown(ctx); err != nil {
			errs = append(errs, s.http.Close())
		}
	} else if s.listener != nil {
		errs = append(errs, s.listener.Close())
	}
	s.running.Wait()
	if s.pds != nil {
		errs = append(errs, s.pds.Close(ctx))
	}
	for _, srv := range s.servers {
		errs = append(errs, srv.Close())
	}
	if s.plcDir != nil {
		errs = append(errs, s.plcDir.Close())
	}
	if s.data != nil {
		errs = append(errs, s.data.Close())
	}
	return errors.Join(errs...)
}

// serveMore serves on a further listener until Shutdown.
func (s *Server) serveMore(srv *http.Server, l net.Listener) {
	limit.Harden(srv)
	srv.ReadTimeout = 10 * time.Second
	srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	s.servers = append(s.servers, srv)
	go srv.Serve(l)
}

// Alive returns when the database has answered, whatever it says.
func (s *Server) Alive(ctx context.Context) { s.data.Store.Events.Bounds(ctx) }
