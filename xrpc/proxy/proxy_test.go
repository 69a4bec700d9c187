package proxy_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

func TestRequest(t *testing.T) {
	var got *http.Request
	var body string
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
	}, nil)
	headers := []string{
		"Accept-Encoding: gzip, br", "Accept-Language: de, en", "Atproto-Accept-Labelers: did:web:l.example", "X-Bsky-Topics: cats",
		"Cookie: a=b", "X-Forwarded-For: 10.0.0.1", "Dpop: proof", "User-Agent: Mozilla", "Referer: https://app.example", "Origin: https://app.example",
		"Content-Type: application/json", "Content-Encoding: identity", "Cf-Connecting-Ip: 1.2.3.4", "Range: bytes=0-1", "If-None-Match: x", "Connection: keep-alive",
	}
	names := func(h http.Header) []string { return slices.Sorted(maps.Keys(h)) }

	s.call("GET", "app.bsky.feed.getTimeline?limit=5&cursor=a%26b", nil, headers...)
	check(t, "URI", got.RequestURI, "/xrpc/app.bsky.feed.getTimeline?limit=5&cursor=a%26b")
	check(t, "headers", names(got.Header), []string{"Accept-Encoding", "Accept-Language", "Atproto-Accept-Labelers", "Authorization", "X-Bsky-Topics"})
	check(t, "Accept-Encoding", got.Header.Get("Accept-Encoding"), "gzip, br")

	s.call("GET", "app.bsky.feed.getTimeline", nil, "Accept-Encoding: ")
	check(t, "Accept-Encoding", got.Header.Get("Accept-Encoding"), "identity")

	s.call("POST", "app.bsky.notification.updateSeen", strings.NewReader("{}"), headers...)
	check(t, "headers", names(got.Header), []string{"Accept-Encoding", "Accept-Language", "Atproto-Accept-Labelers", "Authorization",
		"Content-Encoding", "Content-Length", "Content-Type", "X-Bsky-Topics"})
	check(t, "method", got.Method, "POST")
	check(t, "body", body, "{}")

	s.call("POST", "app.bsky.notification.updateSeen", struct{ io.Reader }{strings.NewReader("in chunks")}, headers...)
	check(t, "body", body, "in chunks")
	check(t, "encoding", got.TransferEncoding, []string{"chunked"})

	s.call("POST", "app.bsky.notification.updateSeen", nil)
	check(t, "body", body, "")
	check(t, "length", got.ContentLength, int64(0))

	s.call("HEAD", "app.bsky.feed.getTimeline", nil)
	check(t, "method", got.Method, "HEAD")
	check(t, "asked", s.asked[0], "app.bsky.feed.getTimeline")
}

// keys is a directory with one key.
type keys struct{ key *crypto.PublicKey }

func (k keys) Key(context.Context, syntax.DID, string, bool) (*crypto.PublicKey, error) {
	return k.key, nil
}

func TestToken(t *testing.T) {
	for full, audience := range map[bool]string{false: service, true: ref} {
		var token string
		s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
			token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		}, func(p *proxy.Proxy) { p.FullAudience = full })
		s.call("GET", "app.bsky.feed.getTimeline", nil)
		v := &serviceauth.Verifier{Audience: []string{audience}, Keys: keys{s.key.PublicKey()}}
		tok, err := v.Verify(t.Context(), token, "app.bsky.feed.getTimeline")
		if err != nil {
			t.Fatal(err)
		}
		life := tok.Expires.Sub(tok.Issued)
		check(t, "token", []any{tok.Issuer, tok.Audience, tok.Method, life}, []any{alice, audience, "app.bsky.feed.getTimeline", time.Minute})
		if tok.ID == "" || time.Since(tok.Issued) > time.Minute {
			t.Errorf("%+v", tok)
		}
	}
}

