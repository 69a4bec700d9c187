package server

import (
	"context"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/internal/metrics"
	"github.com/pdskit/pdskit/examples/pds/internal/certs"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// meters are the metrics of a server.
type meters struct {
	registry  metrics.Registry
	methods   map[string]bool // that the server has itself
	requests  metrics.Counter
	durations metrics.Histogram
	refusals  metrics.Counter

	mail metrics.Counter

	asked     metrics.Counter
	following metrics.Level
	lag       metrics.Level

	checks       metrics.Level
	ends         metrics.Level
	certificates metrics.Counter

	leads    metrics.Level
	offset   metrics.Level
	unsigned metrics.Counter

	mu    sync.Mutex
	clock *timecheck.Result // of the last check; nil: there was none
	found *pds.Maintenance  // nil: not known yet
}

// hooks are what fills them.
func (m *meters) hooks() pds.Hooks {
	r := &m.registry
	m.requests = r.Counter("pds_requests_total", "XRPC requests that have ended. Status 499: the client went away.", "method", "status")
	m.durations = r.Histogram("pds_request_duration_seconds", "Time to answer an XRPC request; subscriptions are left out.",
		[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60}, "method")
	m.refusals = r.Counter("pds_refused_total", "Requests for which there was no room, by class. Status 429: their network held too much; 503: all together did.", "class", "status")
	m.offset = r.Level("pds_clock_offset_seconds", "How far the clock is ahead of a server's; negative: behind.", "server")
	m.unsigned = r.Counter("pds_clock_refusals_total", "Signatures that were refused because the clock is not trusted.")
	m.mail = r.Counter("pds_mail_total", "What has happened to mail on this node: sent (kept to be sent), done, retried, dead, lost (another node has it).", "event")
	m.leads = r.Level("pds_node_leads", "Whether this node holds a lease of those that share the database.", "lease")
	return pds.Hooks{
		Mail: func(e queue.Event) { m.mail.Add(1, string(e.Kind)) },
		Leads: func(lease string, held bool) {
			n := 0.
			if held {
				n = 1
			}
			m.leads.Set(n, lease)
		},
		Request:      m.request,
		Refused:      func(_ *http.Request, e *limit.Error) { m.refusals.Add(1, e.What, strconv.Itoa(e.Status())) },
		Clock:        m.checkedClock,
		Unsigned:     func() { m.unsigned.Add(1) },
		RelayAsked:   m.relayAsked,
		RelayChecked: m.relayChecked,
		Maintained: func(found pds.Maintenance) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.found = &found
		},
	}
}

func (m *meters) request(r *xrpc.Request, status int, took time.Duration) {
	method := string(r.NSID)
	if !m.methods[method] {
		method = "other" // names that strangers invent would fill the memory
	}
	m.requests.Add(1, method, statusLabel(status))
	if status != http.StatusSwitchingProtocols {
		m.durations.Observe(took.Seconds(), method)
	}
}

func (m *meters) checkedClock(r timecheck.Result) {
	m.mu.Lock()
	m.clock = &r
	m.mu.Unlock()
	for _, a := range r.Servers {
		if a.Err == nil {
			m.offset.Set(a.Offset.Seconds(), a.Server)
		}
	}
}

// checked keeps what a round of checks has found.
func (m *meters) checked(name string, r doctor.Report) {
	values := map[doctor.Level]float64{doctor.OK: 0, doctor.Warning: 1, doctor.Problem: 2, doctor.Skipped: -1}
	for check, level := range r.Levels() {
		m.checks.Set(values[level], check)
	}
	for _, f := range r.Findings {
		if f.Check == "certificate" && !f.Until.IsZero() {
			m.ends.Set(float64(f.Until.Unix()), name)
		}
	}
}

// authority makes the metrics of certificates that the server gets itself.
func (m *meters) authority() {
	m.certificates = m.registry.Counter("pds_certificate_requests_total", "Certificates that were asked for by ACME: obtained, renewed, failed.", "result")
	for _, kind := range []certs.Kind{certs.Obtained, certs.Renewed, certs.Failed} {
		m.certificates.Add(0, string(kind))
	}
}

// certificate counts what has happened to a certificate. Only that of the server itself has an
// expiry here: there are as many names as accounts.
func (m *meters) certificate(name string, e certs.Event) {
	if e.Kind != "" {
		m.certificates.Add(1, string(e.Kind))
	}
	if e.Name == name && !e.Expires.IsZero() {
		m.ends.Set(float64(e.Expires.Unix()), name)
	}
}

// relays makes the metrics of relays, if there are any.
func (m *meters) relays() {
	m.asked = m.registry.Counter("pds_crawl_requests_total", "Requests to relays to read this server.", "relay", "result")
	m.following = m.registry.Level("pds_relay_following", "Whether a relay says that it follows this server; there is no value if it says nothing.", "relay")
	m.lag = m.registry.Level("pds_relay_lag_seconds", "Time between the newest event of this server and the newest that a relay says it has seen. Negative: see troubleshooting.", "relay")
}

func (m *meters) relayAsked(r crawl.Request) {
	result := "asked"
	if r.Err != nil {
		result = "failed"
	}
	m.asked.Add(1, r.Relay, result)
}

