package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// request sends a request to a server that has no agents.
func request(method, path string, header map[string]string) *httptest.ResponseRecorder {
	s := New(Config{Address: "127.0.0.1:2600"})
	r := httptest.NewRequest(method, "http://127.0.0.1:2600"+path, nil)
	for key, value := range header {
		if r.Header.Set(key, value); key == "Host" {
			r.Host = value
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// TestRebinding: a name of somebody else's that leads to this machine gets nothing.
func TestRebinding(t *testing.T) {
	for _, name := range []string{"evil.example:2600", "127.0.0.1", "localhost.evil.example:2600", ""} {
		if w := request("GET", "/", map[string]string{"Host": name}); w.Code != http.StatusMisdirectedRequest {
			t.Errorf("%q gets %d", name, w.Code)
		}
	}
	for _, name := range []string{"localhost:2600", "127.0.0.1:2600"} {
		if w := request("GET", "/", map[string]string{"Host": name}); w.Code != http.StatusOK {
			t.Errorf("%q gets %d", name, w.Code)
		}
	}
}

// TestForeignOrders: other pages in the same browser can kill nothing.
func TestForeignOrders(t *testing.T) {
	for _, path := range []string{"/kill-process", "/kill-agent", "/forget"} {
		for _, header := range []map[string]string{
			{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
		} {
			if w := request("POST", path, header); w.Code != http.StatusForbidden {
				t.Errorf("%s with %v: %d", path, header, w.Code)
			}
		}
		if w := request("GET", path, nil); w.Code != http.StatusMethodNotAllowed && w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
}

// TestPolicy: nothing comes from elsewhere, and no script makes HTML from text.
func TestPolicy(t *testing.T) {
	policy := request("GET", "/", nil).Header().Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("no %s", part)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Error(policy)
	}
}

func TestBadRequests(t *testing.T) {
	for path, header := range map[string]map[string]string{
		"/events": {"Last-Event-ID": "x"},
		"/search?q=" + url.QueryEscape(strings.Repeat("a", 201)): nil,
	} {
		if w := request("GET", path, header); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := request("GET", "/blob/did:plc:a/nothing", nil); w.Code != http.StatusNotFound {
		t.Error(w.Code)
	}
}

// TestResume: a page that comes back gets what it has missed, in order and once. If that is too much,
// it is told that there is a gap.
func TestResume(t *testing.T) {
	l := newLive(nil)
	for i := range int64(5) {
		l.window = append(l.window, event{10 + i, fmt.Appendf(nil, "%d ", 10+i)})
	}
	l.before, l.state, l.states = 9, []byte("state"), 3
	for _, c := range []struct {
		after  int64
		states int
		want   string
		last   int64
	}{
		{0, -1, "10 11 12 13 14 state", 14},
		{12, 3, "13 14 ", 14},
		{14, 3, "", 14},
		{14, 2, "state", 14},
		{9, 3, "10 11 12 13 14 ", 14},
		{5, 3, "event: gap\ndata: {}\n\n10 11 12 13 14 ", 14},
	} {
		texts, last, states, more := l.next(c.after, c.states)
		got := ""
		for _, text := range texts {
			got += string(text)
		}
		if got != c.want || last != c.last || states != 3 || more == nil {
			t.Errorf("after %d: %q, %d, %d", c.after, got, last, states)
		}
	}
	for range maxPages {
		if !l.enter(1) {
			t.Fatal("there is no room")
		}
	}
	if l.enter(1) {
		t.Error("there is room for any number of pages")
	}
}
