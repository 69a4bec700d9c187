package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
)

const issuer = "https://pds.example.com"

var goodServer = `{"issuer":"https://pds.example.com","authorization_endpoint":"https://pds.example.com/a","token_endpoint":"https://pds.example.com/t",` +
	`"pushed_authorization_request_endpoint":"https://pds.example.com/p","scopes_supported":["atproto"],"response_types_supported":["code"],` +
	`"grant_types_supported":["authorization_code","refresh_token"],"code_challenge_methods_supported":["S256"],` +
	`"token_endpoint_auth_methods_supported":["none","private_key_jwt"],"dpop_signing_alg_values_supported":["ES256"],` +
	`"authorization_response_iss_parameter_supported":true,"require_pushed_authorization_requests":true,"client_id_metadata_document_supported":true}`

// FuzzServer reads metadata of an authorization server: what is accepted names its issuer, and has
// addresses that requests may go to.
func FuzzServer(f *testing.F) {
	f.Add([]byte(goodServer), false)
	f.Add([]byte(strings.Replace(goodServer, "https://pds.example.com/t", "http://localhost:3000/t", 1)), true)
	f.Add([]byte(strings.Replace(goodServer, `"issuer"`, `"Issuer"`, 1)), false)
	f.Add([]byte(`{}`), false)
	f.Fuzz(func(t *testing.T, text []byte, development bool) {
		s, err := parseServer(text, issuer, development)
		if err != nil {
			if !errors.Is(err, ErrServer) && !errors.Is(err, ErrMismatch) {
				t.Errorf("%v", err)
			}
			return
		}
		if s.Issuer != issuer {
			t.Errorf("issuer %q", s.Issuer)
		}
		for _, e := range []string{s.Authorization, s.Token, s.Push} {
			u, err := url.Parse(e)
			if err != nil || u.Host == "" || u.Scheme != "https" && !(development && isLoopback(u.Hostname())) {
				t.Errorf("endpoint %q", e)
			}
		}
		// What is read again is the same.
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		s2, err := parseServer(again, issuer, development)
		if err != nil || !reflect.DeepEqual(s, s2) {
			t.Errorf("%+v, %v; want %+v", s2, err, s)
		}
	})
}

// FuzzResource reads metadata of a PDS: what is accepted is the origin of a server.
func FuzzResource(f *testing.F) {
	f.Add([]byte(`{"resource":"https://pds.example.com","authorization_servers":["https://as.example.com"]}`), false)
	f.Add([]byte(`{"resource":"https://pds.example.com","authorization_servers":["http://[::1]:80"]}`), true)
	f.Add([]byte(`{"resource":"https://pds.example.com","authorization_servers":["https://AS.example.com:443/"]}`), false)
	f.Fuzz(func(t *testing.T, text []byte, development bool) {
		got, err := parseResource(text, issuer, development)
		if err != nil {
			return
		}
		if again, err := parseOrigin(got, development); err != nil || again != got {
			t.Errorf("%q: %q, %v", got, again, err)
		}
	})
}

// FuzzTokens reads answers of a token endpoint: what is accepted can be stored, and sent in a
// header.
func FuzzTokens(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","token_type":"DPoP","refresh_token":"r","scope":"atproto","sub":"did:web:example.com","expires_in":900}`))
	f.Add([]byte(`{"access_token":"a","token_type":"dpop","scope":"x atproto","sub":"did:web:example.com","expires_in":1e308}`))
	f.Add([]byte(`{"access_token":"a","access_token":"b"}`))
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text []byte) {
		var tok tokens
		if exactjson.UnmarshalPlain(text, &tok) != nil || tok.check(issuer) != nil {
			return
		}
		e := tok.expires(now)
		if !e.IsZero() && (e.Before(now) || e.After(now.Add(maxLife))) {
			t.Errorf("expires %v", e)
		}
		c := &Client{}
		key, _, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		id := SessionID(tok.Subject + "/x")
		r := record{Version: version, DID: id.DID(), Key: key, Access: tok.Access, Refresh: tok.Refresh, Scope: tok.Scope, Renewed: now, Expires: e}
		raw, err := c.seal("", r)
		if err != nil {
			t.Fatal(err)
		}
		h, err := c.unsealSession(id, raw)
		if err != nil || !reflect.DeepEqual(h.record, r) {
			t.Errorf("%+v, %v; want %+v", h, err, r)
		}
		if h != nil && h.renewBefore < 0 {
			t.Errorf("renewed %v early", h.renewBefore)
		}
	})
}

// FuzzError reads errors of an authorization server.
func FuzzError(f *testing.F) {
	f.Add(400, []byte(`{"error":"invalid_grant","error_description":"no"}`))
	f.Add(503, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, text []byte) {
		e := parseError(issuer, status, text)
		if len(e.Code) > maxDescription || len(e.Description) > maxDescription {
			t.Error("long")
		}
	})
}

// FuzzChallenge reads WWW-Authenticate headers.
func FuzzChallenge(f *testing.F) {
	f.Add(`DPoP algs="ES256", error="use_dpop_nonce", error_description="x"`)
	f.Add(`dpop error="invalid_token"`)
	f.Add(`Bearer error="invalid_token"`)
	f.Fuzz(func(t *testing.T, text string) {
		if code := challenge(http.Header{"Www-Authenticate": {text}}); code != "" && !strings.Contains(text, `"`+code+`"`) {
			t.Errorf("%q in %q", code, text)
		}
	})
}

// FuzzCallback reads the query of a callback: one that nobody has begun ends with ErrState.
func FuzzCallback(f *testing.F) {
	f.Add("state=x&iss=https://pds.example.com&code=y", "")
	f.Add("state=x&state=y", "b")
	f.Add("error=access_denied&state=%00", "")
	c, err := New(Config{Metadata: Loopback("", "/")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query, browser string) {
		q, _ := url.ParseQuery(query)
		if _, _, err := c.Finish(context.Background(), q, browser); !errors.Is(err, ErrState) {
			t.Errorf("%v", err)
		}
	})
}

// FuzzStored reads what lies in a store.
func FuzzStored(f *testing.F) {
	c := &Client{}
	key, _, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	good, err := c.seal("", record{Version: version, DID: "did:web:example.com", Key: key})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good), "did:web:example.com/x")
	f.Add(`{"v":1,"did":"did:web:example.com","key":"AAAA"}`, "did:web:example.com/x")
	f.Fuzz(func(t *testing.T, text, id string) {
		h, err := c.unsealSession(SessionID(id), []byte(text))
		if err == nil && (h.key == nil || h.DID != SessionID(id).DID()) {
			t.Errorf("%+v", h)
		}
		if id, err := ParseSessionID(id); err == nil && (id.DID() == "" || SessionID(string(id)) != id) {
			t.Errorf("%q", id)
		}
	})
}

// FuzzInput reads what people type. What is cleaned is clean.
func FuzzInput(f *testing.F) {
	for _, s := range []string{"@alice.example.com", "at://did:web:example.com", "\u2068alice.example.com\u2069", "https://PDS.example.com:443/", "http://[::1]:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c := clean(s); strings.ContainsAny(c, "\x00\r\n\u200e") {
			t.Errorf("%q: %q", s, c)
		}
		if o, err := parseOrigin(s, true); err == nil {
			again, err := parseOrigin(o, true)
			if err != nil || again != o {
				t.Errorf("%q: %q, then %q, %v", s, o, again, err)
			}
		}
	})
}
