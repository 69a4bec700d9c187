package crawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/crawl"
)

const (
	host      = "pds.example.com"
	relayAddr = "https://relay.example.net"
)

// fakeLog is an event log of numbers only.
type fakeLog struct {
	mu      sync.Mutex
	newest  int64
	changed chan struct{}
	fault   error
}

func newLog(newest int64) *fakeLog { return &fakeLog{newest: newest, changed: make(chan struct{})} }

func (l *fakeLog) write(n int64, fault error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest += n
	l.fault = fault
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *fakeLog) Bounds(ctx context.Context) (int64, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 1, l.newest, l.fault
}

func (l *fakeLog) Wait(ctx context.Context, seq int64) error {
	for {
		l.mu.Lock()
		newest, changed, fault := l.newest, l.changed, l.fault
		l.mu.Unlock()
		if newest > seq || fault != nil {
			return fault
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// network is where the relays are.
type network func(r *http.Request) (*http.Response, error)

func (f network) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is one of a relay.
func answer(r *http.Request, status int, body string, header ...string) *http.Response {
	w := httptest.NewRecorder()
	for i := 0; i < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.WriteHeader(status)
	w.WriteString(body)
	resp := w.Result()
	resp.Request = r
	return resp
}

// world is a host with one relay, in time that passes when nothing else happens.
type world struct {
	t     *testing.T
	log   *fakeLog
	n     *crawl.Notifier
	start time.Time
	stop  context.CancelFunc
	ended chan error

	mu          sync.Mutex
	subscribers int
	crawl       func(r *http.Request) (*http.Response, error) // answers requestCrawl
	status      func(r *http.Request) (*http.Response, error) // answers getHostStatus
	asked       []string                                      // "+20m0s written"
	checks      []crawl.Check
}

// run runs a test in a world in which a Notifier has started and somebody is subscribed.
func run(t *testing.T, change func(w *world), test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, log: newLog(100), start: time.Now(), subscribers: 1, ended: make(chan error, 1)}
		w.crawl = func(r *http.Request) (*http.Response, error) { return answer(r, 200, ""), nil }
		w.status = func(r *http.Request) (*http.Response, error) {
			_, newest, _ := w.log.Bounds(r.Context())
			return answer(r, 200, fmt.Sprintf(`{"hostname":%q,"seq":%d,"status":"active"}`, host, newest)), nil
		}
		w.n = &crawl.Notifier{
			Hostname: host, Relays: []string{relayAddr}, Events: w.log,
			HTTP: &http.Client{Transport: network(w.serve)},
			Subscribers: func() int {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.subscribers
			},
			Asked: func(r crawl.Request) {
				w.mu.Lock()
				defer w.mu.Unlock()
				line := fmt.Sprintf("+%v %s", time.Since(w.start), r.Reason)
				var told *xrpc.Error
				if errors.As(r.Err, &told) {
					line += " " + told.Name
				} else if r.Err != nil {
					line += " failed"
				}
				if !r.Retry.IsZero() {
					line += fmt.Sprintf(", again after %v", time.Until(r.Retry))
				}
				w.asked = append(w.asked, line)
			},
			Checked: func(c crawl.Check) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.checks = append(w.checks, c)
			},
		}
		if change != nil {
			change(w)
		}
		ctx, stop := context.WithCancel(t.Context())
		w.stop = stop
		go func() { w.ended <- w.n.Run(ctx) }()
		synctest.Wait()
		test(w)
		stop()
		if err := <-w.ended; !errors.Is(err, context.Canceled) {
			t.Error("Run:", err)
		}
	})
}

func (w *world) serve(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	crawlIt, status := w.crawl, w.status
	w.mu.Unlock()
	switch r.Method + " " + r.URL.Path {
	case "POST /xrpc/com.atproto.sync.requestCrawl":
		var in struct{ Hostname string }
		body, _ := io.ReadAll(r.Body)
		if json.Unmarshal(body, &in) != nil || in.Hostname != host {
			w.t.Errorf("requestCrawl of %s", body)
		}
		return crawlIt(r)
	case "GET /xrpc/com.atproto.sync.getHostStatus":
		if got := r.URL.Query().Get("hostname"); got != host {
			w.t.Errorf("getHostStatus of %s", got)
		}
		return status(r)
	}
	w.t.Errorf("%s %s", r.Method, r.URL)
	return answer(r, 501, "{}"), nil
}

// at lets time pass until so long after the start.
func (w *world) at(d time.Duration) {
	time.Sleep(time.Until(w.start.Add(d)))
	synctest.Wait()
}

