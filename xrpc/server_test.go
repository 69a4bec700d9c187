package xrpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// ctx keeps signatures short.
type ctx = context.Context

var builtin = sync.OnceValue(lexicon.Builtin)

// serve starts a server and returns its address.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// answer is what a test compares of a response.
type answer struct {
	Status int
	Error  string // of the envelope
	Body   string // where it is none
}

// call makes a request. Headers are "Name: value".
func call(t testing.TB, method, url string, body io.Reader, headers ...string) (answer, http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := answer{Status: resp.StatusCode, Body: string(text)}
	var env struct{ Error, Message string }
	if resp.StatusCode >= 300 && method != http.MethodHead {
		if err := json.Unmarshal(text, &env); err != nil || env.Error == "" || env.Message == "" {
			t.Errorf("%s %s: status %d without an envelope: %q", method, url, resp.StatusCode, text)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "application/json; charset=utf-8" {
			t.Errorf("%s %s: an error of type %q", method, url, ct)
		}
		got.Error, got.Body = env.Error, ""
	}
	return got, resp.Header
}

func check(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

type name struct {
	Name string `json:"name"`
}

// hello is a query.
func hello(_ ctx, _ *xrpc.Request, p name) (name, error) {
	return name{"hello " + p.Name}, nil
}

// echo is a procedure.
func echo(_ ctx, _ *xrpc.Request, in name) (name, error) { return in, nil }

// routes registers handlers by NSID.
func routes(s *xrpc.Server, list map[string]xrpc.Handler) *xrpc.Server {
	for nsid, h := range list {
		s.Handle(xrpc.Route{NSID: nsid, Handler: h})
	}
	return s
}

func TestRouting(t *testing.T) {
	s := routes(&xrpc.Server{}, map[string]xrpc.Handler{
		"com.example.hello": xrpc.Query(hello),
		"com.example.echo":  xrpc.Procedure(echo),
		"com.example.void": xrpc.Procedure(func(ctx, *xrpc.Request, xrpc.None) (xrpc.None, error) {
			return xrpc.None{}, nil
		}),
		"com.example.stream": xrpc.Subscription(http.NotFoundHandler()),
	})
	url := serve(t, s)
	for _, tc := range []struct {
		method, path string
		want         answer
		allow        string
	}{
		{"GET", "/xrpc/com.example.hello?name=x", answer{Status: 200, Body: `{"name":"hello x"}`}, ""},
		{"HEAD", "/xrpc/com.example.hello?name=x", answer{Status: 200}, ""},
		{"POST", "/xrpc/com.example.hello", answer{Status: 405, Error: "InvalidRequest"}, "GET, HEAD"},
		{"DELETE", "/xrpc/com.example.hello", answer{Status: 405, Error: "InvalidRequest"}, "GET, HEAD"},
		{"GET", "/xrpc/com.example.echo", answer{Status: 405, Error: "InvalidRequest"}, "POST"},
		{"HEAD", "/xrpc/com.example.echo", answer{Status: 405}, "POST"},
		{"POST", "/xrpc/com.example.void", answer{Status: 200}, ""},
		{"GET", "/xrpc/com.example.stream", answer{Status: 426, Error: "InvalidRequest"}, ""},
		{"POST", "/xrpc/com.example.stream", answer{Status: 405, Error: "InvalidRequest"}, "GET, HEAD"},
		{"GET", "/xrpc/com.example.unknown", answer{Status: 501, Error: "MethodNotImplemented"}, ""},
		{"POST", "/xrpc/com.example.unknown", answer{Status: 501, Error: "MethodNotImplemented"}, ""},
		{"GET", "/xrpc/com.example.Hello", answer{Status: 501, Error: "MethodNotImplemented"}, ""},
		{"GET", "/xrpc/com.example.hello/?name=x", answer{Status: 200, Body: `{"name":"hello x"}`}, ""},
		{"HEAD", "/xrpc/com.example.hello/", answer{Status: 200}, ""},
		{"POST", "/xrpc/com.example.void/", answer{Status: 200}, ""},
		{"POST", "/xrpc/com.example.hello/", answer{Status: 405, Error: "InvalidRequest"}, "GET, HEAD"},
		{"GET", "/xrpc/com.example.unknown/", answer{Status: 501, Error: "MethodNotImplemented"}, ""},
		{"GET", "/xrpc/com.example.hello//", answer{Status: 400, Error: "InvalidRequest"}, ""},
		{"GET", "/xrpc/com.example.hello/x", answer{Status: 400, Error: "InvalidRequest"}, ""},
		{"GET", "/xrpc/com.example.hello%2Fx", answer{Status: 400, Error: "InvalidRequest"}, ""},
		{"GET", "/xrpc/nonsense", answer{Status: 400, Error: "InvalidRequest"}, ""},
		{"GET", "/xrpc/", answer{Status: 400, Error: "InvalidRequest"}, ""},
		{"GET", "/xrpc/" + strings.Repeat("a", 4000) + ".b.c", answer{Status: 400, Error: "InvalidRequest"}, ""},
		{"GET", "/elsewhere", answer{Status: 400, Error: "InvalidRequest"}, ""},
	} {
		got, header := call(t, tc.method, url+tc.path, nil)
		check(t, tc.method+" "+tc.path, got, tc.want)
		check(t, tc.method+" "+tc.path+": Allow", header.Get("Allow"), tc.allow)
		if len(header.Get("X-Request-Id")) != 16 {
			t.Errorf("%s %s: X-Request-Id is %q", tc.method, tc.path, header.Get("X-Request-Id"))
		}
	}
}

func TestHandleRefusesMistakes(t *testing.T) {
	fine := xrpc.Query(hello)
	for what, fn := range map[string]func(){
		"no NSID":    func() { (&xrpc.Server{}).Handle(xrpc.Route{NSID: "nonsense", Handler: fine}) },
		"no handler": func() { (&xrpc.Server{}).Handle(xrpc.Route{NSID: "com.example.a"}) },
		"two handlers": func() {
			routes(routes(&xrpc.Server{}, map[string]xrpc.Handler{"com.example.a": fine}), map[string]xrpc.Handler{"com.example.a": fine})
		},
		"parameters that are no struct": func() {
			xrpc.RawQuery(func(http.ResponseWriter, *xrpc.Request, string) error { return nil })
		},
		"a parameter of a wrong type": func() {
			xrpc.RawQuery(func(http.ResponseWriter, *xrpc.Request, struct {
				F float64 `json:"f"`
			}) error {
				return nil
			})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			fn()
		}()
	}
}

func TestFallback(t *testing.T) {
	s := routes(&xrpc.Server{
		Catalog: builtin(),
		Divert:  func(r *xrpc.Request) bool { return r.Header.Get("Elsewhere") != "" },
		Fallback: &xrpc.Route{
			MaxBody: 5,
			Auth: func(r *xrpc.Request) (auth.Principal, error) {
				if r.Header.Get("Authorization") == "" {
					return auth.Principal{}, &xrpc.Error{Status: 401, Name: "AuthMissing", Message: "who?"}
				}
				return auth.Principal{Role: auth.User, DID: "alice"}, nil
			},
			Handler: xrpc.Any(func(w http.ResponseWriter, r *xrpc.Request) error {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(w, "%s %s by %s: %s?%s", r.Method, r.NSID, r.Principal.DID, body, r.URL.RawQuery)
				return err
			}),
		},
	}, map[string]xrpc.Handler{"com.example.hello": xrpc.Query(hello)})
	url := serve(t, s)
	for _, tc := range []struct {
		method, path, body, auth string
		want                     answer
	}{
		{"GET", "com.example.hello?name=x", "", "", answer{Status: 200, Body: `{"name":"hello x"}`}},
		{"GET", "com.example.other?a=b", "", "x", answer{Status: 200, Body: "GET com.example.other by alice: ?a=b"}},
		{"POST", "com.example.other", "12345", "x", answer{Status: 200, Body: "POST com.example.other by alice: 12345?"}},
		{"POST", "com.example.other", "123456", "x", answer{Status: 413, Error: "PayloadTooLarge"}},
		// Schemas are the other server's business.
		{"GET", "com.atproto.sync.getRepo?did=nonsense", "", "x", answer{Status: 200, Body: "GET com.atproto.sync.getRepo by alice: ?did=nonsense"}},
		{"GET", "com.example.other", "", "", answer{Status: 401, Error: "AuthMissing"}},
		{"PUT", "com.example.other", "", "x", answer{Status: 405, Error: "InvalidRequest"}},
		{"GET", "nonsense", "", "x", answer{Status: 400, Error: "InvalidRequest"}},
	} {
		got, _ := call(t, tc.method, url+"/xrpc/"+tc.path, strings.NewReader(tc.body), "Authorization: "+tc.auth)
		check(t, tc.method+" "+tc.path, got, tc.want)
	}
	got, _ := call(t, "GET", url+"/xrpc/com.example.hello?name=x", nil, "Authorization: x", "Elsewhere: yes")
	check(t, "a method that is diverted", got, answer{Status: 200, Body: "GET com.example.hello by alice: ?name=x"})
}

func TestCORS(t *testing.T) {
	ran := false
	s := &xrpc.Server{Admit: func(http.ResponseWriter, *xrpc.Request) error { ran = true; return nil }}
	s.Handle(xrpc.Route{NSID: "com.example.echo", Handler: xrpc.Procedure(echo), Auth: func(*xrpc.Request) (auth.Principal, error) {
		return auth.Principal{}, &xrpc.Error{Status: 401, Message: "no"}
	}})
	url := serve(t, s)
	_, header := call(t, "OPTIONS", url+"/xrpc/com.example.echo", nil,
		"Origin: https://app.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,x-other")
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":  "*",
		"Access-Control-Allow-Headers": "authorization,x-other",
		"Access-Control-Allow-Methods": "GET,HEAD,PUT,PATCH,POST,DELETE",
		"Access-Control-Max-Age":       "86400",
		"Vary":                         "Access-Control-Request-Headers",
	} {
		check(t, name, header.Get(name), want)
	}
	// A request with this method is one for its options, with the headers of a preflight request or
	// without.
	for _, path := range []string{"/xrpc/com.example.echo", "/xrpc/com.example.unknown", "/xrpc/nonsense"} {
		for _, headers := range [][]string{nil, {"Origin: https://app.example"}, {"Access-Control-Request-Headers: x"}} {
			got, header := call(t, "OPTIONS", url+path, nil, headers...)
			check(t, "OPTIONS "+path, got, answer{Status: 204})
			check(t, "OPTIONS "+path+": origin", header.Get("Access-Control-Allow-Origin"), "*")
		}
	}
	if ran {
		t.Error("a preflight request was treated as one for a method")
	}
	// Errors must be readable for scripts too.
	got, header := call(t, "POST", url+"/xrpc/com.example.echo", nil, "Origin: https://app.example")
	check(t, "answer", got, answer{Status: 401, Error: "AuthenticationRequired"})
	check(t, "Access-Control-Allow-Origin", header.Get("Access-Control-Allow-Origin"), "*")
	for _, name := range []string{"DPoP-Nonce", "WWW-Authenticate", "RateLimit-Reset", "X-Request-Id"} {
		if !strings.Contains(header.Get("Access-Control-Expose-Headers"), name) {
			t.Errorf("%s is not exposed", name)
		}
	}
	if header.Get("Access-Control-Allow-Credentials") != "" {
		t.Error("cookies are allowed")
	}
}

// passing is an error of a store that says whether it may pass.
type passing bool

func (p passing) Error() string {
	return fmt.Sprint("the disk with the passwords is full, and that may pass: ", bool(p))
}
func (p passing) Unavailable() bool { return bool(p) }

func TestErrors(t *testing.T) {
	var err error
	var log lockedBuffer
	url := serve(t, routes(&xrpc.Server{Logger: logger(&log)}, map[string]xrpc.Handler{
		"com.example.fail": xrpc.RawQuery(func(w http.ResponseWriter, _ *xrpc.Request, _ struct{}) error {
			w.Header().Set("Content-Type", "application/vnd.ipld.car")
			w.Header().Set("Content-Length", "1000000")
			w.Header().Set("ETag", "x")
			return err
		}),
	}))
	for _, tc := range []struct {
		err    error
		want   answer
		header string
	}{
		{&xrpc.Error{Status: 400, Name: "RecordNotFound", Message: "m"}, answer{Status: 400, Error: "RecordNotFound"}, ""},
		{fmt.Errorf("wrapped: %w", &xrpc.Error{Status: 409, Name: "X", Message: "m"}), answer{Status: 409, Error: "X"}, ""},
		{&xrpc.Error{Name: "NoStatus", Message: "m"}, answer{Status: 400, Error: "NoStatus"}, ""},
		{&xrpc.Error{Message: "m"}, answer{Status: 400, Error: "InvalidRequest"}, ""},
		{&xrpc.Error{Status: 401, Message: "m"}, answer{Status: 401, Error: "AuthenticationRequired"}, ""},
		{&xrpc.Error{Status: 403, Message: "m"}, answer{Status: 403, Error: "Forbidden"}, ""},
		{&xrpc.Error{Status: 404, Message: "m"}, answer{Status: 404, Error: "XRPCNotSupported"}, ""},
		{&xrpc.Error{Status: 413, Message: "m"}, answer{Status: 413, Error: "PayloadTooLarge"}, ""},
		{&xrpc.Error{Status: 415, Message: "m"}, answer{Status: 415, Error: "UnsupportedMediaType"}, ""},
		{&xrpc.Error{Status: 429, Message: "m", Header: http.Header{"retry-after": {"7"}}}, answer{Status: 429, Error: "RateLimitExceeded"}, "7"},
		{&xrpc.Error{Status: 501, Message: "m"}, answer{Status: 501, Error: "MethodNotImplemented"}, ""},
		{&xrpc.Error{Status: 502, Message: "m"}, answer{Status: 502, Error: "UpstreamFailure"}, ""},
		{&xrpc.Error{Status: 503, Message: "m"}, answer{Status: 503, Error: "NotEnoughResources"}, ""},
		{&xrpc.Error{Status: 504, Message: "m"}, answer{Status: 504, Error: "UpstreamTimeout"}, ""},
		{errors.New("the password is hunter2"), answer{Status: 500, Error: "InternalServerError"}, ""},
		{fmt.Errorf("write: %w", passing(true)), answer{Status: 503, Error: "NotEnoughResources"}, "30"},
		{fmt.Errorf("write: %w", passing(false)), answer{Status: 500, Error: "InternalServerError"}, ""},
		// Another server's complaint about this one is not one about the caller.
		{&xrpc.Error{Status: 401, Name: "ExpiredToken", Message: "m", Header: http.Header{"Retry-After": {"1"}}, Remote: true},
			answer{Status: 502, Error: "UpstreamFailure"}, ""},
	} {
		err = tc.err
		got, header := call(t, "GET", url+"/xrpc/com.example.fail", nil)
		check(t, tc.err.Error(), got, tc.want)
		check(t, tc.err.Error()+": Retry-After", header.Get("Retry-After"), tc.header)
		check(t, tc.err.Error()+": ETag", header.Get("ETag"), "")
	}
	err = errors.New("the password is hunter2")
	resp, _ := http.Get(url + "/xrpc/com.example.fail")
	if text, _ := io.ReadAll(resp.Body); bytes.Contains(text, []byte("hunter2")) {
		t.Errorf("an internal error is told to the world: %s", text)
	}
	for _, want := range []string{"may pass: true", "may pass: false", "hunter2"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log: %s", want, log.String())
		}
	}
}

