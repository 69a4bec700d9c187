package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/proxy"
)

func TestAnswers(t *testing.T) {
	var status int
	var header map[string]string
	var body string
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}, nil)
	const js = "application/json; charset=utf-8"
	envelope := func(name, message string) string { return fmt.Sprintf(`{"error":%q,"message":%q}`, name, message) }
	for what, tc := range map[string]struct {
		status      int
		contentType string
		body        string
		want        answer
	}{
		"success":                       {200, js, `{ "a": 1 }`, answer{200, "", `{ "a": 1 }`}},
		"another type":                  {200, "text/html", "<script>", answer{200, "", "<script>"}},
		"created":                       {201, js, `{}`, answer{201, "", `{}`}},
		"an error":                      {400, js, `{ "error": "Odd", "extra": [1] }`, answer{400, "Odd", `{ "error": "Odd", "extra": [1] }`}},
		"a problem":                     {422, "application/problem+json", `{"title":"x"}`, answer{422, "", `{"title":"x"}`}},
		"an expired token":              {401, js, `{"error":"ExpiredToken"}`, answer{401, "ExpiredToken", `{"error":"ExpiredToken"}`}},
		"not here":                      {501, js, `{"error":"MethodNotImplemented"}`, answer{501, "MethodNotImplemented", `{"error":"MethodNotImplemented"}`}},
		"an error as HTML":              {403, "text/html", "<h1>no</h1>", answer{403, "Forbidden", envelope("Forbidden", "Forbidden")}},
		"an error of no type":           {404, "", "no", answer{404, "XRPCNotSupported", envelope("XRPCNotSupported", "Not Found")}},
		"a gateway's error":             {503, "text/html", "<h1>no</h1>", answer{503, "NotEnoughResources", envelope("NotEnoughResources", "Service Unavailable")}},
		"an unknown status":             {499, "text/html", "", answer{499, "InternalServerError", envelope("InternalServerError", "Upstream service answered with status 499")}},
		"its own failure":               {500, js, `{"error":"InternalServerError","message":"oh"}`, answer{502, "UpstreamFailure", envelope("UpstreamFailure", "oh")}},
		"its own failure, in two cases": {500, js, `{"message":"oh","Message":"ah"}`, answer{502, "UpstreamFailure", envelope("UpstreamFailure", "oh")}},
		"its own failure, twice":        {500, js, `{"message":"oh","message":"ah"}`, answer{502, "UpstreamFailure", envelope("UpstreamFailure", "Upstream service failed")}},
		"its own failure, HTML":         {500, "text/html", `<h1>`, answer{502, "UpstreamFailure", envelope("UpstreamFailure", "Upstream service failed")}},
		"a redirect":                    {302, "text/html", "", answer{502, "UpstreamFailure", envelope("UpstreamFailure", "Upstream service redirected")}},
	} {
		status, body = tc.status, tc.body
		header = map[string]string{"Content-Type": tc.contentType, "Location": "https://elsewhere.example", "Retry-After": "7", "Set-Cookie": "a=b",
			"Atproto-Repo-Rev": "3jzfcijpj2z2a", "Atproto-Content-Labelers": "did:web:l.example", "Content-Language": "en", "Access-Control-Allow-Origin": "https://evil.example",
			"Www-Authenticate": "Basic", "X-Other": "x", "Server": "nginx", "Strict-Transport-Security": "max-age=1", "Clear-Site-Data": `"*"`}
		got, h := s.call("GET", "app.bsky.feed.getTimeline", nil)
		check(t, what, got, tc.want)
		for name, want := range map[string]string{
			"Set-Cookie": "", "Location": "", "X-Other": "", "Server": "", "Www-Authenticate": "", "Strict-Transport-Security": "", "Clear-Site-Data": "",
			"Access-Control-Allow-Origin": "*", "Cache-Control": "private", "Vary": "Authorization",
		} {
			check(t, what+": "+name, h.Get(name), want)
		}
		if tc.status >= 300 && tc.status < 400 {
			continue
		}
		check(t, what+": Retry-After", h.Get("Retry-After"), "7")
		check(t, what+": Atproto-Repo-Rev", h.Get("Atproto-Repo-Rev"), "3jzfcijpj2z2a")
		check(t, what+": Atproto-Content-Labelers", h.Get("Atproto-Content-Labelers"), "did:web:l.example")
		if got.Body == tc.body {
			check(t, what+": Content-Type", h.Get("Content-Type"), tc.contentType)
			check(t, what+": nosniff", h.Get("X-Content-Type-Options"), "nosniff")
			check(t, what+": policy", h.Get("Content-Security-Policy"), "default-src 'none'; sandbox")
		}
	}
}

// An answer that ends HTTP is none: a proxy in front would connect the client with this server, as if
// all that the client sends then had gone through it.
func TestAnswersThatEndHTTP(t *testing.T) {
	for _, head := range []string{
		"101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket", "101 Switching Protocols", "000 None", "099 Less",
	} {
		s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "HTTP/1.1 %s\r\n\r\n", head)
		}, nil)
		got, _ := s.call("GET", "com.example.x", nil, "Connection: Upgrade", "Upgrade: websocket")
		check(t, head, got, answer{502, "UpstreamFailure", `{"error":"UpstreamFailure","message":"Upstream service gave no answer"}`})
	}
}

