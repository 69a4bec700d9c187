package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/clientaddr"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/metrics"
	"github.com/pdskit/pdskit/examples/pds/internal/ratelimit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/session"
)

// operation is what the operator of a server sees of it and bounds it with.
type operation struct {
	limits    *ratelimit.Limiter // nil: none
	metrics   metrics.Registry
	requests  metrics.Counter
	durations metrics.Histogram
	refusals  metrics.Counter
	methods   map[string]bool // that the server has itself
	servers   []*http.Server  // besides the main one
	crawl     crawling
	prober    *prober
}

// checkKeys makes sure that no new keys are made where there are accounts that have
// others.
func (s *Server) checkKeys(ctx context.Context) error {
	for _, err := range s.data.Store.Repos.List(ctx, "") {
		if err == nil {
			err = s.cfg.CheckKeys()
		}
		return err
	}
	return nil
}

// limiter returns the limiter of the configuration.
func (s *Server) limiter() *ratelimit.Limiter {
	if !s.cfg.Limits.Enabled {
		return nil
	}
	return ratelimit.New(ratelimit.Config{
		BypassKey: s.cfg.Limits.BypassKey, Bypass: s.cfg.Limits.Bypass, Now: s.now,
		Moving: func(ctx context.Context, did string) bool {
			a, err := s.accounts.ByDID(ctx, syntax.DID(did))
			return err == nil && a.Status() == account.Deactivated
		},
	})
}

// operate sets the hooks of the methods and what every request goes through.
func (s *Server) operate(methods *xrpc.Server, next http.Handler) http.Handler {
	methods.Admit = s.op.limits.Admit
	methods.Limit = s.op.limits.Limit
	methods.Observe = s.observe
	s.op.methods = make(map[string]bool)
	for _, rt := range methods.Routes() {
		s.op.methods[rt.NSID] = true
	}
	s.registerMetrics()
	s.relays.hosts = s.cfg.Crawlers
	limits := &limit.Limiter{Class: limit.NewMethods().Class, Privileged: s.relays.contains, Refused: s.refused}
	return clientaddr.Trust(s.cfg.Limits.TrustedProxies).Handler(limits.Handler(next))
}

// Routes are the names of the XRPC methods that the server has itself.
func (s *Server) Routes() map[string]bool { return s.op.methods }

// observe counts a request and logs it: changes and failures at level info, the rest at debug,
// errors of the server at warn. Neither parameters nor headers are logged, since there are secrets
// in them.
func (s *Server) observe(r *xrpc.Request, status int, took time.Duration) {
	method := string(r.NSID)
	if !s.op.methods[method] {
		method = "other" // names that strangers invent would fill the memory
	}
	code := strconv.Itoa(status)
	s.op.requests.Add(1, method, code)
	if status != http.StatusSwitchingProtocols {
		s.op.durations.Observe(took.Seconds(), method)
	}
	if status >= http.StatusInternalServerError && status != http.StatusNotImplemented {
		s.op.prober.doubt()
	}
	level := slog.LevelDebug
	switch {
	case status == 0 || status >= http.StatusInternalServerError && status != http.StatusNotImplemented:
		level = slog.LevelWarn
	case status >= http.StatusBadRequest || r.Method == http.MethodPost:
		level = slog.LevelInfo
	}
	ctx := r.Context()
	if !s.log.Enabled(ctx, level) {
		return
	}
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	attrs := []slog.Attr{
		slog.String("id", r.ID), slog.String("method", clip(string(r.NSID), 320)), slog.Int("status", status),
		slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("from", from),
	}
	if did := session.Caller(r); did != "" {
		attrs = append(attrs, slog.String("did", string(did)))
	}
	if agent := r.UserAgent(); agent != "" {
		attrs = append(attrs, slog.String("agent", clip(agent, 200)))
	}
	s.log.LogAttrs(ctx, level, "request", append(attrs, r.Notes...)...)
}

