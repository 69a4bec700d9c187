package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// A web app with a form to log in. Two tabs of one browser log in at once.
func TestWeb(t *testing.T) {
	net := pdstest.New(t)
	one := net.PDS()
	alice := one.Account("alice")
	var a *app
	stopped := false
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if err := a.StartHTTP(w, r, client.Login{Account: r.FormValue("handle"), AppState: []byte(r.FormValue("tab"))}); err != nil {
			http.Error(w, err.Error(), 400)
		}
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		if stopped {
			return // the page of the code, which the attacker keeps
		}
		s, state, err := a.FinishHTTP(w, r)
		if err != nil {
			http.Error(w, fmt.Sprint(errors.Is(err, client.ErrState), err), 400)
			return
		}
		fmt.Fprintf(w, "tab %s: %s", state, s.DID())
	})
	a = newApp(t, net, "meta.example.net", func(c *client.Config) {
		c.Metadata.RedirectURIs = []string{"https://app.example.net/callback"}
	})
	net.Handle("app.example.net", mux)

	login := func(b *pdstest.Browser, tab string) *pdstest.Page {
		t.Helper()
		form := pdstest.Form{Method: "POST", Action: &url.URL{Scheme: "https", Host: "app.example.net", Path: "/login"}}
		page, err := b.Submit(&pdstest.Page{URL: &url.URL{Scheme: "https", Host: "app.example.net"}}, form, url.Values{"handle": {string(alice.Handle)}, "tab": {tab}})
		if err != nil || page.Status != 200 {
			t.Fatalf("%v %+v", err, page)
		}
		return page
	}
	browser := net.Browser()
	first, second := login(browser, "1"), login(browser, "2")
	for i, page := range []*pdstest.Page{second, first} {
		// The pages at the server, which may be opened again.
		p, err := browser.Consent(page.URL.String(), alice, nil)
		if want := fmt.Sprintf("tab %d: %s", 2-i, alice.DID); err != nil || p.Body != want {
			t.Errorf("%v %.300s; want %s", err, p.Body, want)
		}
	}
	// Somebody begins a login, and has another browser finish it: that one would work in a stranger's
	// account.
	attacker := net.Browser()
	page := login(attacker, "3")
	stopped = true
	p, err := attacker.Consent(page.URL.String(), alice, nil)
	if err != nil || p.URL.Query().Get("code") == "" {
		t.Fatalf("%v %+v", err, p)
	}
	stopped = false
	p, err = browser.Open(p.URL.String())
	if err != nil || p.Status != 400 || !strings.HasPrefix(p.Body, "true") {
		t.Errorf("%v %+v", err, p)
	}
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/login", nil)
	if err := a.StartHTTP(rec, r, client.Login{Account: string(alice.Handle)}); err != nil {
		t.Fatal(err)
	}
	cookie := rec.Result().Cookies()[0]
	if !strings.HasPrefix(cookie.Name, "__Host-") || !cookie.Secure || !cookie.HttpOnly || cookie.Path != "/" || cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge != 3600 {
		t.Errorf("%+v", cookie)
	}
	if rec.Code != 303 || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}

