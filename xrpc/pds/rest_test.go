package pds

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
)

// rester is a server that is woken by its alarm and by requests only, and whose process is new each
// time, as that of a Durable Object that was evicted.
type rester struct {
	t     *testing.T
	cfg   Config
	now   time.Time
	alarm time.Time
	asked int // requests to the relay to read the server
	wakes int
}

func newRester(t *testing.T) *rester {
	r := &rester{t: t, cfg: goodConfig(t), now: time.Now()}
	r.cfg.URL, r.cfg.Policy.Domains = "http://pds.example.com", []string{".localhost.test"}
	r.cfg.Now = func() time.Time { return r.now }
	r.cfg.Store = memory.New(memory.Config{Now: r.cfg.Now})
	r.cfg.Relays = []string{"https://relay.example.net"}
	r.cfg.Subscribers = func() int { return 1 }
	r.cfg.HTTP = &http.Client{Transport: nettest.RoundTrip(func(q *http.Request) (*http.Response, error) {
		body := `{"hostname":"pds.example.com","seq":9007199254740991,"status":"active"}`
		if strings.HasSuffix(q.URL.Path, ".requestCrawl") {
			r.asked++
			body = "{}"
		}
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: q}, nil
	})}
	return r
}

// wake starts a process, lets it do something, and sets the alarm as a host does.
func (r *rester) wake(work func(s *Server)) {
	r.t.Helper()
	s, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	work(s)
	due, err := s.Due(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if !due.IsZero() && (r.alarm.IsZero() || due.Before(r.alarm)) {
		r.alarm = due
	}
}

// pass passes time, and wakes the server when its alarm goes off.
func (r *rester) pass(d time.Duration) {
	r.t.Helper()
	for end := r.now.Add(d); ; r.wakes++ {
		if r.alarm.IsZero() || r.alarm.After(end) {
			r.now = end
			return
		}
		if r.alarm.After(r.now) {
			r.now = r.alarm
		}
		r.alarm = time.Time{}
		if r.wakes > 100 {
			r.t.Fatal("the server is woken without end")
		}
		r.wake(func(s *Server) {
			if err := s.Maintain(r.t.Context()); err != nil {
				r.t.Error(err)
			}
		})
	}
}

// A server that rests is woken until the relay knows, unused uploads are gone and events are
// trimmed, and then never again until something is written.
func TestRestingServerIsLeftAloneInTheEnd(t *testing.T) {
	r := newRester(t)
	var token string
	var did syntax.DID
	r.wake(func(s *Server) {
		did = register(t, s, "alice")[0]
		token = login(t, s, "alice.localhost.test")
	})
	r.pass(30 * 24 * time.Hour)
	if r.asked == 0 || r.asked > 3 {
		t.Errorf("the relay was asked %d times", r.asked)
	}
	if r.wakes == 0 || r.wakes > 12 {
		t.Errorf("woken %d times", r.wakes)
	}
	if oldest, newest, _ := r.cfg.Store.Events.Bounds(t.Context()); oldest <= newest {
		t.Errorf("events %d to %d are kept after a month", oldest, newest)
	}
	if !r.alarm.IsZero() {
		t.Errorf("it is still woken at %v", r.alarm)
	}
	// An upload that nobody uses, which only the process that took it knows of.
	before := r.wakes
	r.wake(func(s *Server) { token = login(t, s, "alice.localhost.test") })
	r.wake(func(s *Server) {
		q := httptest.NewRequest("POST", "/xrpc/com.atproto.repo.uploadBlob", strings.NewReader("never used"))
		q.Header.Set("Content-Type", "text/plain")
		q.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		if s.ServeHTTP(w, q); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
	if r.alarm.IsZero() {
		t.Fatal("no alarm after an upload")
	}
	r.pass(30 * 24 * time.Hour)
	if used, err := r.cfg.Store.Blobs.Usage(t.Context(), did); err != nil || used != 0 {
		t.Errorf("%d bytes of uploads are still there, %v", used, err)
	}
	if n := r.wakes - before; n == 0 || n > 4 {
		t.Errorf("woken %d times for it", n)
	}
	if !r.alarm.IsZero() {
		t.Errorf("it is still woken at %v", r.alarm)
	}
}

// Requests that write nothing set no alarm.
func TestReadsDoNotWakeARestingServer(t *testing.T) {
	r := newRester(t)
	r.wake(func(s *Server) { register(t, s, "alice") })
	r.pass(30 * 24 * time.Hour)
	r.wake(func(s *Server) {
		for _, path := range []string{"/xrpc/_health", "/xrpc/com.atproto.server.describeServer", "/xrpc/com.atproto.sync.listRepos", "/"} {
			w := httptest.NewRecorder()
			if s.ServeHTTP(w, httptest.NewRequest("GET", path, nil)); w.Code != 200 {
				t.Errorf("%s: %d", path, w.Code)
			}
		}
	})
	if !r.alarm.IsZero() {
		t.Errorf("it is woken at %v", r.alarm)
	}
}

// What is remembered may be of another version, or damaged.
func TestRestingServerWithDamagedMemory(t *testing.T) {
	for _, text := range []string{"", "{", `{"seq":"x"}`, `{"crawl":3,"tidied":"0001-01-01T00:00:00Z"}`} {
		r := newRester(t)
		r.wake(func(s *Server) {
			register(t, s, "alice")
			if err := s.cfg.Store.KV.Write(t.Context(), func(tx storage.KVTx) error { return tx.Set(t.Context(), restKey, []byte(text), time.Time{}) }); err != nil {
				t.Fatal(err)
			}
		})
		r.alarm = r.now
		r.pass(30 * 24 * time.Hour)
		if !r.alarm.IsZero() || r.asked == 0 {
			t.Errorf("%q: alarm %v, asked %d times", text, r.alarm, r.asked)
		}
	}
}

// The last subscriber leaves just before the process goes.
func TestSubscriberLeavesARestingServer(t *testing.T) {
	r := newRester(t)
	r.wake(func(s *Server) { register(t, s, "alice") })
	r.pass(48 * time.Hour)
	asked := r.asked
	r.cfg.Subscribers = func() int { return 0 }
	r.wake(func(s *Server) {
		if err := s.Left(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if r.pass(time.Hour); r.asked == asked {
		t.Error("the relay was not asked to come back")
	}
}

// Nothing is deleted by a clock that is wrong, and it is tried again.
func TestRestingServerWithWrongClock(t *testing.T) {
	r := newRester(t)
	r.wake(func(s *Server) { register(t, s, "alice") })
	r.now = r.now.Add(-24 * time.Hour)
	r.wake(func(s *Server) {
		if err := s.Maintain(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing is deleted") {
			t.Error(err)
		}
		if due, err := s.Due(t.Context()); err != nil || due.IsZero() {
			t.Errorf("due %v, %v", due, err)
		}
	})
}

// login opens a session and returns its access token.
func login(t *testing.T, s *Server, handle string) string {
	t.Helper()
	r := httptest.NewRequest("POST", "/xrpc/com.atproto.server.createSession", strings.NewReader(`{"identifier":"`+handle+`","password":"a long password"}`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	var out struct {
		AccessJWT string `json:"accessJwt"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK {
		t.Fatalf("login: %d %s", w.Code, w.Body)
	}
	return out.AccessJWT
}

// mailServer is a Mailer that fails at first.
type mailServer struct {
	down bool
	sent []server.Mail
}

func (m *mailServer) Send(_ context.Context, msg server.Mail) error {
	if m.down {
		return errors.New("down")
	}
	m.sent = append(m.sent, msg)
	return nil
}

// Mail that the mail server did not take is sent by the alarm, and after it there is no alarm for mail.
func TestMailAtRest(t *testing.T) {
	r := newRester(t)
	m := &mailServer{down: true}
	r.cfg.Mailer = m
	r.wake(func(s *Server) {
		if err := s.Mail.Send(t.Context(), server.Mail{Kind: server.Plain, To: "a@b.test", Subject: "news"}); err != nil {
			t.Fatal(err)
		}
		s.Mail.Close(t.Context())
		due, err := s.Mail.Due(t.Context())
		if wait := due.Sub(r.now); err != nil || wait <= 0 || wait > 6*time.Second {
			t.Fatalf("due after %s, %v", wait, err)
		}
		if all, err := s.Due(t.Context()); err != nil || all.After(due) {
			t.Errorf("the alarm comes at %s, %v", all, err)
		}
		m.down, r.now = false, due.Add(time.Second)
	})
	r.wake(func(s *Server) {
		if err := s.Mail.Turn(t.Context()); err != nil {
			t.Fatal(err)
		}
		if due, err := s.Mail.Due(t.Context()); err != nil || !due.IsZero() {
			t.Errorf("due at %s, %v", due, err)
		}
	})
	if len(m.sent) != 1 || m.sent[0].Subject != "news" {
		t.Errorf("%+v", m.sent)
	}
}
