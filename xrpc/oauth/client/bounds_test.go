package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

const testDID = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")

// Addresses that strangers name are of servers, by HTTPS, and have one form in which they are compared.
func TestAddressesOfAllForms(t *testing.T) {
	pad := func(begin string, n int) string { return begin + strings.Repeat("x", n-len(begin)) }
	for address, ok := range map[string]bool{
		"https://a.example/x?y=z": true, "https://a.example": true, "https://[::1]:8443/": true, pad("https://a.example/", 2048): true, pad("https://a.example/", 2049): false,
		"": false, "a.example": false, "https:": false, "https:///x": false, "https:x": false, "https://u@a.example/": false, "https://a.example/#": false, "https://a.example/#x": false,
		"ftp://a.example/": false, "https://%zz/": false,
	} {
		for _, development := range []bool{false, true} {
			if u, err := parseAddress(address, development); (err == nil) != ok || (u != nil) != ok {
				t.Errorf("%.40s, in development %v: %v, %v", address, development, u, err)
			}
		}
	}
	for address, ok := range map[string]bool{
		"http://localhost/": true, "http://LOCALHOST:1/": true, "http://127.0.0.1/": true, "http://127.9.9.9:80": true, "http://[::1]/": true, "http://a.example/": false, "http://10.0.0.1/": false,
		"http://localhost.example/": false,
	} {
		for _, development := range []bool{false, true} {
			if _, err := parseAddress(address, development); (err == nil) != (ok && development) {
				t.Errorf("%s, in development %v: %v", address, development, err)
			}
		}
	}
	for address, want := range map[string]string{
		"https://A.example": "https://a.example", "https://a.example/": "https://a.example", "https://a.example:443/": "https://a.example", "https://a.example:80": "https://a.example:80",
		"https://[::A]:443": "https://[::a]", "https://[::1]:8443": "https://[::1]:8443", "http://localhost:80/": "http://localhost", "http://localhost:443": "http://localhost:443",
		"http://[::1]": "http://[::1]", "https://a.example/x": "", "https://a.example?x": "", "https://a.example/?": "", "https://a.example//": "",
	} {
		if got, err := parseOrigin(address, true); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
	}
}

// An ID of a session is a DID and a random part, and nothing else.
func TestSessionIDsThatAreNone(t *testing.T) {
	for text, ok := range map[string]bool{
		string(newSessionID(testDID)): true, string(testDID) + "/x": true, string(testDID) + "/" + strings.Repeat("x", 64): true, string(testDID) + "/" + strings.Repeat("x", 65): false,
		"": false, string(testDID): false, string(testDID) + "/": false, string(testDID) + "/x/y": false, "alice/x": false, "/x": false,
	} {
		id, err := ParseSessionID(text)
		if (err == nil) != ok || ok && (string(id) != text || id.DID() != testDID) || !ok && id != "" {
			t.Errorf("%q: %q, %v", text, id, err)
		}
	}
}

