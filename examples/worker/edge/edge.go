package edge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/blobtype"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/mail"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Version is what /xrpc/_health tells.
const Version = "0.1.0"

const (
	// treeCache bounds the trees in memory, in bytes. A server has one account, or few that write at a
	// time; a tree of 50,000 records takes about half of it.
	treeCache = 16 << 20
	// importLimit bounds an imported repository, in bytes.
	importLimit = 256 << 20
	// retryFirst and retryLast are how long to wait after maintenance has failed: the time doubles.
	retryFirst, retryLast = time.Minute, 6 * time.Hour
)

// Platform is what a server runs on. Store and Alarm are required.
type Platform struct {
	Store storage.Store
	// Alarm sets when Server.Alarm is to be called, in the place of what was set before. It must last
	// when the process ends.
	Alarm func(at time.Time) error
	// Set is what the alarm was set to when the process started; zero: there is none.
	Set time.Time
	// HTTP makes the requests to strangers' hosts. Nil: that of pds.Config.
	HTTP *http.Client
	// Subscribe, if not nil, serves com.atproto.sync.subscribeRepos, and Subscribers returns how many
	// read it. Written is called when events may have been written.
	Subscribe   http.Handler
	Subscribers func() int
	Written     func(ctx context.Context) error
	// Change, if not nil, changes the configuration of the server last.
	Change func(c *pds.Config)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger gets what an operator should know. Nil: silent.
	Logger *slog.Logger
}

// Server is one PDS. It is safe for concurrent use.
type Server struct {
	*pds.Server
	platform Platform
	log      *slog.Logger
	now      func() time.Time

	mu      sync.Mutex
	alarm   time.Time // when it goes off; zero: it is not set
	newest  int64     // event that was published
	failure time.Duration
}

// New returns the server of a host name, which Config.Serves knows.
func New(cfg Config, host string, p Platform) (*Server, error) {
	s := &Server{platform: p, log: p.Logger, now: p.Now, alarm: p.Set}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	c, err := s.config(cfg, host)
	if err != nil {
		return nil, err
	}
	if s.Server, err = pds.New(c); err != nil {
		return nil, err
	}
	return s, nil
}

// config is that of the whole PDS.
func (s *Server) config(cfg Config, host string) (pds.Config, error) {
	directory := &identity.PLCClient{URL: cfg.PLC}
	c := pds.Config{
		URL: "https://" + host, Store: s.platform.Store, Secrets: cfg.Secrets, RecoveryKey: cfg.RecoveryKey, Version: Version,
		Directory: directory, HTTP: s.platform.HTTP, Now: s.now, Logger: s.log, Development: cfg.Development,
		Resolver: &identity.Resolver{PLC: directory, HTTP: s.platform.HTTP, DNS: &identity.DNSOverHTTPS{URL: cfg.DNS}, Development: cfg.Development, Now: s.now},
		Policy:   server.Policy{Domains: cfg.domains(host), InviteRequired: cfg.InviteRequired},
		AppView:  cfg.AppView, Reports: cfg.Reports, Relays: cfg.Relays, Subscribers: s.platform.Subscribers,
		BlobLimit: cfg.BlobLimit, BlobQuota: cfg.BlobQuota, ImportLimit: importLimit, Sniff: blobtype.Sniff, TreeCache: treeCache,
		Brand: site.Brand{Name: cfg.Name},
		// The process may end after any request. What it must remember is in the store.
		OAuth: pds.OAuth{Replays: &dpop.Stored{KV: s.platform.Store.KV, Prefix: "oauth/call/"}},
		Setup: s.setup,
	}
	if host != cfg.Host {
		c.Policy.MinLabel, c.Policy.MaxLabel = 1, 63
		c.Policy.Reserved = func(string) bool { return false } // there is one name, and it is the operator's
		c.Policy.Admit = s.admitOne(host)
	}
	if cfg.MailURL != "" {
		hook, err := mail.NewHook(mail.HookConfig{URL: cfg.MailURL, Token: cfg.MailToken, From: cfg.MailFrom, HTTP: s.platform.HTTP})
		if err != nil {
			return c, fmt.Errorf("PDS_EMAIL_HOOK_URL, PDS_EMAIL_FROM_ADDRESS: %w", err)
		}
		c.Mailer = mailer{hook}
	}
	if s.platform.Change != nil {
		s.platform.Change(&c)
	}
	return c, nil
}

