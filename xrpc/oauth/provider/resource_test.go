package provider

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

type changingSets struct {
	mu   sync.Mutex
	text string
}

func (s *changingSets) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

func (s *changingSets) Expand(context.Context, auth.Scope) ([]auth.Scope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text == "" {
		return nil, errors.New("unreachable")
	}
	scope, err := auth.ParseScope(s.text)
	return []auth.Scope{scope}, err
}

func TestMatrix126to136Calls(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	tok := a.login()
	nonce := w.p.calls.Nonce()
	address := issuer + whoPath
	good := func() string { return a.proof("GET", address, tok.access, nonce) }
	if out := a.callWith("DPoP "+tok.access, good()); out.status != 200 || out.header.Get("DPoP-Nonce") == "" || !strings.Contains(strings.Join(out.header.Values("Access-Control-Expose-Headers"), ","), "DPoP-Nonce") ||
		!strings.Contains(strings.Join(out.header.Values("Vary"), ","), "Authorization") || out.header.Get("Cache-Control") != "private" {
		t.Errorf("good: %d %v %s", out.status, out.header, out.text)
	}
	if out := a.callWith("dpop "+tok.access, good()); out.status != 200 {
		t.Errorf("the scheme in lower case: %d %s", out.status, out.text)
	}
	used := good()
	a.callWith("DPoP "+tok.access, used)
	proof := func(change dpop.Target) string {
		text, err := dpop.Sign(t.Context(), a.key, change, nonce, w.now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	old := func(d time.Duration) string {
		text, err := dpop.Sign(t.Context(), a.key, dpop.Target{Method: "GET", URL: address, Token: tok.access}, nonce, w.now().Add(d))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	thief := &app{world: w, key: newKey(t)}
	for _, x := range []struct {
		name, authorization string
		proofs              []string
		status              int
		code                string
	}{
		{"126 no proof", "DPoP " + tok.access, nil, 401, codeInvalidProof},
		{"126 another key", "DPoP " + tok.access, []string{thief.proof("GET", address, tok.access, nonce)}, 401, codeInvalidProof},
		{"127 replay", "DPoP " + tok.access, []string{used}, 401, codeInvalidProof},
		{"128 htm", "DPoP " + tok.access, []string{proof(dpop.Target{Method: "get", URL: address, Token: tok.access})}, 401, codeInvalidProof},
		{"129 path", "DPoP " + tok.access, []string{proof(dpop.Target{Method: "GET", URL: issuer + "/xrpc/com.example.other", Token: tok.access})}, 401, codeInvalidProof},
		{"129 host", "DPoP " + tok.access, []string{proof(dpop.Target{Method: "GET", URL: "https://other.example.com" + whoPath, Token: tok.access})}, 401, codeInvalidProof},
		{"130 query", "DPoP " + tok.access, []string{proof(dpop.Target{Method: "GET", URL: address + "?a=b#c", Token: tok.access})}, 200, ""},
		{"131 no ath", "DPoP " + tok.access, []string{proof(dpop.Target{Method: "GET", URL: address})}, 401, codeInvalidProof},
		{"131 ath of another token", "DPoP " + tok.access, []string{proof(dpop.Target{Method: "GET", URL: address, Token: "x"})}, 401, codeInvalidProof},
		{"132 old", "DPoP " + tok.access, []string{old(-4 * time.Minute)}, 401, codeInvalidProof},
		{"132 ahead", "DPoP " + tok.access, []string{old(4 * time.Minute)}, 401, codeInvalidProof},
		{"134 no nonce", "DPoP " + tok.access, []string{a.proof("GET", address, tok.access, "")}, 401, codeUseNonce},
		{"135 two", "DPoP " + tok.access, []string{good(), good()}, 401, codeInvalidProof},
		{"136 Bearer", "Bearer " + tok.access, []string{good()}, 400, "InvalidToken"},
		{"136 three parts", "DPoP " + tok.access + " x", []string{good()}, 400, "InvalidToken"},
		{"136 no token", "DPoP ", []string{good()}, 400, "InvalidToken"},
	} {
		t.Run(x.name, func(t *testing.T) {
			out := a.callWith(x.authorization, x.proofs...)
			if out.status != x.status || out.str("error") != x.code || x.status == 401 && (!strings.HasPrefix(out.header.Get("WWW-Authenticate"), "DPoP algs=\"ES256 ES256K\", error=\""+x.code+"\"") || out.header.Get("DPoP-Nonce") == "") {
				t.Errorf("%d %v %s", out.status, out.header, out.text)
			}
		})
	}
	r := httptest.NewRequest("GET", address, nil)
	r.Header.Add("Authorization", "DPoP "+tok.access)
	r.Header.Add("Authorization", "DPoP "+tok.access)
	r.Header.Set("DPoP", good())
	if out := w.do(r); !out.is(400, "InvalidToken") {
		t.Errorf("136: two headers: %d %s", out.status, out.text)
	}
	w.wait(time.Minute)
	if out := a.callWith("DPoP "+tok.access, good()); out.status != 200 {
		t.Errorf("134: a nonce of a minute ago: %d %s", out.status, out.text)
	}
	w.wait(3 * time.Minute)
	if out := a.callWith("DPoP "+tok.access, good()); !out.is(401, codeUseNonce) {
		t.Errorf("134: a nonce of four minutes ago: %d %s", out.status, out.text)
	}
}

// 137: another process over the same store knows the nonces, the proofs and the sessions.
func TestMatrix137Restart(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		w := newWorld(t)
		testRestart(t, w, func() {})
	})
	t.Run("sqlite", func(t *testing.T) {
		testenv.NotOnJS(t, "SQLite has no files")
		file := filepath.Join(t.TempDir(), "pds.sqlite")
		var db *sqlite.DB
		open := func(now func() time.Time) storage.Store {
			var err error
			if db, err = sqlite.Open(t.Context(), file, sqlite.Config{Now: now}); err != nil {
				t.Fatal(err)
			}
			return db.Store()
		}
		w := newWorldOn(t, open)
		testRestart(t, w, func() {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			w.store = open(w.now)
		})
		db.Close()
	})
}

// testRestart is what survives that the store is closed and opened again: everything.
func testRestart(t *testing.T, w *world, reopen func()) {
	restart := func(change ...func(*Config)) {
		reopen()
		w.open(w.store, change...)
	}
	a := w.public()
	tok := a.login()
	nonce := w.p.calls.Nonce()
	used := a.proof("GET", issuer+whoPath, tok.access, nonce)
	if out := a.callWith("DPoP "+tok.access, used); out.status != 200 {
		t.Fatalf("%d %s", out.status, out.text)
	}
	c := w.confidential()
	spent := c.request(nil)
	spent.Set("client_assertion_type", assertionType)
	spent.Set("client_assertion", c.assertion())
	if out := c.send(pathPAR, spent); out.status != 201 {
		t.Fatalf("%d %s", out.status, out.text)
	}
	before := a.push(nil)
	code := w.public()
	unused := code.code(nil)
	restart()
	if out := c.send(pathPAR, spent); !out.is(400, codeInvalidClient) {
		t.Errorf("the assertion: %d %s", out.status, out.text)
	}
	if out := a.callWith("DPoP "+tok.access, used); !out.is(401, codeInvalidProof) {
		t.Errorf("the proof: %d %s", out.status, out.text)
	}
	if out := a.callWith("DPoP "+tok.access, a.proof("GET", issuer+whoPath, tok.access, nonce)); out.status != 200 {
		t.Errorf("the nonce: %d %s", out.status, out.text)
	}
	w.signIn(browser, alice)
	w.browse(browser, before).asks(t, "the request", AskConsent)
	a.refresh(tok.refresh).tokens(t)
	code.exchange(unused, nil).tokens(t)
	if out := code.exchange(unused, nil); !out.is(400, codeInvalidGrant) {
		t.Errorf("the code once more: %d %s", out.status, out.text)
	}
	if n := len(w.sessions()); n != 1 {
		t.Errorf("%d sessions", n)
	}
	// With a memory of its own, a process asks for a new nonce.
	restart(func(c *Config) { c.CallReplays = &dpop.Memory{} })
	w.wait(time.Millisecond)
	fresh := a.proof("GET", issuer+whoPath, tok.access, w.p.calls.Nonce())
	accounts := &accountsOfUses{Replays: w.p.calls.Replays}
	w.p.calls.Replays = accounts
	if out := a.callWith("DPoP "+tok.access, fresh); out.status != 200 {
		t.Errorf("memory: %d %s", out.status, out.text)
	}
	if len(accounts.list) != 1 || accounts.list[0] != string(alice) {
		t.Errorf("the proof is said to be of %q", accounts.list)
	}
	w.wait(time.Second)
	restart(func(c *Config) { c.CallReplays = &dpop.Memory{} })
	if out := a.callWith("DPoP "+tok.access, fresh); !out.is(401, codeUseNonce) {
		t.Errorf("memory, after a restart: %d %s", out.status, out.text)
	}
	a.alive(tok.access, true)
	// With another secret, access tokens are void, and sessions go on.
	tok = a.refresh(tok.refresh).tokens(t)
	w.wait(2 * grace)
	restart(func(c *Config) { c.Secret = []byte(strings.Repeat("another ", 5)) })
	a.alive(tok.access, false)
	a.alive(a.refresh(tok.refresh).tokens(t).access, true)
}

// accountsOfUses notes of which accounts proofs are used.
type accountsOfUses struct {
	dpop.Replays
	list []string
}

func (r *accountsOfUses) Use(ctx context.Context, u dpop.Use, now time.Time) error {
	r.list = append(r.list, u.Account)
	return r.Replays.Use(ctx, u, now)
}

// 138: other kinds of tokens are none for methods.
func TestMatrix138OtherTokens(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	tok := a.login()
	code := a.code(nil)
	other := newWorld(t, func(c *Config) { c.ServiceDID = "did:web:other.example.com" })
	k, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"iss": issuer, "aud": service, "sub": alice, "exp": w.now().Add(time.Hour).Unix(), "jti": "x", "cnf": map[string]any{"jkt": dpop.Thumbprint(a.key.PublicKey())}}
	none := strings.TrimSuffix(sign(t, k, map[string]any{"alg": "none", "typ": accessType}, claims), "x")
	parts := strings.Split(tok.access, ".")
	for name, token := range map[string]string{
		"refresh": tok.refresh, "code": code, "service": sign(t, k, map[string]any{"alg": "ES256K", "typ": "JWT"}, claims), "none": none[:strings.LastIndexByte(none, '.')+1],
		"of another server": other.public().login().access, "other signature": parts[0] + "." + parts[1] + "." + parts[1][:43], "no signature": parts[0] + "." + parts[1] + ".",
		"proof": a.proof("GET", issuer+whoPath, "", ""), "nothing": "x",
	} {
		out := a.callWith("DPoP "+token, a.proof("GET", issuer+whoPath, token, w.p.calls.Nonce()))
		if !out.is(401, codeInvalidToken) {
			t.Errorf("%s: %d %s", name, out.status, out.text)
		}
	}
	// Nor is an access token one for the endpoints here.
	if out := a.refresh(tok.access); !out.is(400, codeInvalidGrant) {
		t.Errorf("%d %s", out.status, out.text)
	}
}