func logger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// lockedBuffer is a writer for logs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// observed records what Observe is told.
type observed struct {
	mu   sync.Mutex
	list []string
}

func (o *observed) observe(r *xrpc.Request, status int, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, fmt.Sprintf("%s %d", r.NSID, status))
}

func (o *observed) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.list
	o.list = nil
	return list
}

func TestPanicsAndBrokenAnswers(t *testing.T) {
	var log lockedBuffer
	var seen observed
	url := serve(t, routes(&xrpc.Server{Logger: logger(&log), Observe: seen.observe}, map[string]xrpc.Handler{
		"com.example.panic": xrpc.Query(func(ctx, *xrpc.Request, struct{}) (any, error) { panic("boom") }),
		"com.example.late": xrpc.RawQuery(func(w http.ResponseWriter, _ *xrpc.Request, _ struct{}) error {
			io.WriteString(w, strings.Repeat("x", 100_000))
			panic("late boom")
		}),
		"com.example.broken": xrpc.RawQuery(func(w http.ResponseWriter, _ *xrpc.Request, _ struct{}) error {
			io.WriteString(w, strings.Repeat("x", 100_000))
			return errors.New("disk on fire")
		}),
		"com.example.brokensoon": xrpc.RawQuery(func(w http.ResponseWriter, _ *xrpc.Request, _ struct{}) error {
			io.WriteString(w, "x") // nothing of which has left the server
			return &xrpc.Error{Status: 400, Name: "Late", Message: "m"}
		}),
		"com.example.unencodable": xrpc.Query(func(ctx, *xrpc.Request, struct{}) (any, error) {
			return map[string]any{"f": func() {}}, nil
		}),
		"com.example.silent": xrpc.RawQuery(func(http.ResponseWriter, *xrpc.Request, struct{}) error { return nil }),
	}))
	got, header := call(t, "GET", url+"/xrpc/com.example.panic", nil)
	check(t, "panic", got, answer{Status: 500, Error: "InternalServerError"})
	id := header.Get("X-Request-Id")
	if text := log.String(); !strings.Contains(text, "id="+id) || !strings.Contains(text, "boom") || !strings.Contains(text, "stack=") {
		t.Errorf("log of request %s: %s", id, text)
	}
	got, _ = call(t, "GET", url+"/xrpc/com.example.unencodable", nil)
	check(t, "unencodable", got, answer{Status: 500, Error: "InternalServerError"})
	got, _ = call(t, "GET", url+"/xrpc/com.example.silent", nil)
	check(t, "silent", got, answer{Status: 200})
	check(t, "observed", seen.take(), []string{"com.example.panic 500", "com.example.unencodable 500", "com.example.silent 200"})

	for _, name := range []string{"late", "broken", "brokensoon"} {
		resp, err := http.Get(url + "/xrpc/com.example." + name)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: the answer does not look broken to the client", name)
		}
	}
	if text := log.String(); !strings.Contains(text, "late boom") || !strings.Contains(text, "disk on fire") {
		t.Errorf("log: %s", text)
	}
}