// admitOne admits one account, whose handle is the host name unless it moves here with its own.
func (s *Server) admitOne(host string) func(context.Context, *xrpc.Request, server.NewAccount) error {
	return func(ctx context.Context, _ *xrpc.Request, n server.NewAccount) error {
		count, err := s.Accounts.Count(ctx)
		switch {
		case err != nil:
			return err
		case count > 0:
			return &xrpc.Error{Status: http.StatusForbidden, Name: "HostHasItsAccount", Message: "This host is for one account, which it has"}
		case n.DID == "" && string(n.Handle) != host:
			return &xrpc.Error{Status: http.StatusBadRequest, Name: "UnsupportedDomain", Message: "The account of this host has its name as handle: " + host}
		}
		return nil
	}
}

// mailer sends the messages of accounts.
type mailer struct{ mail.Sender }

func (m mailer) Send(ctx context.Context, msg server.Mail) error {
	return m.Sender.Send(ctx, mail.Message{To: msg.To, Subject: msg.Subject, Text: msg.Text})
}

// setup is called at the end of pds.New.
func (s *Server) setup(p *pds.Server) {
	if s.platform.Subscribe != nil {
		p.Methods.Replace(xrpc.Route{NSID: "com.atproto.sync.subscribeRepos", Handler: xrpc.Query(
			s.platform.Subscribe.ServeHTTP(w, r.Request)
			return nil
		}})
	}
}

// ServeHTTP serves everything. When the answer has been written, subscribers get what the request has
// written, and the alarm is set to when there is something to do.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Server.ServeHTTP(w, r)
	ctx := context.WithoutCancel(r.Context())
	if err := s.after(ctx); err != nil {
		s.log.Error("after a request", "err", err)
	}
}

// Alarm does what is due. Call it when the alarm goes off.
func (s *Server) Alarm(ctx context.Context) {
	s.mu.Lock()
	s.alarm = time.Time{}
	s.mu.Unlock()
	if err := s.Maintain(ctx); err != nil {
		s.log.Error("maintenance", "err", err)
		s.mu.Lock()
		s.failure = min(max(2*s.failure, retryFirst), retryLast)
		s.mu.Unlock()
	} else {
		s.mu.Lock()
		s.failure = 0
		s.mu.Unlock()
	}
	if err := s.after(ctx); err != nil {
		s.log.Error("after an alarm", "err", err)
	}
}

// Left tells that the last subscriber has left.
func (s *Server) Left(ctx context.Context) {
	err := s.Server.Left(ctx)
	if err == nil {
		err = s.after(ctx)
	}
	if err != nil {
		s.log.Error("after the last subscriber", "err", err)
	}
}

// after publishes new events, and sets the alarm.
func (s *Server) after(ctx context.Context) error {
	_, newest, err := s.platform.Store.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	written := newest > s.newest
	s.newest = max(s.newest, newest)
	s.mu.Unlock()
	if written && s.platform.Written != nil {
		if err := s.platform.Written(ctx); err != nil {
			s.log.Error("subscribers", "err", err)
		}
	}
	due, err := s.Due(ctx)
	if err != nil || due.IsZero() {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure > 0 {
		if earliest := s.now().Add(s.failure); due.Before(earliest) {
			due = earliest
		}
	}
	if !s.alarm.IsZero() && !due.Before(s.alarm) {
		return nil
	}
	if err := s.platform.Alarm(due); err != nil {
		return err
	}
	s.alarm = due
	return nil
}
