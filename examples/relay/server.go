package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/pdskit/pdskit/examples/relay/internal/admin"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/postgres"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
	"github.com/pdskit/pdskit/xrpc/relay"
)

// grace is how long requests may go on after the signal to end.
const grace = 5 * time.Second

// server is everything that runs.
type server struct {
	o        options
	log      *slog.Logger
	password string

	lock    *os.File // keeps other processes out of the data folder
	store   storage.Store
	closing func() error // of the database
	relay   *relay.Relay
	rates   *rate.Limiter
	methods *xrpc.Server
	admin   *admin.Admin
	meters  *meters
	health  health
	handler http.Handler
}

// run serves until the context ends.
func run(ctx context.Context, args, environ []string, out, errs io.Writer) error {
	o, err := parse(args, environ, errs)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelInfo
	}
	s := &server{o: o, log: slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: level}))}
	defer s.close()
	if err := s.open(ctx); err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	defer l.Close()
	var more net.Listener
	if o.metrics != "" {
		if more, err = net.Listen("tcp", o.metrics); err != nil {
			return fmt.Errorf("-metrics: %w", err)
		}
		defer more.Close()
	}
	s.banner(out, l.Addr())
	return s.serve(ctx, l, more)
}

// open opens the store and makes all parts.
func (s *server) open(ctx context.Context) (err error) {
	if err := durablefile.MkdirAll(s.o.data); err != nil {
		return err
	}
	// Two processes would both move the cursors.
	if s.lock, err = filelock.Try(filepath.Join(s.o.data, "lock"), filelock.Exclusive); errors.Is(err, filelock.ErrLocked) {
		return fmt.Errorf("another relay runs with the data folder %s", s.o.data)
	} else if err != nil {
		return err
	}
	if s.password = s.o.password; s.password == "" {
		if s.password, err = readPassword(s.passwordFile()); err != nil {
			return err
		}
	}
	if err := s.openStore(ctx); err != nil {
		return err
	}
	s.meters = newMeters()
	s.health.store = s.store
	s.openRelay()
	s.openRates()
	s.openAdmin()
	if err := s.mount(); err != nil {
		return err
	}
	s.meters.watch(s)
	return s.addHosts(ctx)
}

func (s *server) openStore(ctx context.Context) error {
	if s.o.postgres != "" {
		db, err := postgres.Open(ctx, s.o.postgres, postgres.Config{Schema: "pdskit_relay", Name: "pdskit-relay", Relaxed: s.o.relaxed})
		if err != nil {
			return err
		}
		s.store, s.closing = db.Store(), db.Close
		return nil
	}
	db, err := sqlite.Open(ctx, s.databaseFile(), sqlite.Config{Relaxed: s.o.relaxed})
	if err != nil {
		return err
	}
	s.store, s.closing = db.Store(), db.Close
	return nil
}

func (s *server) openRelay() {
	r := &relay.Relay{
		Store: s.store, Policy: s.o.policy, Limits: s.o.limits, DomainLimits: s.o.domains,
		Retention: s.o.retention, HoldFor: s.o.hold, NewHostsPerDay: s.o.newHosts, Closed: s.o.closed, Forward: s.o.forward,
		Memory: int64(s.o.memory) << 20, Window: s.o.window << 20, Cache: s.o.cache,
		NoCollections: s.o.noCollections, Development: s.o.development, Logger: s.log,
		Identity: &identity.Resolver{PLC: &identity.PLCClient{URL: s.o.plc}, Development: s.o.development, MaxEntries: s.o.cache},
	}
	r.Observe = func(o relay.Observation) {
		s.meters.observe(o)
		s.admin.Observe(o)
	}
	r.Outbox().Skipped = func(e storage.Event, err error) {
		s.meters.skipped.Add(1)
		s.log.Info("an event is not shown as JSON, or not all of it", "seq", e.Seq, "account", e.DID, "err", err)
	}
	s.relay = r
}

// openRates bounds how often networks may call methods.
func (s *server) openRates() {
	t := rate.Official() // for all methods together, and for wrong passwords
	t.Methods = map[string]rate.Rule{
		// Each may cost a request to the host that it names.
		api.SyncRequestCrawlNSID: {By: rate.Network, Windows: []rate.Window{{Points: 60, Length: 5 * time.Minute}}},
	}
	s.rates = rate.New(rate.Config{Table: t})
}

func (s *server) openAdmin() {
	s.admin = admin.New(admin.Config{
		Relay: s.relay, Password: s.password, Logger: s.log, Status: s.status,
		Tried: func(r *http.Request, right bool) error { return s.rates.Admin(&xrpc.Request{Request: r}, right) },
	})
}

