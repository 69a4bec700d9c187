package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

func TestMetricsAndLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := startLogging(t, t.TempDir(), f, "PDS_METRICS_ADDRESS=localhost:0", "PDS_LOG_LEVEL=debug", "PDS_LOG_FORMAT=json", "PDS_ADMIN_PASSWORD=hunter2")
	alice := p.register("alice")
	if err := alice.note("x"); err != nil {
		t.Fatal(err)
	}
	p.login(t, "alice.test", "wrong password")
	p.login(t, "mistyped-secret", "wrong password")
	for range 3 {
		p.anonymous().Query(t.Context(), "com.example.invented"+fmt.Sprint(probes), nil, nil)
		probes++
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`"msg":"metrics","address":"([^"]+)"`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no address of the metrics in the log:\n%s", text)
	}
	resp, err := http.Get("http://" + string(found[1]) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`pds_requests_total{method="com.atproto.repo.createRecord",status="200"} 1`,
		`pds_requests_total{method="com.atproto.server.createSession",status="401"} 2`,
		`pds_requests_total{method="other",status="400"} 3`,
		`pds_request_duration_seconds_count{method="com.atproto.server.createAccount"} 1`,
		`pds_accounts 1`, `pds_subscribers 0`, `pds_tree_cache_trees 1`,
	} {
		if !strings.Contains(string(body), line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	for _, name := range []string{"pds_event_newest_sequence ", "pds_database_bytes ", "go_goroutines "} {
		if !strings.Contains(string(body), "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	if resp, err := http.Get(p.url + "/metrics"); err != nil || resp.StatusCode != 404 {
		t.Errorf("metrics are public: %v, %v", resp, err)
	}
	// The log: a line for each request, with its ID, and no secrets.
	seen := make(map[string]bool)
	for l := range strings.Lines(string(text)) {
		var e struct {
			Msg, ID, Method, From, DID, Error, Account string
			Status                                     int
			MS                                         *float64
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("%v in %s", err, l)
		}
		if e.Msg == "request" {
			seen[fmt.Sprint(e.Method, " ", e.Status, " ", e.Error, e.DID, e.Account)] = true
			if e.ID == "" || e.MS == nil || e.From != "127.0.0.1" && e.From != "::1" {
				t.Errorf("incomplete: %s", l)
			}
		}
	}
	for _, want := range []string{"com.atproto.repo.createRecord 200 " + string(alice.DID), "com.atproto.server.createSession 401 AuthenticationRequired" + string(alice.DID),
		"com.atproto.server.createSession 401 AuthenticationRequired", "com.atproto.server.createAccount 200 " + string(alice.DID)} {
		if !seen[want] {
			t.Errorf("no %q in %v", want, seen)
		}
	}
	for _, secret := range []string{"password of alice", "wrong password", "mistyped-secret", alice.AccessJWT, "hunter2", "Bearer"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%.30q is in the log", secret)
		}
	}
}

func TestRateLimits(t *testing.T) {
	p := start(t, t.TempDir(), "PDS_RATE_LIMITS_ENABLED=true", "PDS_RATE_LIMIT_BYPASS_KEY=sesame")
	alice := p.register("alice")
	call := func(from, key string) *http.Response {
		t.Helper()
		body := strings.NewReader(`{"identifier":"nobody.test","password":"x"}`)
		r, err := http.NewRequest("POST", p.url+"/xrpc/com.atproto.server.createSession", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Forwarded-For", from) // this machine is a trusted proxy
		if key != "" {
			r.Header.Set("X-Ratelimit-Bypass", key)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	for i := range 30 {
		resp := call("192.0.2.1", "")
		if resp.StatusCode != 401 || resp.Header.Get("RateLimit-Remaining") != fmt.Sprint(29-i) {
			t.Fatalf("attempt %d: %s, %v", i, resp.Status, resp.Header)
		}
	}
	resp := call("192.0.2.1", "")
	if resp.StatusCode != 429 || resp.Header.Get("RateLimit-Policy") != "30;w=300" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
	if resp := call("192.0.2.1, 198.51.100.7", ""); resp.StatusCode != 401 {
		t.Errorf("another address: %s", resp.Status)
	}
	if resp := call("192.0.2.1", "sesame"); resp.StatusCode != 401 {
		t.Errorf("with the key: %s", resp.Status)
	}
	// Writes cost points, whichever method they come by.
	var writes []map[string]any
	for range 200 {
		writes = append(writes, map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.note", "value": map[string]any{}})
	}
	n := 0
	var err error
	for ; err == nil && n < 20; n++ {
		err = alice.Procedure(t.Context(), "com.atproto.repo.applyWrites", map[string]any{"repo": alice.DID, "writes": writes}, nil)
	}
	if n != 9 || !errors.Is(err, &xrpc.Error{Status: 429, Name: "RateLimitExceeded"}) { // 8 × 600 of 5000 points
		t.Errorf("%d calls: %v", n, err)
	}
}

// startLogging is start with the server's log in a file.
func startLogging(t *testing.T, dir string, log *os.File, env ...string) *process {
	t.Helper()
	p := startWith(t, dir, log, env...)
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if info, err := os.Stat(log.Name()); err == nil && info.Size() > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return p
}
