package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// TestSlowPages: a page that takes nothing is cut off, and costs the others nothing.
func TestSlowPages(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	x, err := index.Open(ctx, filepath.Join(t.TempDir(), "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	l := newLive(x)
	l.timeout = 100 * time.Millisecond
	var running sync.WaitGroup
	running.Go(func() { l.run(ctx, slog.New(slog.DiscardHandler)) })
	defer running.Wait()
	defer cancel()
	left := make(chan string, 2)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.serve(r.Context(), http.NewResponseController(w), w, 0)
		left <- r.URL.Path
	})}
	pipes := make(pipeListener)
	go srv.Serve(pipes)
	defer srv.Close()

	slow, fast := pipes.dial("/slow"), pipes.dial("/fast")
	defer slow.Close()
	defer fast.Close()
	const did = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	if err := x.Add(ctx, did); err != nil {
		t.Fatal(err)
	}
	go func() {
		for i := range 300 {
			if err := x.Renamed(ctx, index.Person{DID: did, Name: fmt.Sprintf("%d %s", i, strings.Repeat("x", 200))}); err != nil {
				t.Error(err)
			}
		}
	}()
	var b strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(b.String(), "id: 300\n"); {
		n, err := fast.Read(buf)
		if err != nil {
			t.Fatalf("the fast page: %v", err)
		}
		b.Write(buf[:n])
	}
	select {
	case path := <-left:
		if path != "/slow" {
			t.Errorf("%s was cut off", path)
		}
	case <-time.After(30 * time.Second):
		t.Error("the slow page is still served")
	}
}

// pipeListener accepts pipes, which have no buffer.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l pipeListener) Close() error   { close(l); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l pipeListener) dial(path string) net.Conn {
	here, there := net.Pipe()
	l <- there
	io.WriteString(here, "GET "+path+" HTTP/1.1\r\nHost: status.example.net\r\n\r\n")
	return here
}

// FuzzCookie: no change of a cookie is taken.
func FuzzCookie(f *testing.F) {
	s := &Server{secure: true, cfg: Config{Now: time.Now}}
	s.keys.cookie, s.keys.form = []byte(strings.Repeat("k", 32)), []byte(strings.Repeat("f", 32))
	good := s.cookieValue(visitor{Browser: "B", Since: time.Now().Unix()})
	f.Add(good)
	f.Add(strings.Replace(good, ".", "", 1))
	f.Add(good + ".")
	f.Add("")
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest("GET", "https://status.example.net/", nil)
		r.Header.Set("Cookie", "__Host-statusphere="+value)
		if v, ok := s.visitor(r); ok && (s.cookieValue(v) != strings.Trim(value, ` "`) || v.Browser != "B") {
			t.Errorf("%q is taken", value)
		}
	})
}
