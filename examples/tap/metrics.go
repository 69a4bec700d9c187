package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/examples/internal/metrics"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// meters are the metrics. Those that indigo's tap has, too, have its names.
type meters struct {
	registry        metrics.Registry
	delivered, acks metrics.Counter
	posts           metrics.Counter
	resyncs         metrics.Histogram
}

func newMeters() *meters {
	m := new(meters)
	r := &m.registry
	m.delivered = r.Counter("tap_events_delivered_total", "Events that were given to a client, each time.")
	m.acks = r.Counter("tap_events_acked_total", "Events that were acknowledged, or are done without.")
	m.posts = r.Counter("tap_webhook_requests_total", "Requests of the webhook that have ended. Status 0: there was no answer.", "status")
	m.resyncs = r.Histogram("tap_resync_duration_seconds", "How long it took to read a repository, or to find that it could not be read.",
		[]float64{0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8})
	return m
}

// fetched counts a repository that was read, or could not be.
func (m *meters) fetched(_ syntax.DID, took time.Duration, _ error) {
	m.resyncs.Observe(took.Seconds())
}

// posted counts a request of the webhook.
func (m *meters) posted(status int) { m.posts.Add(1, strconv.Itoa(status)) }

// watch adds what is asked of the parts of a tap.
func (m *meters) watch(a *app) {
	r := &m.registry
	total := func(name, help string, read func(p *indexer.Progress) int64) {
		r.Total(name, help, func() (float64, bool) {
			p := a.ix.Progress()
			return float64(read(&p)), true
		})
	}
	total("tap_firehose_events_received_total", "Events that came.", func(p *indexer.Progress) int64 { return p.Events })
	total("tap_firehose_events_skipped_total", "Events about accounts that are not indexed.", func(p *indexer.Progress) int64 { return p.Skipped })
	total("tap_crawler_repos_discovered_total", "Accounts that were found in a list of the relay or of a host.", func(p *indexer.Progress) int64 { return p.Found })
	total("tap_firehose_commits_applied_total", "Commits that were applied.", func(p *indexer.Progress) int64 { return p.Commits })
	total("tap_firehose_gaps_total", "Commits after which a repository is read again, as something was missing.", func(p *indexer.Progress) int64 { return p.Gaps })
	total("tap_firehose_rejected_total", "Events that could not be decoded, did not verify, or came from another host than the account's.",
		func(p *indexer.Progress) int64 { return p.Malformed + p.Rejected + p.Foreign })
	total("tap_resyncs_completed_total", "Repositories that were read.", func(p *indexer.Progress) int64 { return p.Fetched })
	total("tap_resyncs_failed_total", "Repositories that could not be read.", func(p *indexer.Progress) int64 { return p.FetchErrors })
	total("tap_records_total", "Changes of records that were stored.", func(p *indexer.Progress) int64 { return p.Ops })
	total("tap_store_errors_total", "Errors of the database.", func(p *indexer.Progress) int64 { return p.SinkErrors })
	source := func(name, help string, read func(s *indexer.SourceProgress) float64) {
		r.Gauge(name, help, func() (float64, bool) {
			p := a.ix.Progress()
			if len(p.Sources) == 0 {
				return 0, false
			}
			return read(&p.Sources[0]), true
		})
	}
	source("tap_firehose_last_seq", "The number up to which all events are done.", func(s *indexer.SourceProgress) float64 { return float64(s.Done) })
	source("tap_firehose_waiting", "Events that came and are not done.", func(s *indexer.SourceProgress) float64 { return float64(s.Waiting) })
	source("tap_firehose_connected", "Whether the relay is read: 1 or 0.", func(s *indexer.SourceProgress) float64 {
		if s.Connected {
			return 1
		}
		return 0
	})
	r.Gauge("tap_resyncs_running", "Repositories that are being read.", func() (float64, bool) { return float64(a.ix.Progress().Fetching), true })
	r.Gauge("tap_event_cache_size", "Events that are not acknowledged.", func() (float64, bool) { return float64(a.out.size()), true })
	r.Gauge("tap_sockets", "Sockets that are connected.", func() (float64, bool) { return float64(a.sockets.Load()), true })
	r.Runtime()
}

// metricsHandler serves the metrics alone.
func (a *app) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", &a.meters.registry)
	return mux
}
