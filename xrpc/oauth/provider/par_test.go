package provider

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
)

// raw posts a body as it is.
func (w *world) raw(path, kind, body string, header ...string) reply {
	r := httptest.NewRequest("POST", issuer+path, strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return w.do(r)
}

const formType = "application/x-www-form-urlencoded"

func TestMatrix45_46_47ProofAtPAR(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	if out := w.raw(pathPAR, formType, a.request(nil).Encode()); !out.is(400, codeInvalidProof) {
		t.Errorf("45: %d %s", out.status, out.text)
	}
	jkt := a.key.PublicKey().JWK().Thumbprint()
	if out := w.raw(pathPAR, formType, a.request(map[string]string{"dpop_jkt": jkt}).Encode()); out.status != 201 {
		t.Errorf("45, with dpop_jkt: %d %s", out.status, out.text)
	}
	out := w.raw(pathPAR, formType, a.request(nil).Encode(), "DPoP", a.proof("POST", issuer+pathPAR, "", ""))
	if !out.is(400, codeUseNonce) || out.header.Get("DPoP-Nonce") == "" || !strings.Contains(out.header.Get("Access-Control-Expose-Headers"), "DPoP-Nonce") ||
		out.header.Get("Cache-Control") != "no-store" {
		t.Errorf("46: %d %v %s", out.status, out.header, out.text)
	}
	if out := w.raw(pathPAR, formType, a.request(nil).Encode(), "DPoP", a.proof("POST", issuer+pathPAR, "", out.header.Get("DPoP-Nonce"))); out.status != 201 {
		t.Errorf("46, again: %d %s", out.status, out.text)
	}
	if out := a.par(map[string]string{"dpop_jkt": newKey(t).PublicKey().JWK().Thumbprint()}); !out.is(401, codeInvalidProof) || out.header.Get("WWW-Authenticate") == "" {
		t.Errorf("47: %d %s", out.status, out.text)
	}
	if out := a.par(map[string]string{"dpop_jkt": jkt}); out.status != 201 {
		t.Errorf("47, the same: %d %s", out.status, out.text)
	}
	if out := a.par(map[string]string{"dpop_jkt": "short"}); !out.is(400, codeInvalidRequest) {
		t.Errorf("47, malformed: %d %s", out.status, out.text)
	}
}

func TestMatrix48to62Parameters(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	for _, x := range []struct {
		name   string
		change map[string]string
		want   string // "": accepted
	}{
		{"good", nil, ""},
		{"48 no challenge", map[string]string{"code_challenge": ""}, codeInvalidRequest},
		{"48 plain", map[string]string{"code_challenge_method": "plain"}, codeInvalidRequest},
		{"48 no method", map[string]string{"code_challenge_method": ""}, codeInvalidRequest},
		{"48 42 characters", map[string]string{"code_challenge": strings.Repeat("a", 42)}, codeInvalidRequest},
		{"48 44 characters", map[string]string{"code_challenge": strings.Repeat("a", 44)}, codeInvalidRequest},
		{"48 not base64url", map[string]string{"code_challenge": strings.Repeat("+", 43)}, codeInvalidRequest},
		{"49 no atproto", map[string]string{"scope": "repo:com.example.note"}, codeInvalidScope},
		{"49 no scope", map[string]string{"scope": ""}, codeInvalidScope},
		{"49 openid", map[string]string{"scope": "atproto openid"}, codeInvalidScope},
		{"50 undeclared", map[string]string{"scope": "atproto repo:com.example.other"}, codeInvalidScope},
		{"50 wider", map[string]string{"scope": "atproto repo:*"}, codeInvalidScope},
		{"50 undeclared and unknown", map[string]string{"scope": "atproto future:other"}, codeInvalidScope},
		{"50 another spelling", map[string]string{"scope": "atproto repo?collection=com.example.note"}, ""},
		{"51 unknown", map[string]string{"scope": "atproto future:thing"}, ""},
		{"52 set", map[string]string{"scope": "atproto include:com.example.auth"}, ""},
		{"52 missing set", map[string]string{"scope": "atproto include:com.example.missing"}, codeInvalidScope},
		{"53 not registered", map[string]string{"redirect_uri": "https://evil.example/cb"}, codeInvalidRequest},
		{"53 slash at the end", map[string]string{"redirect_uri": redirect + "/"}, codeInvalidRequest},
		{"53 query", map[string]string{"redirect_uri": redirect + "?x=y"}, codeInvalidRequest},
		{"53 upper case", map[string]string{"redirect_uri": "https://app.example.net/CB"}, codeInvalidRequest},
		{"53 port", map[string]string{"redirect_uri": "https://app.example.net:443/cb"}, codeInvalidRequest},
		{"53 none, and one is registered", map[string]string{"redirect_uri": ""}, ""},
		{"54 token", map[string]string{"response_type": "token"}, codeUnsupportedType},
		{"54 none", map[string]string{"response_type": ""}, codeInvalidRequest},
		{"55 prompt none", map[string]string{"prompt": "none"}, codeInvalidRequest},
		{"55 unknown prompt", map[string]string{"prompt": "please"}, codeInvalidRequest},
		{"55 prompt login", map[string]string{"prompt": "login"}, ""},
		{"56 hint", map[string]string{"login_hint": "..bad"}, codeInvalidRequest},
		{"56 handle", map[string]string{"login_hint": "@Alice.test"}, ""},
		{"56 DID", map[string]string{"login_hint": string(alice)}, ""},
		{"56 address", map[string]string{"login_hint": "alice@example.com"}, codeInvalidRequest},
		{"57 no state", map[string]string{"state": ""}, codeInvalidRequest},
		{"57 a long state", map[string]string{"state": strings.Repeat("x", maxState+1)}, codeInvalidRequest},
		{"59 request_uri", map[string]string{"request_uri": requestURIPrefix + "x"}, codeInvalidRequest},
		{"request object", map[string]string{"request": "x.y.z"}, codeInvalidRequest},
		{"claims", map[string]string{"claims": "{}"}, codeInvalidRequest},
		{"authorization_details", map[string]string{"authorization_details": "[]"}, codeInvalidRequest},
		{"response mode", map[string]string{"response_mode": "web_message"}, codeInvalidRequest},
		{"client secret", map[string]string{"client_secret": "x"}, codeInvalidClient},
		{"assertion of a public client", map[string]string{"client_assertion_type": "x", "client_assertion": "x"}, codeInvalidClient},
		{"no client", map[string]string{"client_id": ""}, codeInvalidClient},
		{"unknown parameters", map[string]string{"display": "popup", "max_age": "1", "x": "y"}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			out := a.par(x.change)
			if x.want == "" && out.status != 201 || x.want != "" && !out.is(400, x.want) {
				t.Errorf("%d %s", out.status, out.text)
			}
		})
	}
	t.Run("62 expires_in", func(t *testing.T) {
		out := a.par(nil)
		if expires, _ := out.json["expires_in"].(float64); out.status != 201 || expires <= 0 || expires > 300 {
			t.Errorf("%d %s", out.status, out.text)
		}
	})
	proof := func() []string {
		return []string{"DPoP", a.proof("POST", issuer+pathPAR, "", w.p.proofs.Nonce())}
	}
	body := a.request(nil).Encode()
	t.Run("58 twice or malformed", func(t *testing.T) {
		if out := w.raw(pathPAR, formType, body+"&state=other", proof()...); !out.is(400, codeInvalidRequest) {
			t.Errorf("58: %d %s", out.status, out.text)
		}
		if out := w.raw(pathPAR, formType, body+"&%zz", proof()...); !out.is(400, codeInvalidRequest) {
			t.Errorf("58 malformed: %d %s", out.status, out.text)
		}
		if out := w.raw(pathPAR, formType, body+"&state=%ff", proof()...); !out.is(400, codeInvalidRequest) {
			t.Errorf("58 not UTF-8: %d %s", out.status, out.text)
		}
		if out := w.raw(pathPAR, "application/json", `{"state":"a","state":"b"}`, proof()...); !out.is(400, codeInvalidRequest) {
			t.Errorf("58 JSON: %d %s", out.status, out.text)
		}
	})
	for _, text := range []string{`{"state":{}}`, `{"state":["a"]}`, `[]`, `"a"`, `null x`, ``} {
		if out := w.raw(pathPAR, "application/json", text, proof()...); !out.is(400, codeInvalidRequest) {
			t.Errorf("JSON: %s: %d %s", text, out.status, out.text)
		}
	}
	object := make(map[string]string)
	in := a.request(nil)
	for name := range in {
		object[name] = in.Get(name)
	}
	text, _ := json.Marshal(object)
	text = append([]byte(`{"max_age":60,"x":true,"y":null,`), text[1:]...)
	if out := w.raw(pathPAR, "application/json; charset=UTF-8", string(text), proof()...); out.status != 201 {
		t.Errorf("JSON: %d %s", out.status, out.text)
	}
	t.Run("60 media types", func(t *testing.T) {
		for _, kind := range []string{"text/plain", "", "multipart/form-data; boundary=x", "application/json; charset=latin1"} {
			if out := w.raw(pathPAR, kind, body, proof()...); out.status != 415 {
				t.Errorf("60 %q: %d %s", kind, out.status, out.text)
			}
		}
	})
	t.Run("61 size and coding", func(t *testing.T) {
		if out := w.raw(pathPAR, formType, body+"&x="+strings.Repeat("x", maxBody), proof()...); out.status != 413 {
			t.Errorf("61: %d %s", out.status, out.text)
		}
		// A body in another coding is refused without a look at it, however long it is.
		var bomb bytes.Buffer
		z := gzip.NewWriter(&bomb)
		z.Write(make([]byte, 1<<20))
		z.Close()
		if out := w.raw(pathPAR, formType, bomb.String(), append(proof(), "Content-Encoding", "gzip")...); out.status != 415 {
			t.Errorf("61 gzip: %d %s", out.status, out.text)
		}
	})
	if out := w.raw(pathPAR, formType, body, append(proof(), "Accept", "text/html")...); out.status != 406 {
		t.Errorf("Accept: %d %s", out.status, out.text)
	}
}

