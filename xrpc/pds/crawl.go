package pds

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/crawl"
)

// openCrawler prepares to ask relays to read the server.
func (s *Server) openCrawler() {
	if len(s.cfg.Relays) == 0 {
		return
	}
	if s.hostname() == "localhost" {
		s.log.Warn("relays are not asked to read this server: none can reach localhost")
		return
	}
	s.crawler = &crawl.Notifier{
		Hostname: s.hostname(), Relays: s.cfg.Relays, Events: s.cfg.Store.Events, Subscribers: s.subscribers, Now: s.cfg.Now,
		HTTP:  &http.Client{Timeout: 30 * time.Second, Transport: s.cfg.operatorTransport()}, // to addresses that the operator has named
		Asked: s.askedRelay, Checked: s.checkedRelay,
	}
	s.Outbox.Empty = s.subscribersLeft
}

// crawl asks relays until the context ends, or the log fails. It writes nothing.
func (s *Server) crawl(ctx context.Context, _ term) {
	if err := s.crawler.Run(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("relays are not asked to read this server for now", "err", err)
	}
}

func (s *Server) askedRelay(r crawl.Request) {
	if r.Err != nil {
		s.log.Warn("a relay was asked to read this server and failed", "relay", r.Relay, "reason", r.Reason, "err", r.Err, "again", r.Retry)
	} else {
		s.log.Info("a relay was asked to read this server", "relay", r.Relay, "reason", r.Reason)
	}
	if s.cfg.Hooks.RelayAsked != nil {
		s.cfg.Hooks.RelayAsked(r)
	}
}

func (s *Server) checkedRelay(c crawl.Check) {
	switch {
	case errors.Is(c.Err, &xrpc.Error{Name: "MethodNotImplemented"}):
		s.log.Debug("a relay does not tell what it knows of this server", "relay", c.Relay)
	case c.Err != nil:
		s.log.Warn("a relay does not answer what it knows of this server", "relay", c.Relay, "err", c.Err)
	case c.Problem == crawl.None:
		s.log.Debug("a relay follows this server", "relay", c.Relay, "accounts", c.Status.AccountCount)
	default:
		s.log.Warn("a relay does not follow this server", "relay", c.Relay, "problem", c.Problem, "seq", c.Status.Seq, "newest", c.Newest)
	}
	if s.cfg.Hooks.RelayChecked != nil {
		s.cfg.Hooks.RelayChecked(c)
	}
}
