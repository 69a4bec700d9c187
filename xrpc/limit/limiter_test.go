package limit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
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