func TestTargets(t *testing.T) {
	named := func(w http.ResponseWriter, name string) { io.WriteString(w, name) }
	known := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { named(w, "known") }))
	defer known.Close()
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) { named(w, "resolved") }, func(p *proxy.Proxy) {
		mod := proxy.Service{DID: "did:web:mod.example", ID: "atproto_labeler", URL: known.URL}
		p.Known = []proxy.Service{mod}
		p.Default = func(method syntax.NSID) (proxy.Service, bool) {
			switch {
			case strings.HasPrefix(string(method), "tools.ozone."):
				return mod, true
			case strings.HasPrefix(string(method), "app.bsky."):
				return proxy.Service{DID: service, ID: "bsky_appview"}, true
			}
			return proxy.Service{}, false
		}
		docs := p.Resolver.(documents)
		docs["did:web:mod.example"] = document("did:web:mod.example", "atproto_labeler", "http://192.0.2.1")
		docs["did:web:none.example"] = &identity.Document{ID: "did:web:none.example"}
		docs["did:web:ftp.example"] = document("did:web:ftp.example", "x", "ftp://x.example")
	})
	bad := func(message string) answer {
		return answer{400, "InvalidRequest", fmt.Sprintf(`{"error":"InvalidRequest","message":"%s"}`, message)}
	}
	const m = "app.bsky.feed.getTimeline"
	for what, tc := range map[string]struct {
		ref, method string
		want        answer
	}{
		"by the document":          {ref, m, answer{200, "", "resolved"}},
		"with a known address":     {"did:web:mod.example#atproto_labeler", m, answer{200, "", "known"}},
		"the default":              {"", m, answer{200, "", "resolved"}},
		"another default":          {"", "tools.ozone.moderation.emitEvent", answer{200, "", "known"}},
		"no default":               {"", "com.example.unknown", bad("No service configured for com.example.unknown")},
		"no DID":                   {"#bsky_appview", m, bad("no did specified in proxy header")},
		"no ID":                    {service, m, bad("no service id specified in proxy header")},
		"an empty ID":              {service + "#", m, bad("no service id specified in proxy header")},
		"two fragments":            {ref + "#x", m, bad("invalid proxy header format")},
		"two hashes":               {service + "##x", m, bad("invalid proxy header format")},
		"a space":                  {service + "#bsky appview", m, bad("proxy header cannot contain spaces")},
		"no DID at all":            {"https://api.example#bsky_appview", m, bad("could not resolve proxy did")},
		"an unknown DID":           {"did:web:unknown.example#x", m, bad("could not resolve proxy did")},
		"a directory that is away": {"did:plc:awayaaaaaaaaaaaaaaaaaaaa#x", m, answer{502, "UpstreamFailure", `{"error":"UpstreamFailure","message":"could not resolve proxy did"}`}},
		"a DID that is no more":    {"did:plc:goneaaaaaaaaaaaaaaaaaaaa#x", m, bad("could not resolve proxy did")},
		"a host that is away":      {"did:web:away.example#x", m, bad("could not resolve proxy did")},
		"a service that is absent": {"did:web:none.example#x", m, bad("could not resolve proxy did service url")},
		"another service":          {service + "#atproto_labeler", m, bad("could not resolve proxy did service url")},
		"no web address":           {"did:web:ftp.example#x", m, bad("could not resolve proxy did service url")},
		"a protected method":       {ref, "com.atproto.server.createAppPassword", answer{400, "InvalidToken", `{"error":"InvalidToken","message":"Bad token method"}`}},
		"in other letters":         {ref, "com.atproto.server.CREATEappPassword", answer{400, "InvalidToken", `{"error":"InvalidToken","message":"Bad token method"}`}},
	} {
		got, _ := s.call("GET", tc.method, nil, "Atproto-Proxy: "+tc.ref)
		check(t, what, got, tc.want)
	}
	// Nobody makes this host look anything up without credentials.
	for _, ref := range []string{ref, "did:web:unknown.example#x", "did:web:none.example#x"} {
		got, _ := s.call("GET", m, nil, "Atproto-Proxy: "+ref, "Authorization: Bearer x")
		check(t, ref, got, answer{401, "AuthMissing", `{"error":"AuthMissing","message":"Authentication Required"}`})
	}
	got, _ := s.call("PUT", m, nil)
	check(t, "another HTTP method", got.Status, 405)
}