// What a server answers with tokens is bounded, each part of it.
func TestTokensAtTheirBounds(t *testing.T) {
	good := tokens{Access: "a", Type: "DPoP", Refresh: "r", Scope: "atproto", Subject: string(testDID)}
	long := func(n int) string { return strings.Repeat("x", n) }
	for name, c := range map[string]struct {
		change func(*tokens)
		ok     bool
	}{
		"as they are": {func(*tokens) {}, true}, "no refresh token": {func(k *tokens) { k.Refresh = "" }, true}, "the type in lower case": {func(k *tokens) { k.Type = "dpop" }, true},
		"the longest tokens":     {func(k *tokens) { k.Access, k.Refresh = long(maxToken), long(maxToken) }, true},
		"a longer token":         {func(k *tokens) { k.Access = long(maxToken + 1) }, false},
		"a longer refresh token": {func(k *tokens) { k.Refresh = long(maxToken + 1) }, false},
		"the longest scope":      {func(k *tokens) { k.Scope = "atproto " + long(maxScope-8) }, true},
		"a longer scope":         {func(k *tokens) { k.Scope = "atproto " + long(maxScope-7) }, false},
		"no access token":        {func(k *tokens) { k.Access = "" }, false}, "a bearer token": {func(k *tokens) { k.Type = "Bearer" }, false},
		"another scope": {func(k *tokens) { k.Scope = "atprotox" }, false}, "no DID": {func(k *tokens) { k.Subject = "alice.test" }, false},
	} {
		k := good
		c.change(&k)
		if err := k.check("https://a.example"); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrServer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A token is renewed a while before it expires: of a short life, before its last quarter; and one without
// an end is not.
func TestWhenTokensAreStale(t *testing.T) {
	text, _, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	h, err := newHeld(record{Key: text, Renewed: now, Expires: now.Add(20 * time.Second)}, nil)
	if err != nil || h.renewBefore != 5*time.Second {
		t.Fatalf("%v, %v", h, err)
	}
	for later, want := range map[time.Duration][2]bool{
		0: {false, false}, 15*time.Second - 1: {false, false}, 15 * time.Second: {true, false}, 20*time.Second - 1: {true, false}, 20 * time.Second: {true, true},
	} {
		if got := [2]bool{h.stale(now.Add(later)), h.expired(now.Add(later))}; got != want {
			t.Errorf("after %v: %v", later, got)
		}
	}
	for range 50 {
		h, err = newHeld(record{Key: text, Renewed: now, Expires: now.Add(time.Hour)}, nil)
		if err != nil || h.renewBefore < 10*time.Second || h.renewBefore >= 40*time.Second {
			t.Fatalf("%v, %v", h, err)
		}
	}
	if h, err = newHeld(record{Key: text, Renewed: now}, nil); err != nil || h.stale(now.Add(time.Hour)) || h.expired(now.Add(time.Hour)) {
		t.Errorf("without an end: %v", err)
	}
	for _, bad := range []string{"", "!", text + "A", text[1:]} {
		if h, err := newHeld(record{Key: bad}, nil); err == nil {
			t.Errorf("the key %q: %v", bad, h)
		}
	}
	if got := (&held{raw: []byte("raw")}).stored(); string(got) != "raw" {
		t.Errorf("%q", got)
	}
	if got := (&held{raw: []byte("raw"), before: []byte("before")}).stored(); string(got) != "before" {
		t.Errorf("%q", got)
	}
}

// What is stored under one name does not count under another, nor in another version.
func TestSessionsStoredElsewhere(t *testing.T) {
	c := testClient(t)
	text, _, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	id := newSessionID(testDID)
	for name, x := range map[string]struct {
		r  record
		ok bool
	}{
		"as it is": {record{Version: version, DID: testDID, Key: text}, true}, "another version": {record{Version: version + 1, DID: testDID, Key: text}, false},
		"another account": {record{Version: version, DID: "did:web:a.example", Key: text}, false}, "another key": {record{Version: version, DID: testDID, Key: "x"}, false},
	} {
		raw, err := c.seal(sessionPlace+string(id), x.r)
		if err != nil {
			t.Fatal(err)
		}
		h, err := c.unsealSession(id, raw)
		if (err == nil) != x.ok || (h != nil) != x.ok {
			t.Errorf("%s: %v, %v", name, h, err)
		}
		if _, random, _ := strings.Cut(string(id), "/"); err != nil && strings.Contains(err.Error(), random) {
			t.Errorf("%s: the error has the secret part of the ID: %v", name, err)
		}
	}
	if h, err := c.unsealSession(id, []byte("{")); err == nil {
		t.Errorf("damaged: %v", h)
	}
}

// testClient is a client of a site.
func testClient(t *testing.T, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Metadata: Metadata{ID: "https://app.example/m.json", RedirectURIs: []string{"https://app.example/cb"}}}
	for _, fn := range change {
		fn(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What a program configures is not changed: two clients may be made of it.
func TestKeysOfTheCallerAreNotChanged(t *testing.T) {
	signer, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	keys := []Key{{Signer: signer}}
	if c := testClient(t, func(cfg *Config) { cfg.Keys = keys }); c.cfg.Keys[0].ID == "" || keys[0].ID != "" {
		t.Errorf("%q, the caller's %q", c.cfg.Keys[0].ID, keys[0].ID)
	}
}

// The metadata of a client are what servers take.
func TestMetadataOfAllForms(t *testing.T) {
	web := Metadata{ID: "https://app.example/m.json", RedirectURIs: []string{"https://app.example/cb"}, Scope: "atproto repo:a.b.c"}
	for name, c := range map[string]struct {
		change       func(*Metadata)
		confidential bool
		ok           bool
	}{
		"a web client": {func(*Metadata) {}, false, true}, "one with keys": {func(*Metadata) {}, true, true}, "no scope": {func(m *Metadata) { m.Scope = "" }, false, true},
		"a native client": {func(m *Metadata) {
			m.Native = true
			m.RedirectURIs = []string{"example.app:/cb", "http://127.0.0.1/cb"}
		}, false, true},
		"a native client and keys": {func(m *Metadata) { m.Native = true }, true, false},
		"loopback":                 {func(m *Metadata) { *m = Loopback("atproto", "/") }, false, true},
		"loopback and keys":        {func(m *Metadata) { *m = Loopback("atproto", "/") }, true, false},
		"an ID by HTTP":            {func(m *Metadata) { m.ID = "http://app.example/m.json" }, false, false},
		"no host":                  {func(m *Metadata) { m.ID = "https:///m.json" }, false, false},
		"a port":                   {func(m *Metadata) { m.ID = "https://app.example:443/m.json" }, false, false},
		"credentials":              {func(m *Metadata) { m.ID = "https://u@app.example/m.json" }, false, false},
		"a fragment":               {func(m *Metadata) { m.ID = "https://app.example/m.json#x" }, false, false},
		"no path":                  {func(m *Metadata) { m.ID = "https://app.example" }, false, false},
		"the path /":               {func(m *Metadata) { m.ID = "https://app.example/" }, false, false},
		"no address":               {func(m *Metadata) { m.ID = "https://%zz" }, false, false},
		"no ID":                    {func(m *Metadata) { m.ID = "" }, false, false},
		"no atproto":               {func(m *Metadata) { m.Scope = "repo:a.b.c" }, false, false},
		"a space too many":         {func(m *Metadata) { m.Scope = "atproto  repo:a.b.c" }, false, false},
		"no redirects":             {func(m *Metadata) { m.RedirectURIs = nil }, false, false},
		"a redirect by HTTP":       {func(m *Metadata) { m.RedirectURIs = []string{"http://app.example/cb"} }, false, false},
		"a scheme for the web":     {func(m *Metadata) { m.RedirectURIs = []string{"example.app:/cb"} }, false, false},
		"a redirect of no scheme":  {func(m *Metadata) { m.Native, m.RedirectURIs = true, []string{"/cb"} }, false, false},
		"a redirect's fragment":    {func(m *Metadata) { m.RedirectURIs = []string{"https://app.example/cb#x"} }, false, false},
		"a redirect's credentials": {func(m *Metadata) { m.RedirectURIs = []string{"https://u@app.example/cb"} }, false, false},
		"a redirect that is none":  {func(m *Metadata) { m.RedirectURIs = []string{"https://%zz"} }, false, false},
	} {
		m := web
		c.change(&m)
		if err := m.check(c.confidential); (err == nil) != c.ok || c.ok && m.Scope == "" {
			t.Errorf("%s: %v, scope %q", name, err, m.Scope)
		}
	}
	local := Loopback("", "cb?x=1")
	if local.RedirectURIs[0] != "http://127.0.0.1/cb?x=1" || local.Scope != "atproto" {
		t.Errorf("%+v", local)
	}
	for uri, ok := range map[string]bool{
		"http://127.0.0.1/cb?x=1": true, "http://127.0.0.1:4000/cb?x=1": true, "http://127.0.0.1:4000/cb": false, "http://127.0.0.1:4000/CB?x=1": false, "https://127.0.0.1:4000/cb?x=1": false,
		"http://127.0.0.2:4000/cb?x=1": false, "http://u@127.0.0.1:4000/cb?x=1": false, "http://127.0.0.1:4000/cb?x=1#y": false, "http://127.0.0.1:x/cb?x=1": false,
	} {
		if got := local.redirects(uri); got != ok {
			t.Errorf("%s: %v", uri, got)
		}
	}
	for known, given := range map[string]string{
		"http://127.0.0.1:80/cb": "http://127.0.0.1:81/cb", "http://app.example/cb": "http://app.example:1/cb", "https://app.example/cb": "https://app.example:1/cb", "http://%zz": "http://127.0.0.1:1/",
	} {
		if m := (Metadata{RedirectURIs: []string{known}}); m.redirects(given) || !m.redirects(known) {
			t.Errorf("%s and %s", known, given)
		}
	}
	for scope, ok := range map[string]bool{"atproto": true, "repo:a.b.c atproto": true, "repo:a.b.c": false, "atproto repo:x": false, "": false, "atproto ": false} {
		if err := web.declares(scope); (err == nil) != ok {
			t.Errorf("scope %q: %v", scope, err)
		}
	}
}

// A configuration has defaults, and what it names is used.
func TestConfigurations(t *testing.T) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c := testClient(t, func(c *Config) { c.Transport = transport }); c.calls != transport {
		t.Error("another transport makes the calls")
	}
	if c := testClient(t, func(c *Config) { c.Discovery = &Discovery{HTTP: &http.Client{Transport: transport}} }); c.calls != transport {
		t.Error("another transport than that of Discovery makes the calls")
	}
	if c := testClient(t, func(c *Config) { c.Discovery = &Discovery{HTTP: &http.Client{}} }); c.calls != http.DefaultTransport {
		t.Error("another transport than that of Discovery's client makes the calls")
	}
	if c := testClient(t); c.calls == nil || c.calls == http.DefaultTransport {
		t.Error("calls go to any address")
	}
	for life, want := range map[time.Duration]time.Duration{-1: time.Hour, 0: time.Hour, 1: 1} {
		if c := testClient(t, func(c *Config) { c.LoginLife = life }); c.cfg.LoginLife != want {
			t.Errorf("LoginLife %v: %v", life, c.cfg.LoginLife)
		}
	}
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	c := testClient(t, func(c *Config) { c.Keys = []Key{{Signer: key}, {ID: "other", Signer: key}} })
	thumbprint := key.PublicKey().JWK().Thumbprint()
	if k, ok := c.key(thumbprint); !ok || k.ID != thumbprint {
		t.Errorf("%v, %v", k, ok)
	}
	if k, ok := c.key("none"); ok || k.Signer != nil {
		t.Errorf("%v, %v", k, ok)
	}
	for _, x := range []struct {
		methods, algorithms []string
		ok                  bool
	}{{[]string{authKey}, []string{"ES256"}, true}, {[]string{authNone}, []string{"ES256"}, false}, {[]string{authKey}, []string{"ES256K"}, false}} {
		if a, err := c.chooseAuth(&Server{AuthMethods: x.methods, AuthAlgorithms: x.algorithms}); (err == nil) != x.ok || (a.KeyID == thumbprint) != x.ok {
			t.Errorf("%+v: %v, %v", x, a, err)
		}
	}
	if a, err := testClient(t).chooseAuth(&Server{}); err != nil || a.KeyID != "" {
		t.Errorf("a public client: %v, %v", a, err)
	}
	if s := (&Server{}); !s.protects("https://pds.example") {
		t.Error("a server that says nothing denies")
	}
	if s := (&Server{Resources: []string{"https://other.example"}}); s.protects("https://pds.example") || !s.protects("https://other.example") {
		t.Error("the list of a server does not count")
	}
}

// Which errors say that something may succeed later, and which that a server does wrong.
func TestKindsOfErrors(t *testing.T) {
	for status, want := range map[int]bool{400: false, 428: false, 429: true, 430: false, 499: false, 500: true, 503: true} {
		if got := errors.Is(&Error{Status: status}, ErrTemporary); got != want {
			t.Errorf("status %d is temporary: %v", status, got)
		}
	}
	if errors.Is(&Error{Status: 503}, ErrServer) || !errors.Is(&Error{Code: "a"}, &Error{Code: "a", Status: 7}) || errors.Is(&Error{Code: "a"}, &Error{Code: "b"}) {
		t.Error("an error is another one")
	}
	for _, x := range []struct {
		err  error
		want error
	}{{safehttp.ErrAddress, ErrServer}, {safehttp.ErrTooLarge, ErrServer}, {errRedirect, ErrServer}, {context.DeadlineExceeded, ErrTemporary}} {
		if err := transportError(fmt.Errorf("x: %w", x.err)); !errors.Is(err, x.want) || !errors.Is(err, x.err) {
			t.Errorf("%v: %v", x.err, err)
		}
	}
	if err := identityError(identity.ErrUnavailable); !errors.Is(err, ErrTemporary) {
		t.Error(err)
	}
	if err := identityError(identity.ErrNotFound); errors.Is(err, ErrTemporary) || !errors.Is(err, identity.ErrNotFound) {
		t.Error(err)
	}
	for _, x := range []struct {
		err  error
		want bool
	}{
		{&answerError{"x", ErrTemporary}, true}, {&Error{Status: 500}, true}, {&Error{Status: 499}, false}, {&Error{Status: 429}, false}, {ErrServer, false}, {nil, false},
	} {
		if got := ambiguous(x.err); got != x.want {
			t.Errorf("%v is ambiguous: %v", x.err, got)
		}
	}
	long := strings.Repeat("x", maxDescription)
	if clip(long+"y") != long || clip(long) != long || clip("") != "" {
		t.Error("a text is not cut where it must be")
	}
}

// The documents of a client have their headers, and nobody changes them.
func TestDocumentsOfAClient(t *testing.T) {
	h := testClient(t).MetadataHandler()
	for method, status := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "OPTIONS": 405} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, "/", nil))
		good := rec.Header().Get("Content-Type") == "application/json" && rec.Header().Get("Access-Control-Allow-Origin") == "*" && rec.Header().Get("Cache-Control") == "max-age=60"
		if rec.Code != status || good != (status == 200) || (rec.Header().Get("Allow") == "GET, HEAD") == (status == 200) {
			t.Errorf("%s: %d %v", method, rec.Code, rec.Header())
		}
	}
	rec := httptest.NewRecorder()
	jsonHandler(func() {}).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	if rec.Code != 500 {
		t.Errorf("what is no JSON: %d", rec.Code)
	}
	native := testClient(t, func(c *Config) { c.Metadata.Native = true })
	if d := native.document(); d.Type != "native" || d.AuthMethod != authNone || d.Keys != nil {
		t.Errorf("%+v", d)
	}
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	for uri, inside := range map[string]bool{"": true, "https://app.example/jwks": false} {
		c := testClient(t, func(c *Config) { c.Metadata.KeysURI, c.Keys = uri, []Key{{Signer: key}} })
		if d := c.document(); d.Type != "web" || d.AuthMethod != authKey || d.AuthAlg != "ES256" || (d.Keys != nil) != inside || d.KeysURI != uri {
			t.Errorf("%+v", d)
		}
	}
	if set := native.keySet(); set.Keys == nil || len(set.Keys) != 0 {
		t.Errorf("%+v", set)
	}
}

