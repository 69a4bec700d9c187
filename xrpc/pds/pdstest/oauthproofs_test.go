package pdstest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// raw sends a request, and returns the answer with the name of its error.
func raw(t *testing.T, net *pdstest.Network, method, address string, header ...string) (res *http.Response, name string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return answer(t, net, r)
}

func answer(t *testing.T, net *pdstest.Network, r *http.Request) (res *http.Response, name string) {
	t.Helper()
	res, err := net.Client().Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Error string `json:"error"`
	}
	_ = data.UnmarshalJSON(text, &e)
	return res, e.Error
}

// What an app finds at the addresses of OAuth, and from which origins (checks 1 to 6). Off, there is
// nothing.
func TestMatrix1_2_3_4_5_6Addresses(t *testing.T) {
	net := pdstest.New(t)
	net.PDS()
	net.PDS(func(c *pds.Config) { c.OAuth.Off = true })
	for _, c := range []struct {
		method, path string
		status       int
		open         bool // to all origins
	}{
		{"GET", "/.well-known/oauth-protected-resource", 200, true},
		{"GET", "/.well-known/oauth-authorization-server", 200, true},
		{"OPTIONS", "/.well-known/oauth-authorization-server", 200, true},
		{"GET", "/.well-known/oauth-authorization-server/", 404, false},
		{"GET", "/oauth/jwks", 200, true},
		{"OPTIONS", "/oauth/par", 200, true},
		{"OPTIONS", "/oauth/token", 200, true},
		{"OPTIONS", "/oauth/revoke", 200, true},
		{"GET", "/oauth/par", 405, true},
		{"OPTIONS", "/oauth/authorize", 405, false},
		{"OPTIONS", "/oauth/sign-in", 405, false},
		{"OPTIONS", "/xrpc/com.atproto.server.getSession", 204, true},
	} {
		res, _ := raw(t, net, c.method, "https://pds1.test"+c.path, "Origin", "https://evil.example.org")
		if open := res.Header.Get("Access-Control-Allow-Origin") == "*"; res.StatusCode != c.status || open != c.open {
			t.Errorf("%s %s: %d %v", c.method, c.path, res.StatusCode, res.Header)
		}
		if allowed := res.Header.Get("Access-Control-Allow-Headers"); c.method == "OPTIONS" && strings.HasPrefix(c.path, "/oauth/token") && allowed != "Content-Type,DPoP" {
			t.Errorf("%s: headers %q", c.path, allowed)
		}
		if strings.HasPrefix(c.path, "/xrpc/") || c.method == "OPTIONS" {
			continue
		}
		if res, _ := raw(t, net, c.method, "https://pds2.test"+c.path); res.StatusCode != 404 {
			t.Errorf("off: %s %s: %d", c.method, c.path, res.StatusCode)
		}
	}
}

// What a method answers to tokens and proofs that are not good (checks 126, 127, 135 to 138).
func TestMatrix126_127_135_136_137_138AppProofs(t *testing.T) {
	net := pdstest.New(t)
	one := net.PDS()
	alice := one.Account("alice")
	app := net.App(noteScope).Login(alice)
	const address = "https://pds1.test/xrpc/com.atproto.server.getSession"
	if _, err := api.ServerGetSession(t.Context(), app); err != nil { // knows a nonce now
		t.Fatal(err)
	}
	proven := func() *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Prove(r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	refused := func(what string, r *http.Request, status int, name string) {
		t.Helper()
		res, got := answer(t, net, r)
		challenge := res.Header.Get("WWW-Authenticate")
		if res.StatusCode != status || got != name || status == 401 && name != "AuthMissing" && !strings.Contains(challenge, `DPoP algs="ES256`) ||
			status == 401 && strings.HasPrefix(r.Header.Get("Authorization"), "DPoP") && (!strings.Contains(challenge, fmt.Sprintf("error=%q", name)) || res.Header.Get("DPoP-Nonce") == "") {
			t.Errorf("%s: %d %s, %v", what, res.StatusCode, got, res.Header)
		}
		if res.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(strings.Join(res.Header.Values("Access-Control-Expose-Headers"), ","), "WWW-Authenticate") {
			t.Errorf("%s: a page does not see why: %v", what, res.Header)
		}
	}
	with := func(change func(h http.Header)) *http.Request {
		r := proven()
		change(r.Header)
		return r
	}
	refused("no token", with(func(h http.Header) { h.Del("Authorization") }), 401, "AuthMissing")
	refused("no proof", with(func(h http.Header) { h.Del("DPoP") }), 401, "invalid_dpop_proof")
	refused("two proofs", with(func(h http.Header) { h.Add("DPoP", h.Get("DPoP")) }), 401, "invalid_dpop_proof")
	refused("as Bearer", with(func(h http.Header) { h.Set("Authorization", "Bearer "+app.Tokens().Access) }), 400, "InvalidToken")
	refused("a refresh token", with(func(h http.Header) { h.Set("Authorization", "DPoP "+app.Tokens().Refresh) }), 401, "invalid_token")
	session, err := api.ServerCreateSession(t.Context(), one.Client(), api.ServerCreateSessionInput{Identifier: string(alice.Handle), Password: alice.Password})
	if err != nil {
		t.Fatal(err)
	}
	for _, jwt := range []string{session.AccessJWT, session.RefreshJWT} {
		refused("a token of a password", with(func(h http.Header) { h.Set("Authorization", "DPoP "+jwt) }), 401, "invalid_token")
	}
	other := net.App(noteScope).Login(alice)
	refused("a token of another key", with(func(h http.Header) { h.Set("Authorization", "DPoP "+other.Tokens().Access) }), 401, "invalid_dpop_proof")

	used := proven()
	if res, name := answer(t, net, used.Clone(t.Context())); res.StatusCode != 200 || res.Header.Get("DPoP-Nonce") == "" {
		t.Errorf("%d %s", res.StatusCode, name)
	}
	refused("once more", used.Clone(t.Context()), 401, "invalid_dpop_proof")
	one.Restart()
	refused("after a restart", used.Clone(t.Context()), 401, "use_dpop_nonce")
	old := proven()
	net.Clock.Advance(4 * time.Minute)
	refused("an old proof", old, 401, "invalid_dpop_proof")
	refused("a new one with an old nonce", proven(), 401, "use_dpop_nonce")
	if _, err := api.ServerGetSession(t.Context(), app); err != nil {
		t.Error(err)
	}
}
