package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// options are what the command line and the environment say.
type options struct {
	db, bind, plc, relay, signal, filters, webhook, password string
	metrics                                                  string
	conns, workers, fetches, capacity, cache, posts          int
	full, forget, outboxOnly, local, noReplay                bool
	timeout                                                  time.Duration
	level                                                    slog.Level
	dsn, driver                                              string
}

// ignored are settings of tap that have no meaning here.
var ignored = []string{"TAP_CURSOR_SAVE_INTERVAL", "TAP_REPO_FETCH_TIMEOUT"}

// alternatives are further names of variables, which count less.
var alternatives = map[string]string{"TAP_PLC_URL": "ATP_PLC_HOST", "TAP_IDENT_CACHE_SIZE": "RELAY_IDENT_CACHE_SIZE", "TAP_LOG_LEVEL": "LOG_LEVEL"}

// parse reads flags, and for those that are not given, variables of the environment.
func parse(args []string, env func(string) string, errs io.Writer) (o options, err error) {
	f := flag.NewFlagSet("tap", flag.ContinueOnError)
	f.SetOutput(errs)
	names := make(map[string]string) // variables by flag
	text := func(to *string, flag, variable, def, usage string) {
		names[flag] = variable
		f.StringVar(to, flag, def, usage+" ("+variable+")")
	}
	number := func(to *int, flag, variable string, def int, usage string) {
		names[flag] = variable
		f.IntVar(to, flag, def, usage+" ("+variable+")")
	}
	yes := func(to *bool, flag, variable, usage string) {
		names[flag] = variable
		f.BoolVar(to, flag, false, usage+" ("+variable+")")
	}
	text(&o.db, "db-url", "TAP_DATABASE_URL", "sqlite://./tap.db", "the database: sqlite://`PATH` or postgres://…")
	number(&o.conns, "max-db-conn", "TAP_MAX_DB_CONNS", 32, "the most connections to the database")
	text(&o.bind, "bind", "TAP_BIND", "127.0.0.1:2480", "the `address` to listen on")
	text(&o.plc, "plc-url", "TAP_PLC_URL", identity.DefaultPLC, "the `URL` of the did:plc directory")
	text(&o.relay, "relay-url", "TAP_RELAY_URL", "https://relay1.us-east.bsky.network", "the `URL` of the relay, or of one PDS")
	number(&o.workers, "firehose-parallelism", "TAP_FIREHOSE_PARALLELISM", 10, "accounts whose events are verified at once")
	number(&o.fetches, "resync-parallelism", "TAP_RESYNC_PARALLELISM", 5, "repositories that are read at once")
	number(&o.cache, "ident-cache-size", "TAP_IDENT_CACHE_SIZE", 100_000, "identities that are kept in memory")
	number(&o.posts, "outbox-parallelism", "TAP_OUTBOX_PARALLELISM", 16, "events that are posted to the webhook at once")
	text(&o.metrics, "metrics-listen", "TAP_METRICS_LISTEN", "", "another `address`, with metrics at /metrics and no password")
	number(&o.capacity, "outbox-capacity", "TAP_OUTBOX_CAPACITY", 100_000, "events that wait before the indexer does")
	yes(&o.full, "full-network", "TAP_FULL_NETWORK", "track all repositories")
	text(&o.signal, "signal-collection", "TAP_SIGNAL_COLLECTION", "", "track repositories with a record of this `collection`")
	text(&o.filters, "collection-filters", "TAP_COLLECTION_FILTERS", "", "give records of these `collections` only, with commas; com.example.* is allowed")
	yes(&o.forget, "disable-acks", "TAP_DISABLE_ACKS", "do not wait for acknowledgements")
	text(&o.webhook, "webhook-url", "TAP_WEBHOOK_URL", "", "post events to this `URL`, and serve no sockets")
	yes(&o.outboxOnly, "outbox-only", "TAP_OUTBOX_ONLY", "only send what waits")
	yes(&o.noReplay, "no-replay", "TAP_NO_REPLAY", "begin with what the relay says next, and compare repositories with their hosts instead")
	text(&o.password, "admin-password", "TAP_ADMIN_PASSWORD", "", "the `password` of all requests; better given in the environment")
	names["retry-timeout"] = "TAP_RETRY_TIMEOUT"
	f.DurationVar(&o.timeout, "retry-timeout", time.Minute, "after which an event that was not acknowledged is sent again (TAP_RETRY_TIMEOUT)")
	names["log-level"] = "TAP_LOG_LEVEL"
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "debug, info, warn or error (TAP_LOG_LEVEL)")
	yes(&o.local, "local", "TAP_LOCAL", "allow hosts on this machine and in private networks: for development")
	if len(args) > 0 && args[0] == "run" {
		args = args[1:]
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	given := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for flag, variable := range names {
		value := env(variable)
		if other := alternatives[variable]; value == "" && other != "" {
			variable, value = other, env(other)
		}
		if value != "" && !given[flag] {
			if err := f.Set(flag, value); err != nil {
				return o, fmt.Errorf("%s: %w", variable, err)
			}
		}
	}
	if f.NArg() > 0 {
		return o, errors.New("there are only flags; see -help")
	}
	return o, o.check()
}

