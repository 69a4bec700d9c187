package timecheck_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// clock is one that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// server has a clock of its own.
func server(t *testing.T, now func() time.Time, header ...string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", now().UTC().Format(http.TimeFormat))
		for i := 0; i < len(header); i += 2 {
			w.Header()[header[i]] = []string{header[i+1]}
		}
		w.WriteHeader(http.StatusNotFound) // which is an answer too
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// off is a clock that is off by a time.
func off(d time.Duration) func() time.Time { return func() time.Time { return noon.Add(d) } }

// gone is the address of a server that does not answer.
func gone(t *testing.T) string {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	return srv.URL
}

// log is an event log whose newest event is of a time.
type log time.Time

func (l log) Bounds(context.Context) (int64, int64, error) { return 1, time.Time(l).UnixMicro(), nil }

func TestJudgement(t *testing.T) {
	const hours = 2 * time.Hour
	empty := log(time.UnixMicro(0))
	for _, tt := range []struct {
		name    string
		servers []string
		log     log
		trusted bool
	}{
		{"nothing to compare with", nil, empty, true},
		{"a server agrees", []string{server(t, off(0))}, empty, true},
		{"within the tolerance", []string{server(t, off(110*time.Second))}, empty, true},
		{"beyond it", []string{server(t, off(130*time.Second))}, empty, false},
		{"two hours ahead", []string{server(t, off(-hours))}, empty, false},
		{"two hours behind", []string{server(t, off(hours))}, empty, false},
		{"twenty years ahead", []string{server(t, off(-20*365*24*time.Hour))}, empty, false},
		{"one of two agrees", []string{server(t, off(-hours)), server(t, off(0))}, empty, true},
		{"none of two agrees", []string{server(t, off(-hours)), server(t, off(-3*hours))}, empty, false},
		{"one is gone, the other does not agree", []string{gone(t), server(t, off(-hours))}, empty, false},
		{"one is gone, the other agrees", []string{gone(t), server(t, off(0))}, empty, true},
		{"all are gone", []string{gone(t), gone(t)}, empty, true},
		{"no Date", []string{server(t, off(0), "Date", "")}, empty, true},
		{"a Date that is none", []string{server(t, off(0), "Date", "yesterday")}, empty, true},
		{"a cached answer", []string{server(t, off(-hours), "Age", "7200")}, empty, true},
		{"a cached answer of another time", []string{server(t, off(-hours), "Age", "60")}, empty, false},
		{"no address", []string{"not a URL"}, empty, true},
		{"an event of the past", nil, log(noon.Add(-hours)), true},
		{"an event from the future", nil, log(noon.Add(hours)), false},
		{"an event from the near future", nil, log(noon.Add(time.Minute)), true},
		{"an event from the future, all are gone", []string{gone(t)}, log(noon.Add(hours)), false},
		{"an event from the future, a server agrees", []string{server(t, off(0))}, log(noon.Add(hours)), true},
		{"an event from the future, a server does not agree", []string{server(t, off(hours))}, log(noon.Add(hours)), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &timecheck.Watch{Now: off(0), Servers: tt.servers, Log: tt.log}
			res := w.CheckNow(t.Context())
			if trusted := res.Err == nil; trusted != tt.trusted || !trusted && !errors.Is(res.Err, timecheck.ErrClock) {
				t.Errorf("%v", res.Err)
			}
			if err := w.Check(t.Context()); (err == nil) != tt.trusted {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// A refusal ends by itself when the clock is right again, and another one begins when it is not.
func TestARefusalEnds(t *testing.T) {
	c := &clock{t: noon.Add(2 * time.Hour)}
	results := make(chan timecheck.Result)
	w := &timecheck.Watch{
		Now: c.now, Servers: []string{server(t, off(0))}, Soon: time.Millisecond, Interval: time.Millisecond,
		Checked: func(r timecheck.Result) { results <- r },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for _, want := range []bool{false, true, false, true} {
		for deadline := time.Now().Add(time.Minute); ; {
			if r := <-results; (r.Err == nil) == want {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("trusted is not %v: %v", want, r.Err)
			}
		}
		if want {
			c.add(2 * time.Hour)
		} else {
			c.add(-2 * time.Hour)
		}
	}
	cancel()
	for {
		select {
		case <-results:
			continue
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		break
	}
}

// A clock that is set while nobody looks is looked at before the next signature.
func TestAJump(t *testing.T) {
	for _, jump := range []time.Duration{2 * time.Hour, -2 * time.Hour, 5 * time.Minute} {
		c := &clock{t: noon}
		other := &clock{t: noon}
		w := &timecheck.Watch{Now: c.now, Servers: []string{server(t, other.now)}}
		if err := w.CheckNow(t.Context()).Err; err != nil {
			t.Fatal(err)
		}
		c.add(jump)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := w.Check(t.Context()); !errors.Is(err, timecheck.ErrClock) {
					t.Errorf("after a jump of %s: %v", jump, err)
				}
			})
		}
		wg.Wait()
		c.add(-jump)
		if err := w.Check(t.Context()); err != nil {
			t.Errorf("after a jump of %s and back: %v", jump, err)
		}
		// A machine that slept.
		c.add(jump)
		other.add(jump)
		if err := w.Check(t.Context()); err != nil {
			t.Errorf("after a sleep of %s: %v", jump, err)
		}
	}
}

// A jump that nobody can judge is a reason for distrust until somebody can, but not where there is
// nobody to ask.
func TestAJumpWithoutAnswers(t *testing.T) {
	c := &clock{t: noon}
	up := false
	w := &timecheck.Watch{Now: c.now, Servers: []string{"http://clock.test"}, HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if !up {
			return nil, errors.New("no way")
		}
		rec := httptest.NewRecorder()
		rec.Header().Set("Date", c.now().UTC().Format(http.TimeFormat))
		return rec.Result(), nil
	})}}
	if err := w.CheckNow(t.Context()).Err; err != nil {
		t.Fatalf("servers that do not answer: %v", err)
	}
	c.add(2 * time.Hour)
	for range 3 {
		if err := w.Check(t.Context()); !errors.Is(err, timecheck.ErrClock) {
			t.Errorf("after a jump: %v", err)
		}
		if err := w.CheckNow(t.Context()).Err; !errors.Is(err, timecheck.ErrClock) {
			t.Errorf("the check after a jump: %v", err)
		}
	}
	up = true
	if err := w.CheckNow(t.Context()).Err; err != nil {
		t.Errorf("when a server agrees: %v", err)
	}

	alone := &timecheck.Watch{Now: c.now}
	if err := alone.CheckNow(t.Context()).Err; err != nil {
		t.Fatal(err)
	}
	c.add(2 * time.Hour)
	if err := alone.Check(t.Context()); err != nil {
		t.Errorf("with nobody to ask: %v", err)
	}
	if alone.Last().Jump == 0 {
		t.Error("the jump is not reported")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A server that takes its time holds up the first signatures for a bounded time, and nothing after
// that.
func TestASlowServer(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(release)
	w := &timecheck.Watch{Servers: []string{srv.URL}, Timeout: 50 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	if err := w.Check(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	<-done

	// A caller that goes away does not wait.
	w = &timecheck.Watch{Servers: []string{srv.URL}, Timeout: time.Hour}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := w.Check(gone); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