// Compressed answers pass as they are.
func TestCompressedAnswer(t *testing.T) {
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", r.Header.Get("Accept-Encoding"))
		io.WriteString(w, "not really")
	}, nil)
	got, h := s.call("GET", "app.bsky.feed.getTimeline", nil, "Accept-Encoding: gzip")
	check(t, "answer", got, answer{200, "", "not really"})
	check(t, "Content-Encoding", h.Get("Content-Encoding"), "gzip")
}

func TestStreamsBothWays(t *testing.T) {
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		lines := bufio.NewReader(r.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(w, strings.ToUpper(line))
			http.NewResponseController(w).Flush()
		}
	}, nil)
	pr, pw := io.Pipe()
	r, err := http.NewRequest("POST", s.url+"/xrpc/com.example.upper", pr)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer session")
	r.Header.Set("Atproto-Proxy", ref)
	resp := make(chan *http.Response)
	go func() {
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			res = &http.Response{Body: http.NoBody}
		}
		resp <- res
	}()
	// The first line arrives at the service while the upload goes on.
	io.WriteString(pw, "one\n")
	io.WriteString(pw, "two\n")
	pw.Close()
	res := <-resp
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	check(t, "answer", string(text), "ONE\nTWO\n")
}

// An answer reaches the client piece by piece, as it comes.
func TestStreamsAnswers(t *testing.T) {
	next := make(chan struct{})
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		for _, line := range []string{"one\n", "two\n", "three\n"} {
			io.WriteString(w, line)
			http.NewResponseController(w).Flush()
			<-next
		}
	}, nil)
	r, _ := http.NewRequest("GET", s.url+"/xrpc/com.example.lines", nil)
	r.Header.Set("Authorization", "Bearer session")
	r.Header.Set("Atproto-Proxy", ref)
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for _, want := range []string{"one\n", "two\n", "three\n"} {
		got, err := lines.ReadString('\n')
		if err != nil || got != want {
			t.Fatal(got, err)
		}
		next <- struct{}{}
	}
}

func TestLargeBodies(t *testing.T) {
	var received int64
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		received, _ = io.Copy(io.Discard, r.Body)
		io.CopyN(w, zeros{}, 5<<20)
	}, func(p *proxy.Proxy) { p.MaxBody = 3 << 20 })
	got, _ := s.call("POST", "com.example.big", io.LimitReader(zeros{}, 3<<20))
	check(t, "received", received, int64(3<<20))
	check(t, "answer", len(got.Body), 5<<20)
	got, _ = s.call("POST", "com.example.big", bytes.NewReader(make([]byte, 3<<20+1)))
	check(t, "too large", []any{got.Status, got.Error}, []any{413, "PayloadTooLarge"})
	got, _ = s.call("POST", "com.example.big", io.LimitReader(zeros{}, 3<<20+1))
	check(t, "too large, in chunks", []any{got.Status, got.Error}, []any{413, "PayloadTooLarge"})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestFailures(t *testing.T) {
	unreachable := answer{502, "UpstreamFailure", `{"error":"UpstreamFailure","message":"Upstream service unreachable"}`}
	quick := func(p *proxy.Proxy) { p.HeaderTimeout, p.BodyTimeout = 100*time.Millisecond, 100*time.Millisecond }
	for what, tc := range map[string]struct {
		upstream http.HandlerFunc
		change   func(p *proxy.Proxy)
		want     answer
	}{
		"no answer":              {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, quick, unreachable},
		"a connection that ends": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, nil, unreachable},
		"no server": {nil, func(p *proxy.Proxy) {
			p.Resolver = documents{service: document(service, "bsky_appview", "http://127.0.0.1:1")}
		}, unreachable},
		"an answer that stalls": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "abc")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, quick, answer{200, "", "abc (broken off)"}},
		"an answer that breaks off": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "abc")
		}, nil, answer{0, "", "(broken off)"}},
		"no key": {nil, func(p *proxy.Proxy) {
			p.Signer = func(context.Context, syntax.DID) (crypto.Signer, error) { return nil, errors.New("sealed") }
		}, answer{500, "InternalServerError", `{"error":"InternalServerError","message":"Internal Server Error"}`}},
		// Strangers' services must be at public addresses and speak HTTPS.
		"loopback": {nil, func(p *proxy.Proxy) {
			p.Development = false
			p.Resolver = documents{service: document(service, "bsky_appview", "https://127.0.0.1:8443")}
		}, unreachable},
		"plain HTTP": {nil, func(p *proxy.Proxy) { p.Development = false }, unreachable},
		"link-local": {nil, func(p *proxy.Proxy) {
			p.Development = false
			p.Resolver = documents{service: document(service, "bsky_appview", "https://169.254.169.254")}
		}, unreachable},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if tc.upstream == nil {
				tc.upstream = func(w http.ResponseWriter, r *http.Request) { t.Error("the request went out") }
			}
			got, _ := newSetup(t, tc.upstream, tc.change).call("GET", "com.example.x", nil)
			check(t, "answer", got, tc.want)
		})
	}
}

// A slow upload is the client's business, a slow service is not.
func TestSlowUpload(t *testing.T) {
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}, func(p *proxy.Proxy) { p.HeaderTimeout = 200 * time.Millisecond })
	pr, pw := io.Pipe()
	go func() {
		for range 5 {
			time.Sleep(100 * time.Millisecond)
			io.WriteString(pw, "x")
		}
		pw.Close()
	}()
	got, _ := s.call("POST", "com.example.x", pr)
	check(t, "answer", got, answer{200, "", "5"})
}
