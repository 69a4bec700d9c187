package limit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Answers that nobody reads are cut off at once, nearly, when the bytes of the class are used up.
func TestAnswersHoldBytes(t *testing.T) {
	protocols(t, func(t *testing.T, h2 bool) {
		c := &Class{Stall: time.Hour, Bytes: Budget{Total: 100 << 20, PerNetwork: 40 << 20}}
		result := make(chan time.Duration, 2)
		srv := serve(t, one(c), h2, func(w http.ResponseWriter, r *http.Request) {
			begin := time.Now()
			_, err := w.Write(make([]byte, 30<<20))
			if err == nil {
				t.Error("somebody has read it")
			}
			result <- time.Since(begin)
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 2 {
			r, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
			resp, err := srv.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
		}
		if took := ended(t, result); took > 20*time.Second {
			t.Error(took)
		}
		if used := c.Bytes.Used(); used != 30<<20 {
			t.Errorf("%d bytes are held", used)
		}
		cancel()
		ended(t, result)
	})
}

func TestBodiesHoldBytes(t *testing.T) {
	c := &Class{Bytes: Budget{Name: "write", Total: 1000, PerNetwork: 600}}
	held, release := make(chan int64), make(chan struct{})
	l := one(c)
	h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Error(err)
			} else {
				WriteError(w, r, e)
			}
			return
		}
		if r.URL.Path == "/wait" {
			held <- c.Bytes.Used()
			<-release
		}
		fmt.Fprint(w, len(text))
	}))
	call := func(path, from string, n int) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", path, bytes.NewReader(make([]byte, n)))
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	done := make(chan bool)
	go func() {
		if w := call("/wait", "192.0.2.1:1", 500); w.Code != 200 {
			t.Error(w.Code)
		}
		close(done)
	}()
	if n := <-held; n != 500 {
		t.Errorf("%d bytes are held", n)
	}
	if w := call("/", "192.0.2.1:2", 200); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Error(w.Code, w.Header())
	}
	if w := call("/", "192.0.2.2:1", 501); w.Code != 503 {
		t.Error(w.Code)
	}
	if w := call("/", "192.0.2.2:1", 500); w.Code != 200 {
		t.Error(w.Code)
	}
	close(release)
	<-done
	if c.Bytes.Used() != 0 {
		t.Error("bytes are held after the end")
	}
}

func TestHold(t *testing.T) {
	c := &Class{Bytes: Budget{Name: "export", Total: 100}}
	var ctx context.Context
	h := one(c).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx = r.Context()
		if ClientOf(ctx).Network.String() != "192.0.2.1/32" {
			t.Error(ClientOf(ctx))
		}
		for _, step := range []struct {
			n, used int64
			fails   bool
		}{{60, 60, false}, {41, 60, true}, {40, 100, false}, {-30, 70, false}, {30, 100, false}, {-1000, 0, false}, {10, 10, false}} {
			if err := Hold(ctx, step.n); (err != nil) != step.fails || c.Bytes.Used() != step.used {
				t.Errorf("%d: %v, %d", step.n, err, c.Bytes.Used())
			}
		}
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "192.0.2.1:5"
	h.ServeHTTP(httptest.NewRecorder(), r)
	if err := Hold(ctx, 10); err != nil || c.Bytes.Used() != 0 {
		t.Error(err, c.Bytes.Used())
	}
	if err := Hold(t.Context(), 1<<50); err != nil {
		t.Error(err)
	}
}

func TestRefusedRequests(t *testing.T) {
	c := &Class{Gate: Gate{Name: "x", Total: 3, PerNetwork: 1, Privileged: 1}}
	inside, release := make(chan bool), make(chan bool)
	refusals := 0
	l := one(c)
	l.Privileged = func(a netip.Addr) bool { return a.String() == "192.0.2.9" }
	l.Refused = func(r *http.Request, e *Error) { refusals++ }
	h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside <- true
		<-release
	}))
	call := func(from string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/xrpc/com.example.x", strings.NewReader("{}"))
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	go call("192.0.2.1:1")
	<-inside
	w := call("192.0.2.1:2")
	if w.Code != 429 || !strings.Contains(w.Body.String(), `"RateLimitExceeded"`) || w.Header().Get("Retry-After") == "" ||
		w.Header().Get("Connection") != "close" || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Error(w.Code, w.Body, w.Header())
	}
	go call("[2001:db8::1]:1")
	<-inside
	if w := call("[2001:db8::2]:1"); w.Code != 429 { // the same /64
		t.Error(w.Code)
	}
	if w := call("[2001:db8:0:1::1]:1"); w.Code != 503 || !strings.Contains(w.Body.String(), `"NotEnoughResources"`) {
		t.Error(w.Code, w.Body)
	}
	go call("192.0.2.9:1")
	<-inside
	if refusals != 3 {
		t.Error(refusals)
	}
	close(release)
}

func TestMethods(t *testing.T) {
	m := NewMethods()
	mine := &Class{}
	m.Set("com.example.mine", mine)
	for _, tt := range []struct {
		method, path, upgrade string
		want                  *Class
	}{
		{"GET", "/xrpc/com.atproto.sync.getRepo", "", &m.Export},
		{"GET", "/xrpc/com.atproto.sync.getRepo/", "", &m.Export},
		{"HEAD", "/xrpc/com.atproto.sync.getRepo", "", &m.Export},
		{"GET", "/xrpc/com.atproto.sync.getRepo", "websocket", &m.Export},
		{"GET", "/xrpc/com.atproto.sync.getBlocks", "", &m.Tree},
		{"GET", "/xrpc/com.atproto.sync.getBlob", "", &m.Download},
		{"GET", "/xrpc/com.atproto.sync.subscribeRepos", "websocket", &m.Stream},
		{"POST", "/xrpc/com.atproto.repo.createRecord", "websocket", &m.Write},
		{"GET", "/xrpc/com.atproto.repo.listRecords", "websocket", &m.List},
		{"GET", "/xrpc/com.atproto.repo.getRecord", "websocket", &m.Read},
		{"POST", "/xrpc/com.atproto.repo.uploadBlob", "", &m.Upload},
		{"POST", "/xrpc/com.atproto.repo.importRepo", "", &m.Import},
		{"GET", "/xrpc/app.bsky.feed.getTimeline", "", &m.Other},
		{"POST", "/xrpc/org.pdskit.queue.lease", "", &m.Jobs},
		{"POST", "/xrpc/com.example.mine", "", mine},
		{"GET", "/xrpc/_health", "", nil},
		{"OPTIONS", "/xrpc/com.atproto.repo.createRecord", "", nil},
		{"POST", "/", "", &m.Page},
		{"GET", "/.well-known/did.json", "", &m.Page},
	} {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		if tt.upgrade != "" {
			r.Header.Set("Upgrade", tt.upgrade)
		}
		if got := m.Class(r); got != tt.want {
			t.Errorf("%s %s: %v", tt.method, tt.path, got)
		}
	}
	for _, c := range m.All() {
		if c != &m.Stream && (c.Gate.Total == 0 || c.Gate.PerNetwork == 0 || c.Gate.PerNetwork*2 > c.Gate.Total || c.Gate.Name == "") {
			t.Errorf("%s: %+v", c.Gate.Name, &c.Gate)
		}
	}
}