// A service that a stranger has named cannot keep a request by a byte now and then. One that the
// operator has named may, and whoever moves bytes may take long.
func TestTricklingServices(t *testing.T) {
	const pause, times = 40 * time.Millisecond, 12
	send := func(size int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for range times {
				if _, err := w.Write(make([]byte, size)); err != nil || http.NewResponseController(w).Flush() != nil {
					return
				}
				time.Sleep(pause)
			}
		}
	}
	for what, tc := range map[string]struct {
		upstream     http.HandlerFunc
		known, whole bool
	}{
		"a stranger trickles":     {send(1), false, false},
		"the operator's trickles": {send(1), true, true},
		"a stranger sends":        {send(4 << 10), false, true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, tc.upstream, func(p *proxy.Proxy) {
				p.HeaderTimeout, p.BodyTimeout = 5*pause, 5*pause
				if tc.known {
					doc, _ := p.Resolver.ResolveDID(t.Context(), service)
					endpoint, _ := doc.Service("bsky_appview", "")
					p.Known = []proxy.Service{{DID: service, ID: "bsky_appview", URL: endpoint}}
				}
			})
			got, _ := s.call("GET", "com.example.x", nil)
			if whole := got.Status == 200 && !strings.Contains(got.Body, "(broken off)"); whole != tc.whole {
				t.Errorf("status %d, %d bytes, %.30q", got.Status, len(got.Body), got.Error)
			}
		})
	}
}

func TestHooks(t *testing.T) {
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Secret", "x")
		io.WriteString(w, `{"extra":"`+r.Header.Get("X-Extra")+`"}`)
	}, func(p *proxy.Proxy) {
		p.Request = func(r *xrpc.Request, out *http.Request) { out.Header.Set("X-Extra", string(r.NSID)) }
		p.Response = func(r *xrpc.Request, caller syntax.DID, res *http.Response) {
			if res.Header.Get("X-Secret") != "" {
				t.Error("the hook sees headers that do not pass")
			}
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			text = append(text, caller...)
			res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
			res.Header.Set("Content-Length", fmt.Sprint(len(text)))
			res.Header.Set("Atproto-Upstream-Lag", "7")
		}
	})
	got, h := s.call("GET", "com.example.x", nil)
	check(t, "answer", got, answer{200, "", `{"extra":"com.example.x"}` + alice})
	check(t, "header", h.Get("Atproto-Upstream-Lag"), "7")
}

// Handlers of a host's own methods may forward some requests, with a token or without.
func TestForward(t *testing.T) {
	var authorization string
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		io.WriteString(w, r.RequestURI)
	}, nil)
	srv := &xrpc.Server{}
	srv.Handle(xrpc.Route{NSID: "com.atproto.repo.getRecord", Handler: xrpc.Any(func(w http.ResponseWriter, r *xrpc.Request) error {
		return s.proxy.Forward(w, r, proxy.Call{To: proxy.Service{DID: service, ID: "bsky_appview"}, As: syntax.DID(r.URL.Query().Get("as"))})
	})})
	host := httptest.NewServer(srv)
	defer host.Close()
	for as, signed := range map[string]bool{"": false, alice: true} {
		resp, err := http.Get(host.URL + "/xrpc/com.atproto.repo.getRecord?as=" + as)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		check(t, "answer", string(text), "/xrpc/com.atproto.repo.getRecord?as="+as)
		check(t, "signed", strings.HasPrefix(authorization, "Bearer ey"), signed)
	}
}

