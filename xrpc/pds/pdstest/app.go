package pdstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
)

// App is an OAuth client. It has its own site in the network, with its metadata. It is safe for
// concurrent use.
type App struct {
	// ID is the client_id: the URL of the metadata.
	ID string
	// Redirect is the redirect URI.
	Redirect string
	// Scope is the scope that the app requests and declares.
	Scope string

	net  *Network // nil: it is in none
	http *http.Client
	now  func() time.Time
	key  *crypto.PrivateKey // authenticates the client; nil: it is public

	mu       sync.Mutex
	document map[string]any
	nonces   map[string]string // by origin
}

// App adds an app to the network. scope is the scope that it requests, at least "atproto". The
// first app is at app1.example.net. change may change its metadata. If it sets
// token_endpoint_auth_method to private_key_jwt, the app is a confidential client with a key of its
// own.
func (n *Network) App(scope string, change ...func(document map[string]any)) *App {
	n.t.Helper()
	n.mu.Lock()
	n.apps++
	site := fmt.Sprintf("app%d.example.net", n.apps)
	n.mu.Unlock()
	a := &App{
		ID: "https://" + site + "/oauth-client-metadata.json", Redirect: "https://" + site + "/callback", Scope: scope,
		net: n, http: n.ClientFrom("192.0.2.4"), now: n.Clock.Now, nonces: make(map[string]string),
	}
	a.document = map[string]any{
		"client_id": a.ID, "client_name": "App " + site, "client_uri": "https://" + site, "application_type": "web", "redirect_uris": []string{a.Redirect},
		"scope": scope, "grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true,
	}
	for _, f := range change {
		f(a.document)
	}
	if a.document["token_endpoint_auth_method"] == "private_key_jwt" {
		key, err := crypto.GenerateKey(crypto.P256)
		if err != nil {
			n.t.Fatal(err)
		}
		a.key = key
		k := a.key.PublicKey().JWK()
		k.KeyID, k.Use = "key", "sig"
		a.document["jwks"], a.document["token_endpoint_auth_signing_alg"] = map[string]any{"keys": []any{k}}, "ES256"
	}
	n.Handle(site, a)
	return a
}

// LoopbackApp returns an app on a user's device, with the redirect URI redirect, a URL of
// 127.0.0.1. It belongs to no Network: it reaches servers by c, and pushes requests with
// [App.PushTo].
func LoopbackApp(c *http.Client, scope, redirect string) *App {
	id := "http://localhost/?" + url.Values{"redirect_uri": {redirect}, "scope": {scope}}.Encode()
	a := &App{ID: id, Redirect: redirect, Scope: scope, http: c, now: time.Now, nonces: make(map[string]string)}
	if c.Transport == nil {
		a.http = &http.Client{Transport: http.DefaultTransport}
	}
	return a
}

// ServeHTTP serves the app's site: its metadata and its redirect URI.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch "https://" + r.Host + r.URL.Path {
	case a.ID:
		a.mu.Lock()
		text, err := json.Marshal(a.document)
		a.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(text)
	case a.Redirect:
		io.WriteString(w, "You are back in the app.")
	default:
		http.NotFound(w, r)
	}
}

// Change changes the metadata. Servers may use the old one for a while.
func (a *App) Change(fn func(document map[string]any)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn(a.document)
}

// AppLogin is a pending authorization.
type AppLogin struct {
	// URL is the URL to open in a browser.
	URL string

	app      *App
	server   string
	client   func() *xrpc.Client
	key      *crypto.PrivateKey
	verifier string
	state    string
}

// Push pushes an authorization request to a PDS. change has parameters that replace those of the
// app; empty ones are omitted. If the server refuses, the error is a *provider.Error.
func (a *App) Push(ctx context.Context, p *PDS, change url.Values) (*AppLogin, error) {
	return a.push(ctx, p.config.URL, p.Client, change)
}

// PushTo is Push to a server at a URL.
func (a *App) PushTo(ctx context.Context, server string, change url.Values) (*AppLogin, error) {
	return a.push(ctx, server, func() *xrpc.Client { return &xrpc.Client{Host: server} }, change)
}

