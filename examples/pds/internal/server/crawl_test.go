package server

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/crawl"
)

func testConfig(t *testing.T, env map[string]string) *config.Config {
	t.Helper()
	all := map[string]string{"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_PORT": "0"}
	for name, value := range env {
		all[name] = value
	}
	cfg, err := config.Load(all)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A server that starts asks the relays of its configuration to read it, and stops asking when it is
// shut down.
func TestRelaysAreAsked(t *testing.T) {
	asked := make(chan string, 10)
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/xrpc/_health" {
			return // asked for the time
		}
		body, _ := io.ReadAll(r.Body)
		asked <- r.URL.Path + " " + string(body)
	}))
	defer relay.Close()
	s, err := Start(t.Context(), testConfig(t, map[string]string{"PDS_HOSTNAME": "pds.example.com", "PDS_DEV_MODE": "true", "PDS_CRAWLERS": relay.URL}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-asked:
		if got != `/xrpc/com.atproto.sync.requestCrawl {"hostname":"pds.example.com"}` {
			t.Error(got)
		}
	case <-time.After(time.Minute):
		t.Error("the relay is not asked")
	}
	if s.outbox.Empty == nil {
		t.Error("nobody hears of subscribers that leave")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// What relays answer is seen in the metrics and the log.
func TestRelaysAreWatched(t *testing.T) {
	var log, text bytes.Buffer
	s := &Server{log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	s.op.crawl.register(&s.op.metrics)
	s.op.crawl.notifier = &crawl.Notifier{}
	s.op.crawl.register(&s.op.metrics)
	seq := func(n int64) crawl.HostStatus { return crawl.HostStatus{Seq: &n} }
	s.askedRelay(crawl.Request{Relay: "a", Reason: crawl.Start})
	s.askedRelay(crawl.Request{Relay: "b", Reason: crawl.Written, Err: errors.New("refused")})
	s.checkedRelay(crawl.Check{Relay: "a", Status: seq(5e6), Newest: 6e6})
	s.checkedRelay(crawl.Check{Relay: "b", Status: seq(9e6), Newest: 6e6, Problem: crawl.Ahead})
	s.checkedRelay(crawl.Check{Relay: "c", Err: errors.New("silence")})
	s.checkedRelay(crawl.Check{Relay: "d", Err: &xrpc.Error{Status: 501, Name: "MethodNotImplemented"}})
	s.checkedRelay(crawl.Check{Relay: "e", Problem: crawl.Unknown})
	s.op.metrics.Write(&text)
	for _, line := range []string{
		`pds_crawl_requests_total{relay="a",result="asked"} 1`, `pds_crawl_requests_total{relay="b",result="failed"} 1`,
		`pds_relay_following{relay="a"} 1`, `pds_relay_following{relay="b"} 0`, `pds_relay_following{relay="e"} 0`,
		`pds_relay_lag_seconds{relay="a"} 1`, `pds_relay_lag_seconds{relay="b"} -3`,
	} {
		if !strings.Contains(text.String(), line+"\n") {
			t.Errorf("no %s in\n%s", line, &text)
		}
	}
	if strings.Contains(text.String(), `relay="c"`) || strings.Contains(text.String(), `relay="d"`) {
		t.Errorf("relays that say nothing have values:\n%s", &text)
	}
	for _, part := range []string{"level=WARN msg=\"a relay was asked to read this server and failed\" relay=b", "relay=b problem=ahead", "level=WARN msg=\"a relay does not answer"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("no %q in\n%s", part, &log)
		}
	}
}

// On one's own machine no relay is asked: none could reach it.
func TestRelaysAreNotAskedToReadLocalhost(t *testing.T) {
	var log bytes.Buffer
	s := &Server{cfg: testConfig(t, map[string]string{"PDS_CRAWLERS": "https://relay.example.net"}), log: slog.New(slog.NewTextHandler(&log, nil))}
	if s.crawler(); s.op.crawl.notifier != nil || !strings.Contains(log.String(), "localhost") {
		t.Error(log.String())
	}
}