// 51: what is not known is dropped, and is not in what is granted.
func TestMatrix51UnknownScope(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	a.scope = "atproto future:thing repo:com.example.note"
	out := a.exchange(a.code(nil), nil)
	if out.status != 200 || out.str("scope") != "atproto repo:com.example.note" {
		t.Errorf("%d %s", out.status, out.text)
	}
}

// Requests that nobody opens do not fill the store.
func TestPendingRequestsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxPending = 3 })
	a := w.public()
	for i := range 4 {
		out := a.par(nil)
		if i < 3 && out.status != 201 || i == 3 && (!out.is(503, codeUnavailable) || out.header.Get("Retry-After") == "") {
			t.Errorf("%d: %d %s", i, out.status, out.text)
		}
	}
	w.wait(requestLife)
	a.push(nil)
}

func TestMatrix63to71Assertions(t *testing.T) {
	w := newWorld(t)
	now := w.now().Unix()
	for _, x := range []struct {
		name         string
		claims, head map[string]any
		want         string
	}{
		{"good", nil, nil, ""},
		{"63 aud is the token URL", map[string]any{"aud": issuer + pathToken}, nil, codeInvalidClient},
		{"63 aud is a list", map[string]any{"aud": []string{"x", issuer}}, nil, ""},
		{"63 no aud", map[string]any{"aud": nil}, nil, codeInvalidClient},
		{"64 iss", map[string]any{"iss": clientID}, nil, codeInvalidClient},
		{"64 sub", map[string]any{"sub": clientID}, nil, codeInvalidClient},
		{"65 no jti", map[string]any{"jti": nil}, nil, codeInvalidClient},
		{"66 two minutes old", map[string]any{"iat": now - 120}, nil, codeInvalidClient},
		{"66 ahead", map[string]any{"iat": now + 120}, nil, codeInvalidClient},
		{"66 a few seconds ahead", map[string]any{"iat": now + 5}, nil, ""},
		{"66 no iat", map[string]any{"iat": nil}, nil, codeInvalidClient},
		{"67 no kid", nil, map[string]any{"kid": nil}, codeInvalidClient},
		{"67 unknown kid", nil, map[string]any{"kid": "two"}, codeInvalidClient},
		{"68 none", nil, map[string]any{"alg": "none"}, codeInvalidClient},
		{"68 HS256", nil, map[string]any{"alg": "HS256"}, codeInvalidClient},
		{"68 the other curve", nil, map[string]any{"alg": "ES256K"}, codeInvalidClient},
		{"crit", nil, map[string]any{"crit": []string{"x"}}, codeInvalidClient},
		{"71 no exp", map[string]any{"exp": nil}, nil, codeInvalidClient},
		{"71 expired", map[string]any{"exp": now - 1}, nil, codeInvalidClient},
		{"71 far", map[string]any{"exp": now + 3600}, nil, codeInvalidClient},
		{"nbf", map[string]any{"nbf": now + 100}, nil, codeInvalidClient},
		{"cnf", map[string]any{"cnf": map[string]any{"jkt": "x"}}, nil, codeInvalidClient},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := w.confidential()
			w.p.documents.Purge(a.id)
			a.changeAssertion, a.changeHead = x.claims, x.head
			out := a.par(nil)
			if x.want == "" && out.status != 201 || x.want != "" && !out.is(400, x.want) {
				t.Errorf("%d %s", out.status, out.text)
			}
		})
	}
	a := w.confidential()
	w.p.documents.Purge(a.id)
	a.changeAssertion = map[string]any{"jti": "the same"}
	a.push(nil)
	if out := a.par(nil); !out.is(400, codeInvalidClient) {
		t.Errorf("65: %d %s", out.status, out.text)
	}
	a.changeAssertion = nil
	in := a.request(map[string]string{"client_assertion_type": "urn:x", "client_assertion": a.assertion()})
	if out := a.send(pathPAR, in); !out.is(400, codeInvalidClient) {
		t.Errorf("assertion type: %d %s", out.status, out.text)
	}
	// 68: a MAC with the public key as the secret.
	head, _ := json.Marshal(map[string]any{"alg": "HS256", "kid": "one"})
	claims, _ := json.Marshal(map[string]any{"iss": a.id, "sub": a.id, "aud": issuer, "jti": "x", "iat": now, "exp": now + 60})
	signed := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(claims)
	public, _ := json.Marshal(a.authKey.PublicKey().JWK())
	h := hmac.New(sha256.New, public)
	h.Write([]byte(signed))
	in = a.request(map[string]string{"client_assertion_type": assertionType, "client_assertion": signed + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))})
	r := httptest.NewRequest("POST", issuer+pathPAR, strings.NewReader(in.Encode()))
	r.Header.Set("Content-Type", formType)
	r.Header.Set("DPoP", a.proof("POST", issuer+pathPAR, "", w.p.proofs.Nonce()))
	if out := w.do(r); !out.is(400, codeInvalidClient) {
		t.Errorf("68: %d %s", out.status, out.text)
	}
	own := a.authKey
	t.Run("69 key of another", func(t *testing.T) {
		a.authKey = newKey(t)
		if out := a.par(nil); !out.is(400, codeInvalidClient) {
			t.Errorf("%d %s", out.status, out.text)
		}
	})
	t.Run("70 the key of the proof", func(t *testing.T) {
		a.authKey, a.key = own, own
		if out := a.par(nil); !out.is(400, codeInvalidRequest) {
			t.Errorf("%d %s", out.status, out.text)
		}
	})
}