// A client that goes away, before its answer or in the middle of it, is no error of the server: it
// is not logged, and not counted as one.
func TestClientGoesAway(t *testing.T) {
	var log lockedBuffer
	var seen observed
	entered := make(chan struct{})
	wait := func(ctx ctx) {
		entered <- struct{}{}
		<-ctx.Done()
	}
	endless := func(w http.ResponseWriter) (err error) {
		for err == nil {
			_, err = w.Write(make([]byte, 64<<10))
		}
		return err
	}
	ended := make(chan struct{}, 1)
	s := &xrpc.Server{Logger: logger(&log), Observe: func(r *xrpc.Request, status int, took time.Duration) {
		seen.observe(r, status, took)
		ended <- struct{}{}
	}}
	url := serve(t, routes(s, map[string]xrpc.Handler{
		"com.example.waits": xrpc.Query(func(ctx ctx, _ *xrpc.Request, _ struct{}) (any, error) {
			wait(ctx)
			return nil, fmt.Errorf("reading: %w", ctx.Err())
		}),
		"com.example.upstream": xrpc.Query(func(ctx ctx, _ *xrpc.Request, _ struct{}) (any, error) {
			wait(ctx)
			return nil, &xrpc.Error{Status: 502, Message: "what was asked on the client's behalf broke off too"}
		}),
		"com.example.refused": xrpc.Query(func(ctx ctx, _ *xrpc.Request, _ struct{}) (any, error) {
			wait(ctx)
			return nil, xrpc.InvalidRequest("it was wrong anyway")
		}),
		"com.example.begun": xrpc.RawQuery(func(w http.ResponseWriter, r *xrpc.Request, _ struct{}) error {
			io.WriteString(w, "a")
			http.NewResponseController(w).Flush()
			entered <- struct{}{}
			return endless(w)
		}),
	}))
	for name, want := range map[string]int{"waits": 499, "upstream": 499, "refused": 400, "begun": 499} {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			<-entered
			cancel()
		}()
		resp, err := (&xrpc.Client{Host: url}).Get(ctx, "com.example."+name, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Error(name, err)
		}
		<-ended
		check(t, "observed", seen.take(), []string{fmt.Sprintf("com.example.%s %d", name, want)})
		cancel()
	}
	check(t, "log", log.String(), "")
}