func TestMatrix139ForwardedHost(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	tok := a.login()
	const evil = "https://evil.example.net"
	r := httptest.NewRequest("GET", evil+whoPath, nil)
	for _, name := range []string{"X-Forwarded-Host", "Forwarded", "X-Forwarded-Proto", "X-Original-Host"} {
		r.Header.Set(name, "evil.example.net")
	}
	r.Header.Set("Authorization", "DPoP "+tok.access)
	r.Header.Set("DPoP", a.proof("GET", evil+whoPath, tok.access, w.p.calls.Nonce()))
	if out := w.do(r); !out.is(401, codeInvalidProof) {
		t.Errorf("%d %s", out.status, out.text)
	}
}

// A change that a method makes is refused if the session ends before it.
func TestGuard(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	tok := a.login()
	principal := func() auth.Principal {
		r := httptest.NewRequest("GET", issuer+whoPath, nil)
		r.Header.Set("Authorization", "DPoP "+tok.access)
		r.Header.Set("DPoP", a.proof("GET", issuer+whoPath, tok.access, w.p.calls.Nonce()))
		p, err := w.p.Authenticate(&xrpc.Request{Request: r})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := principal()
	if p.Role != auth.User || p.Credential != auth.OAuthSession || p.DID != alice || p.Client != a.id || p.Session == "" || p.Token == "" || !p.Active || len(p.Basis) != 2 {
		t.Errorf("%+v", p)
	}
	if !p.May(auth.Write(auth.Create, "com.example.note")) || p.May(auth.Write(auth.Create, "com.example.other")) || p.May(auth.ManageCredentials) || p.May(auth.ManageLifecycle) {
		t.Errorf("%v", p.Permissions)
	}
	guard := func(p auth.Principal) error {
		return w.store.Repos.View(t.Context(), alice, func(r storage.Reader) error {
			checks, err := w.p.Guard(p)(t.Context(), r)
			if err == nil && len(checks) != 2 {
				t.Errorf("%v", checks)
			}
			return err
		})
	}
	if err := guard(p); err != nil {
		t.Error(err)
	}
	next := a.refresh(tok.refresh).tokens(t)
	if err := guard(p); err != nil {
		t.Error("in its grace:", err)
	}
	w.wait(2 * grace)
	if err := guard(p); !errors.Is(err, &xrpc.Error{Status: 401, Name: codeInvalidToken}) {
		t.Error("after its grace:", err)
	}
	tok = next
	p = principal()
	a.revoke(tok.refresh)
	if err := guard(p); !errors.Is(err, &xrpc.Error{Status: 401, Name: codeInvalidToken}) {
		t.Error("revoked:", err)
	}
	tok = a.login()
	p = principal()
	w.takeDown(alice)
	if err := guard(p); !errors.Is(err, &xrpc.Error{Status: 401, Name: codeInvalidToken}) {
		t.Error("taken down:", err)
	}
	for _, p := range []auth.Principal{{DID: alice}, {DID: alice, Session: "x"}, {DID: bob, Session: p.Session, Token: p.Token}} {
		if err := guard(p); err == nil {
			t.Errorf("%+v is good", p)
		}
	}
}

// Stored secrets are hashes, and documents have a version.
func TestNothingSecretIsStored(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	code := a.code(nil)
	path := a.push(nil)
	tok := a.exchange(a.code(nil), nil).tokens(t)
	tok2 := a.refresh(tok.refresh).tokens(t)
	s1, _ := parseSecret(refreshText, tok.refresh)
	s2, _ := parseSecret(refreshText, tok2.refresh)
	c, _ := parseSecret(codeText, code)
	secrets := []string{s1.secret, s2.secret, c.secret, tok.access, path[strings.Index(path, "req-")+4:], string(testSecret), a.verifier}
	n := 0
	look := func(key string, value []byte) {
		n++
		for i, s := range secrets {
			if strings.Contains(key, s) || strings.Contains(string(value), s) {
				t.Errorf("secret %d lies in %s", i, key)
			}
		}
		if strings.HasPrefix(key, "oauth/") && strings.HasPrefix(string(value), "{") {
			var v struct {
				Version int `json:"v"`
			}
			if err := json.Unmarshal(value, &v); err != nil || v.Version != version {
				t.Errorf("%s: %s", key, value)
			}
		}
	}
	err := w.store.KV.Read(t.Context(), func(r storage.KVReader) error {
		for pair, err := range r.Keys(t.Context(), storage.Range{}) {
			if err != nil {
				return err
			}
			look(pair.Key, pair.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, did := range []syntax.DID{alice} {
		err := w.store.Repos.View(t.Context(), did, func(r storage.Reader) error {
			for pair, err := range r.Keys(t.Context(), storage.Prefix("oauth/")) {
				if err != nil {
					return err
				}
				look(pair.Key, pair.Value)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 {
		t.Errorf("only %d keys", n)
	}
}
