package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/certs/acmetest"
)

const name = "pds.site.test"

// world is a server with certificates, and an authority.
type world struct {
	*Certs
	authority *acmetest.Authority
	address   string
	events    chan Event
	passed    atomic.Int64 // time
	asked     atomic.Int32 // calls of the policy: tries
	down      atomic.Bool  // the authority does not reach the server

	mu  sync.Mutex
	log bytes.Buffer
}

func (w *world) Write(b []byte) (int, error) { w.mu.Lock(); defer w.mu.Unlock(); return w.log.Write(b) }
func (w *world) text() string                { w.mu.Lock(); defer w.mu.Unlock(); return w.log.String() }

func newWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{events: make(chan Event, 100)}
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	w.authority = acmetest.New(t, func(string) string {
		if w.down.Load() {
			return ""
		}
		return w.address
	})
	w.Certs = New(Config{
		Name: name, Dir: dir, Directory: w.authority.URL, Email: "admin@site.test", Logger: slog.New(slog.NewTextHandler(w, nil)),
		Now: func() time.Time { return time.Now().Add(time.Duration(w.passed.Load())) }, Event: func(e Event) { w.events <- e },
		Policy: func(_ context.Context, host string) error {
			w.asked.Add(1)
			if host != name && host != "alice."+name {
				return errors.New("no such account")
			}
			return nil
		},
	})
	srv := &http.Server{TLSConfig: w.TLSConfig(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go srv.ServeTLS(l, "", "")
	t.Cleanup(func() { srv.Close() })
	return w
}

// next is the next event of a kind; "" is the state of the own certificate.
func (w *world) next(t *testing.T, kind Kind) Event {
	t.Helper()
	for {
		select {
		case e := <-w.events:
			if e.Kind == kind {
				return e
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no event %q; the log:\n%s", kind, w.text())
		}
	}
}

func (w *world) handshake(host string) error {
	roots := x509.NewCertPool()
	roots.AddCert(w.authority.Root)
	conn, err := tls.Dial("tcp", w.address, &tls.Config{ServerName: host, RootCAs: roots})
	if err == nil {
		conn.Close()
	}
	return err
}

// The certificate is got before anybody asks for it, and kept for the next start.
func TestObtainedAtStart(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir)
	ctx, stop := context.WithCancel(t.Context())
	go w.Run(ctx)
	e := w.next(t, Obtained)
	if e.Name != name || time.Until(e.Expires) < time.Hour || w.authority.Orders() != 1 {
		t.Errorf("%+v, %d orders", e, w.authority.Orders())
	}
	if e := w.next(t, ""); e.Name != name || e.Expires.IsZero() {
		t.Errorf("%+v", e)
	}
	if err := w.handshake(name); err != nil || w.authority.Orders() != 1 {
		t.Error(err)
	}
	if err := w.handshake("alice." + name); err != nil || w.authority.Orders() != 2 {
		t.Error(err)
	}
	if err := w.handshake("mallory." + name); err == nil || w.authority.Orders() != 2 {
		t.Error("a stranger's name has a certificate")
	}
	if s, err := ReadState(dir); err != nil || s.Name != name || !s.Expires.Equal(e.Expires) || s.Failure != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if log := w.text(); !strings.Contains(log, `msg="certificate obtained" name=pds.site.test until=`) || strings.Contains(log, "mallory") {
		t.Error(log)
	}
	stop()
	again := newWorld(t, dir)
	go again.Run(t.Context())
	if kept := again.next(t, ""); !kept.Expires.Equal(e.Expires) || again.authority.Orders() != 0 {
		t.Errorf("%+v, %d orders", kept, again.authority.Orders())
	}
}

// What fails is told in the authority's words, kept for whoever looks, and tried again more and more
// rarely, whoever asks meanwhile; when it is mended, all is well.
func TestFailure(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir)
	w.down.Store(true)
	if err := w.handshake(name); err == nil {
		t.Error("there is a certificate")
	}
	e := w.next(t, Failed)
	if e.Name != name || !strings.Contains(e.Reason, "no route to host") {
		t.Errorf("%+v", e)
	}
	orders, asked := w.authority.Orders(), w.asked.Load()
	for range 5 {
		w.handshake(name)
	}
	if n := w.authority.Orders(); n != orders || w.asked.Load() != asked {
		t.Errorf("%d orders instead of %d: strangers use up the authority's patience", n, orders)
	}
	s, err := ReadState(dir)
	if err != nil || s.Failure == nil || s.Failure.Name != name || !strings.Contains(s.Failure.Reason, "no route to host") || !s.Expires.IsZero() {
		t.Errorf("%+v, %v", s, err)
	}
	if log := w.text(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "no route to host") {
		t.Error(log)
	}
	// Let's Encrypt allows five failures in an hour. (The library itself waits for a minute.)
	tries := 1
	for begin := time.Duration(w.passed.Load()); time.Duration(w.passed.Load())-begin < time.Hour; {
		w.Certs.mu.Lock()
		f := w.waiting[name]
		w.passed.Add(int64(f.pause))
		w.Certs.mu.Unlock()
		w.fails(name, errors.New("again"))
		tries++
	}
	if tries > 5 {
		t.Errorf("%d tries in an hour", tries)
	}
	w.down.Store(false)
	w.Certs.mu.Lock()
	clear(w.waiting)
	w.Certs.mu.Unlock()
	w.event(Event{Kind: Obtained, Name: name, Expires: time.Now().Add(time.Hour)})
	if s, err := ReadState(dir); err != nil || s.Failure != nil || s.Expires.IsZero() {
		t.Errorf("%+v, %v", s, err)
	}
}

