package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Metrics say what was done, on the main address with the password, and on another one without.
func TestMetrics(t *testing.T) {
	_, url := newHook(t)
	w := newWorld(t, "-webhook-url", url, "-admin-password", "secret")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.ok(err)
	w.set = func(s *settings) { s.metrics = l }
	alice := w.pds.Account("alice")
	alice.Create(notes, note("one"))
	w.start()
	if status, _ := w.request("GET", "/metrics", ""); status != http.StatusUnauthorized {
		t.Errorf("without the password: %d", status)
	}
	w.url = strings.Replace(w.url, "http://", "http://admin:secret@", 1)
	w.repos("add", string(alice.DID))
	bob := w.pds.Account("bob") // whom nobody asked for
	bob.Create(notes, note("two"))
	w.eventually(func() error {
		res, err := http.Get("http://" + l.Addr().String() + "/metrics")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		for _, want := range []string{
			"tap_records_total 1\n", "tap_webhook_requests_total{status=\"204\"} 2\n",
			"tap_events_delivered_total 2\n", "tap_events_acked_total 2\n", "tap_firehose_connected 1\n",
			"tap_resync_duration_seconds_count 1\n", "tap_crawler_repos_discovered_total 0\n", "tap_firehose_events_skipped_total",
		} {
			if !strings.Contains(string(b), want) {
				return fmt.Errorf("no %s in\n%s", want, b)
			}
		}
		if strings.Contains(string(b), "tap_firehose_events_skipped_total 0\n") {
			return fmt.Errorf("no event of another account was skipped:\n%s", b)
		}
		return nil
	})
}