func TestHooksInOrder(t *testing.T) {
	var order []string
	var refuse string
	hook := func(name string) error {
		order = append(order, name)
		if refuse == name {
			return &xrpc.Error{Status: 429, Message: name}
		}
		return nil
	}
	body := &countingReader{Reader: strings.NewReader(`{"name":"x"}`)}
	s := &xrpc.Server{
		Admit: func(w http.ResponseWriter, r *xrpc.Request) error {
			if r.Principal.Role != auth.Anonymous {
				t.Error("admitted after authentication")
			}
			return hook("admit")
		},
		Limit: func(w http.ResponseWriter, r *xrpc.Request) error {
			check(t, "principal", r.Principal.DID, syntax.DID("did:web:alice.example"))
			w.Header().Set("RateLimit-Remaining", "3")
			return hook("limit")
		},
	}
	s.Handle(xrpc.Route{
		NSID: "com.example.echo",
		Auth: func(r *xrpc.Request) (auth.Principal, error) {
			if body.n > 0 {
				t.Error("the body was read before authentication")
			}
			return auth.Principal{Role: auth.User, DID: "did:web:alice.example"}, hook("auth")
		},
		Handler: xrpc.Procedure(func(_ ctx, r *xrpc.Request, in name) (name, error) {
			return in, hook("method")
		}),
	})
	for _, tc := range []struct {
		refuse string
		order  []string
		status int
	}{
		{"", []string{"admit", "auth", "limit", "method"}, 200},
		{"admit", []string{"admit"}, 429},
		{"auth", []string{"admit", "auth"}, 429},
		{"limit", []string{"admit", "auth", "limit"}, 429},
	} {
		order, refuse = nil, tc.refuse
		*body = countingReader{Reader: strings.NewReader(`{"name":"x"}`)}
		r := httptest.NewRequest("POST", "/xrpc/com.example.echo", body)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		check(t, tc.refuse+": order", order, tc.order)
		check(t, tc.refuse+": status", w.Code, tc.status)
		if tc.refuse != "admit" { // whoever may not know is not told by a cache
			check(t, "Cache-Control", w.Header().Get("Cache-Control"), "private")
			check(t, "Vary", w.Header().Get("Vary"), "Authorization")
		}
		if tc.status == 200 {
			check(t, "RateLimit-Remaining", w.Header().Get("RateLimit-Remaining"), "3")
		}
	}
}

