package main

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/examples/internal/metrics"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// meters are the metrics. Names of hosts are labels: the operator says which there are, and
// strangers add some fifty a day at most.
type meters struct {
	registry metrics.Registry
	started  time.Time

	messages, bytes, byHost, rules, skipped, requests metrics.Counter
	waited, durations                                 metrics.Histogram
	hosts, accounts, subscribers                      metrics.Level

	relay   *relay.Relay
	first   *stream.JSONView
	second  *stream.EventsView
	methods map[string]bool
}

func newMeters() *meters {
	m := &meters{started: time.Now()}
	r := &m.registry
	m.messages = r.Counter("relay_messages_total", "Messages of hosts that were dealt with. Rule: what was wrong with them; empty: nothing.", "kind", "result", "rule")
	m.bytes = r.Counter("relay_message_bytes_total", "Their bytes.", "result")
	m.waited = r.Histogram("relay_message_seconds", "Time from a message's arrival until it was passed on or dropped.",
		[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 300, 3600}, "result")
	m.byHost = r.Counter("relay_host_messages_total", "Messages, by host.", "host", "result")
	m.rules = r.Counter("relay_host_rules_total", "Messages that broke a rule, by host. Some are passed on all the same: see the policies.", "host", "rule")
	m.hosts = r.Level("relay_hosts", "Hosts, by status.", "status")
	m.accounts = r.Level("relay_accounts", "Accounts of all hosts: those that count, and those of them that are too many.", "kind")
	m.subscribers = r.Level("relay_subscribers", "Consumers, by form of the stream.", "form")
	m.skipped = r.Counter("relay_json_skipped_total", "Events that are not shown as JSON, or not all of them.")
	m.requests = r.Counter("relay_requests_total", "XRPC requests that have ended. Status 499: the client went away.", "method", "status")
	m.durations = r.Histogram("relay_request_duration_seconds", "Time to answer an XRPC request; subscriptions are left out.",
		[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60}, "method")
	return m
}

// views are the streams in JSON.
func (m *meters) views(first *stream.JSONView, second *stream.EventsView) {
	m.first, m.second = first, second
}

// watch adds what is asked of the parts of a server.
func (m *meters) watch(s *server) {
	m.relay, m.methods = s.relay, map[string]bool{}
	for _, rt := range s.methods.Routes() {
		m.methods[rt.NSID] = true
	}
	r := &m.registry
	oldest, newest := metrics.EventBounds(s.store.Events, probePatience)
	r.Gauge("relay_event_newest_sequence", "Number of the newest event: the time in microseconds, or a little more.", newest)
	r.Gauge("relay_event_oldest_sequence", "Number of the oldest event that can be replayed.", oldest)
	r.Gauge("relay_database_bytes", "Size of the database with its journal.", func() (float64, bool) {
		n := s.databaseBytes()
		return float64(n), n > 0
	})
	r.Gauge("relay_store_writable", "Whether the store can be written: 1, or 0 as when the disk is full.", func() (float64, bool) {
		if s.health.check(context.Background()) != nil {
			return 0, true
		}
		return 1, true
	})
	r.Runtime()
}

var kinds = []string{"#commit", "#sync", "#identity", "#account", "#info"}

// observe counts a message. Hosts may invent kinds.
func (m *meters) observe(o relay.Observation) {
	kind := o.Kind
	if !slices.Contains(kinds, kind) {
		kind = "other"
	}
	m.messages.Add(1, kind, string(o.Result), string(o.Rule))
	m.bytes.Add(uint64(o.Bytes), string(o.Result))
	m.waited.Observe(o.Waited.Seconds(), string(o.Result))
	m.byHost.Add(1, o.Host, string(o.Result))
	if o.Rule != "" {
		m.rules.Add(1, o.Host, string(o.Rule))
	}
}

// request counts a request.
func (m *meters) request(r *xrpc.Request, status int, took time.Duration) {
	method := string(r.NSID)
	if !m.methods[method] {
		method = "other" // names that strangers invent would fill the memory
	}
	m.requests.Add(1, method, strconv.Itoa(status))
	if status != http.StatusSwitchingProtocols {
		m.durations.Observe(took.Seconds(), method)
	}
}

// ServeHTTP shows the metrics.
func (m *meters) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.refresh(r.Context())
	m.registry.ServeHTTP(w, r)
}

// refresh sets what is counted when somebody looks.
func (m *meters) refresh(ctx context.Context) {
	status := map[relay.HostStatus]float64{relay.HostActive: 0, relay.HostIdle: 0, relay.HostOffline: 0, relay.HostThrottled: 0, relay.HostBanned: 0}
	var accounts, throttled int64
	for after := ""; ; {
		list, err := m.relay.Hosts(ctx, after, 1000)
		if err != nil {
			return
		}
		for _, h := range list {
			status[h.Status]++
			accounts, throttled, after = accounts+h.Accounts, throttled+h.Throttled, h.Name
		}
		if len(list) < 1000 {
			break
		}
	}
	for name, n := range status {
		m.hosts.Set(n, string(name))
	}
	m.accounts.Set(float64(accounts), "all")
	m.accounts.Set(float64(throttled), "throttled")
	m.subscribers.Set(float64(m.relay.Outbox().Subscribers()), "firehose")
	if m.first != nil {
		m.subscribers.Set(float64(m.first.Subscribers()), "jetstream v1")
		m.subscribers.Set(float64(m.second.Subscribers()), "jetstream v2")
	}
}