// A login begins by a form of the app's own pages. The browser that comes back has its cookie; one of
// another length is not the client's.
func TestFormsThatBeginALogin(t *testing.T) {
	c := testClient(t)
	for name, r := range map[string]*http.Request{
		"GET": httptest.NewRequest("GET", "https://app.example/login", nil), "from elsewhere": httptest.NewRequest("POST", "https://app.example/login", nil),
	} {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		if err := c.StartHTTP(httptest.NewRecorder(), r, Login{}); !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if name, secure := c.cookieName(); name != browserCookie || !secure {
		t.Errorf("%s, %v", name, secure)
	}
	local := testClient(t, func(c *Config) { c.Metadata = Loopback("", "/") })
	if name, secure := local.cookieName(); name != localBrowserCookie || secure {
		t.Errorf("%s, %v", name, secure)
	}
	rec := httptest.NewRecorder()
	_, _, err := c.FinishHTTP(rec, httptest.NewRequest("GET", "https://app.example/cb?state=x", nil))
	if h := rec.Header(); !errors.Is(err, ErrState) || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%v, %v", err, h)
	}
	if _, err := c.takeState(t.Context(), url.Values{"state": {strings.Repeat("x", maxDescription)}}, ""); !errors.Is(err, ErrState) || strings.Contains(err.Error(), "no state") {
		t.Errorf("the longest state: %v", err)
	}
	if _, err := c.takeState(t.Context(), url.Values{"state": {strings.Repeat("x", maxDescription+1)}}, ""); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "no state") {
		t.Errorf("a longer state: %v", err)
	}
}

