package xrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// script is a server that answers with one function after the other, the last
// one for ever.
type script struct {
	calls atomic.Int32
	steps []http.HandlerFunc
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := int(s.calls.Add(1))
	s.steps[min(n, len(s.steps))-1](w, r)
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		xrpc.WriteError(w, &xrpc.Error{Status: code, Message: "m"})
	}
}

func ok(w http.ResponseWriter, r *http.Request) { xrpc.WriteJSON(w, 200, name{"x"}) }

// cut ends the connection without an answer.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestClientTriesAgain(t *testing.T) {
	for what, tc := range map[string]struct {
		client xrpc.Client
		steps  []http.HandlerFunc
		post   bool
		calls  int32
		err    *xrpc.Error // nil: none
		broken bool        // an error of the network
	}{
		"success":                    {steps: []http.HandlerFunc{ok}, calls: 1},
		"busy, then not":             {steps: []http.HandlerFunc{status(503), status(429, "Retry-After", "0"), ok}, calls: 3},
		"gateways":                   {steps: []http.HandlerFunc{status(502), status(504), ok}, calls: 3},
		"busy for ever":              {steps: []http.HandlerFunc{status(503)}, calls: 3, err: &xrpc.Error{Status: 503}},
		"busy, without patience":     {client: xrpc.Client{Retries: -1}, steps: []http.HandlerFunc{status(503)}, calls: 1, err: &xrpc.Error{Status: 503}},
		"busy, with much patience":   {client: xrpc.Client{Retries: 5}, steps: []http.HandlerFunc{status(503), status(503), status(503), status(503), ok}, calls: 5},
		"asks for more time":         {steps: []http.HandlerFunc{status(429, "Retry-After", "3600")}, calls: 1, err: &xrpc.Error{Status: 429}},
		"an error of the server":     {steps: []http.HandlerFunc{status(500)}, calls: 1, err: &xrpc.Error{Status: 500}},
		"an error of the caller":     {steps: []http.HandlerFunc{status(400)}, calls: 1, err: &xrpc.Error{Status: 400, Name: "InvalidRequest", Message: "m"}},
		"a broken connection":        {steps: []http.HandlerFunc{cut, ok}, calls: 2},
		"procedure, success":         {post: true, steps: []http.HandlerFunc{ok}, calls: 1},
		"procedure, busy":            {post: true, steps: []http.HandlerFunc{status(503, "Retry-After", "0")}, calls: 1, err: &xrpc.Error{Status: 503}},
		"procedure, limited":         {post: true, steps: []http.HandlerFunc{status(429, "Retry-After", "0")}, calls: 1, err: &xrpc.Error{Status: 429}},
		"procedure, many retries":    {post: true, client: xrpc.Client{Retries: 9}, steps: []http.HandlerFunc{status(502)}, calls: 1, err: &xrpc.Error{Status: 502}},
		"procedure, broken":          {post: true, client: xrpc.Client{Retries: 9}, steps: []http.HandlerFunc{cut}, calls: 1, broken: true},
		"procedure, redirected":      {post: true, steps: []http.HandlerFunc{status(307, "Location", "/xrpc/com.example.m"), ok}, calls: 1, err: &xrpc.Error{Status: 307}},
		"procedure, turned into GET": {post: true, steps: []http.HandlerFunc{status(302, "Location", "/xrpc/com.example.m"), ok}, calls: 1, err: &xrpc.Error{Status: 302}},
		"query, redirected":          {steps: []http.HandlerFunc{status(302, "Location", "/xrpc/com.example.m"), ok}, calls: 2},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := &script{steps: tc.steps}
			c := tc.client
			c.Host = serve(t, s) + "/"
			c.HTTP = &http.Client{Transport: &http.Transport{}}
			c.MaxWait = 20 * time.Millisecond
			var out name
			var err error
			if tc.post {
				err = c.Procedure(context.Background(), "com.example.m", name{"in"}, &out)
			} else {
				err = c.Query(context.Background(), "com.example.m", nil, &out)
			}
			check(t, "calls", s.calls.Load(), tc.calls)
			var told *xrpc.Error
			switch {
			case tc.broken:
				if err == nil || errors.As(err, &told) {
					t.Error(err)
				}
			case tc.err == nil && (err != nil || out.Name != "x"):
				t.Errorf("%v %v", out, err)
			case tc.err != nil && !errors.Is(err, tc.err):
				t.Errorf("got %v, want %v", err, tc.err)
			case tc.err != nil && (!errors.As(err, &told) || !told.Remote):
				t.Error("the error does not say that it is another server's")
			}
		})
	}
}

