package limit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
)

// serve starts a server; over HTTP/2 if h2.
func serve(t *testing.T, l *Limiter, h2 bool, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(l.Handler(h))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	Harden(srv.Config)
	if srv.EnableHTTP2 = h2; h2 {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv
}

func one(c *Class) *Limiter { return &Limiter{Class: func(*http.Request) *Class { return c }} }

func protocols(t *testing.T, f func(t *testing.T, h2 bool)) {
	for _, h2 := range []bool{false, true} {
		name := "HTTP1"
		if h2 {
			name = "HTTP2"
		}
		t.Run(name, func(t *testing.T) { f(t, h2) })
	}
}

// ended waits for the end of a handler.
func ended[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("it is held without end")
	}
	return v
}

// A client that reads nothing of its answer, while its connection is alive, is cut off.
func TestAnswerThatNobodyReads(t *testing.T) {
	testenv.NotOnJS(t, "the network in memory takes any number of bytes")
	protocols(t, func(t *testing.T, h2 bool) {
		result, begun := make(chan error, 1), make(chan struct{})
		c := &Class{Stall: 50 * time.Millisecond}
		srv := serve(t, one(c), h2, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-begun
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 1<<20))
			}
			result <- err
		})
		resp, err := srv.Client().Get(srv.URL)
		close(begun) // the client has the header, however busy the machine is
		if err != nil {
			t.Fatal(err)
		}
		if err := ended(t, result); err == nil {
			t.Error("no error")
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the answer seems to be whole")
		}
		resp.Body.Close()
		if h2 { // the connection is as good as before
			resp, err := srv.Client().Head(srv.URL + "/again")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	})
}

// A client that takes a little now and then is cut off too, when it is slower than the pace.
func TestAnswerThatIsReadInTrickles(t *testing.T) {
	p := &pace{stall: 20 * time.Second, rate: 1000}
	total := time.Duration(0)
	for p.left() > 0 && total < time.Hour {
		p.charge(10*time.Second, 100)
		total += 10 * time.Second
	}
	if total > 30*time.Second {
		t.Errorf("held for %v", total)
	}
	p = &pace{stall: 20 * time.Second, rate: 1000}
	for range 1000 {
		if p.left() <= 0 {
			t.Fatal("a client that keeps the pace is cut off")
		}
		p.charge(10*time.Second, 11_000)
	}
	protocols(t, func(t *testing.T, h2 bool) {
		result, begun := make(chan error, 1), make(chan struct{})
		srv := serve(t, one(&Class{Stall: 300 * time.Millisecond, Pace: 1 << 40}), h2, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-begun
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 1<<20))
			}
			result <- err
		})
		resp, err := srv.Client().Get(srv.URL)
		close(begun) // the client has the header, however busy the machine is
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		stop := make(chan struct{})
		go func() {
			for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
				select {
				case <-stop:
					return
				default:
					io.CopyN(io.Discard, resp.Body, 256<<10)
				}
			}
		}()
		err = ended(t, result)
		close(stop)
		if err == nil {
			t.Error("no error")
		}
	})
}

// A body that does not come is not waited for, whether the handler reads it or not.
func TestBodyThatNeverComes(t *testing.T) {
	for _, reads := range []bool{true, false} {
		result := make(chan error, 1)
		srv := serve(t, one(&Class{Stall: 50 * time.Millisecond}), false, func(w http.ResponseWriter, r *http.Request) {
			var err error
			if reads {
				_, err = io.Copy(io.Discard, r.Body)
			}
			result <- err
			io.WriteString(w, "done")
		})
		for _, header := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
			c, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n1", header)
			if err := ended(t, result); reads && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, read: %v: %v", header, reads, err)
			}
			closed := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, c)
				closed <- err
			}()
			ended(t, closed)
		}
	}
	// Over HTTP/2 the connection goes on.
	result := make(chan error, 1)
	srv := serve(t, one(&Class{Stall: 50 * time.Millisecond}), true, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		result <- err
	})
	body, end := io.Pipe()
	defer end.Close()
	go func() {
		if resp, err := srv.Client().Post(srv.URL, "", body); err == nil {
			resp.Body.Close()
		}
	}()
	end.Write([]byte("x"))
	if err := ended(t, result); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// wire is a ResponseWriter with the deadlines of a connection, or of a stream of HTTP/2, which is
// reset when they pass.
type wire struct {
	httptest.ResponseRecorder
	streams     bool
	read, write time.Time
	reset       bool
	timer       *time.Timer
}

func (w *wire) SetReadDeadline(t time.Time) error { w.read = t; return nil }

func (w *wire) SetWriteDeadline(t time.Time) error {
	w.write = t
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.streams && !t.IsZero() {
		w.timer = time.AfterFunc(time.Until(t), func() { w.reset = true })
	}
	return nil
}

func (w *wire) Write(b []byte) (int, error) {
	if w.reset || w.write.IsZero() || !time.Now().Before(w.write) {
		return 0, os.ErrDeadlineExceeded
	}
	return w.ResponseRecorder.Write(b)
}

// slowBody takes a time for each part of a body.
type slowBody struct {
	w     *wire
	parts int
	each  time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.parts == 0 {
		return 0, io.EOF
	}
	b.parts--
	if time.Sleep(b.each); b.w.read.IsZero() || !time.Now().Before(b.w.read) {
		return 0, os.ErrDeadlineExceeded
	}
	return copy(p, make([]byte, 30_000)), nil
}

func (b *slowBody) Close() error { return nil }

