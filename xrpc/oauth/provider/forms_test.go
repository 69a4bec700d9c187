package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/storage"
)

// Names in codes and refresh tokens become keys of the store, so none leads to another key.
func TestSecretTextsThatAreNone(t *testing.T) {
	good := secretText{alice, "name", "secret"}
	if got, ok := parseSecret(refreshText, good.String(refreshText)); !ok || got != good {
		t.Errorf("%+v, %v", got, ok)
	}
	did := strings.TrimPrefix(good.String(""), "name.secret.")
	longest := "ref-name." + strings.Repeat("x", maxSecretText-len("ref-name..")-len(did)) + "." + did
	if _, ok := parseSecret(refreshText, longest); !ok || len(longest) != maxSecretText {
		t.Errorf("the longest one, of %d bytes", len(longest))
	}
	for name, text := range map[string]string{
		"nothing": "", "another prefix": good.String(codeText), "no name": "ref-.secret." + did, "no secret": "ref-name.." + did, "no account": "ref-name.secret.",
		"two parts": "ref-name." + did, "four parts": "ref-name.secret.x." + did, "a path": "ref-../name.secret." + did, "not base64": "ref-name.secret.!" + did,
		"padding": "ref-name.secret." + did + "=", "no DID": "ref-name.secret.YWxpY2U", "too long": strings.Replace(longest, ".x", ".xx", 1),
	} {
		if got, ok := parseSecret(refreshText, text); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Of a set of keys, those count that verify assertions: public, named, for signatures, of their own
// algorithm, the first of each name, and some thirty of them.
func TestKeySetsOfAllKinds(t *testing.T) {
	k := newKey(t).PublicKey().JWK()
	one := func(kid, more string) string {
		return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"kid":%q%s}`, k.X, k.Y, kid, more)
	}
	other := newKey(t).PublicKey().JWK()
	twice := strings.NewReplacer(k.X, other.X, k.Y, other.Y).Replace(one("good", ""))
	var set keySet
	err := set.UnmarshalJSON([]byte(`{"keys":[` + strings.Join([]string{
		one("good", ""), one("signs", `,"use":"sig","alg":"ES256"`), twice, one("private", `,"d":"AA"`), one("", ""), one("encrypts", `,"use":"enc"`),
		one("other", `,"alg":"ES256K"`), `{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"none"}`, `"text"`,
	}, ",") + `]}`))
	want, _ := k.PublicKey()
	if err != nil || len(set.keys) != 2 || !set.keys["good"].Equal(want) || set.keys["signs"] == nil {
		t.Errorf("%v, %v", set.keys, err)
	}
	var many []string
	for i := range maxKeys + 1 {
		many = append(many, one(fmt.Sprint(i), ""))
	}
	if err := set.UnmarshalJSON([]byte(`{"keys":[` + strings.Join(many, ",") + `]}`)); err != nil || len(set.keys) != maxKeys {
		t.Errorf("%d keys, %v", len(set.keys), err)
	}
	if err := set.UnmarshalJSON([]byte(`[]`)); err == nil {
		t.Error("an array is a set of keys")
	}
}

// A client_id is a canonical address of a public host.
func TestClientIDsOfAllForms(t *testing.T) {
	for _, id := range []string{"https://app.example.net/m.json", "https://1.example.net/m", "https://app.example.net/a%2Fb?x=y", "https://0x.example.net/m"} {
		if err := discoverable(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, id := range []string{
		"", "m.json", "https:app.example.net/m", "https:///m.json", "https://app.example.net:/m.json", "https://app.example.net:443/m.json", "https://app.example.net/m.json#",
		"https://u@app.example.net/m.json", "https://intranet/m.json", "https://intranet./m.json", "https://.net/m.json", "https://app.local/m.json", "https://app.local./m.json",
		"https://app.example.123/m.json", "https://app.example.0x1f/m.json", "https://10.0.0.1/m.json", "https://[::1]/m.json", "https://App.example.net/m.json",
		"https://app.example.net", "https://app.example.net/", "https://app.example.net/m/", "https://app.example.net/./m.json", "https://app.example.net/a/../m.json",
		"https://app.example.net/%2E/m.json", "https://app.example.net/a b.json", "https://app.example.net/%7Em.json", "https://app.example.net/%41.json", "https://app.example.net/ä.json",
		"https://app.example.net/%zz", "http://app.example.net/m.json",
	} {
		if err := discoverable(id); err == nil {
			t.Errorf("%q is a client_id", id)
		}
	}
	if _, err := loopback("http://localhost?%zz"); err == nil {
		t.Error("a query that is none")
	}
}

// The addresses in a client's metadata, each with one thing that is wrong.
func TestAddressesOfClients(t *testing.T) {
	pad := func(begin string, n int) string { return begin + strings.Repeat("x", n-len(begin)) }
	for uri, ok := range map[string]bool{
		"https://a.example.net": true, pad("https://a.example.net/", maxClientID): true, pad("https://a.example.net/", maxClientID+1): false, "http://a.example.net": false,
		"https://u@a.example.net/": false, "https:///x": false, "https://a.local/": false, "https://%zz/": false, "javascript:alert(1)": false,
	} {
		if err := publicURL(uri); (err == nil) != ok {
			t.Errorf("%.40s: %v", uri, err)
		}
	}
	own, err := url.Parse("https://app.example.net/m.json")
	if err != nil {
		t.Fatal(err)
	}
	for kind, list := range map[string]map[string]bool{
		"web": {
			"https://app.example.net/cb": true, "https://other.example.net/cb?x=y": true, pad("https://app.example.net/", maxClientID): true,
			pad("https://app.example.net/", maxClientID+1): false, "": false, "x": false, "/cb": false, "https://app.example.net/c b": false, "https://app.example.net/<": false,
			`https://app.example.net/"`: false, "https://app.example.net/cb#": false, "https://app.example.net/cb#x": false, "https://u@app.example.net/cb": false,
			"https://intranet/cb": false, "https://app.local/cb": false, "https://192.0.2.1/cb": false, "https:///cb": false, "http://127.0.0.1/cb": false, "net.example.app:/cb": false,
		},
		"native": {
			"https://app.example.net/cb": true, "https://other.example.net/cb": false, "http://127.0.0.1/cb": true, "http://[::1]:80/cb": true, "net.example.app:/cb": true,
			"http://127.0.0.2/cb": false, "http://LOCALHOST/cb": false, "http://u@127.0.0.1/cb": false, "http://127.0.0.1/cb#": false, "http://app.example.net/cb": false,
			"net.example.app://cb": false, "net.example.app:cb": false, "net.example:/cb": false,
		},
	} {
		m := &metadata{ApplicationType: kind}
		for uri, ok := range list {
			if err := m.checkRedirect(uri, own); (err == nil) != ok {
				t.Errorf("%s, %.40s: %v", kind, uri, err)
			}
		}
	}
	const known = "http://127.0.0.1/cb?x=1"
	for _, x := range []struct {
		known, given string
		ok           bool
	}{
		{known, "http://127.0.0.1:4000/cb?x=1", true}, {"http://[::1]/", "http://[::1]:1/", true}, {known, "http://[::1]:4000/cb?x=1", false}, {known, "http://127.0.0.1:4000/CB?x=1", false},
		{known, "http://127.0.0.1:4000/cb?x=2", false}, {known, "http://127.0.0.1:/cb?x=1", false}, {known, "https://127.0.0.1:4000/cb?x=1", false}, {known, "http://u@127.0.0.1:4000/cb?x=1", false},
		{known, "http://127.0.0.1:4000/cb?x=1#y", false}, {"http://127.0.0.1:80/cb", "http://127.0.0.1:81/cb", false}, {"http://127.0.0.1/cb", "http://127.0.0.1:1/cb?", false},
		{"http://app.example.net/cb", "http://app.example.net:1/cb", false}, {known, "http://127.0.0.1:4000/%zz", false}, {"http://%zz", known, false},
	} {
		if got := samePortless(x.known, x.given); got != x.ok {
			t.Errorf("%s and %s: %v", x.known, x.given, got)
		}
	}
}