// Waiting ends with the context, and errors that no try can mend are told at once.
func TestClientGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &script{steps: []http.HandlerFunc{status(503, "Retry-After", "20")}}
	c := &xrpc.Client{Host: "https://pds.example.com", HTTP: &http.Client{Transport: nettest.RoundTrip(func(r *http.Request) (*http.Response, error) {
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		cancel() // so that the context ends while the client waits, or before
		return rec.Result(), nil
	})}}
	if err := c.Query(ctx, "com.example.m", nil, nil); !errors.Is(err, &xrpc.Error{Status: 503}) {
		t.Error(err)
	}
	check(t, "calls", s.calls.Load(), int32(1))
	c.HTTP = nil

	tries := 0
	c.Authorize = func(*http.Request) error { tries++; return errors.New("no key") }
	if err := c.Query(context.Background(), "com.example.m", nil, nil); err == nil || tries != 1 {
		t.Errorf("%d tries: %v", tries, err)
	}
	if err := (&xrpc.Client{Host: "://"}).Query(context.Background(), "com.example.m", nil, nil); err == nil {
		t.Error("no error")
	}
	if err := c.Query(context.Background(), "com.example.m", 7, nil); err == nil {
		t.Error("parameters of a wrong type")
	}
	if err := c.Procedure(context.Background(), "com.example.m", func() {}, nil); err == nil {
		t.Error("an input that JSON cannot hold")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"7":                             7 * time.Second,
		"-7":                            0,
		"1h":                            0,
		"1.5":                           0,
		"99999999999999999999":          0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute,
		"Fri, 02 Jan 2026 03:03:05 GMT": 0,
	} {
		e := &xrpc.Error{Header: http.Header{"Retry-After": {value}}}
		check(t, value, e.RetryAfter(now), want)
	}
	check(t, "no header", (&xrpc.Error{}).RetryAfter(now), time.Duration(0))
}

func TestClientErrors(t *testing.T) {
	for body, want := range map[string]*xrpc.Error{
		`{"error":"RecordNotFound","message":"m"}`: {Status: 400, Name: "RecordNotFound", Message: "m"},
		`{"error":"RecordNotFound"}`:               {Status: 400, Name: "RecordNotFound"},
		`<html>it works</html>`:                    {Status: 400, Name: "InvalidRequest", Message: "Bad Request"},
		`{"error":{"code":7}}`:                     {Status: 400, Name: "InvalidRequest", Message: "Bad Request"},
		``:                                         {Status: 400, Name: "InvalidRequest", Message: "Bad Request"},
		`{"error":"A","Error":"B","message":"m","MESSAGE":"n"}`: {Status: 400, Name: "A", Message: "m"},
		`{"error":"A","error":"B","message":"m"}`:               {Status: 400, Name: "InvalidRequest", Message: "Bad Request"},
		`{"error":"A","message":"cut \ud83d"}`:                  {Status: 400, Name: "A", Message: "cut \ufffd"},
		strings.Repeat(" ", 1<<20):                              {Status: 400, Name: "InvalidRequest", Message: "Bad Request"},
	} {
		url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("RateLimit-Reset", "17")
			w.WriteHeader(400)
			io.WriteString(w, body)
		}))
		err := (&xrpc.Client{Host: url}).Query(context.Background(), "com.example.m", nil, nil)
		if !errors.Is(err, want) {
			t.Errorf("%.40q: %v", body, err)
		}
		var told *xrpc.Error
		if errors.As(err, &told); told.Header.Get("RateLimit-Reset") != "17" {
			t.Errorf("%.40q: header %v", body, told.Header)
		}
	}
}

// An error of another server does not become one of this server by being returned.
func TestRemoteErrorsAreNotPassedOn(t *testing.T) {
	other := serve(t, status(401, "Set-Cookie", "a=b", "WWW-Authenticate", "DPoP"))
	url := serve(t, routes(&xrpc.Server{}, map[string]xrpc.Handler{
		"com.example.m": xrpc.Query(func(c ctx, _ *xrpc.Request, _ struct{}) (any, error) {
			return nil, fmt.Errorf("asking: %w", (&xrpc.Client{Host: other}).Query(c, "com.example.m", nil, nil))
		}),
	}))
	got, header := call(t, "GET", url+"/xrpc/com.example.m", nil)
	check(t, "answer", got, answer{Status: 502, Error: "UpstreamFailure"})
	check(t, "Set-Cookie", header.Get("Set-Cookie"), "")
	check(t, "WWW-Authenticate", header.Get("WWW-Authenticate"), "")
}