// status is what the first page of the administrator says of the process.
func (s *server) status(ctx context.Context) admin.Status {
	out := admin.Status{Version: version(), Address: s.o.url, Settings: s.o.settings(), Retention: s.o.retention.String(), Started: s.meters.started}
	if s.o.retention < 0 {
		out.Retention = "for good"
	}
	if err := s.health.check(ctx); err != nil {
		out.Problem = err.Error()
	}
	out.DatabaseBytes = s.databaseBytes()
	return out
}

// addHosts follows the hosts of the settings. Others are known from before.
func (s *server) addHosts(ctx context.Context) error {
	add := func(names []string, by func(context.Context, string) error) error {
		for _, name := range names {
			if err := by(ctx, name); errors.Is(err, relay.ErrBanned) {
				s.log.Warn("a host of the settings is banned", "host", name)
			} else if err != nil {
				return err
			}
		}
		return nil
	}
	return errors.Join(add(s.o.hosts, s.relay.AddHost), add(s.o.relays, s.relay.AddRelay))
}

func (s *server) databaseFile() string { return filepath.Join(s.o.data, "relay.sqlite") }
func (s *server) passwordFile() string { return filepath.Join(s.o.data, "admin-password") }

// databaseBytes is the size of the database with its journal; 0: not known.
func (s *server) databaseBytes() (n int64) {
	if s.o.postgres != "" {
		return 0
	}
	for _, end := range []string{"", "-wal"} {
		if info, err := os.Stat(s.databaseFile() + end); err == nil {
			n += info.Size()
		}
	}
	return n
}

// readPassword reads the administrator's password, and makes one if there is none.
func readPassword(path string) (string, error) {
	text, err := durablefile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(rand.Text() + "\n")
		err = durablefile.Write(path, text)
	}
	if err != nil {
		return "", err
	}
	password := strings.TrimSpace(string(text))
	if len(password) < 12 {
		return "", fmt.Errorf("%s: a password has at least 12 characters", path)
	}
	return password, nil
}

// close closes what is open.
func (s *server) close() {
	if s.closing != nil {
		if err := s.closing(); err != nil {
			s.log.Error("the database was not closed as it should", "err", err)
		}
	}
	if s.lock != nil {
		s.lock.Close()
	}
}

// version is that of the module, as the Go command has noted it in the program.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "0.1.0-dev"
}

// banner says what to do next.
func (s *server) banner(out io.Writer, addr net.Addr) {
	_, port, _ := net.SplitHostPort(addr.String())
	base := "http://localhost:" + port
	if s.o.url != "" {
		base = strings.TrimSuffix(s.o.url, "/")
	}
	ws := "ws" + strings.TrimPrefix(base, "http")
	where := s.databaseFile()
	if s.o.postgres != "" {
		where = "PostgreSQL"
	}
	password := "in " + s.passwordFile()
	if s.o.password != "" {
		password = "that of " + passwordVariable
	}
	fmt.Fprintf(out, "relay %s serves on %s, with its data in %s\n\n", version(), addr, where)
	fmt.Fprintf(out, "Follow a host:\n  curl -H 'Content-Type: application/json' -d '{\"hostname\":\"pds.example.com\"}' %s/xrpc/com.atproto.sync.requestCrawl\n", base)
	fmt.Fprintf(out, "Read the firehose, from the oldest event on:\n  %s/xrpc/com.atproto.sync.subscribeRepos?cursor=0\n", ws)
	if !s.o.noJetstream {
		fmt.Fprintf(out, "Read it as JSON:\n  %s/subscribe?cursor=0\n", ws)
	}
	fmt.Fprintf(out, "See and change what it does: user admin, password %s\n  %s%s\n", password, base, admin.Root)
}

// mount makes the handler of all that is served.
func (s *server) mount() error {
	s.methods = &xrpc.Server{
		Catalog: lexicon.Builtin(), Compress: true, Logger: s.log,
		Admit: s.rates.Admit, Limit: s.rates.Limit, Observe: s.meters.request,
	}
	s.relay.Mount(s.methods)
	mux := http.NewServeMux()
	if err := s.mountJetstream(mux); err != nil {
		return err
	}
	mux.Handle(admin.Root, s.admin)
	mux.Handle(admin.Root+"/", s.admin)
	mux.Handle("GET /metrics", s.admin.Guard(s.meters))
	mux.HandleFunc("GET /{$}", s.home)
	s.handler = s.bounded(mux)
	return nil
}