// Metadata at their bounds, and with members that say what is so anyway.
func TestMetadataAtTheirBounds(t *testing.T) {
	var many []string
	for i := range maxRedirects + 1 {
		many = append(many, fmt.Sprintf("https://app.example.net/%d", i))
	}
	key := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256"}
	with := func(more map[string]any) map[string]any {
		for name, v := range key {
			more[name] = v
		}
		return more
	}
	long := func(n int) string { return "atproto " + strings.Repeat("x", n-len("atproto ")) }
	for _, x := range []struct {
		name   string
		change map[string]any
		ok     bool
	}{
		{"as it is", nil, true}, {"no application_type", map[string]any{"application_type": nil}, true},
		{"mTLS is not wanted", map[string]any{"tls_client_certificate_bound_access_tokens": false}, true}, {"public subjects", map[string]any{"subject_type": "public"}, true},
		{"the longest scope", map[string]any{"scope": long(maxScopeText)}, true}, {"a longer scope", map[string]any{"scope": long(maxScopeText + 1)}, false},
		{"the most redirects", map[string]any{"redirect_uris": many[1:]}, true}, {"more redirects", map[string]any{"redirect_uris": many}, false},
		{"keys elsewhere", with(map[string]any{"jwks_uri": "https://keys.example.org/jwks"}), true}, {"keys by HTTP", with(map[string]any{"jwks_uri": "http://keys.example.org/jwks"}), false},
		{"keys in the house", with(map[string]any{"jwks_uri": "https://printer.local/jwks"}), false},
		{"userinfo", map[string]any{"userinfo_signed_response_alg": "ES256"}, false}, {"encrypted answers", map[string]any{"authorization_encrypted_response_alg": "A"}, false},
		{"a grant too many", map[string]any{"grant_types": []string{grantCode, grantRefresh, grantRefresh}}, false},
	} {
		text, err := json.Marshal(clientDocument(clientID, x.change))
		if err != nil {
			t.Fatal(err)
		}
		if m, err := parseMetadata(clientID, text); (err == nil) != x.ok || x.ok && m.ApplicationType != "web" {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

// What comes back to a client is added to its redirect URI, whatever that has already.
func TestAnswersToAllRedirectURIs(t *testing.T) {
	p := newWorld(t).p
	const more = "iss=https%3A%2F%2Fpds.example.com&state=s&code=c"
	for _, x := range []struct{ uri, mode, want string }{
		{"https://a.example/cb", modeQuery, "https://a.example/cb?" + more}, {"https://a.example/cb?x=y", modeQuery, "https://a.example/cb?x=y&" + more},
		{"https://a.example/cb?", modeQuery, "https://a.example/cb?" + more}, {"https://a.example/cb?x=y", modeFragment, "https://a.example/cb?x=y#" + more},
	} {
		rec := httptest.NewRecorder()
		if err := p.answer(rec, &request{Redirect: x.uri, Mode: x.mode, State: "s"}, nil, "c"); err != nil {
			t.Fatal(err)
		}
		if h := rec.Header(); rec.Code != http.StatusSeeOther || h.Get("Location") != x.want || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s, %s: %d %v", x.uri, x.mode, rec.Code, h)
		}
	}
	rec := httptest.NewRecorder()
	if err := p.answer(rec, &request{Redirect: "https://a.example/cb", Mode: modeForm, State: "s"}, nil, "c"); err != nil {
		t.Fatal(err)
	}
	if h := rec.Header(); h.Get("Referrer-Policy") != "no-referrer" || h.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%v", h)
	}
}

// The headers of pages, of answers to clients, and of documents, as a whole.
func TestHeadersOfAnswers(t *testing.T) {
	h := http.Header{}
	pageHeaders(h)
	if diff := cmp.Diff(http.Header{
		"Cache-Control":                {"no-store"},
		"Content-Security-Policy":      {"default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"},
		"Cross-Origin-Opener-Policy":   {"same-origin"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Referrer-Policy":              {"same-origin"},
		"X-Content-Type-Options":       {"nosniff"},
		"X-Frame-Options":              {"DENY"},
		"X-Robots-Tag":                 {"noindex"},
	}, h); diff != "" {
		t.Error(diff)
	}
	w := newWorld(t, func(c *Config) { c.Documentation = "https://pds.example.com/docs" })
	open := map[string]string{
		"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "*", "Access-Control-Allow-Headers": "Content-Type,DPoP", "Access-Control-Max-Age": "86400",
		"Access-Control-Expose-Headers": "DPoP-Nonce,WWW-Authenticate,Retry-After", "X-Content-Type-Options": "nosniff",
	}
	for path, name := range map[string]string{pathServer: "service_documentation", pathResource: "resource_documentation"} {
		for _, method := range []string{"GET", "HEAD"} {
			out := w.do(httptest.NewRequest(method, issuer+path, nil))
			open["Cache-Control"] = "public, max-age=300"
			for header, want := range open {
				if got := out.header.Get(header); got != want {
					t.Errorf("%s %s: %s: %q", method, path, header, got)
				}
			}
			if out.status != 200 || method == "GET" && (out.str(name) != w.p.cfg.Documentation || out.json["ui_locales_supported"] != nil) {
				t.Errorf("%s %s: %d %s", method, path, out.status, out.text)
			}
		}
		if out := w.do(httptest.NewRequest("PUT", issuer+path, nil)); out.status != 405 || out.header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("PUT %s: %d %v", path, out.status, out.header)
		}
	}
	if out := newWorld(t).get(pathServer); strings.Contains(out.text, "documentation") {
		t.Error(out.text)
	}
}

// unavailable is an error that passes.
type unavailable struct{ error }

func (unavailable) Unavailable() bool { return true }

// What a client is told of an error: when to try again if that helps, in seconds, and in characters that
// may stand in a header.
func TestWhatErrorsSay(t *testing.T) {
	for retry, want := range map[time.Duration]string{0: "", 1: "1", time.Second: "1", 1500 * time.Millisecond: "2"} {
		h := http.Header{}
		(&Error{Retry: retry}).retryAfter(h)
		if got := h.Get("Retry-After"); got != want {
			t.Errorf("%v: %q", retry, got)
		}
	}
	if got := ascii(" ~a\x1f\x7f\"\\é\n"); got != " ~a''''''" {
		t.Errorf("%q", got)
	}
	for err, status := range map[error]int{
		storage.ErrConflict: 503, unavailable{errors.New("x")}: 503, errors.New("x"): 500, &http.MaxBytesError{}: 413,
	} {
		e, told := asError(err)
		if e.status() != status || (status == 413) != told || (e.Retry > 0) != (status == 503) {
			t.Errorf("%v: %+v, %v", err, e, told)
		}
	}
}

// A form of the consent is as long as other bodies may be, and is one.
func TestFormsThatAreNone(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	w.browse(browser, a.push(nil)).asks(t, "before", AskConsent)
	form := w.consentForm(alice, nil)
	post := func(body string) reply {
		r := httptest.NewRequest("POST", issuer+pathAuthorize, strings.NewReader(body))
		r.AddCookie(&http.Cookie{Name: "device", Value: browser})
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Origin", issuer)
		return w.do(r)
	}
	text := form.Encode()
	post(text+"&x=%zz").page(t, "malformed", 400)
	post(text+"&"+strings.Repeat("x", maxBody-len(text))).page(t, "too long", 413)
	if q := post(text + "&" + strings.Repeat("x", maxBody-len(text)-1)).back(t); q.Get("code") == "" {
		t.Errorf("the longest: %v", q)
	}
}

// The least secret, and the bounds that hold where none are given.
func TestDefaultsOfTheProvider(t *testing.T) {
	w := newWorld(t)
	if w.p.pending.max != 20_000 {
		t.Errorf("%d pending requests", w.p.pending.max)
	}
	newWorld(t, func(c *Config) { c.Secret = make([]byte, 32) }).public().login()
	cfg := w.p.cfg
	cfg.Secret = make([]byte, 31)
	func() {
		defer func() {
			if s, _ := recover().(string); !strings.Contains(s, "Config.Secret") {
				t.Errorf("a secret of 31 bytes: %q", s)
			}
		}()
		New(cfg)
	}()
	for _, bad := range []string{"https://", "ftp://pds.example.com", "https://pds.example.com/x", "https://u@pds.example.com", "pds.example.com", "https://%zz"} {
		cfg := w.p.cfg
		cfg.Issuer = bad
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.Contains(s, "Config.Issuer") {
					t.Errorf("%s: %q", bad, s)
				}
			}()
			New(cfg)
		}()
	}
}