func (m *meters) relayChecked(c crawl.Check) {
	if c.Err != nil {
		return
	}
	if q := c.Status.Seq; q != nil && *q >= 0 {
		m.lag.Set(float64(c.Newest-*q)/1e6, c.Relay) // the numbers are microseconds
	}
	following := 0.
	if c.Problem == crawl.None {
		following = 1
	}
	m.following.Set(following, c.Relay)
}

// clocked reads what the last check of the clock found.
func (m *meters) clocked(read func(r *timecheck.Result) float64) func() (float64, bool) {
	return func() (float64, bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.clock == nil {
			return 0, false
		}
		return read(m.clock), true
	}
}

// registerMetrics says what can be seen of the server.
func (s *Server) registerMetrics() {
	s.meters.methods = make(map[string]bool)
	for _, rt := range s.pds.Methods.Routes() {
		s.meters.methods[rt.NSID] = true
	}
	m, host := &s.meters.registry, s.pds.Host
	always := func(f func() float64) func() (float64, bool) { return func() (float64, bool) { return f(), true } }
	m.Gauge("pds_spool_bytes", "Bytes of downloads and imports in temporary files.", always(func() float64 { return float64(host.SpoolBytes()) }))
	m.Gauge("pds_subscribers", "Subscribers of the event stream.", always(func() float64 { return float64(s.pds.Outbox.Subscribers()) }))
	oldest, newest := metrics.EventBounds(s.data.Store.Events, 5*time.Second)
	m.Gauge("pds_event_newest_sequence", "Number of the newest event: the time in microseconds, or a little more.", newest)
	m.Gauge("pds_event_oldest_sequence", "Number of the oldest event that can be replayed.", oldest)
	m.Gauge("pds_accounts", "Repositories on this server.", func() (float64, bool) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		n, err := s.pds.Accounts.Count(ctx)
		return float64(n), err == nil
	})
	m.Gauge("pds_tree_cache_trees", "Trees of repositories in memory.", always(func() float64 { return float64(host.CacheStats().Trees) }))
	m.Gauge("pds_tree_cache_bytes", "Their estimated size.", always(func() float64 { return float64(host.CacheStats().Bytes) }))
	m.Total("pds_tree_cache_hits_total", "Uses of a tree that was in memory.", always(func() float64 { return float64(host.CacheStats().Hits) }))
	m.Total("pds_tree_cache_misses_total", "Uses of a tree that was not.", always(func() float64 { return float64(host.CacheStats().Misses) }))
	m.Gauge("pds_database_bytes", "Size of the database with its journal; without blobs.", func() (float64, bool) {
		n := s.databaseBytes()
		return float64(n), n > 0
	})
	m.Gauge("pds_store_writable", "Whether the store can be written: 1, or 0 as when the disk is full.", func() (float64, bool) {
		if s.pds.Writable(context.Background()) != nil {
			return 0, true
		}
		return 1, true
	})
	m.Gauge("pds_mail_waiting", "Messages that wait, or that are being sent, on all nodes.", always(func() float64 { return float64(s.pds.Service.MailStats().Waiting) }))
	m.Gauge("pds_mail_dead", "Messages that were given up: see pds mail list.", always(func() float64 { return float64(s.pds.Service.MailStats().Dead) }))
	m.Level("pds_node_info", "The name of this node and its version.", "node", "version").Set(1, s.pds.Node(), Version)
	m.Gauge("pds_node_draining", "Whether the server is about to end.", always(func() float64 {
		if s.pds.Draining() {
			return 1
		}
		return 0
	}))
	if len(s.cfg.Crawlers) > 0 {
		s.meters.relays()
	}
	if s.cfg.TLS.ACME {
		s.meters.authority()
	}
	s.meters.checks = m.Level("pds_check", "What the last round of checks has found, as pds doctor does: 0 good, 1 a warning, 2 a problem; negative: not known.", "check")
	s.meters.ends = m.Level("pds_certificate_expiry_timestamp_seconds", "When the certificate of the server's public address ends: as of the last round of checks, or as the server has it itself.", "name")
	m.Gauge("pds_clock_trusted", "Whether the clock is found to be right. While it is 0, nothing is signed, unless PDS_CLOCK_CHECK is off.", s.meters.clocked(func(r *timecheck.Result) float64 {
		if r.Err != nil {
			return 0
		}
		return 1
	}))
	m.Gauge("pds_clock_log_ahead_seconds", "How far the newest event is ahead of the clock.", s.meters.clocked(func(r *timecheck.Result) float64 { return r.Ahead.Seconds() }))
	m.Gauge("pds_accounts_ahead", "Accounts whose revision is so far in the future that the network ignores them, as of the last maintenance.", func() (float64, bool) {
		s.meters.mu.Lock()
		defer s.meters.mu.Unlock()
		if s.meters.found == nil {
			return 0, false
		}
		return float64(s.meters.found.Ahead), true
	})
	s.registerOperations()
	m.Runtime()
}

// serveMetrics starts the listener for metrics and profiles, if there is to be one. The server goes
// on without it if it cannot listen.
func (s *Server) serveMetrics() {
	if s.cfg.Metrics == "" {
		return
	}
	l, err := listen("PDS_METRICS_ADDRESS", s.cfg.Metrics)
	if err != nil {
		s.log.Warn("there are no metrics", "error", err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", &s.meters.registry)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s.log.Info("metrics", "address", l.Addr().String())
	s.serveMore(&http.Server{Handler: mux}, l)
}