// A renewal that the authority refuses is told, though it runs by itself; so is one that succeeds.
func TestRenewal(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.authority.Old(true) // it is due at once
	go w.Run(t.Context())
	w.next(t, Obtained)
	w.authority.Old(false)
	for { // some may have been made before
		e := w.next(t, Renewed)
		if e.Name != name {
			t.Errorf("%+v", e)
		}
		if time.Until(e.Expires) > time.Hour {
			break
		}
	}
	if !strings.Contains(w.text(), "certificate renewed") {
		t.Error(w.text())
	}
}

func TestRenewalRefused(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir)
	w.authority.Old(true)
	if err := w.handshake(name); err != nil {
		t.Fatal(err)
	}
	w.authority.Refuse("too many certificates already issued for site.test")
	w.authority.Old(true)
	// The first renewal may have been made before; one of the next is refused.
	e := w.next(t, Failed)
	if !strings.Contains(e.Reason, "too many certificates") {
		t.Errorf("%+v", e)
	}
	s, err := ReadState(dir)
	if err != nil || s.Failure == nil || s.Expires.IsZero() {
		t.Errorf("%+v, %v", s, err)
	}
}

// An authority that cannot be reached is a failure like others.
func TestNoAuthority(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	var got []Event
	c := New(Config{Name: name, Dir: t.TempDir(), Directory: "http://" + l.Addr().String(), Policy: func(context.Context, string) error { return nil }, Event: func(e Event) { got = append(got, e) }})
	if _, err := c.certificate(&tls.ClientHelloInfo{ServerName: name}); err == nil {
		t.Error("a certificate of nobody")
	}
	if len(got) != 1 || got[0].Kind != Failed || !strings.Contains(got[0].Reason, "connection refused") {
		t.Errorf("%+v", got)
	}
}

// What an authority says is bounded, and on one line.
func TestRefusalWords(t *testing.T) {
	for _, tt := range []struct {
		status    int
		doc       string
		name, why string
	}{
		{429, `{"type":"urn:x:rateLimited","detail":"too\nmany"}`, "", "too many"},
		{400, `{"type":"urn:x:badNonce","detail":"again"}`, "", ""},
		{200, `{"status":"valid","identifier":{"value":"a.test"},"challenges":[{"status":"valid"}]}`, "", ""},
		{200, `{"status":"invalid","identifier":{"value":"a.test"},"challenges":[{"type":"x"},{"error":{"detail":"refused\u202e"}}]}`, "a.test", "refused "},
		{200, `{"status":"invalid","challenges":[]}`, "", ""},
		{500, `{"detail":"` + strings.Repeat("é", 5000) + `"}`, "", strings.Repeat("é", 200) + "…"},
		{500, `not JSON`, "", ""},
		{500, `{"detail":7}`, "", ""},
	} {
		if name, why := refusal(tt.status, []byte(tt.doc)); name != tt.name || why != tt.why {
			t.Errorf("%.60s: %q, %q", tt.doc, name, why)
		}
	}
}

// A state that was damaged is an error, and no longer so after the next event.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, stateFile), []byte(`{"name":`), 0o600)
	if _, err := ReadState(dir); err == nil {
		t.Error("read")
	}
	c := New(Config{Name: name, Dir: dir, Policy: func(context.Context, string) error { return nil }})
	c.event(Event{Kind: Failed, Name: name, Reason: "x"})
	if s, err := ReadState(dir); err != nil || s.Failure == nil {
		t.Errorf("%+v, %v", s, err)
	}
}

func FuzzRefusal(f *testing.F) {
	f.Add(200, `{"status":"invalid","identifier":{"value":"a.test"},"challenges":[{"error":{"detail":"refused"}}]}`)
	f.Add(429, `{"type":"urn:x:rateLimited","detail":"too many"}`)
	f.Fuzz(func(t *testing.T, status int, doc string) {
		name, why := refusal(status, []byte(doc))
		for _, s := range []string{name, why} {
			if len(s) > maxWords+3 || strings.ContainsAny(s, "\n\r\x00\u202e") {
				t.Errorf("%q", s)
			}
		}
	})
}
