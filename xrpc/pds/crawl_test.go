package pds

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/crawl"
)

// What relays answer is seen in the log, and told to the hooks.
func TestRelaysAreWatched(t *testing.T) {
	var log bytes.Buffer
	var asked, checked []string
	s := &Server{log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	s.cfg.Hooks.RelayAsked = func(r crawl.Request) { asked = append(asked, r.Relay) }
	s.cfg.Hooks.RelayChecked = func(c crawl.Check) { checked = append(checked, c.Relay) }
	seq := func(n int64) api.SyncGetHostStatusOutput { return api.SyncGetHostStatusOutput{Seq: &n} }
	s.askedRelay(crawl.Request{Relay: "a", Reason: crawl.Start})
	s.askedRelay(crawl.Request{Relay: "b", Reason: crawl.Written, Err: errors.New("refused")})
	s.checkedRelay(crawl.Check{Relay: "a", Status: seq(5e6), Newest: 6e6})
	s.checkedRelay(crawl.Check{Relay: "b", Status: seq(9e6), Newest: 6e6, Problem: crawl.Ahead})
	s.checkedRelay(crawl.Check{Relay: "c", Err: errors.New("silence")})
	s.checkedRelay(crawl.Check{Relay: "d", Err: &xrpc.Error{Status: 501, Name: "MethodNotImplemented"}})
	for _, part := range []string{"level=WARN msg=\"a relay was asked to read this server and failed\" relay=b", "relay=b problem=ahead", "level=WARN msg=\"a relay does not answer"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("no %q in\n%s", part, &log)
		}
	}
	if got := strings.Join(asked, "") + " " + strings.Join(checked, ""); got != "ab abcd" {
		t.Errorf("the hooks were told of %s", got)
	}
}

// On one's own machine no relay is asked: none could reach it.
func TestRelaysAreNotAskedToReadLocalhost(t *testing.T) {
	var log bytes.Buffer
	s := &Server{cfg: Config{URL: "http://localhost:2583", Relays: []string{"https://relay.example.net"}}, log: slog.New(slog.NewTextHandler(&log, nil))}
	if s.openCrawler(); s.crawler != nil || !strings.Contains(log.String(), "localhost") {
		t.Error(log.String())
	}
}