func (w *world) write() {
	w.log.write(1, nil)
	synctest.Wait()
}

func (w *world) set(subscribers int) {
	w.mu.Lock()
	was := w.subscribers
	w.subscribers = subscribers
	w.mu.Unlock()
	if was > 0 && subscribers == 0 {
		w.n.Left()
	}
	synctest.Wait()
}

// wantAsked compares, and forgets, what the relay was asked.
func (w *world) wantAsked(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if diff := cmp.Diff(want, w.asked); diff != "" {
		w.t.Errorf("asked (-want +got):\n%s", diff)
	}
	w.asked = nil
}

func TestStart(t *testing.T) {
	var mu sync.Mutex
	var hosts []string
	run(t, func(w *world) {
		w.n.Relays = []string{relayAddr, "other.example.net"}
		w.crawl = func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			hosts = append(hosts, r.URL.Scheme+"://"+r.URL.Host)
			return answer(r, 200, ""), nil
		}
	}, func(w *world) {
		w.at(24 * time.Hour)
		w.wantAsked("+0s start", "+0s start")
		slices.Sort(hosts)
		if diff := cmp.Diff([]string{"https://other.example.net", relayAddr}, hosts); diff != "" {
			t.Error(diff)
		}
	})
}

// Writes are told at once, or when the interval is over, so that the last one is told too.
func TestWritesAreToldWithATrailingCall(t *testing.T) {
	run(t, nil, func(w *world) {
		for i := range 500 { // without end, it seems
			w.at(time.Duration(i) * time.Second)
			w.write()
		}
		w.at(30 * time.Minute)
		w.wantAsked("+0s start", "+20m0s written")
		w.write()
		w.at(100 * time.Minute)
		w.wantAsked("+40m0s written")
		w.write()
		w.wantAsked("+1h40m0s written")
		w.write() // within moments of the one before
		w.at(10 * time.Hour)
		w.wantAsked("+2h0m0s written")
	})
}

// A host that writes while nobody is subscribed asks soon, and less and less often if that does not
// help.
func TestNobodyIsSubscribed(t *testing.T) {
	run(t, func(w *world) { w.subscribers = 0 }, func(w *world) {
		for i := range 80 {
			w.at(time.Duration(i)*time.Minute + 10*time.Second)
			w.write()
		}
		w.wantAsked("+0s start", "+1m0s unwatched", "+3m0s unwatched", "+7m0s unwatched", "+15m0s unwatched", "+31m0s unwatched",
			"+51m0s unwatched", "+1h11m0s unwatched")
		w.at(3 * time.Hour)
		w.wantAsked("+1h31m0s unwatched")
		w.set(1)
		w.write()
		w.wantAsked("+3h0m0s written")
		w.at(3*time.Hour + 10*time.Second)
		w.set(0)
		w.write()
		w.at(4 * time.Hour)
		w.wantAsked("+3h1m0s unwatched") // soon again
	})
}

func TestLastSubscriberLeaves(t *testing.T) {
	run(t, nil, func(w *world) {
		w.at(time.Hour)
		w.wantAsked("+0s start")
		w.set(0)
		w.at(time.Hour + 20*time.Second)
		w.set(1) // it has come back
		w.at(2 * time.Hour)
		w.wantAsked()
		w.set(0)
		w.at(3 * time.Hour)
		w.wantAsked("+2h0m30s unwatched")
	})
}

// Who comes while a request is planned makes it a usual one, if there is anything to tell.
func TestSubscriberComes(t *testing.T) {
	run(t, nil, func(w *world) {
		w.at(10 * time.Second)
		w.set(0)
		w.write() // planned for the first minute
		w.at(20 * time.Second)
		w.set(1)
		w.at(5 * time.Hour)
		w.wantAsked("+0s start", "+20m0s written")
	})
}

func TestRelayFails(t *testing.T) {
	run(t, func(w *world) {
		w.crawl = func(r *http.Request) (*http.Response, error) { return nil, errors.New("no route to host") }
	}, func(w *world) {
		w.at(10 * time.Hour) // and gives up
		w.wantAsked("+0s start failed, again after 1m0s", "+1m0s start failed, again after 2m0s", "+3m0s start failed, again after 4m0s",
			"+7m0s start failed, again after 8m0s", "+15m0s start failed, again after 16m0s", "+31m0s start failed")
		w.write()
		w.at(10*time.Hour + 30*time.Second)
		w.mu.Lock()
		w.crawl = func(r *http.Request) (*http.Response, error) { return answer(r, 200, "{}"), nil }
		w.mu.Unlock()
		w.at(24 * time.Hour)
		w.wantAsked("+10h0m0s written failed, again after 1m0s", "+10h1m0s written")
	})
}