func (a *App) push(ctx context.Context, server string, client func() *xrpc.Client, change url.Values) (*AppLogin, error) {
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		return nil, err
	}
	l := &AppLogin{app: a, server: server, client: client, key: key, verifier: rand.Text() + rand.Text(), state: rand.Text()}
	sum := sha256.Sum256([]byte(l.verifier))
	in := url.Values{
		"response_type": {"code"}, "redirect_uri": {a.Redirect}, "scope": {a.Scope}, "state": {l.state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	maps.Copy(in, change)
	maps.DeleteFunc(in, func(_ string, v []string) bool { return len(v) == 0 || v[0] == "" })
	var out struct {
		URI string `json:"request_uri"`
	}
	if err := a.post(ctx, l.key, server, "/oauth/par", in, &out); err != nil {
		return nil, err
	}
	l.URL = server + "/oauth/authorize?" + url.Values{"client_id": {a.ID}, "request_uri": {out.URI}}.Encode()
	return l, nil
}

// Finish exchanges the parameters of the redirect for a session. If the server or the user has
// refused, the error is a *provider.Error.
func (l *AppLogin) Finish(ctx context.Context, back *url.URL) (*AppSession, error) {
	q := back.Query()
	switch {
	case !strings.HasPrefix(back.String(), l.app.Redirect):
		return nil, fmt.Errorf("pdstest: the browser is at %s, not back in the app", back)
	case q.Get("iss") != l.server || q.Get("state") != l.state:
		return nil, fmt.Errorf("pdstest: the answer is not one to this request: %s", back)
	case q.Get("error") != "":
		return nil, &provider.Error{Code: q.Get("error"), Description: q.Get("error_description")}
	}
	s := &AppSession{app: l.app, key: l.key}
	s.Client = l.client()
	s.HTTP = &http.Client{Transport: s}
	return s, s.tokens(ctx, url.Values{
		"grant_type": {"authorization_code"}, "code": {q.Get("code")}, "redirect_uri": {l.app.Redirect}, "code_verifier": {l.verifier},
	})
}

// Login logs an account in to the app: the account signs in in a new browser and grants the whole
// scope. If that fails, the test ends.
func (a *App) Login(as *Account) *AppSession {
	a.net.t.Helper()
	s, err := a.LoginWith(a.net.t.Context(), a.net.Browser(), as, nil)
	if err != nil {
		a.net.t.Fatalf("%s lets %s in: %v", as.Handle, a.ID, err)
	}
	return s
}

// LoginWith is [App.Login] in a given browser, in which the account grants the scopes for which
// grant returns true; nil: all.
func (a *App) LoginWith(ctx context.Context, b *Browser, as *Account, grant func(scope string) bool) (*AppSession, error) {
	l, err := a.Push(ctx, as.pds, url.Values{"login_hint": {string(as.Handle)}})
	if err != nil {
		return nil, err
	}
	p, err := b.Consent(l.URL, as, grant)
	if err != nil {
		return nil, err
	}
	if p.Status >= 400 {
		return nil, fmt.Errorf("pdstest: %s: status %d: %.500s", p.URL, p.Status, p.Body)
	}
	return l.Finish(ctx, p.URL)
}

// AppSession is a session of an app with an account. Its Client calls methods with it; each call
// has a proof of the session's key. It does not renew tokens by itself. It is safe for concurrent
// use.
type AppSession struct {
	*xrpc.Client

	app *App
	key *crypto.PrivateKey

	mu  sync.Mutex
	now AppTokens
}

// AppTokens are the tokens of a session.
type AppTokens struct {
	Access  string     `json:"access_token"`
	Refresh string     `json:"refresh_token"`
	Type    string     `json:"token_type"`
	Scope   string     `json:"scope"`
	Expires int64      `json:"expires_in"`
	DID     syntax.DID `json:"sub"`
}

// Tokens returns the session's tokens.
func (s *AppSession) Tokens() AppTokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Copy returns a copy of the session with the same tokens, as another process of the app might have
// it.
func (s *AppSession) Copy() *AppSession {
	t := &AppSession{app: s.app, key: s.key, now: s.Tokens()}
	c := *s.Client
	t.Client, c.HTTP = &c, &http.Client{Transport: t}
	return t
}

// Renew exchanges the refresh token.
func (s *AppSession) Renew(ctx context.Context) error {
	return s.tokens(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.Tokens().Refresh}})
}

// Revoke ends the session.
func (s *AppSession) Revoke(ctx context.Context) error {
	return s.app.post(ctx, s.key, s.Host, "/oauth/revoke", url.Values{"token": {s.Tokens().Refresh}}, new(struct{}))
}

