package provider

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/internal/testenv"
)

func TestMatrix1_2_3_4_5_6Discovery(t *testing.T) {
	w := newWorld(t)
	out := w.get(pathResource)
	servers, _ := out.json["authorization_servers"].([]any)
	if out.status != 200 || out.str("resource") != issuer || len(servers) != 1 || servers[0] != issuer || out.header.Get("Access-Control-Allow-Origin") != "*" ||
		out.header.Get("Content-Type") != "application/json" {
		t.Errorf("1: %d %v %s", out.status, out.header, out.text)
	}
	out = w.get(pathServer)
	for name, want := range map[string]any{
		"issuer": issuer, "authorization_endpoint": issuer + "/oauth/authorize", "token_endpoint": issuer + "/oauth/token",
		"pushed_authorization_request_endpoint": issuer + "/oauth/par", "revocation_endpoint": issuer + "/oauth/revoke",
		"require_pushed_authorization_requests": true, "client_id_metadata_document_supported": true,
		"authorization_response_iss_parameter_supported": true, "request_parameter_supported": false,
		"response_types_supported": []any{"code"}, "grant_types_supported": []any{"authorization_code", "refresh_token"},
		"code_challenge_methods_supported": []any{"S256"}, "token_endpoint_auth_methods_supported": []any{"none", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []any{"ES256", "ES256K"}, "dpop_signing_alg_values_supported": []any{"ES256", "ES256K"},
		"protected_resources": []any{issuer},
	} {
		if fmt.Sprint(out.json[name]) != fmt.Sprint(want) {
			t.Errorf("2: %s is %v, want %v", name, out.json[name], want)
		}
	}
	for _, path := range []string{pathResource + "/", pathServer + "/", pathServer + "/x"} {
		if out := w.get(path); out.status != 404 {
			t.Errorf("3: %s: %d", path, out.status)
		}
	}
	if out := w.get(pathKeys); out.status != 200 || strings.Contains(out.text, `"d"`) || out.json["keys"] == nil {
		t.Errorf("4: %d %s", out.status, out.text)
	}
	for _, path := range []string{pathResource, pathServer, pathKeys, pathPAR, pathToken, pathRevocation} {
		r := httptest.NewRequest("OPTIONS", issuer+path, nil)
		r.Header.Set("Origin", "https://evil.example")
		h := w.do(r).header
		if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Headers") != "Content-Type,DPoP" || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("5: %s: %v", path, h)
		}
	}
	for _, path := range []string{pathPAR, pathToken, pathRevocation} {
		if out := w.get(path); out.status != 405 || out.header.Get("Allow") != "POST, OPTIONS" {
			t.Errorf("6: %s: %d", path, out.status)
		}
	}
}