type countingReader struct {
	io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// TestListsAreNeverNull: clients take null for a fault where a schema has a list.
func TestListsAreNeverNull(t *testing.T) {
	type item struct {
		Names []string `json:"names"`
	}
	type body struct {
		Items []item   `json:"items"`
		More  []string `json:"more,omitempty"`
	}
	srv := &xrpc.Server{}
	srv.Handle(xrpc.Route{NSID: "com.example.echo", Handler: xrpc.Procedure(func(_ context.Context, _ *xrpc.Request, in json.RawMessage) (map[string]any, error) {
		return map[string]any{"got": in}, nil
	})})
	srv.Handle(xrpc.Route{NSID: "com.example.list", Handler: xrpc.Query(func(_ context.Context, _ *xrpc.Request, p struct {
		N int `json:"n"`
	}) (body, error) {
		return body{Items: make([]item, p.N)[:p.N:p.N]}, nil
	})})
	web := httptest.NewServer(srv)
	defer web.Close()
	client := &xrpc.Client{Host: web.URL}
	var out json.RawMessage
	if err := client.Query(t.Context(), "com.example.list", url.Values{"n": {"1"}}, &out); err != nil || string(out) != `{"items":[{"names":[]}]}` {
		t.Errorf("%s, %v", out, err)
	}
	if err := client.Procedure(t.Context(), "com.example.echo", body{}, &out); err != nil || string(out) != `{"got":{"items":[]}}` {
		t.Errorf("%s, %v", out, err)
	}
}
