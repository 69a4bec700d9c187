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
	"github.com/pdskit/pdskit/xrpc/atproto/api"
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
	if s.pds.Outbox.Empty == nil {
		t.Error("nobody hears of subscribers that leave")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// What relays answer is seen in the metrics.
func TestRelaysAreWatched(t *testing.T) {
	var text bytes.Buffer
	var m meters
	hooks := m.hooks()
	m.relays()
	seq := func(n int64) api.SyncGetHostStatusOutput { return api.SyncGetHostStatusOutput{Seq: &n} }
	hooks.RelayAsked(crawl.Request{Relay: "a", Reason: crawl.Start})
	hooks.RelayAsked(crawl.Request{Relay: "b", Reason: crawl.Written, Err: errors.New("refused")})
	hooks.RelayChecked(crawl.Check{Relay: "a", Status: seq(5e6), Newest: 6e6})
	hooks.RelayChecked(crawl.Check{Relay: "b", Status: seq(9e6), Newest: 6e6, Problem: crawl.Ahead})
	hooks.RelayChecked(crawl.Check{Relay: "c", Err: errors.New("silence")})
	hooks.RelayChecked(crawl.Check{Relay: "d", Err: &xrpc.Error{Status: 501, Name: "MethodNotImplemented"}})
	hooks.RelayChecked(crawl.Check{Relay: "e", Problem: crawl.Unknown})
	m.registry.Write(&text)
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
}
