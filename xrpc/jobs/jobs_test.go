package jobs_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/jobs"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

const (
	worker   = syntax.DID("did:web:worker.example")
	stranger = syntax.DID("did:web:stranger.example")
	here     = "did:web:pds.example"
)

// world is a server with a queue.
type world struct {
	testing.TB
	ctx    context.Context
	queue  *queue.Queue
	url    string
	key    *crypto.PrivateKey
	client *jobs.Client
}

// Key is that of both services: world is serviceauth.Keys.
func (w *world) Key(context.Context, syntax.DID, string, bool) (*crypto.PublicKey, error) {
	return w.key.PublicKey(), nil
}

func admin(r *xrpc.Request) (auth.Principal, error) {
	if user, password, _ := r.BasicAuth(); user != "admin" || password != "secret" {
		return auth.Principal{}, &xrpc.Error{Status: http.StatusUnauthorized}
	}
	return auth.Principal{Role: auth.Administrator}, nil
}

// serve serves a queue in a store; its client is the administrator.
func serve(tb testing.TB, store storage.Store, change func(q *queue.Config, c *jobs.Config)) *world {
	tb.Helper()
	w, methods := newWorld(tb, store, change)
	srv := httptest.NewServer(methods)
	tb.Cleanup(srv.Close)
	w.connect(srv.URL, nil)
	return w
}

// inBubble runs a test in virtual time, in which clients reach the server without a network.
func inBubble(t *testing.T, change func(q *queue.Config, c *jobs.Config), f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w, methods := newWorld(t, memory.New(memory.Config{}), change)
		w.connect("http://queue.test", &http.Client{Transport: nettest.RoundTrip(func(r *http.Request) (_ *http.Response, err error) {
			defer func() {
				if v := recover(); v == http.ErrAbortHandler { // the client has gone
					err = cmp.Or(r.Context().Err(), errors.New("aborted"))
				} else if v != nil {
					panic(v)
				}
			}()
			rec := httptest.NewRecorder()
			methods.ServeHTTP(rec, r)
			if r.Context().Err() != nil {
				return nil, r.Context().Err()
			}
			return rec.Result(), nil
		})})
		f(t, w)
	})
}

func (w *world) connect(url string, client *http.Client) {
	w.url = url
	w.client = &jobs.Client{XRPC: &xrpc.Client{Host: url, HTTP: client, Authorize: password}, Queue: "test"}
}

func newWorld(tb testing.TB, store storage.Store, change func(q *queue.Config, c *jobs.Config)) (*world, *xrpc.Server) {
	tb.Helper()
	w := &world{TB: tb, ctx: context.Background()}
	var err error
	w.key, err = crypto.GenerateKey(crypto.K256)
	w.ok(err)
	cfg := queue.Config{KV: store.KV, Name: "test", Lease: 10 * time.Second, Attempts: 3, Poll: 20 * time.Millisecond,
		Backoff: func(int) time.Duration { return 0 }}
	served := jobs.Config{Auth: jobs.Auth(admin, &serviceauth.Verifier{Audience: []string{here}, Keys: w}, worker)}
	if change != nil {
		change(&cfg, &served)
	}
	w.queue, err = queue.New(cfg)
	w.ok(err)
	served.Queues = []*queue.Queue{w.queue}
	methods := new(xrpc.Server)
	methods.Handle(jobs.Routes(served)...)
	return w, methods
}