// A client that is asked for a nonce repeats the request as it was, with the same assertion.
func TestAssertionSurvivesNonce(t *testing.T) {
	w := newWorld(t)
	a := w.confidential()
	in := a.request(map[string]string{"client_assertion_type": assertionType, "client_assertion": a.assertion()}).Encode()
	out := w.raw(pathPAR, formType, in, "DPoP", a.proof("POST", issuer+pathPAR, "", ""))
	if !out.is(400, codeUseNonce) {
		t.Fatalf("%d %s", out.status, out.text)
	}
	nonce := out.header.Get("DPoP-Nonce")
	if out := w.raw(pathPAR, formType, in, "DPoP", a.proof("POST", issuer+pathPAR, "", nonce)); out.status != 201 {
		t.Errorf("%d %s", out.status, out.text)
	}
	if out := w.raw(pathPAR, formType, in, "DPoP", a.proof("POST", issuer+pathPAR, "", nonce)); !out.is(400, codeInvalidClient) {
		t.Errorf("a third time: %d %s", out.status, out.text)
	}
}

func TestMatrix72_73OtherAuthentication(t *testing.T) {
	w := newWorld(t)
	a := w.confidential()
	tok := a.login()
	key := a.authKey
	a.publishJSON(a.id, clientDocument(a.id, nil)) // it is public now
	w.wait(documentLife + time.Second)
	a.authKey = nil
	if out := a.refresh(tok.refresh); !out.is(400, codeInvalidGrant) {
		t.Errorf("72: %d %s", out.status, out.text)
	}
	a.authKey = newKey(t)
	a.kid = "two"
	a.publishKeys(map[string]*crypto.PrivateKey{"one": key, "two": a.authKey})
	w.wait(documentLife + time.Second)
	if out := a.refresh(tok.refresh); !out.is(400, codeInvalidGrant) {
		t.Errorf("73: %d %s", out.status, out.text)
	}
	a.authKey, a.kid = key, "one"
	a.refresh(tok.refresh).tokens(t) // the session is still there for who has the key

	// A client may begin to authenticate itself.
	p := w.public()
	tok = p.login()
	p.authKey, p.kid = newKey(t), "one"
	p.publishKeys(map[string]*crypto.PrivateKey{"one": p.authKey})
	w.wait(documentLife + time.Second)
	p.refresh(tok.refresh).tokens(t)
}

// Keys that are not for signatures, or malformed, are passed over. Those at jwks_uri are fetched.
func TestKeySets(t *testing.T) {
	w := newWorld(t)
	a := w.confidential()
	good := jwks(map[string]*crypto.PrivateKey{"one": a.authKey})["keys"].([]any)[0]
	private := map[string]any{"kty": "EC", "crv": "P-256", "kid": "p", "d": "x"}
	list := []any{map[string]any{"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"}, map[string]any{"kty": "EC", "crv": "P-521", "kid": "x"}, private, "x", good}
	doc := clientDocument(a.id, map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256", "jwks_uri": "https://keys.example.org/jwks",
	})
	a.publishJSON(a.id, doc)
	a.publish("https://keys.example.org/jwks", func(*http.Request) (*http.Response, error) {
		text, err := json.Marshal(map[string]any{"keys": list})
		return respond(200, "application/jwk-set+json", string(text)), err
	})
	a.push(nil)
	maps.DeleteFunc(doc, func(name string, _ any) bool { return name == "jwks_uri" })
	doc["jwks"] = map[string]any{"keys": list}
	a.publishJSON(a.id, doc)
	w.wait(time.Hour)
	a.push(nil)
}