func TestClientBounds(t *testing.T) {
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"name":"`+strings.Repeat("x", 1000)+`"}`)
	}))
	var out name
	if err := (&xrpc.Client{Host: url, MaxBody: 1011}).Query(context.Background(), "com.example.m", nil, &out); err != nil || len(out.Name) != 1000 {
		t.Error(err)
	}
	if err := (&xrpc.Client{Host: url, MaxBody: 1010}).Query(context.Background(), "com.example.m", nil, &out); err == nil || !strings.Contains(err.Error(), "more than 1010 bytes") {
		t.Error(err)
	}
	broken := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "{")
	}))
	if err := (&xrpc.Client{Host: broken}).Query(context.Background(), "com.example.m", nil, &out); err == nil {
		t.Error("an answer that breaks off")
	}
	noJSON := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") }))
	if err := (&xrpc.Client{Host: noJSON}).Query(context.Background(), "com.example.m", nil, &out); err == nil {
		t.Error("an answer that is no JSON")
	}
	if err := (&xrpc.Client{Host: noJSON}).Query(context.Background(), "com.example.m", nil, nil); err != nil {
		t.Errorf("an answer that nobody wants: %v", err)
	}
}

func TestClientRequests(t *testing.T) {
	var got *http.Request
	var body string
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
		io.WriteString(w, "{}")
	}))
	c := &xrpc.Client{Host: url, Authorize: xrpc.Bearer("secret")}
	no := false
	params := struct {
		DID    syntax.DID `json:"did"`
		Limit  int        `json:"limit"`
		Cursor string     `json:"cursor"`
		Flag   bool       `json:"flag"`
		Not    *bool      `json:"not"`
		Nil    *bool      `json:"nil"`
		CIDs   []string   `json:"cids"`
		Ptrs   []*int64   `json:"ptrs"`
		Skip   string
	}{"did:web:x.example", 7, "", true, &no, nil, []string{"a&b", "c"}, []*int64{nil}, "skipped"}
	if err := c.Query(context.Background(), "com.example.m", params, nil); err != nil {
		t.Fatal(err)
	}
	check(t, "URI", got.RequestURI, "/xrpc/com.example.m?cids=a%26b&cids=c&did=did%3Aweb%3Ax.example&flag=true&limit=7&not=false")
	check(t, "Authorization", got.Header.Get("Authorization"), "Bearer secret")
	check(t, "body", body, "")
	if err := c.Query(context.Background(), "com.example.m", url2("a=b"), nil); err != nil {
		t.Fatal(err)
	}
	check(t, "URI", got.RequestURI, "/xrpc/com.example.m?a=b")
	if err := c.Procedure(context.Background(), "com.example.m", name{"x"}, nil); err != nil {
		t.Fatal(err)
	}
	check(t, "type", got.Header.Get("Content-Type"), "application/json")
	check(t, "body", body, `{"name":"x"}`)
	if err := c.Procedure(context.Background(), "com.example.m", nil, nil); err != nil {
		t.Fatal(err)
	}
	check(t, "type", got.Header.Get("Content-Type"), "")
	check(t, "length", got.ContentLength, int64(0))
	if err := c.Upload(context.Background(), "com.example.m", "image/png", unsized("abc"), nil); err != nil {
		t.Fatal(err)
	}
	check(t, "type", got.Header.Get("Content-Type"), "image/png")
	check(t, "body", body, "abc")
	resp, err := c.Get(context.Background(), "com.example.m", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	check(t, "raw answer", string(text), "{}")
}

func url2(q string) url.Values {
	v, _ := url.ParseQuery(q)
	return v
}

// Client and server understand each other.
func TestRoundTrip(t *testing.T) {
	type io struct {
		Names []string `json:"names"`
		N     int64    `json:"n"`
	}
	url := serve(t, routes(&xrpc.Server{Catalog: builtin()}, map[string]xrpc.Handler{
		"com.example.q": xrpc.Query(func(_ ctx, _ *xrpc.Request, p io) (io, error) { return p, nil }),
		"com.example.p": xrpc.Procedure(func(_ ctx, _ *xrpc.Request, p io) (io, error) { return p, nil }),
	}))
	c := &xrpc.Client{Host: url}
	in := io{[]string{"a b", "ü&=;+%"}, -1 << 53}
	var out io
	if err := c.Query(context.Background(), "com.example.q", in, &out); err != nil {
		t.Fatal(err)
	}
	check(t, "query", out, in)
	out = io{}
	if err := c.Procedure(context.Background(), "com.example.p", in, &out); err != nil {
		t.Fatal(err)
	}
	check(t, "procedure", out, in)
}

// A server that is not there is worth another try.
func TestClientWithoutServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	tries := 0
	c := &xrpc.Client{Host: "http://" + addr, MaxWait: time.Millisecond, Authorize: func(*http.Request) error { tries++; return nil }}
	if err := c.Query(context.Background(), "com.example.m", nil, nil); err == nil || tries != 3 {
		t.Errorf("%d tries: %v", tries, err)
	}
	tries = 0
	if err := c.Procedure(context.Background(), "com.example.m", nil, nil); err == nil || tries != 1 {
		t.Errorf("%d tries: %v", tries, err)
	}
}

func ExampleServer() {
	type params struct {
		Name string `json:"name"`
	}
	type output struct {
		Greeting string `json:"greeting"`
	}
	s := &xrpc.Server{}
	s.Handle(xrpc.Route{
		NSID: "com.example.greet",
		Handler: xrpc.Query(func(ctx context.Context, r *xrpc.Request, p params) (output, error) {
			if p.Name == "" {
				return output{}, xrpc.InvalidRequest("Who are you?")
			}
			return output{"Hello, " + p.Name}, nil
		}),
	})
	srv := httptest.NewServer(s)
	defer srv.Close()

	c := &xrpc.Client{Host: srv.URL}
	var out output
	err := c.Query(context.Background(), "com.example.greet", params{"Alice"}, &out)
	fmt.Println(out.Greeting, err)
	err = c.Query(context.Background(), "com.example.greet", nil, &out)
	fmt.Println(err)
	// Output:
	// Hello, Alice <nil>
	// xrpc: 400 InvalidRequest: Who are you?
}
