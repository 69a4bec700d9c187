package provider

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

const (
	issuer   = "https://pds.example.com"
	alice    = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bob      = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
	clientID = "https://app.example.net/oauth-client-metadata.json"
	redirect = "https://app.example.net/cb"
	service  = "did:web:pds.example.com"
)

// world is a provider with two accounts, and the Internet that it sees.
type world struct {
	t        testing.TB
	store    storage.Store
	accounts *account.Store
	p        *Provider
	mux      http.Handler
	logins   *testLogins
	pages    *testPages

	mu      sync.Mutex
	clock   time.Time
	docs    map[string]func(*http.Request) (*http.Response, error)
	fetches atomic.Int64
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

var testSecret = []byte("a secret of at least thirty-two bytes")

func newWorld(t testing.TB, change ...func(*Config)) *world {
	return newWorldOn(t, func(now func() time.Time) storage.Store { return memory.New(memory.Config{Now: now}) }, change...)
}

// newWorldOn is newWorld on a store.
func newWorldOn(t testing.TB, open func(now func() time.Time) storage.Store, change ...func(*Config)) *world {
	w := &world{
		t: t, clock: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), logins: &testLogins{signedIn: make(map[string][]SignedIn)},
		pages: &testPages{}, docs: make(map[string]func(*http.Request) (*http.Response, error)),
	}
	w.store = open(w.now)
	w.open(w.store, change...)
	w.makeAccounts()
	return w
}

func (w *world) makeAccounts() {
	for did, handle := range map[syntax.DID]syntax.Handle{alice: "alice.test", bob: "bob.test"} {
		key, err := crypto.GenerateKey(crypto.K256)
		if err != nil {
			w.t.Fatal(err)
		}
		a := account.Account{DID: did, Handle: handle, Email: string(handle) + "@example.com", Created: w.now()}
		if _, err := w.accounts.Create(context.Background(), a, key, repo.Batch{}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// open starts the provider, or starts it again, over a store.
func (w *world) open(store storage.Store, change ...func(*Config)) {
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		w.t.Fatal(err)
	}
	w.accounts = account.Open(repo.Config{Store: store, TempDir: w.t.TempDir(), Now: w.now}, box)
	cfg := Config{
		Accounts: w.accounts, Issuer: issuer, ServiceDID: service, Secret: testSecret, Logins: w.logins, Pages: w.pages, Now: w.now,
		HTTP: &http.Client{Transport: nettest.RoundTrip(w.fetch)}, Sets: testSets{},
	}
	for _, fn := range change {
		fn(&cfg)
	}
	w.p = New(cfg)
	mux := http.NewServeMux()
	w.p.Mount(mux)
	srv := &xrpc.Server{}
	srv.Handle(xrpc.Route{NSID: "com.example.who", Auth: w.p.Authenticate, Handler: xrpc.Query(
		func(_ context.Context, r *xrpc.Request, _ struct{}) (map[string]string, error) {
			return map[string]string{"did": string(r.Principal.DID), "scope": r.Principal.Permissions.String(), "client": r.Principal.Client}, nil
		})})
	mux.Handle("/xrpc/", srv)
	w.mux = mux
}

type testSets struct{}

func (testSets) Expand(_ context.Context, include auth.Scope) ([]auth.Scope, error) {
	set, _, _ := include.Include()
	if set != "com.example.auth" {
		return nil, fmt.Errorf("there is no set %s", set)
	}
	s, err := auth.ParseScope("repo:com.example.note")
	return []auth.Scope{s}, err
}

// fetch is the Internet.
func (w *world) fetch(r *http.Request) (*http.Response, error) {
	w.fetches.Add(1)
	w.mu.Lock()
	fn := w.docs[r.URL.String()]
	w.mu.Unlock()
	if fn == nil {
		return respond(404, "text/plain", "none"), nil
	}
	return fn(r)
}

func respond(status int, kind, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))}
}

func (w *world) publish(address string, fn func(*http.Request) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.docs[address] = fn
}

func (w *world) publishJSON(address string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	w.publish(address, func(*http.Request) (*http.Response, error) {
		return respond(200, "application/json", string(text)), nil
	})
}

