package client_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// failed demands that a login failed with an error, as a *CallbackError with the app's state.
func failed(t *testing.T, err, want error) {
	t.Helper()
	var e *client.CallbackError
	if !errors.As(err, &e) || !errors.Is(err, want) {
		t.Errorf("error %v; want %v", err, want)
	} else if want != client.ErrState && string(e.AppState) != "state of the app" {
		t.Errorf("the state of the app is %q", e.AppState)
	}
}

// sessions is how many sessions the app has.
func sessions(t *testing.T, a *app) (n int) {
	t.Helper()
	for _, err := range a.Sessions(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// The callback says that it comes from another server than the one the login began at: somebody
// has mixed up two servers, and the code must not get to the wrong one.
func TestMatrix171MixUp(t *testing.T) {
	net := pdstest.New(t)
	honest, evil := rogueAt(net, "honest.example.net"), rogueAt(net, "evil.example.net")
	a := newApp(t, net, "app.example.net")
	for name, iss := range map[string][]string{
		"another server": {honest.origin}, "no server": nil, "a slash": {evil.origin + "/"}, "upper case": {strings.ToUpper(evil.origin)}, "empty": {""},
	} {
		back := evil.start(t, a, evil.did)
		good := maps.Clone(back)
		back["iss"] = iss
		_, _, err := a.Finish(t.Context(), back, "")
		failed(t, err, client.ErrMismatch)
		// The state is gone.
		_, _, err = a.Finish(t.Context(), good, "")
		failed(t, err, client.ErrState)
		// An error is believed of the right server only, too.
		back = evil.start(t, a, evil.did)
		back["iss"], back["error"] = iss, []string{"access_denied"}
		_, _, err = a.Finish(t.Context(), back, "")
		failed(t, err, client.ErrMismatch)
		if n := evil.count("/token") + honest.count("/token"); n != 0 {
			t.Errorf("%s: the code was sent", name)
		}
	}
	back := evil.start(t, a, evil.did)
	back.Add("iss", honest.origin)
	_, _, err := a.Finish(t.Context(), back, "")
	failed(t, err, client.ErrState)
	if sessions(t, a) != 0 {
		t.Error("there is a session")
	}
}

func TestMatrix172CallbackTwice(t *testing.T) {
	net := pdstest.New(t)
	alice := net.PDS().Account("alice")
	a := newApp(t, net, "app.example.net")
	back := a.begin(client.Login{Account: string(alice.Handle)}, alice)
	s, _, err := a.Finish(t.Context(), back, "")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = a.another().Finish(t.Context(), back, "")
	failed(t, err, client.ErrState)
	if err := create(t.Context(), s, "the session of the first one is good"); err != nil {
		t.Error(err)
	}
	for name, q := range map[string]url.Values{
		"nothing": {}, "no state": {"code": {"x"}, "iss": {"https://pds1.test"}}, "an unknown state": {"state": {"x"}, "code": {"x"}, "iss": {"https://pds1.test"}},
		"a long state": {"state": {strings.Repeat("x", 100_000)}}, "a state twice": {"state": {"x", "y"}}, "control characters": {"state": {"\x00\r\n"}},
	} {
		if _, _, err := a.Finish(t.Context(), q, ""); !errors.Is(err, client.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Any server can say that it lets in any account. It is not believed, and its tokens are given
// back.
func TestMatrix173SubjectOfAnotherServer(t *testing.T) {
	net := pdstest.New(t)
	alice := net.PDS().Account("alice")
	evil := rogueAt(net, "evil.example.net")
	a := newApp(t, net, "app.example.net")
	for name, account := range map[string]string{"by the server's address": evil.origin, "by a DID": evil.did} {
		for sub, want := range map[string]error{string(alice.DID): client.ErrMismatch, "did:web:nobody.example.net": client.ErrTemporary, "alice": client.ErrServer, "": client.ErrServer} {
			back := evil.start(t, a, account)
			evil.do(func() { evil.answer = func(m map[string]any) { m["sub"] = sub } })
			before := evil.count("/revoke")
			_, _, err := a.Finish(t.Context(), back, "")
			if want == client.ErrTemporary && account == evil.did {
				want = client.ErrMismatch
			}
			failed(t, err, want)
			if evil.count("/revoke") != before+1 || evil.lastForm("/revoke").Get("token") != fmt.Sprint("refresh", evil.tokens) {
				t.Errorf("%s: %s: the tokens were not given back", name, sub)
			}
		}
	}
	if sessions(t, a) != 0 {
		t.Error("there is a session")
	}
}

// A handle, a DID and servers that do not name each other.
func TestMismatchedIdentities(t *testing.T) {
	net := pdstest.New(t)
	alice := net.PDS().Account("alice")
	s, other := rogueAt(net, "evil.example.net"), rogueAt(net, "other.example.net")
	ctx := t.Context()
	newDiscovery := func() *client.Discovery {
		return &client.Discovery{Resolver: net.Resolver(), HTTP: net.Client(), Development: true, Now: net.Clock.Now}
	}
	found, err := newDiscovery().Find(ctx, " \u2068@"+strings.ToUpper(string(alice.Handle))+"\u2069\n")
	if err != nil || found.DID != alice.DID || found.Handle != alice.Handle || found.PDS != "https://pds1.test" || found.Server.Issuer != "https://pds1.test" {
		t.Fatalf("%+v, %v", found, err)
	}
	for name, x := range map[string]struct {
		input  string
		change func()
		want   error
	}{
		"a handle of somebody else's": {"other.example.net", func() {
			other.over["/.well-known/atproto-did"] = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, alice.DID) }
		}, client.ErrMismatch},
		"a resource of another name": {s.did, func() { s.resource["resource"] = other.origin }, client.ErrMismatch},
		"a resource with a slash":    {s.did, func() { s.resource["resource"] = s.origin + "/" }, client.ErrMismatch},
		"a server that denies":       {s.did, func() { s.meta["protected_resources"] = []string{other.origin} }, client.ErrMismatch},
		"a server of another issuer": {s.did, func() { s.meta["issuer"] = other.origin }, client.ErrMismatch},
		"no input":                   {" ", func() {}, client.ErrInput},
		"no handle":                  {"alice", func() {}, client.ErrInput},
		"no address":                 {"https://", func() {}, client.ErrInput},
		"an address with a path":     {s.origin + "/path", func() {}, client.ErrInput},
		"an address by plain HTTP":   {"http://evil.example.net", func() {}, client.ErrInput},
		"credentials":                {"https://a:b@evil.example.net", func() {}, client.ErrInput},
		"another method":             {"did:key:zQ3shunBKsXixLxKtC5qeSG9E4J5RkGN57im31pcTzbNQnm5w", func() {}, nil},
	} {
		s.do(func() {
			meta, resource := maps.Clone(s.meta), maps.Clone(s.resource)
			x.change()
			s.mu.Unlock()
			_, err := newDiscovery().Find(ctx, x.input)
			s.mu.Lock()
			s.meta, s.resource = meta, resource
			if err == nil || x.want != nil && !errors.Is(err, x.want) {
				t.Errorf("%s: %v; want %v", name, err, x.want)
			}
		})
	}
	for _, input := range []string{s.did, "evil.example.net", s.origin, s.origin + "/"} {
		found, err := newDiscovery().Find(ctx, input)
		if err != nil || found.PDS != s.origin {
			t.Errorf("%s: %+v, %v", input, found, err)
		}
	}
	// A server that is no PDS.
	s.over["/.well-known/oauth-protected-resource"] = http.NotFound
	if found, err := newDiscovery().Find(ctx, s.origin); err != nil || found.PDS != "" || found.Server.Issuer != s.origin {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := newDiscovery().Find(ctx, s.did); !errors.Is(err, client.ErrServer) {
		t.Errorf("an account at a server without metadata: %v", err)
	}
}

func TestMatrix174ScopeWithoutAtproto(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "evil.example.net")
	a := newApp(t, net, "app.example.net")
	for _, scope := range []any{nil, "", "atprotox", "repo:com.example.atproto transition:atproto", "ATPROTO", "repo:x,atproto", strings.Repeat("x ", 20<<10) + "atproto"} {
		back := s.start(t, a, s.did)
		s.do(func() { s.answer = func(m map[string]any) { m["scope"] = scope } })
		before := s.count("/revoke")
		_, _, err := a.Finish(t.Context(), back, "")
		failed(t, err, client.ErrServer)
		if s.count("/revoke") != before+1 {
			t.Errorf("scope %.40v: the tokens were not given back", scope)
		}
	}
}

// No redirect is followed, of whatever status and wherever to: not with metadata, which another
// server could then give itself out by, and not with secrets.
func TestMatrix177Redirects(t *testing.T) {
	net := pdstest.New(t)
	other := rogueAt(net, "other.example.net")
	a := newApp(t, net, "app.example.net")
	n := 0
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server", "/par", "/token", "/xrpc/com.atproto.server.getSession"} {
		for _, status := range []int{301, 302, 303, 307, 308, 300, 304} {
			n++
			s := rogueAt(net, fmt.Sprintf("evil%d.example.net", n))
			back := url.Values{"state": {"x"}}
			var err error
			redirect := func() {
				s.do(func() {
					s.over[path] = func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Location", other.origin+path)
						w.Header().Set("Content-Type", "application/json")
						w.WriteHeader(status)
					}
				})
			}
			switch path {
			case "/token":
				back = s.start(t, a, s.did)
				redirect()
				_, _, err = a.Finish(t.Context(), back, "")
			case "/xrpc/com.atproto.server.getSession":
				x := s.login(t, a)
				redirect()
				err = x.Client().Query(t.Context(), "com.atproto.server.getSession", nil, nil)
			default:
				redirect()
				_, err = a.Start(t.Context(), client.Login{Account: s.did})
			}
			if err == nil || path != "/xrpc/com.atproto.server.getSession" && !errors.Is(err, client.ErrServer) {
				t.Errorf("%s with status %d: %v", path, status, err)
			}
			if c := other.count(path); c != 0 {
				t.Fatalf("%s with status %d was followed", path, status)
			}
		}
	}
}

// A server that asks for one nonce after the other gets one more try at each request.
func TestMatrix178NonceLoop(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "evil.example.net")
	a := newApp(t, net, "app.example.net")
	x := s.login(t, a)
	n := 0
	loop := func(w http.ResponseWriter, r *http.Request) {
		n++
		w.Header().Set("DPoP-Nonce", fmt.Sprint("nonce", n))
		askNonce(w, r)
	}
	back := s.start(t, a, s.did)
	s.do(func() { s.over["/par"], s.over["/token"], s.over["/xrpc/com.example.get"] = loop, loop, loop })
	want := &client.Error{Code: "use_dpop_nonce"}
	before := s.count("/par")
	if _, err := a.Start(t.Context(), client.Login{Account: s.did}); !errors.Is(err, want) || s.count("/par") != before+2 {
		t.Errorf("PAR: %d requests, %v", s.count("/par")-before, err)
	}
	before = s.count("/token")
	_, _, err := a.Finish(t.Context(), back, "")
	if failed(t, err, want); s.count("/token") != before+2 {
		t.Errorf("tokens: %d requests", s.count("/token")-before)
	}
	if err := x.Refresh(t.Context()); !errors.Is(err, want) || errors.Is(err, client.ErrSessionEnded) || s.count("/token") != before+4 {
		t.Errorf("refresh: %d requests, %v", s.count("/token")-before-2, err)
	}
	if err := x.Client().Query(t.Context(), "com.example.get", nil, nil); err == nil || s.count("/xrpc/com.example.get") != 2 {
		t.Errorf("a call: %d requests, %v", s.count("/xrpc/com.example.get"), err)
	}
	// Nonces that are none change nothing.
	for _, bad := range []string{"", "a b", strings.Repeat("x", 10_000)} {
		before = s.count("/par")
		s.do(func() {
			s.over["/par"] = func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Dpop-Nonce"] = []string{bad}
				askNonce(w, r)
			}
		})
		if _, err := a.Start(t.Context(), client.Login{Account: s.did}); !errors.Is(err, want) || s.count("/par") != before+1 {
			t.Errorf("the nonce %.20q: %d requests, %v", bad, s.count("/par")-before, err)
		}
	}
	// A nonce that changes with each answer costs no second request.
	s.do(func() {
		s.over = map[string]http.HandlerFunc{}
		s.nonce = "first"
	})
	x = s.login(t, a)
	for i := range 3 {
		before = s.count("/xrpc/com.example.get")
		if err := x.Client().Query(t.Context(), "com.example.get", nil, nil); err != nil || s.count("/xrpc/com.example.get") != before+1 {
			t.Errorf("call %d: %d requests, %v", i, s.count("/xrpc/com.example.get")-before, err)
		}
	}
	s.do(func() { s.nonce = "second" })
	before = s.count("/xrpc/com.example.get")
	if err := x.Client().Query(t.Context(), "com.example.get", nil, nil); err != nil || s.count("/xrpc/com.example.get") != before+2 {
		t.Errorf("after a change of the nonce: %d requests, %v", s.count("/xrpc/com.example.get")-before, err)
	}
}