// TestMatrix8to33Documents publishes a document, changed in one way, and pushes a request.
func TestMatrix8to33Documents(t *testing.T) {
	answer := func(status int, kind, body string) func(*http.Request) (*http.Response, error) {
		return func(*http.Request) (*http.Response, error) { return respond(status, kind, body), nil }
	}
	type change = map[string]any
	key := newKey(t)
	for _, x := range []struct {
		name   string
		id     string // "": clientID
		doc    change
		answer func(*http.Request) (*http.Response, error)
		want   string // "": the request is accepted
	}{
		{name: "good"},
		{name: "8 redirect", answer: func(*http.Request) (*http.Response, error) {
			r := respond(302, "application/json", "{}")
			r.Header.Set("Location", "https://other.example.net/x.json")
			return r, nil
		}, want: codeInvalidMetadata},
		{name: "8 status 201", answer: answer(201, "application/json", "{}"), want: codeInvalidMetadata},
		{name: "8 status 404", answer: answer(404, "application/json", "{}"), want: codeInvalidMetadata},
		{name: "9 html", answer: answer(200, "text/html", "{}"), want: codeInvalidMetadata},
		{name: "9 no type", answer: answer(200, "", "{}"), want: codeInvalidMetadata},
		{name: "10 600 KiB", answer: answer(200, "application/json", `{"x":"`+strings.Repeat("x", 600<<10)+`"}`), want: codeInvalidMetadata},
		{name: "not JSON", answer: answer(200, "application/json", "{"), want: codeInvalidMetadata},
		{name: "a name twice", answer: answer(200, "application/json", `{"client_id":"a","client_id":"b"}`), want: codeInvalidMetadata},
		{name: "an array", answer: answer(200, "application/json", `[]`), want: codeInvalidMetadata},
		{name: "unreachable", answer: func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") }, want: codeInvalidMetadata},
		{name: "14 port", id: "https://app.example.net:8443/x.json", want: codeInvalidMetadata},
		{name: "14 default port", id: "https://app.example.net:443/x.json", want: codeInvalidMetadata},
		{name: "15 http", id: "http://app.example.net/x.json", want: codeInvalidMetadata},
		{name: "16 path /", id: "https://app.example.net/", want: codeInvalidMetadata},
		{name: "16 no path", id: "https://app.example.net", want: codeInvalidMetadata},
		{name: "16 slash at the end", id: "https://app.example.net/x/", want: codeInvalidMetadata},
		{name: "17 dots", id: "https://app.example.net/a/../m.json", want: codeInvalidMetadata},
		{name: "17 escaped dots", id: "https://app.example.net/a/%2e%2e/m.json", want: codeInvalidMetadata},
		{name: "17 needless escape", id: "https://app.example.net/%6d.json", want: codeInvalidMetadata},
		{name: "18 credentials", id: "https://user@app.example.net/m.json", want: codeInvalidMetadata},
		{name: "19 fragment", id: "https://app.example.net/m.json#x", want: codeInvalidMetadata},
		{name: "an address", id: "https://192.0.2.1/m.json", want: codeInvalidMetadata},
		{name: "a hexadecimal address", id: "https://1.0x7f/m.json", want: codeInvalidMetadata},
		{name: "one label", id: "https://intranet/m.json", want: codeInvalidMetadata},
		{name: "a local name", id: "https://printer.local/m.json", want: codeInvalidMetadata},
		{name: "upper case", id: "https://App.example.net/m.json", want: codeInvalidMetadata},
		{name: "upper case scheme", id: "HTTPS://app.example.net/m.json", want: codeInvalidMetadata},
		{name: "a query", id: "https://app.example.net/m.json?x=y"},
		{name: "no address at all", id: "app", want: codeInvalidMetadata},
		{name: "20 another client_id", doc: change{"client_id": "https://other.example.net/x.json"}, want: codeInvalidMetadata},
		{name: "20 no client_id", doc: change{"client_id": nil}, want: codeInvalidMetadata},
		{name: "21 not bound", doc: change{"dpop_bound_access_tokens": false}, want: codeInvalidMetadata},
		{name: "21 bound is missing", doc: change{"dpop_bound_access_tokens": nil}, want: codeInvalidMetadata},
		{name: "21 bound as text", doc: change{"dpop_bound_access_tokens": "true"}, want: codeInvalidMetadata},
		{name: "22 no atproto", doc: change{"scope": "repo:com.example.note"}, want: codeInvalidMetadata},
		{name: "22 no scope", doc: change{"scope": nil}, want: codeInvalidMetadata},
		{name: "22 a scope twice", doc: change{"scope": "atproto repo:com.example.note atproto"}, want: codeInvalidMetadata},
		{name: "23 implicit", doc: change{"grant_types": []string{"authorization_code", "implicit"}}, want: codeInvalidMetadata},
		{name: "23 no code grant", doc: change{"grant_types": []string{"refresh_token"}}, want: codeInvalidMetadata},
		{name: "23 a grant twice", doc: change{"grant_types": []string{"authorization_code", "authorization_code"}}, want: codeInvalidMetadata},
		{name: "response types", doc: change{"response_types": []string{"token"}}, want: codeInvalidMetadata},
		{name: "24 jwks and jwks_uri", doc: change{"jwks": jwks(map[string]*crypto.PrivateKey{"a": key}), "jwks_uri": "https://app.example.net/k"}, want: codeInvalidMetadata},
		{name: "25 no keys", doc: change{"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256"}, want: codeInvalidMetadata},
		{name: "25 an empty set", doc: change{"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256", "jwks": jwks(nil)}, want: codeInvalidMetadata},
		{name: "25 no alg", doc: change{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(map[string]*crypto.PrivateKey{"a": key})}, want: codeInvalidMetadata},
		{name: "25 no method", doc: change{"token_endpoint_auth_method": nil}, want: codeInvalidMetadata},
		{name: "25 client secrets", doc: change{"token_endpoint_auth_method": "client_secret_basic"}, want: codeInvalidMetadata},
		{name: "25 alg for none", doc: change{"token_endpoint_auth_signing_alg": "ES256"}, want: codeInvalidMetadata},
		{name: "26 native with keys", doc: change{"application_type": "native", "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
			"jwks": jwks(map[string]*crypto.PrivateKey{"a": key})}, want: codeInvalidMetadata},
		{name: "no redirects", doc: change{"redirect_uris": []string{}}, want: codeInvalidRedirect},
		{name: "27 web at 127.0.0.1", doc: change{"redirect_uris": []string{redirect, "http://127.0.0.1/cb"}}, want: codeInvalidRedirect},
		{name: "27 web at localhost", doc: change{"redirect_uris": []string{redirect, "http://localhost/cb"}}, want: codeInvalidRedirect},
		{name: "27 plain http", doc: change{"redirect_uris": []string{redirect, "http://app.example.net/cb"}}, want: codeInvalidRedirect},
		{name: "28 wrong scheme", doc: change{"application_type": "native", "redirect_uris": []string{redirect, "com.example:/cb"}}, want: codeInvalidRedirect},
		{name: "28 scheme for web", doc: change{"redirect_uris": []string{redirect, "net.example.app:/cb"}}, want: codeInvalidRedirect},
		{name: "29 right scheme", doc: change{"application_type": "native", "redirect_uris": []string{redirect, "net.example.app:/cb"}}},
		{name: "30 two slashes", doc: change{"application_type": "native", "redirect_uris": []string{redirect, "net.example.app://cb"}}, want: codeInvalidRedirect},
		{name: "30 no slash", doc: change{"application_type": "native", "redirect_uris": []string{redirect, "net.example.app:cb"}}, want: codeInvalidRedirect},
		{name: "31 foreign host", doc: change{"application_type": "native", "redirect_uris": []string{redirect, "https://other.example.net/cb"}}, want: codeInvalidRedirect},
		{name: "31 foreign host of a web client", doc: change{"redirect_uris": []string{redirect, "https://other.example.net/cb"}}},
		{name: "32 local", doc: change{"redirect_uris": []string{redirect, "https://printer.local/cb"}}, want: codeInvalidRedirect},
		{name: "32 javascript", doc: change{"redirect_uris": []string{redirect, "javascript:alert(1)"}}, want: codeInvalidRedirect},
		{name: "32 data", doc: change{"application_type": "native", "redirect_uris": []string{redirect, "data:/text"}}, want: codeInvalidRedirect},
		{name: "32 fragment", doc: change{"redirect_uris": []string{redirect, redirect + "#x"}}, want: codeInvalidRedirect},
		{name: "32 credentials", doc: change{"redirect_uris": []string{redirect, "https://me@app.example.net/cb"}}, want: codeInvalidRedirect},
		{name: "33 unknown fields", doc: change{"x": change{"y": []int{1}}, "Client_Id": "other", "contacts": []string{"a"}, "software_id": "x"}},
		{name: "client_uri elsewhere", doc: change{"client_uri": "https://bank.example.org/"}, want: codeInvalidMetadata},
		{name: "client_uri", doc: change{"client_uri": "https://app.example.net/about", "tos_uri": "https://legal.example.org/t", "policy_uri": "https://legal.example.org/p", "logo_uri": "https://cdn.example.org/l.png"}},
		{name: "a script as tos_uri", doc: change{"tos_uri": "javascript:alert(1)"}, want: codeInvalidMetadata},
		{name: "OpenID Connect", doc: change{"default_max_age": 60}, want: codeInvalidMetadata},
		{name: "pairwise subjects", doc: change{"subject_type": "pairwise"}, want: codeInvalidMetadata},
		{name: "a type of its own", doc: change{"application_type": "toaster"}, want: codeInvalidMetadata},
		{name: "mTLS", doc: change{"tls_client_certificate_bound_access_tokens": true}, want: codeInvalidMetadata},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.public()
			if x.id != "" {
				a.id = x.id
			}
			w.publishJSON(a.id, clientDocument(a.id, x.doc))
			if x.answer != nil {
				w.publish(a.id, x.answer)
			}
			out := a.par(nil)
			if x.want == "" && out.status != 201 || x.want != "" && !out.is(400, x.want) {
				t.Errorf("%d %s", out.status, out.text)
			}
		})
	}
}