func password(r *http.Request) error {
	r.SetBasicAuth("admin", "secret")
	return nil
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// take leases jobs whose bodies must be these.
func (w *world) take(want ...string) []*queue.Job {
	w.Helper()
	list, err := w.client.Take(w.ctx, 100, 0)
	w.ok(err)
	var got []string
	for _, j := range list {
		got = append(got, string(j.Body))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		w.Fatalf("%q, not %q", got, want)
	}
	return list
}

var errWork = errors.New("work failed")

// Everything that a consumer says is understood on the other side.
func TestClient(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		if d := w.client.LeaseTime(); d != time.Second {
			t.Errorf("before the first answer, a lease lasts %s", d)
		}
		ids, err := w.client.Send(w.ctx, queue.Message{Body: []byte("a\x00\xff"), Key: "k", ID: "0-first"}, queue.Message{Body: nil}, queue.Message{Body: []byte("later"), Delay: time.Hour})
		w.ok(err)
		if len(ids) != 3 || ids[0] != "0-first" {
			t.Errorf("IDs %q", ids)
		}
		list := w.take("a\x00\xff", "")
		if j := list[0]; j.ID != "0-first" || j.Key != "k" || j.Attempt != 1 || !j.Enqueued.Equal(time.Now()) || time.Until(j.Until) != 10*time.Second || j.LastError != "" {
			t.Errorf("%+v", j)
		}
		if d := w.client.LeaseTime(); d != 10*time.Second {
			t.Errorf("a lease lasts %s", d)
		}
		finish := func(list []*queue.Job, results ...error) {
			t.Helper()
			var in []queue.Result
			for i, err := range results {
				in = append(in, queue.Result{Job: list[i], Err: err})
			}
			errs, err := w.client.Finish(w.ctx, in...)
			w.ok(err)
			if len(errs) != len(in) || errors.Join(errs...) != nil {
				t.Fatalf("%v", errs)
			}
			errs, err = w.client.Finish(w.ctx, in...)
			w.ok(err)
			for _, err := range errs {
				if !errors.Is(err, queue.ErrLeaseLost) {
					t.Errorf("a result was taken twice: %v", err)
				}
			}
		}
		finish(list, queue.ErrReleased, nil)
		list = w.take("a\x00\xff")
		if list[0].Attempt != 1 {
			t.Error("a job that was given back has counted")
		}
		finish(list, errWork)
		list = w.take("a\x00\xff")
		if list[0].Attempt != 2 || list[0].LastError != "work failed" {
			t.Errorf("%+v", list[0])
		}
		lost, err := w.client.Extend(w.ctx, list[0], &queue.Job{ID: "other", Lease: "x"})
		if w.ok(err); len(lost) != 1 || lost[0].ID != "other" {
			t.Errorf("lost %v", lost)
		}
		finish(list, queue.After(errWork, time.Hour))
		w.take()
		st, err := w.client.Stats(w.ctx)
		if w.ok(err); st != (queue.Stats{Later: 2}) {
			t.Errorf("%+v", st)
		}
		_, err = w.client.Send(w.ctx, queue.Message{Body: []byte("bad")})
		w.ok(err)
		finish(w.take("bad"), queue.Dead(errWork))
		st, err = w.client.Stats(w.ctx)
		if w.ok(err); st != (queue.Stats{Later: 2, Dead: 1}) {
			t.Errorf("%+v", st)
		}
	})
}