func (s *AppSession) tokens(ctx context.Context, in url.Values) error {
	var out AppTokens
	if err := s.app.post(ctx, s.key, s.Host, "/oauth/token", in, &out); err != nil {
		return err
	}
	if out.Access == "" || out.Type != "DPoP" || !strings.HasPrefix(string(out.DID), "did:") {
		return errors.New("pdstest: the answer of the token endpoint has no tokens")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = out
	return nil
}

// RoundTrip implements http.RoundTripper. It adds the token and a proof, and sends the request once
// more if the server asks for a nonce.
func (s *AppSession) RoundTrip(r *http.Request) (*http.Response, error) {
	token := s.Tokens().Access
	return s.app.prove(r, s.key, token, func(r *http.Request) (*http.Response, bool, error) {
		res, err := s.app.http.Transport.RoundTrip(r)
		again := err == nil && res.StatusCode == http.StatusUnauthorized && strings.Contains(res.Header.Get("WWW-Authenticate"), `error="use_dpop_nonce"`)
		return res, again, err
	})
}

// Prove adds to a request the token, and a proof with the server's last nonce. It is for requests
// that the Client does not make. A proof is valid for one request.
func (s *AppSession) Prove(r *http.Request) error {
	return s.app.sign(r, s.key, s.Tokens().Access)
}

// sign adds a proof to a request, and the token if there is one.
func (a *App) sign(r *http.Request, key *crypto.PrivateKey, token string) error {
	origin := originOf(r)
	a.mu.Lock()
	nonce := a.nonces[origin]
	a.mu.Unlock()
	proof, err := dpop.Sign(r.Context(), key, dpop.Target{Method: r.Method, URL: origin + r.URL.EscapedPath(), Token: token}, nonce, a.now())
	if err != nil {
		return err
	}
	r.Header.Set("DPoP", proof)
	if token != "" {
		r.Header.Set("Authorization", "DPoP "+token)
	}
	return nil
}

func originOf(r *http.Request) string { return r.URL.Scheme + "://" + r.URL.Host }

// prove sends a request with a proof, and once more with the nonce that the server asks for.
func (a *App) prove(r *http.Request, key *crypto.PrivateKey, token string, send func(*http.Request) (res *http.Response, again bool, err error)) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	for try := 0; ; try++ {
		once := r.Clone(r.Context())
		if r.Body != nil {
			once.Body = io.NopCloser(bytes.NewReader(body))
		}
		if err := a.sign(once, key, token); err != nil {
			return nil, err
		}
		res, again, err := send(once)
		if err != nil {
			return nil, err
		}
		if next := res.Header.Get("DPoP-Nonce"); next != "" {
			a.mu.Lock()
			a.nonces[originOf(r)] = next
			a.mu.Unlock()
		}
		if !again || try > 0 {
			return res, nil
		}
		res.Body.Close()
	}
}

// maxAnswer bounds the answers of endpoints that are read, in bytes.
const maxAnswer = 1 << 20

// post sends parameters to an endpoint and decodes its answer.
func (a *App) post(ctx context.Context, key *crypto.PrivateKey, server, path string, in url.Values, out any) error {
	in.Set("client_id", a.ID)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var text []byte
	res, err := a.prove(r, key, "", func(r *http.Request) (*http.Response, bool, error) {
		if a.key != nil {
			assertion, err := a.assertion(ctx, server)
			if err != nil {
				return nil, false, err
			}
			in.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
			in.Set("client_assertion", assertion)
		}
		body := in.Encode()
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		res, err := a.http.Do(r)
		if err != nil {
			return nil, false, err
		}
		defer res.Body.Close()
		text, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		return res, bytes.Contains(text, []byte(`"use_dpop_nonce"`)), err
	})
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		e := &provider.Error{Status: res.StatusCode}
		var told struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if err := exactjson.Unmarshal(text, &told); err != nil {
			return fmt.Errorf("pdstest: %s: status %d: %.200s", path, res.StatusCode, text)
		}
		e.Code, e.Description = told.Error, told.Description
		return e
	}
	return exactjson.Unmarshal(text, out)
}

// assertion is what a confidential client shows (RFC 7523).
func (a *App) assertion(ctx context.Context, server string) (string, error) {
	now := a.now()
	head := map[string]any{"alg": "ES256", "typ": "JWT", "kid": "key"}
	claims := map[string]any{"iss": a.ID, "sub": a.ID, "aud": server, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	var parts []string
	for _, part := range []any{head, claims} {
		text, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	signed := strings.Join(parts, ".")
	sig, err := a.key.Sign(ctx, []byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig), err
}