// Logins in memory end at their time, and the oldest leave first.
func TestLoginsInMemoryEnd(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := &Memory{MaxLogins: 2, Now: func() time.Time { return now }}
	put := func(key string, life time.Duration) {
		t.Helper()
		if err := m.Put(t.Context(), key, []byte(key), now.Add(life)); err != nil {
			t.Fatal(err)
		}
	}
	take := func(key string, ok bool) {
		t.Helper()
		v, err := m.Take(t.Context(), key)
		if ok && (err != nil || string(v) != key) || !ok && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %q, %v", key, v, err)
		}
	}
	put("a", time.Minute)
	put("b", time.Minute)
	put("c", time.Minute) // the oldest leaves
	take("a", false)
	now = now.Add(time.Minute - 1)
	take("b", true)
	now = now.Add(1)
	take("c", false)
	put("d", time.Minute)
	now = now.Add(time.Minute)
	put("e", time.Minute)
	if len(m.states) != 1 || len(m.order) != 1 {
		t.Errorf("%d states, %d in order", len(m.states), len(m.order))
	}
	for i := range 100 { // those that are taken are not kept in mind for ever
		put(fmt.Sprint(i), time.Hour)
		take(fmt.Sprint(i), true)
		if len(m.order) > 2*2+1 {
			t.Fatalf("%d in order", len(m.order))
		}
	}
	if m := (&Memory{}); m.now().IsZero() {
		t.Error("there is no time")
	}
}