// A consumer does jobs over HTTP: with failures, in the order of keys, and with leases that are shorter
// than the work.
func TestConsume(t *testing.T) {
	inBubble(t, func(q *queue.Config, _ *jobs.Config) { q.Lease = 300 * time.Millisecond }, func(t *testing.T, w *world) {
		for i := range 50 {
			_, err := w.client.Send(w.ctx, queue.Message{Body: fmt.Append(nil, i), Key: fmt.Sprint(i % 7)})
			w.ok(err)
		}
		ctx, cancel := context.WithCancel(w.ctx)
		done := make(chan string, 1000)
		ended := make(chan error, 1)
		go func() {
			ended <- queue.Consume(ctx, w.client, queue.Consumer{Concurrency: 4, Failed: func(err error) { t.Error(err) }, Handle: func(ctx context.Context, j *queue.Job) error {
				if j.Attempt == 1 && j.Body[len(j.Body)-1] == '3' {
					return errWork
				}
				if string(j.Body) == "10" {
					time.Sleep(700 * time.Millisecond)
				}
				done <- string(j.Body)
				return ctx.Err()
			}})
		}()
		seen, last := map[string]bool{}, map[int]int{}
		for range 50 {
			text := <-done
			if seen[text] {
				t.Errorf("job %s was done twice", text)
			}
			seen[text] = true
			n, _ := strconv.Atoi(text)
			if before, ok := last[n%7]; ok && n < before {
				t.Errorf("job %d was done after %d", n, before)
			}
			last[n%7] = n
		}
		synctest.Wait() // the results are stored
		cancel()
		w.ok(<-ended)
		if st, err := w.queue.Stats(w.ctx); err != nil || st != (queue.Stats{}) {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

func TestWhoIsLetIn(t *testing.T) {
	w := serve(t, memory.New(memory.Config{}), func(_ *queue.Config, c *jobs.Config) {
		c.Allow = func(p auth.Principal, queue string) bool { return p.Role == auth.Administrator || p.DID == worker }
	})
	token := func(issuer syntax.DID, method string) string {
		text, err := serviceauth.Sign(w.ctx, w.key, serviceauth.Token{Issuer: string(issuer), Audience: here, Method: method, Expires: time.Now().Add(time.Minute)})
		w.ok(err)
		return "Bearer " + text
	}
	const stats = "org.pdskit.queue.stats"
	for _, c := range []struct {
		what, authorization, queue string
		status                     int
	}{
		{"nobody", "", "test", 401},
		{"a wrong password", "Basic YWRtaW46d3Jvbmc=", "test", 401},
		{"the administrator", "Basic YWRtaW46c2VjcmV0", "test", 200},
		{"the worker", token(worker, stats), "test", 200},
		{"the worker with a token for another method", token(worker, "org.pdskit.queue.lease"), "test", 401},
		{"another service", token(stranger, stats), "test", 403},
		{"a queue that is not there", "Basic YWRtaW46c2VjcmV0", "other", 404},
	} {
		a := testxrpc.Call(t, w.url, "POST", stats, http.Header{"Authorization": {c.authorization}}, map[string]string{"queue": c.queue}, nil)
		if a.Status != c.status {
			t.Errorf("%s: status %d, not %d: %s", c.what, a.Status, c.status, a.Body)
		}
	}
	none := serve(t, memory.New(memory.Config{}), func(_ *queue.Config, c *jobs.Config) { c.Auth = jobs.Auth(nil, nil) })
	if a := testxrpc.Call(t, none.url, "POST", stats, http.Header{"Authorization": {"Basic YWRtaW46c2VjcmV0"}}, map[string]string{"queue": "test"}, nil); a.Status != 401 {
		t.Errorf("status %d", a.Status)
	}
}

// Inputs out of bounds are the caller's fault, and change nothing.
func TestInputsOutOfBounds(t *testing.T) {
	w := serve(t, memory.New(memory.Config{}), func(q *queue.Config, _ *jobs.Config) { q.MaxBody, q.Room = 1000, 5 })
	many := make([]map[string]any, 101)
	for i := range many {
		many[i] = map[string]any{"id": "x", "lease": "y", "body": map[string]string{"$bytes": ""}}
	}
	for _, c := range []struct {
		method string
		in     map[string]any
		name   string
	}{
		{"send", map[string]any{"jobs": many}, "InvalidRequest"},
		{"send", map[string]any{"jobs": []any{map[string]any{"body": map[string]string{"$bytes": strings.Repeat("AAAA", 500)}}}}, "TooLarge"},
		{"send", map[string]any{"jobs": []any{map[string]any{"body": map[string]string{"$bytes": ""}, "id": "a/b"}}}, "TooLarge"},
		{"send", map[string]any{"jobs": []any{map[string]any{"body": map[string]string{"$bytes": ""}, "delay": -1}}}, "InvalidRequest"},
		{"send", map[string]any{"jobs": []any{map[string]any{"body": map[string]string{"$bytes": ""}, "delay": int64(1) << 60}}}, "InvalidRequest"},
		{"send", map[string]any{"jobs": many[:6]}, "NoRoom"},
		{"lease", map[string]any{"most": 101}, "InvalidRequest"},
		{"lease", map[string]any{"most": -1}, "InvalidRequest"},
		{"lease", map[string]any{"wait": -1}, "InvalidRequest"},
		{"extend", map[string]any{"leases": many}, "InvalidRequest"},
		{"finish", map[string]any{"results": many}, "InvalidRequest"},
		{"finish", map[string]any{"results": []any{map[string]any{"id": "x", "lease": "y", "error": "e", "delay": -5}}}, "InvalidRequest"},
	} {
		c.in["queue"] = "test"
		a := testxrpc.Call(t, w.url, "POST", "org.pdskit.queue."+c.method, http.Header{"Authorization": {"Basic YWRtaW46c2VjcmV0"}}, c.in, nil)
		if a.Name != c.name {
			t.Errorf("%s %.100v: %d %s", c.method, c.in, a.Status, a.Body)
		}
	}
	if st, err := w.queue.Stats(w.ctx); err != nil || st != (queue.Stats{}) {
		t.Errorf("%+v, %v", st, err)
	}
}

// No more leases wait than the server allows: the others are answered at once, and the client does not
// ask again at once.
func TestTooManyWait(t *testing.T) {
	inBubble(t, func(_ *queue.Config, c *jobs.Config) { c.Waiting = 1 }, func(t *testing.T, w *world) {
		got := make(chan error, 1)
		ctx, cancel := context.WithCancel(w.ctx)
		go func() {
			_, err := w.client.Take(ctx, 1, time.Minute)
			got <- err
		}()
		synctest.Wait() // it waits
		begin := time.Now()
		var out struct{ Jobs []any }
		w.ok(w.client.XRPC.Procedure(w.ctx, "org.pdskit.queue.lease", map[string]any{"queue": "test", "wait": 60_000}, &out))
		if d := time.Since(begin); d != 0 || len(out.Jobs) != 0 {
			t.Errorf("%d jobs after %s", len(out.Jobs), d)
		}
		list, err := w.client.Take(w.ctx, 1, 200*time.Millisecond)
		if d := time.Since(begin); err != nil || len(list) > 0 || d != 200*time.Millisecond {
			t.Errorf("%d jobs after %s: %v", len(list), d, err)
		}
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// FuzzInputs sends any body to any method: the server answers, and never with an error of its own.
func FuzzInputs(f *testing.F) {
	w := serve(f, memory.New(memory.Config{}), nil)
	for i, in := range []string{
		`{"queue":"test","jobs":[{"body":{"$bytes":"YQ"},"key":"k","id":"i","delay":5}]}`, `{"queue":"test","most":1,"wait":0}`,
		`{"queue":"test","leases":[{"id":"i","lease":"l"}]}`, `{"queue":"test","results":[{"id":"i","lease":"l","error":"e","delay":1,"dead":true,"released":false}]}`, `{"queue":"test"}`,
	} {
		f.Add(i, []byte(in))
	}
	methods := []string{"send", "lease", "extend", "finish", "stats"}
	f.Fuzz(func(t *testing.T, method int, in []byte) {
		r, err := http.NewRequest("POST", w.url+"/xrpc/org.pdskit.queue."+methods[uint(method)%uint(len(methods))], strings.NewReader(string(in)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.SetBasicAuth("admin", "secret")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		res, err := http.DefaultClient.Do(r.WithContext(ctx))
		if err != nil {
			if ctx.Err() != nil {
				t.Skip("a lease that waits")
			}
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode >= 500 {
			t.Errorf("status %d for %q", res.StatusCode, in)
		}
	})
}