// An event that a failed request was to tell of is told by the next one, whatever its reason.
func TestFailureForgetsNoEvent(t *testing.T) {
	fails := true
	run(t, func(w *world) {
		w.subscribers = 0
		w.crawl = func(r *http.Request) (*http.Response, error) {
			if fails {
				return answer(r, 500, `{"error":"InternalServerError"}`), nil
			}
			return answer(r, 200, ""), nil
		}
	}, func(w *world) {
		w.at(time.Hour)
		w.wantAsked("+0s start InternalServerError, again after 1m0s", "+1m0s start InternalServerError, again after 2m0s",
			"+3m0s start InternalServerError, again after 4m0s", "+7m0s start InternalServerError, again after 8m0s",
			"+15m0s start InternalServerError, again after 16m0s", "+31m0s start InternalServerError")
		w.write()
		w.wantAsked("+1h0m0s unwatched InternalServerError, again after 1m0s")
		fails = false
		w.set(1) // the retry is not urgent any more, but there is an event to tell of
		w.at(5 * time.Hour)
		w.wantAsked("+1h20m0s written")
	})
}

func TestRelayAsksToWait(t *testing.T) {
	for header, want := range map[string]string{
		"5":        "1m0s", // less than what we wait anyway
		"3600":     "1h0m0s",
		"9999999":  "24h0m0s", // no relay silences a host for ever
		"nonsense": "1m0s",
	} {
		run(t, func(w *world) {
			w.crawl = func(r *http.Request) (*http.Response, error) {
				if time.Since(w.start) > 0 {
					return answer(r, 200, ""), nil
				}
				return answer(r, 429, `{"error":"RateLimitExceeded"}`, "Retry-After", header), nil
			}
		}, func(w *world) {
			w.at(time.Second)
			w.write() // does not shorten it
			w.at(48 * time.Hour)
			w.wantAsked("+0s start RateLimitExceeded, again after "+want, "+"+want+" start")
		})
	}
}

// A relay that has banned the host is left alone for a day.
func TestBannedHostDoesNotInsist(t *testing.T) {
	for _, name := range []string{"HostBanned", "DomainBan"} {
		run(t, func(w *world) {
			w.subscribers = 0
			w.crawl = func(r *http.Request) (*http.Response, error) { return answer(r, 401, `{"error":"`+name+`"}`), nil }
		}, func(w *world) {
			for i := range 30 {
				w.at(time.Duration(i)*time.Hour + time.Minute)
				w.write()
			}
			w.wantAsked("+0s start "+name, "+24h0m0s unwatched "+name)
		})
	}
}

// A relay that never answers costs no other one anything.
func TestRelayHangs(t *testing.T) {
	run(t, func(w *world) {
		w.n.Relays = []string{"https://hangs.example.net", relayAddr}
		w.crawl = func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "hangs.example.net" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return answer(r, 200, ""), nil
		}
	}, func(w *world) {
		w.wantAsked("+0s start")
		w.at(time.Minute)
		w.wantAsked("+30s start failed, again after 1m0s")
	})
}

