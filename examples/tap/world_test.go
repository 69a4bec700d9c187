package main

import (
	"bytes"
	"context"
	"encoding/json"
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

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

var _ = testenv.CheapPasswords()

const notes, likes = "com.example.note", "com.example.like"

// world is a network with a PDS, and a tap that follows it.
type world struct {
	*testing.T
	net  *pdstest.Network
	pds  *pdstest.PDS
	args []string
	set  func(*settings)
	url  string
	end  func()
}

// newWorld starts one. args are flags.
func newWorld(t *testing.T, args ...string) *world {
	t.Helper()
	w := &world{T: t, net: pdstest.New(t)}
	w.pds = w.net.PDS()
	w.args = append([]string{"-db-url", "sqlite://" + filepath.Join(t.TempDir(), "tap.db"), "-log-level", "debug"}, args...)
	t.Cleanup(func() { w.stop() })
	return w
}

type testLog struct{ *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.Logf("tap: %s", b)
	return len(b), nil
}

// settings are those of the tap: like those of the program, but in the network of the test.
func (w *world) settings() *settings {
	o, err := parse(w.args, func(string) string { return "" }, io.Discard)
	w.ok(err)
	s := o.settings(slog.New(slog.NewTextHandler(testLog{w.T}, nil)))
	s.source = indexer.Source{Relay: "https://" + w.pds.Name}
	s.identity, s.http, s.hosts, s.now = w.net.Resolver(), w.net.Client(), w.net.Client(), w.net.Clock.Now
	s.hookPause = 5 * time.Millisecond
	if w.set != nil {
		w.set(s)
	}
	return s
}

func (w *world) start() *world {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.ok(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l, w.settings()) }()
	w.url = "http://" + l.Addr().String()
	w.end = func() {
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
	}
	return w
}

func (w *world) stop() {
	if w.end != nil {
		w.end()
		w.end = nil
	}
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// request makes a request and returns the status and the body.
func (w *world) request(method, path, body string) (int, string) {
	w.Helper()
	req, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	w.ok(err)
	if method == "POST" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	w.ok(err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	w.ok(err)
	return res.StatusCode, strings.TrimSpace(string(b))
}

func (w *world) repos(what string, dids ...string) {
	w.Helper()
	b, _ := json.Marshal(map[string]any{"dids": dids})
	if status, text := w.request("POST", "/repos/"+what, string(b)); status != 200 || text != "" {
		w.Fatal(status, text)
	}
}

// client is a client at a socket.
type client struct {
	*world
	conn   *websocket.Conn
	events chan message
}

// connect connects a client that acknowledges nothing by itself.
func (w *world) connect() *client {
	w.Helper()
	conn, _, err := websocket.Dial(w.Context(), strings.Replace(w.url, "http", "ws", 1)+"/channel", nil)
	w.ok(err)
	conn.SetReadLimit(16 << 20)
	c := &client{world: w, conn: conn, events: make(chan message, 10_000)}
	go func() {
		defer close(c.events)
		for {
			_, b, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			var m message
			if err := json.Unmarshal(b, &m); err != nil {
				w.Errorf("%s: %v", b, err)
				return
			}
			c.events <- m
		}
	}()
	w.Cleanup(func() { conn.CloseNow() })
	return c
}

// next returns the next event.
func (c *client) next() message {
	c.Helper()
	select {
	case m, ok := <-c.events:
		if !ok {
			c.Fatal("the socket was closed")
		}
		return m
	case <-time.After(20 * time.Second):
		c.Fatal("no event came")
		return message{}
	}
}

func (c *client) ack(m message) {
	c.Helper()
	c.ok(c.conn.Write(c.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"ack","id":%d}`, m.ID)))
}

// take returns the texts of the next events, and acknowledges them.
func (c *client) take(n int) (list []string) {
	c.Helper()
	for range n {
		m := c.next()
		c.ack(m)
		list = append(list, text(m))
	}
	return list
}

// text is an event in short: "live create com.example.note/1 hello".
func text(m message) string {
	if m.Identity != nil {
		return fmt.Sprintf("identity %s %v %s", m.Identity.Handle, m.Identity.IsActive, m.Identity.Status)
	}
	r := m.Record
	var record struct{ Text string }
	json.Unmarshal(r.Record, &record)
	kind := "old"
	if r.Live {
		kind = "live"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s/%s %s", kind, r.Action, r.Collection, r.RKey, record.Text))
}

func note(s string) map[string]any { return map[string]any{"$type": notes, "text": s} }

func (w *world) eventually(f func() error) {
	w.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	w.Fatal(err)
}

// hook is a webhook.
type hook struct {
	mu     sync.Mutex
	refuse func(m message) bool
	got    []message
	auth   string
	wake   chan struct{}
}

func newHook(t *testing.T) (*hook, string) {
	h := &hook{wake: make(chan struct{}, 1)}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return h, srv.URL + "/hook"
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	b.ReadFrom(r.Body)
	var m message
	if r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(b.Bytes(), &m) != nil {
		w.WriteHeader(400)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.auth = r.Header.Get("Authorization")
	if h.refuse != nil && h.refuse(m) {
		w.WriteHeader(503)
		return
	}
	h.got = append(h.got, m)
	w.WriteHeader(204)
}