// Metadata that are wrong in one thing.
func TestHostileMetadata(t *testing.T) {
	net := pdstest.New(t)
	n := 0
	try := func(name string, change func(s *rogue), want error) {
		t.Helper()
		n++
		s := rogueAt(net, fmt.Sprintf("evil%d.example.net", n))
		d := &client.Discovery{Resolver: net.Resolver(), HTTP: net.Client(), Development: true, Now: net.Clock.Now}
		change(s)
		_, err := d.Find(t.Context(), s.did)
		if want == nil && err != nil || !errors.Is(err, want) {
			t.Errorf("%s: %v; want %v", name, err, want)
		}
	}
	try("nothing", func(*rogue) {}, nil)
	for _, m := range []string{
		"issuer", "authorization_endpoint", "token_endpoint", "pushed_authorization_request_endpoint", "scopes_supported", "response_types_supported",
		"grant_types_supported", "code_challenge_methods_supported", "token_endpoint_auth_methods_supported", "dpop_signing_alg_values_supported",
		"authorization_response_iss_parameter_supported", "require_pushed_authorization_requests", "client_id_metadata_document_supported",
	} {
		want := client.ErrServer
		if m == "issuer" {
			want = client.ErrMismatch
		}
		try("no "+m, func(s *rogue) { delete(s.meta, m) }, want)
		try("null for "+m, func(s *rogue) { s.meta[m] = nil }, want)
		try("a number for "+m, func(s *rogue) { s.meta[m] = 7 }, client.ErrServer)
		try(m+" in upper case", func(s *rogue) { s.meta[strings.ToUpper(m)] = s.meta[m]; delete(s.meta, m) }, want)
	}
	for _, m := range []string{"authorization_endpoint", "token_endpoint", "pushed_authorization_request_endpoint", "revocation_endpoint"} {
		for _, address := range []string{"http://evil.example.net/x", "javascript:alert(1)", "file:///etc/passwd", "/token", "https://a:b@evil.example.net/", "https://evil.example.net/#x", "https:///x", "https://evil.example.net:port/"} {
			try(m+" "+address, func(s *rogue) { s.meta[m] = address }, client.ErrServer)
		}
	}
	for name, change := range map[string]func(*rogue){
		"no revocation": func(s *rogue) { delete(s.meta, "revocation_endpoint") }, "more": func(s *rogue) { s.meta["x"] = map[string]any{"y": 1} },
		"no list of resources": func(s *rogue) { delete(s.meta, "protected_resources") },
		"another endpoint":     func(s *rogue) { s.meta["token_endpoint"] = "https://tokens.example.net/x?y=z" },
	} {
		try(name, change, nil)
	}
	for name, change := range map[string]func(*rogue){
		"plain challenges":       func(s *rogue) { s.meta["code_challenge_methods_supported"] = []string{"plain"} },
		"no registered requests": func(s *rogue) { s.meta["require_request_uri_registration"] = false },
		"no server":              func(s *rogue) { s.resource["authorization_servers"] = []string{} },
		"two servers":            func(s *rogue) { s.resource["authorization_servers"] = []string{s.origin, "https://other.example.net"} },
		"a server with a path":   func(s *rogue) { s.resource["authorization_servers"] = []string{s.origin + "/x"} },
		"a server with a slash":  func(s *rogue) { s.resource["authorization_servers"] = []string{s.origin + "/"} },
		"a server with a port":   func(s *rogue) { s.resource["authorization_servers"] = []string{s.origin + ":443"} },
		"a server by plain HTTP": func(s *rogue) { s.resource["authorization_servers"] = []string{"http://evil.example.net"} },
		"no list":                func(s *rogue) { s.resource["authorization_servers"] = s.origin },
	} {
		try(name, change, client.ErrServer)
	}
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"} {
		answer := func(status int, contentType, body string) func(*rogue) {
			return func(s *rogue) {
				s.over[path] = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", contentType)
					w.WriteHeader(status)
					io.WriteString(w, body)
				}
			}
		}
		try("not found", answer(404, "application/json", "{}"), client.ErrServer)
		try("created", answer(201, "application/json", "{}"), client.ErrServer)
		try("forbidden", answer(403, "application/json", "{}"), client.ErrServer)
		try("broken", answer(500, "application/json", "{}"), client.ErrTemporary)
		try("busy", answer(429, "application/json", "{}"), client.ErrTemporary)
		try("no JSON", answer(200, "application/json", "hello"), client.ErrServer)
		try("a list", answer(200, "application/json", "[]"), client.ErrServer)
		try("an empty body", answer(200, "application/json", ""), client.ErrServer)
		try("deep", answer(200, "application/json", strings.Repeat("[", 30_000)), client.ErrServer)
		try("HTML", answer(200, "text/html", "{}"), client.ErrServer)
		try("no type", answer(200, "", "{}"), client.ErrServer)
		try("long", answer(200, "application/json", `{"x":"`+strings.Repeat("x", 100_000)+`"}`), client.ErrServer)
		try("endless", func(s *rogue) {
			s.over[path] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				for {
					if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
						return
					}
				}
			}
		}, client.ErrServer)
	}
	// A member twice: other readers of the same text would see another server.
	try("a member twice", func(s *rogue) {
		s.over["/.well-known/oauth-protected-resource"] = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"resource":%q,"authorization_servers":["https://other.example.net"],"authorization_servers":[%q]}`, s.origin, s.origin)
		}
	}, client.ErrServer)
}

// A server that cannot answer at present is not taken for one that is no PDS.
func TestServersThatAreDown(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	d := &client.Discovery{Resolver: net.Resolver(), HTTP: net.Client(), Development: true, Now: net.Clock.Now}
	s.over["/.well-known/oauth-protected-resource"] = func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 503, map[string]any{}) }
	for _, account := range []string{s.origin, s.did} {
		if _, err := d.Find(t.Context(), account); !errors.Is(err, client.ErrTemporary) {
			t.Errorf("%s: %v", account, err)
		}
	}
}

// Answers of the token endpoint that are wrong in one thing.
func TestHostileTokens(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "evil.example.net")
	a := newApp(t, net, "app.example.net")
	for name, change := range map[string]func(map[string]any){
		"no access token":    func(m map[string]any) { m["access_token"] = nil },
		"a header in it":     func(m map[string]any) { m["access_token"] = "x\r\nHost: y" },
		"a space in it":      func(m map[string]any) { m["access_token"] = "x y" },
		"a long one":         func(m map[string]any) { m["access_token"] = strings.Repeat("x", 20_000) },
		"a bearer token":     func(m map[string]any) { m["token_type"] = "Bearer" },
		"no type":            func(m map[string]any) { m["token_type"] = nil },
		"a refresh token 7":  func(m map[string]any) { m["refresh_token"] = 7 },
		"a bad refresh":      func(m map[string]any) { m["refresh_token"] = "ä" },
		"expires_in as text": func(m map[string]any) { m["expires_in"] = "900" },
		"an endless answer":  func(m map[string]any) { m["x"] = strings.Repeat("x", 100_000) },
	} {
		back := s.start(t, a, s.did)
		s.do(func() { s.answer = change })
		_, _, err := a.Finish(t.Context(), back, "")
		if failed(t, err, client.ErrServer); sessions(t, a) != 0 {
			t.Fatalf("%s: there is a session", name)
		}
	}
	back := s.start(t, a, s.did)
	s.do(func() {
		s.over["/token"] = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"access_token":"a","token_type":"DPoP","scope":"atproto","sub":%q,"sub":%q}`, "did:web:x.example.net", s.did)
		}
	})
	_, _, err := a.Finish(t.Context(), back, "")
	failed(t, err, client.ErrServer)
	s.do(func() { delete(s.over, "/token") })
	for _, x := range []struct {
		life any
		want time.Duration // 0: not known
	}{{1e300, 366 * 24 * time.Hour}, {1e18, 366 * 24 * time.Hour}, {-5, 0}, {0, 0}, {nil, 0}, {0.5, time.Second / 2}, {900, 15 * time.Minute}} {
		back := s.start(t, a, s.did)
		s.do(func() { s.answer = func(m map[string]any) { m["expires_in"] = x.life } })
		x0, _, err := a.Finish(t.Context(), back, "")
		if err != nil {
			t.Fatal(err)
		}
		got := x0.Info().Expires.Sub(x0.Info().Renewed)
		if x0.Info().Expires.IsZero() {
			got = 0
		}
		if got != x.want {
			t.Errorf("expires_in %v: %v", x.life, got)
		}
		if again, err := a.Resume(t.Context(), x0.ID()); err != nil || !again.Info().Expires.Equal(x0.Info().Expires) {
			t.Errorf("expires_in %v: resumed %v", x.life, err)
		}
	}
}