// check returns what does not fit together.
func (o *options) check() error {
	for name, text := range map[string]string{"relay-url": o.relay, "plc-url": o.plc, "webhook-url": o.webhook} {
		if u, err := url.Parse(text); text != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return fmt.Errorf("-%s: %q is no URL with http:// or https://", name, text)
		}
	}
	for name, n := range map[string]int{"max-db-conn": o.conns, "firehose-parallelism": o.workers, "resync-parallelism": o.fetches, "outbox-parallelism": o.posts,
		"ident-cache-size": o.cache, "outbox-capacity": o.capacity} {
		if n < 1 {
			return fmt.Errorf("-%s: %d is less than 1", name, n)
		}
	}
	if o.timeout < 100*time.Millisecond {
		return fmt.Errorf("-retry-timeout: %s is less than 100ms", o.timeout)
	}
	if o.noReplay && o.full {
		return errors.New("-no-replay and -full-network: all repositories would be compared at each start")
	}
	switch {
	case strings.HasPrefix(o.db, "postgres://"), strings.HasPrefix(o.db, "postgresql://"):
		o.driver, o.dsn = "pgx", o.db
	case strings.HasPrefix(o.db, "sqlite://"):
		path := strings.TrimPrefix(o.db, "sqlite://")
		if path == "" || strings.ContainsAny(path, "?#") {
			return fmt.Errorf("-db-url: %q is no path", path)
		}
		o.driver = "sqlite3"
		o.dsn = "file:" + strings.ReplaceAll(path, "%", "%25") + "?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)"
	default:
		return errors.New("-db-url: must begin with sqlite://, postgres:// or postgresql://")
	}
	return nil
}

// settings are what a tap needs.
type settings struct {
	driver, dsn             string
	conns, workers, fetches int
	posts                   int          // of the webhook at once
	metrics                 net.Listener // nil: none
	source                  indexer.Source
	scope                   indexer.Scope
	identity                indexer.Resolver
	http, hosts             *http.Client
	hook                    http.RoundTripper
	hookPause               time.Duration // before an event that a webhook has refused is posted again
	capacity                int
	timeout                 time.Duration
	forget, outboxOnly      bool
	noReplay                bool
	webhook, password       string
	log                     *slog.Logger
	now                     func() time.Time
}

func (o *options) settings(log *slog.Logger) *settings {
	s := &settings{
		driver: o.driver, dsn: o.dsn, conns: o.conns, workers: o.workers, posts: o.posts, fetches: o.fetches, source: indexer.Source{Relay: o.relay},
		identity: &identity.Resolver{PLC: &identity.PLCClient{URL: o.plc}, Development: o.local, MaxEntries: o.cache},
		hosts:    safehttp.NewClient(safehttp.Config{AllowPrivate: o.local, AllowHTTP: o.local, Timeout: -1, MaxBody: -1}),
		noReplay: o.noReplay, hookPause: time.Second, capacity: o.capacity, timeout: o.timeout, forget: o.forget, outboxOnly: o.outboxOnly, webhook: o.webhook, password: o.password, log: log,
	}
	s.scope.All = o.full
	if o.signal != "" {
		s.scope.Signal = []string{o.signal}
	}
	for _, c := range strings.Split(o.filters, ",") {
		if c = strings.TrimSpace(c); c != "" {
			s.scope.Collections = append(s.scope.Collections, c)
		}
	}
	return s
}

// wanted reports whether an account is in the scope.
func (s *settings) wanted(a *indexer.Account) bool {
	return s.scope.All || a.Tracked || a.Signaled && len(s.scope.Signal) > 0 || s.named(a)
}

func (s *settings) named(a *indexer.Account) bool {
	for _, did := range s.scope.DIDs {
		if did == a.DID {
			return true
		}
	}
	return false
}

// collection reports whether records of a collection are given out.
func (s *settings) collection(name string) bool {
	for _, c := range s.scope.Collections {
		if head, all := strings.CutSuffix(c, "*"); all && strings.HasPrefix(name, head) || c == name {
			return true
		}
	}
	return s.scope.Collections == nil
}
