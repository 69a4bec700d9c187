package edge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/blobtype"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
	"github.com/pdskit/pdskit/xrpc/mail"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Version is what /xrpc/_health tells.
const Version = "0.1.0"

const (
	// treeCache bounds the trees in memory, in bytes. A server has one account, or few that write
	// at a time; a tree of 50,000 records takes about half of it.
	treeCache = 16 << 20
	// importLimit bounds an imported repository, in bytes.
	importLimit = 256 << 20
	// limitKeys bounds the clients of each limit in memory, which is scarce; the store has the
	// rest.
	limitKeys = 1 << 13
	// retryFirst and retryLast are how long to wait after maintenance has failed: the time doubles.
	retryFirst, retryLast = time.Minute, 6 * time.Hour
)

// Platform is what a server runs on. Store and Alarm are required.
type Platform struct {
	Store storage.Store
	// Alarm sets when Server.Wake is to be called, unless it is called before. That must last when
	// the process ends.
	Alarm func(at time.Time) error
	// Guard, if not nil, makes Server.Wake be called a minute later, unless done is called before:
	// so an account's object tells the directory of a change although the process has ended in
	// between.
	Guard func() (done func())
	// HTTP makes the requests to strangers' hosts. Nil: that of pds.Config.
	HTTP *http.Client
	// Temp opens temporary files. Nil: those of car.TempDir.
	Temp car.Temp
	// Subscribe, if not nil, serves com.atproto.sync.subscribeRepos, and Subscribers returns how
	// many read it. Call Server.Left when the last one has left.
	Subscribe   http.Handler
	Subscribers func() int
	// Change, if not nil, changes the configuration of the server last.
	Change func(c *pds.Config)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger gets what an operator should know. Nil: silent.
	Logger *slog.Logger

	near storage.KV                 // of the object of an account: keys of its own
	call func(Part) cloudflare.Call // of other objects, of a server that has such
	// recovered is how often the object of an account has told the directory late.
	recovered func() int64
}

// Server is one PDS. It is safe for concurrent use.
type Server struct {
	*pds.Server
	platform Platform
	log      *slog.Logger
	now      func() time.Time

	// part is what the object is of a server with an object for each account; empty: the whole
	// server.
	part Part
	// tending: the alarm is set at which an account's object tidies itself.
	tidyAlarmSet atomic.Bool

	mu    sync.Mutex
	alarm time.Time     // when it goes off at the latest; zero: that is not known
	wait  time.Duration // after the last failure of maintenance
	retry time.Time     // when it is tried again
}

// New returns the server of a host name, which Config.Serves knows.
func New(cfg Config, host string, p Platform) (*Server, error) { return newServer(cfg, host, "", p) }

func newServer(cfg Config, host string, part Part, p Platform) (*Server, error) {
	s := &Server{platform: p, log: p.Logger, now: p.Now, part: part}
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
	directory := &identity.PLCClient{URL: cfg.PLC, HTTP: s.platform.HTTP}
	c := pds.Config{
		URL: "https://" + host, Store: s.platform.Store, Secrets: cfg.Secrets, RecoveryKey: cfg.RecoveryKey, Version: Version,
		Directory: directory, HTTP: s.platform.HTTP, Now: s.now, Logger: s.log, Development: cfg.Development,
		Resolver: &identity.Resolver{PLC: directory, HTTP: s.platform.HTTP, DNS: &identity.DNSOverHTTPS{URL: cfg.DNS, HTTP: s.platform.HTTP}, Development: cfg.Development, Now: s.now},
		Policy:   server.Policy{Domains: cfg.domains(host), InviteRequired: cfg.InviteRequired},
		AppView:  cfg.AppView, Reports: cfg.Reports, Relays: cfg.Relays, Subscribers: s.platform.Subscribers,
		BlobLimit: cfg.BlobLimit, BlobQuota: cfg.BlobQuota, ImportLimit: importLimit, Sniff: blobtype.Sniff, TreeCache: treeCache, TempFiles: s.platform.Temp,
		Brand: site.Brand{Name: cfg.Name},
		// The process may end after any request. What it must remember is in the store.
		OAuth: pds.OAuth{Replays: &dpop.Stored{KV: s.platform.Store.KV, Prefix: "oauth/call/"}},
		Setup: s.setup,
	}
	if s.part != "" {
		s.partOf(&c)
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
	if !cfg.Development {
		if err := s.limit(&c); err != nil {
			return c, err
		}
	}
	if s.platform.Change != nil {
		s.platform.Change(&c)
	}
	return c, nil
}

// limit bounds how often clients may call. Guesses of passwords, new accounts, mail and uploads are
// counted in the store, as several nodes do that share one: who waits until the object is evicted,
// or makes it restart, has no more of them. Nothing runs that exchanges the other limits.
func (s *Server) limit(c *pds.Config) error {
	shared, err := pds.SharedLimits(c.Store.KV, c.Secrets, s.log)
	if err != nil {
		return err
	}
	c.Rates = rate.New(rate.Config{
		Now: s.now, Shared: shared, MaxKeys: limitKeys,
		Moving: func(ctx context.Context, did string) bool { return s.Moving(ctx, did) },
	})
	return nil
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
		p.Methods.Replace(xrpc.Route{NSID: "com.atproto.sync.subscribeRepos", Handler: xrpc.Subscription(s.platform.Subscribe)})
	}
}

