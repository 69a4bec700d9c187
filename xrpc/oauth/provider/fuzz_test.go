package provider

import (
	"errors"
	"net/url"
	"testing"

	"github.com/pdskit/pdskit/xrpc/auth"
)

// All errors of parsers are errors of the protocol.
func protocolError(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code == "" || e.Description == "" {
		t.Fatalf("%v", err)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add(`{"client_id":"`+clientID+`","redirect_uris":["`+redirect+`"],"scope":"atproto","grant_types":["authorization_code"],"response_types":["code"],
		"token_endpoint_auth_method":"none","dpop_bound_access_tokens":true}`, redirect)
	f.Add(`{"client_id":"`+clientID+`","application_type":"native","redirect_uris":["net.example.app:/cb","http://127.0.0.1/x"],"scope":"atproto","grant_types":["authorization_code"],
		"response_types":["code"],"token_endpoint_auth_method":"none","dpop_bound_access_tokens":true}`, "http://127.0.0.1:99/x")
	f.Add(`{"jwks":{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"a"}]}}`, "")
	f.Fuzz(func(t *testing.T, text, uri string) {
		m, err := parseMetadata(clientID, []byte(text))
		if err != nil {
			protocolError(t, err)
			return
		}
		for _, r := range m.RedirectURIs {
			u, err := url.Parse(r)
			if err != nil || u.User != nil || u.Scheme == "javascript" || u.Scheme == "data" || u.Scheme == "http" && !isLoopbackRedirect(r) {
				t.Fatalf("%q is registered", r)
			}
		}
		got, err := m.redirect(uri)
		if err != nil {
			protocolError(t, err)
		} else if _, err := url.Parse(got); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzClientID(f *testing.F) {
	for _, id := range []string{clientID, "http://localhost", "http://localhost/?redirect_uri=http%3A%2F%2F127.0.0.1%2Fcb&scope=atproto", "https://a.b/%2e%2e/c", "https://[::1]/x", "https://a.b:443/x"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if err := discoverable(id); err != nil {
			protocolError(t, err)
		} else if u, err := url.Parse(id); err != nil || u.String() != id {
			t.Fatalf("%q is accepted, and is %v", id, u)
		}
		m, err := loopback(id)
		if err != nil {
			protocolError(t, err)
			return
		}
		for _, uri := range m.RedirectURIs {
			if !isLoopbackRedirect(uri) {
				t.Fatalf("%q", uri)
			}
		}
	})
}

func FuzzParams(f *testing.F) {
	f.Add("a=b&c=d", `{"a":"b"}`)
	f.Add("a=b&a=c", `{"a":"b","a":"c"}`)
	f.Add("%zz", `{"a":1}`)
	f.Fuzz(func(t *testing.T, form, object string) {
		if _, err := formParams(form); err != nil {
			protocolError(t, err)
		}
		if _, err := jsonParams([]byte(object)); err != nil {
			protocolError(t, err)
		}
		if _, err := loginHint(form); err != nil {
			protocolError(t, err)
		}
	})
}

func FuzzTokens(f *testing.F) {
	w := newWorld(f)
	a := w.confidential()
	good := secretText{alice, "name", "secret"}.String(refreshText)
	access, err := w.p.signAccess(accessClaims{Issuer: issuer, Audience: service, Subject: alice, ID: "x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(access)
	f.Add(a.assertion())
	f.Add("ref-..")
	f.Fuzz(func(t *testing.T, text string) {
		if s, ok := parseSecret(refreshText, text); ok && s.String(refreshText) != text {
			t.Fatalf("%q is %+v", text, s)
		}
		if c, ok := w.p.parseAccess(text); ok && (text != access || c.Subject != alice) {
			t.Fatalf("%q is good", text)
		}
		if x, ok := parseAssertion(text); ok && x.signed == "" {
			t.Fatal("nothing is signed")
		}
		w.p.sessionOf(text)
	})
}

func FuzzStored(f *testing.F) {
	f.Add([]byte(`{"v":1,"client":"x","scope":"atproto","used":[{"hash":"a","salt":"b","until":"2026-01-01T00:00:00Z"}]}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		x, err := parseSession(doc)
		if err == nil && (x.Version != version || x.permissions.IsEverything() || x.permissions.Allow(auth.ManageCredentials)) {
			t.Fatalf("%q", doc)
		}
	})
}