// testLogins knows browsers by the cookie "device".
type testLogins struct {
	mu       sync.Mutex
	signedIn map[string][]SignedIn
}

func (l *testLogins) Device(w http.ResponseWriter, r *http.Request) (Device, error) {
	c, err := r.Cookie("device")
	if err != nil {
		c = &http.Cookie{Name: "device", Value: rand.Text()}
		http.SetCookie(w, c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return Device{ID: c.Value, Accounts: append([]SignedIn{}, l.signedIn[c.Value]...)}, nil
}

func (w *world) signIn(device string, did syntax.DID) {
	a, err := w.accounts.ByDID(context.Background(), did)
	if err != nil {
		w.t.Fatal(err)
	}
	w.signInAs(device, SignedIn{DID: did, At: w.now(), Credentials: a.Credentials})
}

func (w *world) signInAs(device string, s SignedIn) {
	w.logins.mu.Lock()
	defer w.logins.mu.Unlock()
	list := w.logins.signedIn[device]
	for i := range list {
		if list[i].DID == s.DID {
			list[i] = s
			return
		}
	}
	w.logins.signedIn[device] = append(list, s)
}

// testPages writes what it is to show.
type testPages struct {
	mu   sync.Mutex
	last Prompt
}

func (p *testPages) Prompt(w http.ResponseWriter, _ *http.Request, q Prompt) {
	p.mu.Lock()
	p.last = q
	p.mu.Unlock()
	w.Header().Set("X-Ask", string(q.Ask))
	w.Header().Set("X-Request", q.Request) // for a browser in another process
	w.Header().Set("X-Form", q.Form)
	io.WriteString(w, "<p>"+string(q.Ask))
}

func (p *testPages) Error(w http.ResponseWriter, _ *http.Request, status int, e *Error) {
	w.Header().Set("X-Error", e.Code)
	w.WriteHeader(status)
	io.WriteString(w, "<p>an error: "+e.Code+": "+e.Description)
}

// reply is an answer of the server.
type reply struct {
	status int
	header http.Header
	text   string
	json   map[string]any
}

func (r reply) str(name string) string { s, _ := r.json[name].(string); return s }

// is reports whether the answer is an error of a code.
func (r reply) is(status int, code string) bool { return r.status == status && r.str("error") == code }

func (w *world) do(r *http.Request) reply {
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, r)
	out := reply{status: rec.Code, header: rec.Header(), text: rec.Body.String()}
	if strings.HasPrefix(out.header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(rec.Body.Bytes(), &out.json); err != nil {
			w.t.Errorf("%s: %v", out.text, err)
		}
	}
	return out
}

func (w *world) get(path string) reply {
	return w.do(httptest.NewRequest("GET", issuer+path, nil))
}

// app is a client.
type app struct {
	*world
	id, redirect, scope string
	owner               syntax.DID         // who lets it in; empty: alice
	key                 *crypto.PrivateKey // for DPoP
	authKey             *crypto.PrivateKey // nil: a public client
	kid                 string
	mu                  sync.Mutex
	nonce               string
	verifier            string
	// changeAssertion and changeHead change what is signed.
	changeAssertion, changeHead map[string]any
}

func newKey(t testing.TB) *crypto.PrivateKey {
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func clientDocument(id string, change map[string]any) map[string]any {
	m := map[string]any{
		"client_id": id, "client_name": "The App", "application_type": "web", "redirect_uris": []string{redirect},
		"scope":       "atproto transition:generic repo:com.example.note account:email future:thing include:com.example.auth include:com.example.missing",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true,
	}
	maps.Copy(m, change)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

// public returns a public client with a document.
func (w *world) public() *app {
	w.publishJSON(clientID, clientDocument(clientID, nil))
	return &app{world: w, id: clientID, redirect: redirect, scope: "atproto repo:com.example.note", key: newKey(w.t)}
}

const confidentialID = "https://web.example.org/client.json"

func jwks(keys map[string]*crypto.PrivateKey) map[string]any {
	list := []any{}
	for kid, key := range keys {
		k := key.PublicKey().JWK()
		k.KeyID, k.Use = kid, "sig"
		list = append(list, k)
	}
	return map[string]any{"keys": list}
}

// confidential returns a client with a key of its own.
func (w *world) confidential() *app {
	a := &app{world: w, id: confidentialID, redirect: redirect, scope: "atproto repo:com.example.note", key: newKey(w.t), authKey: newKey(w.t), kid: "one"}
	a.publishKeys(map[string]*crypto.PrivateKey{"one": a.authKey})
	return a
}

func (a *app) publishKeys(keys map[string]*crypto.PrivateKey) {
	a.publishJSON(a.id, clientDocument(a.id, map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256", "jwks": jwks(keys),
	}))
}

func sign(t testing.TB, key *crypto.PrivateKey, head, claims map[string]any) string {
	h, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	sig, err := key.Sign(context.Background(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func (a *app) assertion() string {
	claims := map[string]any{
		"iss": a.id, "sub": a.id, "aud": issuer, "jti": rand.Text(), "iat": a.now().Unix(), "exp": a.now().Add(time.Minute).Unix(),
		"htm": "POST", "hti": "unknown claims do no harm",
	}
	head := map[string]any{"alg": "ES256", "typ": "JWT", "kid": a.kid}
	for m, with := range map[*map[string]any]map[string]any{&claims: a.changeAssertion, &head: a.changeHead} {
		maps.Copy(*m, with)
		maps.DeleteFunc(*m, func(_ string, v any) bool { return v == nil })
	}
	return sign(a.t, a.authKey, head, claims)
}

func (a *app) proof(method, address, token, nonce string) string {
	text, err := dpop.Sign(context.Background(), a.key, dpop.Target{Method: method, URL: address, Token: token}, nonce, a.now())
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}

// send posts parameters. It repeats the request once if it is asked for a nonce.
func (a *app) send(path string, in url.Values) reply {
	for try := 0; ; try++ {
		if a.authKey != nil && in.Get("client_assertion_type") == "" || try > 0 && in.Get("client_assertion_type") == assertionType {
			in.Set("client_assertion_type", assertionType)
			in.Set("client_assertion", a.assertion())
		}
		a.mu.Lock()
		nonce := a.nonce
		a.mu.Unlock()
		r := httptest.NewRequest("POST", issuer+path, strings.NewReader(in.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("DPoP", a.proof("POST", issuer+path, "", nonce))
		out := a.do(r)
		a.mu.Lock()
		a.nonce = out.header.Get("DPoP-Nonce")
		a.mu.Unlock()
		if out.str("error") != "use_dpop_nonce" || try > 0 {
			return out
		}
	}
}

// request are the parameters of an authorization request. Those that change has as "" are left out.
func (a *app) request(change map[string]string) url.Values {
	a.verifier = rand.Text() + rand.Text()
	in := url.Values{
		"client_id": {a.id}, "response_type": {"code"}, "redirect_uri": {a.redirect}, "scope": {a.scope}, "state": {"the state"},
		"code_challenge": {digest.Hash(a.verifier)}, "code_challenge_method": {"S256"},
	}
	for name, v := range change {
		in.Set(name, v)
		if v == "" {
			in.Del(name)
		}
	}
	return in
}

func (a *app) par(change map[string]string) reply { return a.send(pathPAR, a.request(change)) }

// push is par that must succeed. It returns the address to open.
func (a *app) push(change map[string]string) string {
	a.t.Helper()
	out := a.par(change)
	if out.status != 201 {
		a.t.Fatalf("par: %d %s", out.status, out.text)
	}
	return pathAuthorize + "?" + url.Values{"client_id": {a.id}, "request_uri": {out.str("request_uri")}}.Encode()
}

// browse opens a page in a browser.
func (w *world) browse(device, path string) reply {
	r := httptest.NewRequest("GET", issuer+path, nil)
	r.AddCookie(&http.Cookie{Name: "device", Value: device})
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	return w.do(r)
}

// consentForm is the form of the last prompt, filled in.
func (w *world) consentForm(did syntax.DID, change url.Values) url.Values {
	w.pages.mu.Lock()
	q := w.pages.last
	w.pages.mu.Unlock()
	in := url.Values{"request": {q.Request}, "form": {q.Form}, "did": {string(did)}, "decision": {"allow"}}
	for _, s := range q.Scopes {
		in.Add("scope", s.String())
	}
	for name, v := range change {
		in[name] = v
		if v == nil {
			delete(in, name)
		}
	}
	return in
}

func (w *world) submit(device string, in url.Values, header ...string) reply {
	r := httptest.NewRequest("POST", issuer+pathAuthorize, strings.NewReader(in.Encode()))
	r.AddCookie(&http.Cookie{Name: "device", Value: device})
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", issuer)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i+1] == "" {
			r.Header.Del(header[i])
		}
	}
	return w.do(r)
}

func (w *world) consent(device string, did syntax.DID, change url.Values) reply {
	return w.submit(device, w.consentForm(did, change))
}

// back are the parameters of a redirect to the client.
func (r reply) back(t testing.TB) url.Values {
	t.Helper()
	u, err := url.Parse(r.header.Get("Location"))
	if err != nil || r.status != http.StatusSeeOther {
		t.Fatalf("no redirect: %d %q %s", r.status, r.header.Get("Location"), r.text)
	}
	text := u.RawQuery
	if u.Fragment != "" {
		text = u.EscapedFragment()
	}
	q, err := url.ParseQuery(text)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// code goes through a flow up to the code.
func (a *app) code(change map[string]string) string {
	a.t.Helper()
	device, owner := "the browser of "+a.id, a.owner
	if owner == "" {
		owner = alice
	}
	a.signIn(device, owner)
	path := a.push(change)
	if out := a.browse(device, path); out.header.Get("X-Ask") != "consent" {
		a.t.Fatalf("%d %v %s", out.status, out.header, out.text)
	}
	q := a.consent(device, owner, nil).back(a.t)
	if q.Get("code") == "" || q.Get("iss") != issuer {
		a.t.Fatal(q)
	}
	return q.Get("code")
}

func (a *app) tokenParams(code string, change map[string]string) url.Values {
	in := url.Values{"client_id": {a.id}, "grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {a.redirect}, "code_verifier": {a.verifier}}
	for name, v := range change {
		in.Set(name, v)
		if v == "" {
			in.Del(name)
		}
	}
	return in
}

func (a *app) exchange(code string, change map[string]string) reply {
	return a.send(pathToken, a.tokenParams(code, change))
}

func (a *app) refresh(token string) reply {
	return a.send(pathToken, url.Values{"client_id": {a.id}, "grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// tokens are what a client has.
type tokens struct{ access, refresh string }

func (r reply) tokens(t testing.TB) tokens {
	t.Helper()
	if r.status != 200 || r.str("access_token") == "" {
		t.Fatalf("no tokens: %d %s", r.status, r.text)
	}
	return tokens{r.str("access_token"), r.str("refresh_token")}
}

func (a *app) login() tokens {
	a.t.Helper()
	return a.exchange(a.code(nil), nil).tokens(a.t)
}

const whoPath = "/xrpc/com.example.who"

// call calls a method. It repeats the request once if it is asked for a nonce.
func (a *app) call(token string) reply {
	for try := 0; ; try++ {
		a.mu.Lock()
		nonce := a.nonce
		a.mu.Unlock()
		out := a.callWith("DPoP "+token, a.proof("GET", issuer+whoPath, token, nonce))
		a.mu.Lock()
		a.nonce = out.header.Get("DPoP-Nonce")
		a.mu.Unlock()
		if out.str("error") != "use_dpop_nonce" || try > 0 {
			return out
		}
	}
}

func (a *app) callWith(authorization string, proofs ...string) reply {
	r := httptest.NewRequest("GET", issuer+whoPath, nil)
	r.Header.Set("Authorization", authorization)
	for _, p := range proofs {
		r.Header.Add("DPoP", p)
	}
	return a.do(r)
}

// alive demands that an access token is good, or is not.
func (a *app) alive(token string, want bool) {
	a.t.Helper()
	out := a.call(token)
	if want && (out.status != 200 || out.str("did") != string(alice)) || !want && !out.is(401, "invalid_token") {
		a.t.Errorf("alive %v: %d %s", want, out.status, out.text)
	}
}
