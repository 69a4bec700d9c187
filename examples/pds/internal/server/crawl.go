package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/metrics"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/crawl"
)

// crawling is what is told of relays.
type crawling struct {
	notifier  *crawl.Notifier // nil: none are asked
	stopped   chan struct{}
	asked     metrics.Counter
	following metrics.Level
	lag       metrics.Level
}

// crawler prepares to ask the relays of the configuration to read the server.
func (s *Server) crawler() {
	if len(s.cfg.Crawlers) == 0 {
		return
	}
	if s.cfg.Hostname == "localhost" {
		s.log.Warn("relays are not asked to read this server: none can reach localhost")
		return
	}
	s.op.crawl.notifier = &crawl.Notifier{
		Hostname: s.cfg.Hostname, Relays: s.cfg.Crawlers, Events: s.store.Events, Subscribers: s.outbox.Subscribers,
		HTTP:  &http.Client{Timeout: 30 * time.Second}, // to addresses that the operator has named
		Asked: s.askedRelay, Checked: s.checkedRelay,
	}
	s.outbox.Empty = s.op.crawl.notifier.Left
}

// register makes the metrics of relays, if there are any.
func (c *crawling) register(m *metrics.Registry) {
	if c.notifier == nil {
		return
	}
	c.asked = m.Counter("pds_crawl_requests_total", "Requests to relays to read this server.", "relay", "result")
	c.following = m.Level("pds_relay_following", "Whether a relay says that it follows this server; there is no value if it says nothing.", "relay")
	c.lag = m.Level("pds_relay_lag_seconds", "Time between the newest event of this server and the newest that a relay says it has seen. Negative: see troubleshooting.", "relay")
}

// startCrawler asks relays until the context ends.
func (s *Server) startCrawler(ctx context.Context) {
	c := &s.op.crawl
	if c.notifier == nil {
		return
	}
	c.stopped = make(chan struct{})
	go func() {
		defer close(c.stopped)
		if err := c.notifier.Run(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("relays are not asked to read this server any more", "err", err)
		}
	}()
}

// stopCrawler waits for its end, once its context has ended.
func (s *Server) stopCrawler() {
	if s.op.crawl.stopped != nil {
		<-s.op.crawl.stopped
	}
}

func (s *Server) askedRelay(r crawl.Request) {
	if r.Err != nil {
		s.op.crawl.asked.Add(1, r.Relay, "failed")
		s.log.Warn("a relay was asked to read this server and failed", "relay", r.Relay, "reason", r.Reason, "err", r.Err, "again", r.Retry)
		return
	}
	s.op.crawl.asked.Add(1, r.Relay, "asked")
	s.log.Info("a relay was asked to read this server", "relay", r.Relay, "reason", r.Reason)
}

func (s *Server) checkedRelay(c crawl.Check) {
	switch {
	case errors.Is(c.Err, &xrpc.Error{Name: "MethodNotImplemented"}):
		s.log.Debug("a relay does not tell what it knows of this server", "relay", c.Relay)
		return
	case c.Err != nil:
		s.log.Warn("a relay does not answer what it knows of this server", "relay", c.Relay, "err", c.Err)
		return
	}
	if q := c.Status.Seq; q != nil && *q >= 0 {
		s.op.crawl.lag.Set(float64(c.Newest-*q)/1e6, c.Relay) // the numbers are microseconds
	}
	if c.Problem == crawl.None {
		s.op.crawl.following.Set(1, c.Relay)
		s.log.Debug("a relay follows this server", "relay", c.Relay, "accounts", c.Status.AccountCount)
		return
	}
	s.op.crawl.following.Set(0, c.Relay)
	s.log.Warn("a relay does not follow this server", "relay", c.Relay, "problem", c.Problem, "seq", c.Status.Seq, "newest", c.Newest)
}