// ServeHTTP serves everything. Then it sets the alarm to when there is something to do. It
// compresses nothing: Cloudflare's edge, which puts an Accept-Encoding of its own in the place of
// the client's, compresses on the way out, and costs no processor time of the object.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header.Del("Accept-Encoding")
	s.Server.ServeHTTP(w, r)
	s.setTidyAlarm(r)
	s.plan(context.WithoutCancel(r.Context()))
}

// Left tells that the last subscriber has left.
func (s *Server) Left(ctx context.Context) {
	if err := s.Server.Left(ctx); err != nil {
		s.log.Error("the last subscriber has left", "err", err)
	}
	s.plan(ctx)
}

// plan sets the alarm, if it is not set to go off in time.
func (s *Server) plan(ctx context.Context) {
	if s.part != "" && s.part != Directory {
		return
	}
	due, err := s.next(ctx)
	if err != nil {
		s.log.Error("when there is something to do", "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if due.IsZero() || !s.alarm.IsZero() && !due.Before(s.alarm) {
		return
	}
	if err := s.platform.Alarm(due); err != nil {
		s.log.Error("the alarm cannot be set", "err", err)
		return
	}
	s.alarm = due
}

// Due is that of pds.Server. Of the parts of a server with an object for each account only the
// directory has something to do that is not the alarm's.
func (s *Server) Due(ctx context.Context) (time.Time, error) {
	if s.part != "" && s.part != Directory {
		return time.Time{}, nil
	}
	return s.Server.Due(ctx)
}

// next returns when there is something to do, by which time it is to be tried after a failure.
func (s *Server) next(ctx context.Context) (time.Time, error) {
	due, err := s.Due(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && !due.IsZero() && due.Before(s.retry) {
		due = s.retry
	}
	return due, err
}

// Wake does what is due, and returns when it is to be called next; zero: not before something else
// sets the alarm. Call it when the alarm goes off. It logs its errors.
func (s *Server) Wake(ctx context.Context) time.Time {
	if s.part != "" && s.part != Directory {
		return s.tidyAccount(ctx)
	}
	err := s.maintain(ctx)
	s.mu.Lock()
	if err != nil {
		s.log.Error("maintenance", "err", err)
		s.wait = min(max(2*s.wait, retryFirst), retryLast)
		s.retry = s.now().Add(s.wait)
	} else {
		s.wait, s.retry = 0, time.Time{}
	}
	s.mu.Unlock()
	due, err := s.next(ctx)
	if err != nil {
		due = s.now().Add(retryFirst)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alarm = due
	return due
}

// maintain does what is due. A panic is an error: it would end the program, with the requests that
// are under way, and the platform would call again at once.
func (s *Server) maintain(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	due, err := s.next(ctx)
	if err == nil && !due.IsZero() && !due.After(s.now()) {
		err = s.Maintain(ctx)
	}
	return err
}