// 11: a document that does not come is given up.
func TestMatrix11DocumentHangs(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.publish(clientID, func(r *http.Request) (*http.Response, error) {
		deadline, ok := r.Context().Deadline()
		if left := time.Until(deadline); !ok || left > fetchTimeout {
			t.Errorf("the fetch may take %v", left)
		}
		return nil, r.Context().Err()
	})
	if out := a.par(nil); !out.is(400, codeInvalidMetadata) {
		t.Errorf("%d %s", out.status, out.text)
	}
}

// 12, 13: the client that fetches documents dials no address that is not public. It is the address that
// is dialled that counts, so it does not matter what the name resolved to a moment before.
func TestMatrix12_13Addresses(t *testing.T) {
	testenv.NotOnJS(t, "names are not looked up here")
	for _, addr := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.0"} {
		var refused error
		w := newWorld(t, func(c *Config) {
			c.HTTP = safehttp.NewClient(safehttp.Config{Timeout: fetchTimeout, MaxBody: maxDocument, MaxRedirects: -1, Resolver: nettest.NameServer(t, addr)})
			base := c.HTTP.Transport
			c.HTTP.Transport = nettest.RoundTrip(func(r *http.Request) (resp *http.Response, err error) {
				resp, refused = base.RoundTrip(r)
				return resp, refused
			})
		})
		if out := w.public().par(nil); !out.is(400, codeInvalidMetadata) || !errors.Is(refused, safehttp.ErrAddress) {
			t.Errorf("%s: %d %s, %v", addr, out.status, out.text, refused)
		}
	}
	for _, addr := range []string{"::ffff:10.0.0.1", "fc00::1", "::1", "fe80::1"} {
		w := newWorld(t)
		a := w.public()
		a.id = "https://[" + addr + "]/m.json"
		if out := a.par(nil); !out.is(400, codeInvalidMetadata) || w.fetches.Load() != 0 {
			t.Errorf("%s: %d %s", addr, out.status, out.text)
		}
	}
}