// Servers that take for ever.
func TestSlowServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := pdstest.New(t)
		a := newApp(t, net, "app.example.net")
		slow := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for {
				if _, err := io.WriteString(w, " "); err != nil || r.Context().Err() != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		}
		for i, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server", "/par"} {
			s := rogueAt(net, fmt.Sprintf("slow%d.example.net", i))
			s.over[path] = slow
			begun := time.Now()
			if _, err := a.Start(t.Context(), client.Login{Account: s.did}); !errors.Is(err, client.ErrTemporary) {
				t.Errorf("%s: %v", path, err)
			}
			if d := time.Since(begun); d > 35*time.Second {
				t.Errorf("%s: it took %v", path, d)
			}
		}
		s := rogueAt(net, "slow.example.net")
		x := s.login(t, a)
		s.do(func() { s.over["/token"], s.over["/xrpc/com.example.get"] = slow, slow })
		begun := time.Now()
		if err := x.Refresh(t.Context()); !errors.Is(err, client.ErrTemporary) || errors.Is(err, client.ErrSessionEnded) || time.Since(begun) > time.Minute {
			t.Errorf("refresh: %v after %v", err, time.Since(begun))
		}
		begun = time.Now()
		if err := x.Client().Procedure(t.Context(), "com.example.get", nil, nil); err == nil || time.Since(begun) > 61*time.Second {
			t.Errorf("a call: %v after %v", err, time.Since(begun))
		}
		time.Sleep(time.Minute) // all connections end
	})
}