// refused counts and logs a request that got no place.
func (s *Server) refused(r *http.Request, e *limit.Error) {
	s.op.refusals.Add(1, e.What, strconv.Itoa(e.Status()))
	s.log.Debug("no room for a request", "class", e.What, "status", e.Status(), "from", r.RemoteAddr)
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// registerMetrics says what can be seen of the server.
func (s *Server) registerMetrics() {
	m := &s.op.metrics
	s.op.requests = m.Counter("pds_requests_total", "XRPC requests that have ended. Status 499: the client went away.", "method", "status")
	s.op.durations = m.Histogram("pds_request_duration_seconds", "Time to answer an XRPC request; subscriptions are left out.",
		[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60}, "method")
	s.op.refusals = m.Counter("pds_refused_total", "Requests for which there was no room, by class. Status 429: their network held too much; 503: all together did.", "class", "status")
	m.Gauge("pds_spool_bytes", "Bytes of downloads and imports in temporary files.", func() (float64, bool) { return float64(s.host.SpoolBytes()), true })
	always := func(f func() float64) func() (float64, bool) { return func() (float64, bool) { return f(), true } }
	m.Gauge("pds_subscribers", "Subscribers of the event stream.", always(func() float64 { return float64(s.outbox.Subscribers()) }))
	bounds := func(newest bool) func() (float64, bool) {
		return func() (float64, bool) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			from, to, err := s.store.Events.Bounds(ctx)
			if newest {
				from = to
			}
			return float64(from), err == nil
		}
	}
	m.Gauge("pds_event_newest_sequence", "Number of the newest event: the time in microseconds, or a little more.", bounds(true))
	m.Gauge("pds_event_oldest_sequence", "Number of the oldest event that can be replayed.", bounds(false))
	m.Gauge("pds_accounts", "Repositories on this server, counted at most once in a minute.", s.countAccounts())
	m.Gauge("pds_tree_cache_trees", "Trees of repositories in memory.", always(func() float64 { return float64(s.host.CacheStats().Trees) }))
	m.Gauge("pds_tree_cache_bytes", "Their estimated size.", always(func() float64 { return float64(s.host.CacheStats().Bytes) }))
	m.Total("pds_tree_cache_hits_total", "Uses of a tree that was in memory.", always(func() float64 { return float64(s.host.CacheStats().Hits) }))
	m.Total("pds_tree_cache_misses_total", "Uses of a tree that was not.", always(func() float64 { return float64(s.host.CacheStats().Misses) }))
	m.Gauge("pds_database_bytes", "Size of the database with its journal; without blobs.", func() (total float64, ok bool) {
		for _, suffix := range []string{"", "-wal"} {
			if info, err := os.Stat(filepath.Join(s.cfg.DataDirectory, datadir.Database+suffix)); err == nil {
				total, ok = total+float64(info.Size()), true
			}
		}
		return total, ok
	})
	m.Gauge("pds_store_writable", "Whether the store can be written: 1, or 0 as when the disk is full.", func() (float64, bool) {
		if s.op.prober.writable(context.Background()) != nil {
			return 0, true
		}
		return 1, true
	})
	s.op.crawl.register(m)
	s.clock.register(m)
	m.Runtime()
}

// countAccounts returns a function that counts repositories, now and then.
func (s *Server) countAccounts() func() (float64, bool) {
	var mu sync.Mutex
	var last time.Time
	var n float64
	return func() (float64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) < time.Minute {
			return n, true
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		count := 0.
		for _, err := range s.store.Repos.List(ctx, "") {
			if err != nil {
				return 0, false
			}
			count++
		}
		n, last = count, time.Now()
		return n, true
	}
}

// serveMetrics starts the listener for metrics and profiles, if there is to be one.
func (s *Server) serveMetrics() error {
	if s.cfg.Metrics == "" {
		return nil
	}
	l, err := net.Listen("tcp", s.cfg.Metrics)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", &s.op.metrics)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s.log.Info("metrics", "address", l.Addr().String())
	s.serveMore(&http.Server{Handler: mux}, l)
	return nil
}

// serveMore serves on a further listener until Shutdown.
func (s *Server) serveMore(srv *http.Server, l net.Listener) {
	limit.Harden(srv)
	srv.ReadTimeout = 10 * time.Second // of a body too, which no handler here reads
	srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	s.op.servers = append(s.op.servers, srv)
	go srv.Serve(l)
}

// stopMore stops the further listeners.
func (s *Server) stopMore() error {
	var errs []error
	for _, srv := range s.op.servers {
		errs = append(errs, srv.Close())
	}
	return errors.Join(errs...)
}