func TestMethods(t *testing.T) {
	for method, want := range map[syntax.NSID]bool{
		"com.atproto.server.getSession":    true,
		"com.atproto.SERVER.getsession":    true,
		"com.atproto.admin.sendEmail":      true,
		"com.atproto.server.updateEmail":   true,
		"com.atproto.server.createAccount": false,
		"chat.bsky.convo.getLog":           false,
		"app.bsky.feed.getTimeline":        false,
	} {
		check(t, string(method), proxy.Protected(method), want)
	}
}

func Example() {
	// The services of the network, their documents, and the accounts of the host.
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		payload := strings.Split(r.Header.Get("Authorization"), ".")[1]
		claims, _ := base64.RawURLEncoding.DecodeString(payload)
		var c struct{ Iss, Aud, Lxm string }
		json.Unmarshal(claims, &c)
		fmt.Fprintf(w, "%s for %s at %s", c.Lxm, c.Iss, c.Aud)
	}))
	defer api.Close()
	key, _ := crypto.GenerateKey(crypto.K256)

	p := &proxy.Proxy{
		Resolver: documents{service: document(service, "bsky_appview", api.URL)},
		Signer:   func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
		Auth: func(r *xrpc.Request) (auth.Principal, error) {
			return auth.Principal{Role: auth.User, DID: alice, Permissions: auth.Everything()}, nil
		},
		Development: true,
	}
	host := httptest.NewServer(&xrpc.Server{Fallback: p.Route()})
	defer host.Close()

	r, _ := http.NewRequest("GET", host.URL+"/xrpc/app.bsky.feed.getTimeline", nil)
	r.Header.Set("Atproto-Proxy", "did:web:api.example#bsky_appview")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Println(string(text))
	// Output: app.bsky.feed.getTimeline for did:web:alice.example at did:web:api.example
}

// A header that is taken names one service of one DID, in one way.
func FuzzTarget(f *testing.F) {
	for _, ref := range []string{"did:web:a.example.com#atproto_labeler", "did:plc:ewvi7nxzyoun6zhxrhs64oiz#bsky_appview", "#x", "did:web:a", "did:web:a#", "did:web:a#b#c", "did:web:a# b", "a#b"} {
		f.Add(ref)
	}
	known := proxy.Service{DID: "did:web:known.example.com", ID: "bsky_appview", URL: "https://known.example.com"}
	p := &proxy.Proxy{Known: []proxy.Service{known}}
	f.Fuzz(func(t *testing.T, ref string) {
		hr := httptest.NewRequest("GET", "/xrpc/com.example.method", nil)
		hr.Header["Atproto-Proxy"] = []string{ref}
		s, err := p.Target(&xrpc.Request{Request: hr, NSID: "com.example.method"})
		if err != nil {
			if e := (*xrpc.Error)(nil); !errors.As(err, &e) || e.Status != 400 || e.Name != "InvalidRequest" {
				t.Errorf("%q: %v", ref, err)
			}
			return
		}
		if _, err := syntax.ParseDID(string(s.DID)); err != nil || s.ID == "" || strings.ContainsAny(s.ID, "# ") || s.Ref() != ref {
			t.Errorf("%q: %+v", ref, s)
		}
		if s.URL != "" && s != known {
			t.Errorf("%q goes to %s", ref, s.URL)
		}
	})
}

func TestProxiesThatLackSomething(t *testing.T) {
	good := func() *proxy.Proxy {
		return &proxy.Proxy{
			Resolver: &identity.Resolver{},
			Signer:   func(context.Context, syntax.DID) (crypto.Signer, error) { return nil, nil },
			Auth:     func(*xrpc.Request) (auth.Principal, error) { return auth.Principal{}, nil },
		}
	}
	for name, change := range map[string]func(*proxy.Proxy){
		"Resolver": func(p *proxy.Proxy) { p.Resolver = nil },
		"Signer":   func(p *proxy.Proxy) { p.Signer = nil },
		"Auth":     func(p *proxy.Proxy) { p.Auth = nil },
	} {
		p := good()
		change(p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Route without %s did not panic", name)
				}
			}()
			p.Route()
		}()
	}
	if err := good().Validate(); err != nil {
		t.Error(err)
	}
}
