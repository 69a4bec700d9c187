package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// page is an open page: it takes events.
type page struct {
	w      *world
	events chan sse
	last   string // the id of the last event
	close  func()
}

type sse struct {
	id, kind string
	data     struct{ URI, DID, Name, Handle, Status string }
}

// open opens a page that has had an event.
func (w *world) open(last string, header bool) *page {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	address := w.set.url + "/live"
	if !header {
		address += "?after=" + last
	}
	r, err := http.NewRequestWithContext(ctx, "GET", address, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if header {
		r.Header.Set("Last-Event-ID", last)
	}
	res, err := w.net.Client().Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("live: status %d", res.StatusCode)
	}
	p := &page{w: w, events: make(chan sse, 10000), last: last}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(p.events)
		var e sse
		for s := bufio.NewScanner(res.Body); s.Scan(); {
			switch name, value, _ := strings.Cut(s.Text(), ": "); name {
			case "id":
				e.id = value
			case "event":
				e.kind = value
			case "data":
				if e.kind != "top" {
					if err := data.UnmarshalJSON([]byte(strings.NewReplacer(`"uri"`, `"URI"`, `"did"`, `"DID"`, `"name"`, `"Name"`, `"handle"`, `"Handle"`, `"status"`, `"Status"`).Replace(value)), &e.data); err != nil {
						w.t.Errorf("%s: %v", value, err)
					}
				}
			case "":
				if e.kind != "" && e.kind != "top" {
					p.events <- e
				}
				e = sse{}
			}
		}
	}()
	p.close = func() {
		cancel()
		res.Body.Close()
		<-done
	}
	w.t.Cleanup(p.close)
	return p
}

// next returns the next event.
func (p *page) next() string {
	p.w.t.Helper()
	select {
	case e, ok := <-p.events:
		if !ok {
			return "end"
		}
		p.last = e.id
		return strings.TrimSpace(e.kind + " " + e.data.Status)
	case <-time.After(30 * time.Second):
		p.w.t.Fatal("no event comes")
	}
	return ""
}

func (p *page) want(kinds ...string) {
	p.w.t.Helper()
	for _, want := range kinds {
		// When a name is found out is open, and when the repository is read, which may tell of statuses
		// once more.
		got := p.next()
		for got != want && (got == "renamed" || p.w.told[got]) {
			got = p.next()
		}
		if got != want {
			p.w.t.Fatalf("the event is %q, not %q", got, want)
		}
		if strings.HasPrefix(got, "status ") {
			if p.w.told == nil {
				p.w.told = make(map[string]bool)
			}
			p.w.told[got] = true
		}
	}
}

func TestLive(t *testing.T) {
	w := newWorld(t)
	alice := w.pds.Account("alice")
	p := w.open("0", false)
	w.say(alice, "👍")
	p.want("status 👍")
	p.close()

	// What happens while it is away comes when it is back, once.
	second := w.say(alice, "☕")
	w.wait("alice ☕", "alice 👍")
	p = w.open(p.last, true)
	p.want("status ☕")
	_, rkey, _ := strings.Cut(strings.TrimPrefix(string(second.URI), "at://"+string(alice.DID)+"/"), "/")
	if err := deleteStatus(w, alice.Client, string(alice.DID), rkey); err != nil {
		t.Fatal(err)
	}
	p.want("removed")
	if err := api.ServerDeactivateAccount(t.Context(), alice, api.ServerDeactivateAccountInput{}); err != nil {
		t.Fatal(err)
	}
	p.want("hidden")
	if err := api.ServerActivateAccount(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	p.want("status 👍")
	last := p.last
	p.close()

	// Also when the app was started anew meanwhile, whose window is empty.
	w.say(alice, "🚀")
	eventually(t, func() error { return w.caughtUp() })
	w.stop()
	w.start()
	p = w.open(last, true)
	p.want("status 🚀")

	// A page that knows of events that never were has to be read again.
	p = w.open("1000000", true)
	p.want("reset", "end")
}

// TestLiveTooFarBehind: a page that has missed more than the log keeps is told so, and one that has
// missed less gets everything, also what is not in memory any more.
func TestLiveTooFarBehind(t *testing.T) {
	w := newWorld(t)
	alice := w.pds.Account("alice")
	w.say(alice, "👍")
	w.wait("alice 👍")
	var person string
	for i := range index.KeepChanges + 10 {
		person = fmt.Sprint("Alice ", i)
		if err := w.app.index.Renamed(t.Context(), index.Person{DID: alice.DID, Handle: alice.Handle, Name: person}); err != nil {
			t.Fatal(err)
		}
	}
	p := w.open("1", true)
	p.want("reset", "end")
	var first, last int64
	if err := w.app.index.SQL.QueryRowContext(t.Context(), "SELECT min(id), max(id) FROM change").Scan(&first, &last); err != nil {
		t.Fatal(err)
	}
	p = w.open(fmt.Sprint(first-1), true)
	for range index.KeepChanges {
		if got := p.next(); got != "renamed" {
			t.Fatalf("the event is %q", got)
		}
	}
	if p.last != fmt.Sprint(last) {
		t.Errorf("the last event is %s of %d", p.last, last)
	}
	w.say(alice, "🌙")
	p.want("status 🌙")
}

// TestLiveIsBounded: there are only so many open pages, one that takes nothing is cut off, and
// others notice nothing of it.
func TestLiveIsBounded(t *testing.T) {
	w := newWorld(t, func(s *settings) { s.maxLive = 2 })
	alice := w.pds.Account("alice")
	srv := httptest.NewUnstartedServer(w.app.web)
	srv.Start()
	t.Cleanup(srv.Close)

	// It asks, and reads no more than that it is let in.
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET /live?after=0 HTTP/1.1\r\nHost: %s\r\n\r\n", site)
	status := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(c, status); err != nil || string(status) != "HTTP/1.1 200" {
		t.Fatalf("%q, %v", status, err)
	}
	p := w.open("0", false)
	eventually(t, func() error {
		res := get(w, "/live?after=0", "")
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			return fmt.Errorf("a third page: status %d", res.StatusCode)
		}
		return nil
	})
	w.say(alice, "👍")
	p.want("status 👍")
	p.close()
	eventually(t, func() error { // there is room again
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		rec := httptest.NewRecorder()
		w.app.web.ServeHTTP(rec, httptest.NewRequest("GET", w.set.url+"/live?after=0", nil).WithContext(ctx))
		if rec.Code != http.StatusOK {
			return fmt.Errorf("status %d", rec.Code)
		}
		return nil
	})
	// Other sites' pages get nothing.
	r := httptest.NewRequest("GET", w.set.url+"/live?after=0", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	rec := httptest.NewRecorder()
	w.app.web.ServeHTTP(rec, r)
	if rec.Code != http.StatusForbidden {
		t.Errorf("another site: status %d", rec.Code)
	}
	w.wait("alice 👍")
}