// Time that the handler takes is not the client's: neither before it reads nor before it answers.
func TestSlowHandlerIsNotCutOff(t *testing.T) {
	protocols(t, func(t *testing.T, h2 bool) {
		synctest.Test(t, func(t *testing.T) {
			w := &wire{ResponseRecorder: *httptest.NewRecorder(), streams: h2}
			r := httptest.NewRequest("POST", "/", &slowBody{w, 5, 7 * time.Second})
			r.ContentLength = -1
			if h2 {
				r.ProtoMajor = 2
			}
			one(&Class{}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Hour)
				if n, err := io.Copy(io.Discard, r.Body); err != nil || n != 5*8192 {
					t.Error(n, err)
				}
				for range 3 {
					time.Sleep(time.Hour)
					if _, err := w.Write([]byte("hello")); err != nil {
						t.Error(err)
					}
					w.(http.Flusher).Flush()
				}
				time.Sleep(time.Hour)
			})).ServeHTTP(w, r)
			if !w.read.IsZero() {
				t.Error("a read deadline stays after the body's end")
			}
			if left := time.Until(w.write); left <= 0 || left > 20*time.Second {
				t.Errorf("net/http has %v to write the rest", left)
			}
		})
	})
}

// A body that trickles is cut off, though a part of it comes within each stall time.
func TestBodyThatTrickles(t *testing.T) {
	protocols(t, func(t *testing.T, h2 bool) {
		synctest.Test(t, func(t *testing.T) {
			w := &wire{ResponseRecorder: *httptest.NewRecorder(), streams: h2}
			r := httptest.NewRequest("POST", "/", &slowBody{w, 1000, 15 * time.Second})
			r.ContentLength = -1
			if h2 {
				r.ProtoMajor = 2
			}
			begin := time.Now()
			one(&Class{Pace: 10_000}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
			})).ServeHTTP(w, r)
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("cut off after %v", took)
			}
		})
	})
}

// A client that was fast for a gigabyte is cut off like others when it trickles from then on.
func TestFastAtFirstEarnsNoRightToTrickle(t *testing.T) {
	p := &pace{stall: 20 * time.Second, rate: 1000}
	p.charge(10*time.Second, 1<<30)
	total := time.Duration(0)
	for p.left() > 0 && total < time.Hour {
		p.charge(10*time.Second, 1)
		total += 10 * time.Second
	}
	if total > 30*time.Second {
		t.Errorf("held for %v", total)
	}
	protocols(t, func(t *testing.T, h2 bool) {
		synctest.Test(t, func(t *testing.T) {
			w := &wire{ResponseRecorder: *httptest.NewRecorder(), streams: h2}
			fast, slow := &slowBody{w, 1000, time.Millisecond}, &slowBody{w, 1000, 15 * time.Second}
			r := httptest.NewRequest("POST", "/", io.MultiReader(fast, slow))
			r.ContentLength = -1
			if h2 {
				r.ProtoMajor = 2
			}
			begin := time.Now()
			one(&Class{Pace: 10_000}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
			})).ServeHTTP(w, r)
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("cut off after %v", took)
			}
		})
	})
}

// Deadlines that a handler sets replace those of the class.
func TestHandlersOwnDeadlines(t *testing.T) {
	result := make(chan error, 2)
	srv := serve(t, one(&Class{Stall: time.Hour}), false, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		control.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := io.Copy(io.Discard, r.Body)
		result <- err
		control.SetWriteDeadline(time.Now().Add(-time.Second))
		w.Write(make([]byte, 1<<20))
		result <- control.Flush()
	})
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1")
	for range 2 {
		if err := ended(t, result); err == nil {
			t.Error("no error")
		}
	}
}

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

// One address cannot take all connections, and all together not those that are reserved.
func TestConnectionsOfOneAddress(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Listener{Listener: inner, Total: 8, PerNetwork: 3}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})}
	go srv.Serve(l)
	defer srv.Close()
	dial := func(from string) (net.Conn, bool) {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Skip("only one loopback address: ", err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return c, err == nil
	}
	var first net.Conn
	for i := range 6 {
		c, ok := dial("127.0.0.2")
		if ok != (i < 3) {
			t.Errorf("connection %d: %v", i, ok)
		}
		if i == 0 {
			first = c
		}
	}
	for i := range 4 {
		if _, ok := dial(fmt.Sprintf("127.0.0.%d", 3+i)); !ok {
			t.Errorf("address %d is refused", 3+i)
		}
	}
	if _, ok := dial("127.0.0.3"); ok {
		t.Error("who has a connection takes a reserved one")
	}
	if _, ok := dial("127.0.0.8"); !ok {
		t.Error("no reserved connection")
	}
	if _, ok := dial("127.0.0.9"); ok {
		t.Error("more connections than there may be")
	}
	first.Close()
	for { // until the server has noticed
		if _, ok := dial("127.0.0.9"); ok {
			break
		}
	}
}

func TestHarden(t *testing.T) {
	srv := &http.Server{IdleTimeout: time.Second, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 7}}
	Harden(srv)
	if srv.IdleTimeout != time.Second || srv.HTTP2.MaxConcurrentStreams != 7 || srv.ReadHeaderTimeout == 0 || srv.HTTP2.WriteByteTimeout == 0 {
		t.Errorf("%+v %+v", srv, srv.HTTP2)
	}
	// Proxies close idle connections first: Caddy after 2 minutes.
	srv = new(http.Server)
	if Harden(srv); srv.IdleTimeout <= 2*time.Minute {
		t.Errorf("idle connections end after %s", srv.IdleTimeout)
	}
}