// What a login asks for gets to the server; the person may refuse.
func TestLoginParameters(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	a := newApp(t, net, "app.example.net", func(c *client.Config) {
		c.Metadata.RedirectURIs = append(c.Metadata.RedirectURIs, "https://app.example.net/other")
	})
	ctx := t.Context()
	to, err := a.Start(ctx, client.Login{Account: "@PDS.example.net", Scope: "atproto", RedirectURI: "https://app.example.net/other", Prompt: "login", Locales: []string{"fr-CA", "en"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := to.String(); got != s.origin+"/authorize?client_id="+url.QueryEscape(a.Metadata().ID)+"&request_uri=urn%3Ax%3A1&x=y" {
		t.Errorf("%s", got)
	}
	f := s.lastForm("/par")
	for name, want := range map[string]string{
		"client_id": a.Metadata().ID, "scope": "atproto", "redirect_uri": "https://app.example.net/other", "prompt": "login", "ui_locales": "fr-CA en",
		"login_hint": "pds.example.net", "response_type": "code", "code_challenge_method": "S256", "client_assertion": "",
	} {
		if f.Get(name) != want {
			t.Errorf("%s is %q", name, f.Get(name))
		}
	}
	if len(f.Get("state")) < 43 || len(f.Get("code_challenge")) != 43 || strings.Contains(to.String(), f.Get("state")) {
		t.Errorf("%v", f)
	}
	_, app, err := a.Finish(ctx, url.Values{
		"state": {f.Get("state")}, "iss": {s.origin}, "error": {"access_denied"}, "error_description": {strings.Repeat("no ", 1000)},
	}, "")
	var e *client.CallbackError
	if !errors.As(err, &e) || e.Code != "access_denied" || len(e.Description) != 1000 || len(app) != 0 {
		t.Errorf("%v", err)
	}
	for name, l := range map[string]client.Login{
		"another redirect URI": {Account: s.did, RedirectURI: "https://evil.example.net/callback"}, "another scope": {Account: s.did, Scope: "atproto repo:*"},
		"no atproto": {Account: s.did, Scope: "repo:com.example.note"}, "much state": {Account: s.did, AppState: make([]byte, 16<<10+1)}, "no account": {},
	} {
		before := s.count("/par")
		if _, err := a.Start(ctx, l); err == nil || s.count("/par") != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Start(ctx, client.Login{Account: s.did, AppState: make([]byte, 16<<10)}); err != nil {
		t.Errorf("as much state as is allowed: %v", err)
	}
	// A login that takes too long.
	back := s.start(t, a, s.did)
	net.Clock.Advance(2 * time.Hour)
	_, _, err = a.Finish(ctx, back, "")
	failed(t, err, client.ErrState)
	// As well if the store keeps it.
	lax := newApp(t, net, "lax.example.net", func(c *client.Config) { c.States = &client.Memory{} })
	back = s.start(t, lax, s.did)
	net.Clock.Advance(2 * time.Hour)
	lax.cfg.States.(*client.Memory).Now = func() time.Time { return time.Now().Add(-time.Hour) }
	_, _, err = lax.Finish(ctx, back, "")
	failed(t, err, client.ErrState)
	// A server that refuses the request is quoted.
	s.do(func() {
		s.over["/par"] = func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, 400, map[string]any{"error": "invalid_scope", "error_description": "no"})
		}
	})
	var told *client.Error
	if _, err := a.Start(ctx, client.Login{Account: s.did}); !errors.As(err, &told) || told.Code != "invalid_scope" || told.Description != "no" || told.Status != 400 || errors.Is(err, client.ErrTemporary) {
		t.Errorf("%v", err)
	}
}

// A login that comes back to another machine, or under another name, is not waited for on this one.
func TestLoginLocalElsewhere(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	a := newApp(t, net, "app.example.net")
	for _, address := range []string{"https://app.example.net/callback", "http://localhost/callback", "https://127.0.0.1/callback", "http://127.0.0.1.example.net/callback", "http://[::1]/callback", "http://127.0.0.1:x/callback"} {
		_, err := a.LoginLocal(t.Context(), client.Login{Account: s.did, RedirectURI: address}, func(string) error {
			t.Errorf("%s is waited for", address)
			return errFault
		})
		if err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if n := s.count("/par"); n != 0 {
		t.Errorf("%d logins were begun", n)
	}
}

// A command-line program with a browser beside it.
func TestLoginLocal(t *testing.T) {
	for _, path := range []string{"/callback", "/"} {
		net := pdstest.New(t)
		alice := net.PDS().Account("alice")
		a := newApp(t, net, "unused.example.net", func(c *client.Config) { c.Metadata = client.Loopback(noteScope, path) })
		local := ""
		net.Handle("127.0.0.1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			local = "http://" + r.Host
			// Others find the port, too.
			for path, want := range map[string]int{"/other": 404, path: 400, path + "?state=x&code=y&iss=https://pds1.test": 400} {
				if res, err := http.Get(local + path); err != nil || res.StatusCode != want {
					t.Errorf("%s: %v, %v", path, res, err)
				}
			}
			rebound, _ := http.NewRequest("GET", local+r.URL.RequestURI(), nil)
			rebound.Host = "evil.example.net"
			if res, err := http.DefaultClient.Do(rebound); err != nil || res.StatusCode != 404 {
				t.Errorf("by another name: %v, %v", res, err)
			}
			if res, err := http.Post(local+r.URL.RequestURI(), "text/plain", nil); err != nil || res.StatusCode != 405 {
				t.Errorf("POST: %v, %v", res, err)
			}
			res, err := http.Get(local + r.URL.RequestURI())
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			w.WriteHeader(res.StatusCode)
			io.Copy(w, res.Body)
		}))
		var browsing sync.WaitGroup
		s, err := a.LoginLocal(t.Context(), client.Login{Account: string(alice.Handle)}, func(address string) error {
			browsing.Go(func() {
				page, err := net.Browser().Consent(address, alice, nil)
				if err != nil || !strings.Contains(page.Body, "You are logged in") {
					t.Errorf("%v %+v", err, page)
				}
			})
			return nil
		})
		browsing.Wait() // the network ends with the test
		if err != nil {
			t.Fatal(err)
		}
		if err := create(t.Context(), s, "from the command line"); err != nil {
			t.Error(err)
		}
		if _, err := http.Get(local); err == nil {
			t.Error("it listens still")
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := a.LoginLocal(ctx, client.Login{Account: string(alice.Handle)}, func(string) error { cancel(); return nil }); !errors.Is(err, client.ErrTemporary) || !errors.Is(err, context.Canceled) {
			t.Errorf("nobody comes: %v", err)
		}
		if _, err := a.LoginLocal(t.Context(), client.Login{Account: string(alice.Handle)}, func(string) error { return errFault }); !errors.Is(err, errFault) {
			t.Errorf("nobody sees the address: %v", err)
		}
	}
}

// The keys of a confidential client rotate: sessions stay with the key that they began with.
func TestKeyRotation(t *testing.T) {
	net := pdstest.New(t)
	alice := net.PDS().Account("alice")
	store := &client.Memory{Now: net.Clock.Now}
	keys := []client.Key{{ID: "old", Signer: newKey(t)}}
	var a *app
	// The document changes, as with a new version of the app.
	net.Handle("app.example.net", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/jwks.json" {
			a.KeysHandler().ServeHTTP(w, r)
			return
		}
		a.MetadataHandler().ServeHTTP(w, r)
	}))
	version, uri := 0, ""
	deploy := func() {
		version++
		net.Clock.Advance(time.Hour) // servers remember documents for a while
		a = newApp(t, net, fmt.Sprintf("version%d.example.net", version), func(c *client.Config) {
			c.Metadata.ID, c.Metadata.URI = "https://app.example.net/oauth-client-metadata.json", "https://app.example.net"
			c.Metadata.RedirectURIs, c.Metadata.KeysURI = []string{"https://app.example.net/callback"}, uri
			c.Keys, c.Sessions = keys, store
		})
	}
	deploy()
	old := a.login(alice).ID()
	keys = []client.Key{{ID: "new", Signer: newKey(t)}, keys[0]}
	uri = "https://app.example.net/jwks.json"
	deploy()
	s, err := a.Resume(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	if err := create(t.Context(), s, "with the old key"); err != nil {
		t.Fatal(err)
	}
	newer := a.login(alice)
	keys = keys[:1]
	deploy()
	s, err = a.Resume(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(t.Context()); !errors.Is(err, client.ErrKey) || errors.Is(err, client.ErrSessionEnded) {
		t.Errorf("without its key: %v", err)
	}
	s, err = a.Resume(t.Context(), newer.ID())
	if err == nil {
		err = create(t.Context(), s, "with the new key")
	}
	if err != nil {
		t.Error(err)
	}
}

func TestMetadata(t *testing.T) {
	net := pdstest.New(t)
	key := newKey(t)
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.Keys = []client.Key{{Signer: key}} })
	get := func(h http.Handler) (out map[string]any) {
		t.Helper()
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
		if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%d %v", rec.Code, rec.Header())
		}
		if strings.Contains(rec.Body.String(), `"d"`) {
			t.Error("a private key")
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		rec = httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("POST", "/", nil))
		if rec.Code != 405 {
			t.Errorf("POST: %d", rec.Code)
		}
		return out
	}
	doc := get(a.MetadataHandler())
	set := get(a.KeysHandler())
	if doc["token_endpoint_auth_method"] != "private_key_jwt" || doc["token_endpoint_auth_signing_alg"] != "ES256" || doc["dpop_bound_access_tokens"] != true || doc["scope"] != noteScope {
		t.Errorf("%v", doc)
	}
	jwk := set["keys"].([]any)[0].(map[string]any)
	if jwk["kid"] != key.PublicKey().JWK().Thumbprint() || jwk["kty"] != "EC" || jwk["use"] != "sig" {
		t.Errorf("%v", jwk)
	}

	good := a.cfg.Metadata
	for name, change := range map[string]func(*client.Config){
		"no ID": func(c *client.Config) { c.Metadata.ID = "" }, "an ID by plain HTTP": func(c *client.Config) { c.Metadata.ID = "http://app.example.net/x" },
		"an ID without a path": func(c *client.Config) { c.Metadata.ID = "https://app.example.net" }, "a port": func(c *client.Config) { c.Metadata.ID = "https://app.example.net:444/x" },
		"no redirect URI": func(c *client.Config) { c.Metadata.RedirectURIs = nil }, "a bad one": func(c *client.Config) { c.Metadata.RedirectURIs = []string{"http://app.example.net/"} },
		"no atproto": func(c *client.Config) { c.Metadata.Scope = "repo:x" }, "two spaces": func(c *client.Config) { c.Metadata.Scope = "atproto  x" },
		"a native client with keys": func(c *client.Config) { c.Metadata.Native = true }, "no signer": func(c *client.Config) { c.Keys = []client.Key{{ID: "x"}} },
		"a key twice": func(c *client.Config) { c.Keys = append(c.Keys, c.Keys[0]) }, "a loopback client with keys": func(c *client.Config) { c.Metadata = client.Loopback("", "/") },
	} {
		cfg := client.Config{Metadata: good, Keys: []client.Key{{Signer: key}}}
		change(&cfg)
		if _, err := client.New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := client.New(client.Config{Metadata: client.Loopback("", "callback")}); err != nil {
		t.Error(err)
	}
	k256, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	s := rogueAt(net, "pds.example.net") // takes ES256 only
	b := newApp(t, net, "other.example.net", func(c *client.Config) { c.Keys = []client.Key{{Signer: k256}} })
	if _, err := b.Start(t.Context(), client.Login{Account: s.did}); !errors.Is(err, client.ErrServer) {
		t.Errorf("a key that the server does not take: %v", err)
	}
}