func TestChecks(t *testing.T) {
	// The host has event 100 at its start and writes one a minute: it is at 160 at the first check.
	for name, tt := range map[string]struct {
		status  int
		answer  string
		problem crawl.Problem
		failed  bool
		asked   []string
	}{
		"well":           {200, `{"hostname":"h","seq":160,"status":"active"}`, crawl.None, false, nil},
		"lags a little":  {200, `{"hostname":"h","seq":100,"status":"active"}`, crawl.None, false, nil},
		"behind":         {200, `{"hostname":"h","seq":99,"status":"active"}`, crawl.Behind, false, []string{"checked"}},
		"never read":     {200, `{"hostname":"h","seq":-1,"status":"active"}`, crawl.Behind, false, []string{"checked"}},
		"ahead":          {200, `{"hostname":"h","seq":161,"status":"active"}`, crawl.Ahead, false, nil},
		"ahead, offline": {200, `{"hostname":"h","seq":9007199254740991,"status":"offline"}`, crawl.Ahead, false, nil},
		"offline":        {200, `{"hostname":"h","seq":150,"status":"offline"}`, crawl.Offline, false, []string{"checked"}},
		"idle":           {200, `{"hostname":"h","seq":150,"status":"idle"}`, crawl.Idle, false, []string{"checked"}},
		"throttled":      {200, `{"hostname":"h","status":"throttled"}`, crawl.Throttled, false, nil},
		"banned":         {200, `{"hostname":"h","status":"banned"}`, crawl.Banned, false, nil},
		"a new word":     {200, `{"hostname":"h","status":"sleepy"}`, "sleepy", false, nil},
		"says nothing":   {200, `{"hostname":"h"}`, crawl.None, false, nil},
		"unknown":        {404, `{"error":"HostNotFound"}`, crawl.Unknown, false, []string{"checked"}},
		"unknown, 400":   {400, `{"error":"HostNotFound"}`, crawl.Unknown, false, []string{"checked"}},
		"does not tell":  {501, `{"error":"MethodNotImplemented"}`, crawl.None, true, nil},
		"no JSON":        {200, `<html>`, crawl.None, true, nil},
		"seq of text":    {200, `{"hostname":"h","seq":"160"}`, crawl.None, true, nil},
		"endless":        {200, `{"hostname":"` + strings.Repeat("h", 11<<20), crawl.None, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				w.n.Interval = 48 * time.Hour
				w.status = func(r *http.Request) (*http.Response, error) { return answer(r, tt.status, tt.answer), nil }
			}, func(w *world) {
				for i := range 60 {
					w.at(time.Duration(i)*time.Minute + time.Second)
					w.write()
				}
				w.at(time.Hour + time.Minute)
				want := []string{"+0s start"}
				for _, reason := range tt.asked {
					want = append(want, "+1h0m0s "+reason)
				}
				w.wantAsked(want...)
				if len(w.checks) != 1 {
					t.Fatalf("%d checks", len(w.checks))
				}
				c := w.checks[0]
				if c.Relay != relayAddr || c.Problem != tt.problem || (c.Err != nil) != tt.failed || c.Err == nil && c.Newest != 160 {
					t.Errorf("%+v", c)
				}
				if c.Problem == crawl.Offline && *c.Status.Seq != 150 {
					t.Error(*c.Status.Seq)
				}
			})
		})
	}
}

// What a relay must have seen is what there was at the check before.
func TestCheckMovesOn(t *testing.T) {
	run(t, func(w *world) {
		w.n.CheckInterval = 10 * time.Minute
		w.status = func(r *http.Request) (*http.Response, error) {
			return answer(r, 200, `{"hostname":"h","seq":`+strconv.Itoa(100)+`}`), nil
		}
	}, func(w *world) {
		w.at(5 * time.Minute)
		w.write()
		w.at(25 * time.Minute)
		var got []crawl.Problem
		for _, c := range w.checks {
			got = append(got, c.Problem)
		}
		if diff := cmp.Diff([]crawl.Problem{crawl.None, crawl.Behind}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNoChecks(t *testing.T) {
	run(t, func(w *world) { w.n.CheckInterval = -1 }, func(w *world) {
		w.at(1000 * time.Hour)
		if len(w.checks) != 0 {
			t.Error(w.checks)
		}
	})
}

// Without Subscribers, somebody is: nothing is urgent.
func TestWithoutSubscribers(t *testing.T) {
	run(t, func(w *world) { w.n.Subscribers = nil }, func(w *world) {
		w.at(time.Minute)
		w.write()
		w.n.Left()
		w.at(3 * time.Hour)
		w.wantAsked("+0s start", "+20m0s written")
	})
}

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(1)
		n := &crawl.Notifier{Hostname: host, Relays: []string{relayAddr}, Events: log, HTTP: &http.Client{Transport: network(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done() // in the middle of a request
			return nil, r.Context().Err()
		})}}
		n.Left() // before it runs: nothing
		ended := make(chan error)
		go func() { ended <- n.Run(t.Context()) }()
		synctest.Wait()
		fault := errors.New("disk on fire")
		log.write(1, fault)
		if err := <-ended; err != fault {
			t.Error(err)
		}
		n.Left()
		if err := n.Run(t.Context()); err != fault {
			t.Error(err)
		}
	})
	for _, n := range []*crawl.Notifier{{Events: newLog(1)}, {Hostname: host}} {
		if err := n.Run(t.Context()); err == nil {
			t.Error("a Notifier without what it needs runs")
		}
	}
}

// The client that is used by default does not reach into the host's own network.
func TestRelayOnLoopbackIsRefused(t *testing.T) {
	reached := false
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer srv.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	n := &crawl.Notifier{Hostname: host, Relays: []string{srv.URL}, Events: newLog(1), Asked: func(r crawl.Request) {
		if !errors.Is(r.Err, safehttp.ErrAddress) {
			t.Error(r.Err)
		}
		stop()
	}}
	if err := n.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if reached {
		t.Error("reached")
	}
}