// 34: a key that the document does not have any more is refused as soon as the cache has run out.
func TestMatrix34RemovedKey(t *testing.T) {
	w := newWorld(t)
	a := w.confidential()
	tok := a.login()
	a.publishKeys(map[string]*crypto.PrivateKey{"two": newKey(t)})
	tok = a.refresh(tok.refresh).tokens(t)
	w.wait(documentLife + time.Second)
	if out := a.refresh(tok.refresh); !out.is(400, codeInvalidClient) {
		t.Errorf("%d %s", out.status, out.text)
	}
}

func TestMatrix35OneFetch(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	release := make(chan struct{})
	w.publish(clientID, func(*http.Request) (*http.Response, error) {
		<-release
		return respond(200, "application/json", `{"client_id":"`+clientID+`","redirect_uris":["`+redirect+`"],"scope":"atproto repo:com.example.note","grant_types":["authorization_code"],
			"response_types":["code"],"token_endpoint_auth_method":"none","dpop_bound_access_tokens":true}`), nil
	})
	nonce := w.p.proofs.Nonce()
	var wg sync.WaitGroup
	var requests []url.Values
	for range 20 {
		requests = append(requests, a.request(nil))
	}
	a.nonce = nonce
	for _, in := range requests {
		wg.Go(func() {
			if out := a.send(pathPAR, in); out.status != 201 {
				t.Errorf("%d %s", out.status, out.text)
			}
		})
	}
	close(release)
	wg.Wait()
	if n := w.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// 36: what was fetched once is believed for a day while it cannot be fetched again.
func TestMatrix36Stale(t *testing.T) {
	w := newWorld(t)
	a := w.confidential()
	tok := a.login()
	w.publish(a.id, func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") })
	w.wait(23 * time.Hour)
	tok = a.refresh(tok.refresh).tokens(t)
	w.wait(2 * time.Hour)
	if out := a.refresh(tok.refresh); !out.is(400, codeInvalidMetadata) {
		t.Errorf("%d %s", out.status, out.text)
	}
	a.publishKeys(map[string]*crypto.PrivateKey{"one": a.authKey})
	w.wait(time.Minute)
	a.refresh(tok.refresh).tokens(t)
}

func TestMatrix37to43Loopback(t *testing.T) {
	w := newWorld(t)
	for _, x := range []struct {
		name, id, redirect, scope string
		want                      string
	}{
		{"37", "http://localhost", "http://127.0.0.1/", "atproto", ""},
		{"37 a port", "http://localhost/", "http://[::1]:5000/", "atproto", ""},
		{"38", "http://localhost/?redirect_uri=http%3A%2F%2F127.0.0.1%2Fcb&scope=atproto%20repo%3A*", "http://127.0.0.1:5173/cb", "atproto repo:*", ""},
		{"38 a registered port", "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%3A80%2Fcb", "http://127.0.0.1:81/cb", "atproto", codeInvalidRequest},
		{"38 two", "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Fa&redirect_uri=http%3A%2F%2F%5B%3A%3A1%5D%2Fb", "http://[::1]:1/b", "atproto", ""},
		{"39", "http://localhost/app", "http://127.0.0.1/", "atproto", codeInvalidMetadata},
		{"40", "http://localhost:3000", "http://127.0.0.1/", "atproto", codeInvalidMetadata},
		{"40 a longer host", "http://localhost.evil.example", "http://127.0.0.1/", "atproto", codeInvalidMetadata},
		{"40 credentials", "http://localhost@evil.example/", "http://127.0.0.1/", "atproto", codeInvalidMetadata},
		{"41", "http://127.0.0.1", "http://127.0.0.1/", "atproto", codeInvalidMetadata},
		{"42", "http://localhost?redirect_uri=http%3A%2F%2Flocalhost%2F", "http://localhost/", "atproto", codeInvalidRedirect},
		{"42 not registered", "http://localhost", "http://localhost/", "atproto", codeInvalidRequest},
		{"42 elsewhere", "http://localhost?redirect_uri=https%3A%2F%2Fevil.example%2F", "https://evil.example/", "atproto", codeInvalidRedirect},
		{"43 unknown", "http://localhost?x=y", "http://127.0.0.1/", "atproto", codeInvalidMetadata},
		{"43 two scopes", "http://localhost?scope=atproto&scope=atproto", "http://127.0.0.1/", "atproto", codeInvalidMetadata},
		{"43 scope without atproto", "http://localhost?scope=repo%3A*", "http://127.0.0.1/", "atproto", codeInvalidMetadata},
		{"43 fragment", "http://localhost#x", "http://127.0.0.1/", "atproto", codeInvalidMetadata},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := &app{world: w, id: x.id, redirect: x.redirect, scope: x.scope, key: newKey(t)}
			out := a.par(nil)
			if x.want == "" && out.status != 201 || x.want != "" && !out.is(400, x.want) {
				t.Errorf("%d %s", out.status, out.text)
			}
		})
	}
	if w.fetches.Load() != 0 {
		t.Error("something was fetched")
	}
}

// 44: what was granted to a program on the device is asked again each time.
func TestMatrix44LoopbackIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	a := &app{world: w, id: "http://localhost", redirect: "http://127.0.0.1:4000/", scope: "atproto", key: newKey(t)}
	a.login()
	if out := a.browse("the browser of "+a.id, a.push(map[string]string{"login_hint": "alice.test"})); out.header.Get("X-Ask") != "consent" || len(w.pages.last.Known) != 0 {
		t.Errorf("%d %v %s", out.status, out.header, out.text)
	}
}