// Files that are damaged are an error, except to who does not want them any more. What a crash has left
// of one, or somebody else's file, is none.
func TestDamagedFiles(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	f := &Files{Dir: t.TempDir(), Now: func() time.Time { return now }}
	ctx := t.Context()
	id, other := newSessionID(testDID), newSessionID("did:web:a.example")
	for _, id := range []SessionID{id, other} {
		if err := f.CompareAndSwap(ctx, id, nil, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	count := func(did syntax.DID) (n int, err error) {
		for _, err := range f.List(ctx, did) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	name := filepath.Base(f.path("session", string(id)))
	for _, left := range []string{name + ".tmp", "session-", "session-xyz", name[:len(name)-1], name[:len(name)-1] + "g", "x" + name} {
		if err := os.WriteFile(filepath.Join(f.Dir, left), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if isNamed(left, "session-") {
			t.Errorf("%s is one of ours", left)
		}
	}
	if n, err := count(""); n != 2 || err != nil {
		t.Errorf("%d sessions, %v", n, err)
	}
	if n, err := count(testDID); n != 1 || err != nil {
		t.Errorf("%d sessions of an account, %v", n, err)
	}
	if err := os.WriteFile(f.path("session", string(id)), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var damage *exactjson.Error
	if v, err := f.Get(ctx, id); !errors.As(err, &damage) || v != nil {
		t.Errorf("Get: %q, %v", v, err)
	}
	if err := f.CompareAndSwap(ctx, id, nil, []byte("w")); !errors.As(err, &damage) {
		t.Errorf("CompareAndSwap: %v", err)
	}
	if err := f.Delete(ctx, id, []byte("v")); !errors.As(err, &damage) {
		t.Errorf("Delete of what it had: %v", err)
	}
	if _, err := count(""); !errors.As(err, &damage) {
		t.Errorf("List: %v", err)
	}
	if err := f.Delete(ctx, id, nil); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if n, err := count(""); n != 1 || err != nil {
		t.Errorf("then: %d sessions, %v", n, err)
	}
	// Logins end at their time, and those that have ended are removed.
	if err := f.Put(ctx, "a", []byte("v"), now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	if v, err := f.Take(ctx, "a"); !errors.Is(err, ErrNotFound) || v != nil {
		t.Errorf("%q, %v", v, err)
	}
	for _, key := range []string{"b", "c"} {
		if err := f.Put(ctx, key, []byte(key), now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	if _, err := os.Stat(f.path("login", "b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a login that has ended: %v", err)
	}
	if _, err := os.Stat(f.path("login", "c")); err != nil {
		t.Error(err)
	}
	// A folder that cannot be made, or read.
	none := &Files{Dir: filepath.Join(f.path("login", "c"), "x")}
	if _, err := none.Lock(ctx, "a", time.Minute); err == nil {
		t.Error("a lock in no folder")
	}
	if err := none.Put(ctx, "a", nil, now); err == nil {
		t.Error("a login in no folder")
	}
	for _, err := range none.List(ctx, "") {
		if err == nil {
			t.Error("a session in no folder")
		}
	}
	for _, err := range (&Files{Dir: filepath.Join(f.Dir, "none")}).List(ctx, "") {
		t.Errorf("a folder that is not there yet: %v", err)
	}
}

// A port that somebody else listens on is an error before anything is begun.
func TestLoginAtAPortInUse(t *testing.T) {
	testenv.NotOnJS(t, "there are no sockets")
	c, err := New(Config{Metadata: Loopback("", "/")})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s, err := c.LoginLocal(t.Context(), Login{RedirectURI: "http://" + taken.Addr().String() + "/"}, func(string) error {
		t.Error("a page is shown")
		return nil
	})
	if s != nil || err == nil {
		t.Errorf("%v, %v", s, err)
	}
}

// acceptRecorder notes what kind of answer was asked for, and has none.
type acceptRecorder struct{ accept string }

func (a *acceptRecorder) RoundTrip(r *http.Request) (*http.Response, error) {
	a.accept = r.Header.Get("Accept")
	return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// Servers are asked for JSON, since some have a page at the same address.
func TestDocumentsAreAskedForAsJSON(t *testing.T) {
	var a acceptRecorder
	if text, ok, err := document(t.Context(), &http.Client{Transport: &a}, "https://a.example/x"); text != nil || ok || err != nil || a.accept != "application/json" {
		t.Errorf("%q, %v, %v, asked for %q", text, ok, err, a.accept)
	}
}

// A callback is taken once, within its time, by the browser that began the login, and by a version that
// has stored it. Whoever sends a victim to the callback of a login of his own is refused.
func TestCallbackOfAnotherBrowser(t *testing.T) {
	ctx := t.Context()
	c, err := New(Config{Metadata: Loopback("", "/")})
	if err != nil {
		t.Fatal(err)
	}
	put := func(state string, st loginState) {
		t.Helper()
		name := digest.Hash(state)
		raw, err := c.seal(statePlace+name, st)
		if err == nil {
			err = c.cfg.States.Put(ctx, name, raw, time.Now().Add(time.Hour))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	good := loginState{Version: version, Browser: digest.Hash("mine"), Expires: time.Now().Add(time.Hour)}
	old, late, anybody := good, good, good
	old.Version, late.Expires, anybody.Browser = version-1, time.Now().Add(-time.Hour), ""
	for name, x := range map[string]struct {
		st      loginState
		query   url.Values
		browser string
		want    error
	}{
		"its own":            {good, url.Values{"state": {"s"}}, "mine", nil},
		"another browser":    {good, url.Values{"state": {"s"}}, "yours", ErrState},
		"no browser":         {good, url.Values{"state": {"s"}}, "", ErrState},
		"any browser":        {anybody, url.Values{"state": {"s"}}, "yours", nil},
		"another version":    {old, url.Values{"state": {"s"}}, "mine", ErrState},
		"too late":           {late, url.Values{"state": {"s"}}, "mine", ErrState},
		"another state":      {good, url.Values{"state": {"x"}}, "mine", ErrState},
		"no state":           {good, url.Values{}, "mine", ErrState},
		"two states":         {good, url.Values{"state": {"s", "s"}}, "mine", ErrState},
		"two codes":          {good, url.Values{"state": {"s"}, "code": {"a", "b"}}, "mine", ErrState},
		"two issuers":        {good, url.Values{"state": {"s"}, "iss": {"a", "b"}}, "mine", ErrState},
		"errors of two kind": {good, url.Values{"state": {"s"}, "error": {"a", "b"}}, "mine", ErrState},
	} {
		put("s", x.st)
		st, err := c.takeState(ctx, x.query, x.browser)
		if !errors.Is(err, x.want) || (st != nil) != (x.want == nil) {
			t.Errorf("%s: %v, %v", name, st, err)
		}
		if x.want == nil {
			if again, err := c.takeState(ctx, x.query, x.browser); again != nil || !errors.Is(err, ErrState) {
				t.Errorf("%s, a second time: %v, %v", name, again, err)
			}
		}
		c.cfg.States.Take(ctx, digest.Hash("s"))
	}
	if err := c.cfg.States.Put(ctx, digest.Hash("s"), []byte("{"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if st, err := c.takeState(ctx, url.Values{"state": {"s"}}, "mine"); st != nil || err == nil || errors.Is(err, ErrState) {
		t.Errorf("a damaged login: %v, %v", st, err)
	}
}
