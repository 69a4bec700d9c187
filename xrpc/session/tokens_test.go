package session_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testpds"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// sign makes a token of a header and claims, as text.
func sign(header, claims string, key []byte) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

// Tokens have the form that those in the field have.
func TestFormOfTokens(t *testing.T) {
	b := testpds.New(t, nil)
	alice := b.Register("alice")
	for token, want := range map[string]string{
		alice.AccessJWT: `{"alg":"HS256","typ":"at+jwt"} {"aud":"did:web:localhost","cred":0,"exp":1768485600,"iat":1768478400,"scope":"com.atproto.access","sid":"*","sub":"` + string(alice.DID) + `"}`,
		alice.RefreshJWT: `{"alg":"HS256","typ":"refresh+jwt"} {"aud":"did:web:localhost","cred":0,"exp":1776254400,"iat":1768478400,"jti":"*","scope":"com.atproto.refresh","sid":"*","sub":"` +
			string(alice.DID) + `"}`,
	} {
		parts := strings.Split(token, ".")
		var got []string
		for _, part := range parts[:2] {
			text, err := base64.RawURLEncoding.DecodeString(part)
			if err != nil {
				t.Fatal(err)
			}
			var m map[string]any
			d := json.NewDecoder(strings.NewReader(string(text)))
			d.UseNumber()
			if err := d.Decode(&m); err != nil {
				t.Fatal(err)
			}
			for _, random := range []string{"sid", "jti"} {
				if m[random] != nil {
					m[random] = "*"
				}
			}
			text, _ = json.Marshal(m)
			got = append(got, string(text))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("\n got %s\nwant %s", text, want)
		}
	}
	// One from before sessions had names.
	old := sign(`{"typ":"at+jwt","alg":"HS256"}`, fmt.Sprintf(`{"scope":"com.atproto.access","aud":"did:web:localhost","sub":%q,"iat":1768478400,"exp":1768485600}`, alice.DID), testpds.Key)
	if a := b.WhoAmI(old); a.Status != http.StatusOK {
		t.Errorf("an old one: %d %s", a.Status, a.Body)
	}
}

func TestForgedTokens(t *testing.T) {
	b := testpds.New(t, nil)
	alice := b.Register("alice")
	const header = `{"alg":"HS256","typ":"at+jwt"}`
	claims := func(more string) string {
		return fmt.Sprintf(`{"scope":"com.atproto.access","aud":"did:web:localhost","sub":%q,"iat":1768478400,"exp":1768485600%s}`, alice.DID, more)
	}
	if a := b.WhoAmI(sign(header, claims(""), testpds.Key)); a.Status != http.StatusOK {
		t.Fatalf("the form itself: %s", a.Body)
	}
	none := sign(`{"alg":"none"}`, claims(""), testpds.Key)
	for what, c := range map[string]struct{ token, name string }{
		"another key":          {sign(header, claims(""), []byte("another key for tests")), "InvalidToken"},
		"no key":               {sign(header, claims(""), nil), "InvalidToken"},
		"no signature":         {none[:strings.LastIndex(none, ".")+1], "InvalidToken"},
		"algorithm none":       {none, "InvalidToken"},
		"another algorithm":    {sign(`{"alg":"HS512","typ":"at+jwt"}`, claims(""), testpds.Key), "InvalidToken"},
		"algorithm twice":      {sign(`{"alg":"HS256","alg":"HS256"}`, claims(""), testpds.Key), "InvalidToken"},
		"subject twice":        {sign(header, claims(`,"sub":"did:web:other.example.com"`), testpds.Key), "InvalidToken"},
		"scope twice":          {sign(header, claims(`,"scope":"com.atproto.refresh"`), testpds.Key), "InvalidToken"},
		"scope in capitals":    {sign(header, strings.Replace(claims(""), `"scope"`, `"Scope"`, 1), testpds.Key), "InvalidToken"},
		"another audience":     {sign(header, strings.Replace(claims(""), "web:localhost", "web:pds.example.com", 1), testpds.Key), "InvalidToken"},
		"no audience":          {sign(header, strings.Replace(claims(""), `"aud":"did:web:localhost",`, "", 1), testpds.Key), "InvalidToken"},
		"no expiry":            {sign(header, strings.Replace(claims(""), `,"exp":1768485600`, "", 1), testpds.Key), "InvalidToken"},
		"expired":              {sign(header, strings.Replace(claims(""), "1768485600", "1768478399", 1), testpds.Key), "ExpiredToken"},
		"from the future":      {sign(header, strings.Replace(claims(""), "1768478400", "1768478500", 1), testpds.Key), "ExpiredToken"},
		"expired, and foreign": {sign(header, strings.NewReplacer("1768485600", "1768478399", "localhost", "x.example.com").Replace(claims("")), testpds.Key), "InvalidToken"},
		"no DID":               {sign(header, strings.Replace(claims(""), string(alice.DID), "alice", 1), testpds.Key), "InvalidToken"},
		"another scope":        {sign(header, strings.Replace(claims(""), "com.atproto.access", "com.atproto.all", 1), testpds.Key), "InvalidToken"},
		"other credentials":    {sign(header, claims(`,"cred":7`), testpds.Key), "ExpiredToken"},
		"another session":      {sign(header, claims(`,"sid":"x"`), testpds.Key), "ExpiredToken"},
		"nobody":               {sign(header, strings.Replace(claims(""), string(alice.DID), "did:web:nobody.example.com", 1), testpds.Key), "AccountNotFound"},
		"no token":             {"x", "InvalidToken"},
		"empty":                {"", "InvalidToken"},
		"of four parts":        {alice.AccessJWT + ".x", "InvalidToken"},
		"very long":            {strings.Repeat("x", 1<<15), "InvalidToken"},
	} {
		for range 2 { // what was seen before is not believed more
			if a := b.WhoAmI(c.token); a.Name != c.name {
				t.Errorf("%s: %d %s", what, a.Status, a.Body)
			}
		}
	}
	if a := b.Send("GET", "com.atproto.server.getSession", "", nil, nil); a.Status != 401 || a.Name != "AuthMissing" {
		t.Errorf("without credentials: %d %s", a.Status, a.Body)
	}
	if a := b.Send("GET", "com.atproto.server.getSession", "DPoP "+alice.AccessJWT, nil, nil); a.Name != "InvalidToken" {
		t.Errorf("of another scheme: %d %s", a.Status, a.Body)
	}
	refresh := strings.Replace(claims(""), "com.atproto.access", "com.atproto.refresh", 1)
	if _, a := b.Refresh(sign(header, refresh, testpds.Key)); a.Name != "InvalidToken" {
		t.Errorf("a refresh token without an ID: %d %s", a.Status, a.Body)
	}
}

func TestServiceAuth(t *testing.T) {
	b := testpds.New(t, nil)
	alice := b.Register("alice")
	var app struct{ Password string }
	b.Must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "phone"}, &app)
	phone, _ := b.Login("alice.test", app.Password)
	b.Must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "privileged", "privileged": true}, &app)
	privileged, _ := b.Login("alice.test", app.Password)
	now := b.Now().Unix()
	for _, c := range []struct {
		query string
		by    testpds.Tokens
		want  string
	}{
		{"aud=did:web:example.com", alice, ""},
		{"aud=did:web:example.com%23svc&lxm=com.example.get", alice, ""},
		{"aud=did:web:example.com&lxm=com.example.get&exp=" + fmt.Sprint(now+3600), alice, ""},
		{"aud=did:web:example.com&lxm=com.example.get&exp=" + fmt.Sprint(now+3601), alice, "BadExpiration"},
		{"aud=did:web:example.com&exp=" + fmt.Sprint(now+61), alice, "BadExpiration"},
		{"aud=did:web:example.com&exp=" + fmt.Sprint(now-1), alice, "BadExpiration"},
		{"aud=did:web:example.com%23", alice, "InvalidRequest"},
		{"aud=did:web:example.com%23a%23b", alice, "InvalidRequest"},
		{"aud=example.com", alice, "InvalidRequest"},
		{"aud=did:web:example.com&lxm=com.atproto.server.createAppPassword", alice, "InvalidRequest"},
		{"aud=did:web:example.com&lxm=com.atproto.server.createAccount", alice, ""},
		{"aud=did:web:example.com&lxm=com.atproto.server.createAccount", phone, "*"},
		{"aud=did:web:example.com&lxm=chat.bsky.convo.getConvo", phone, "*"},
		{"aud=did:web:example.com&lxm=chat.bsky.convo.getConvo", privileged, ""},
		{"aud=did:web:example.com&lxm=app.bsky.feed.getTimeline", phone, ""},
	} {
		var out struct{ Token string }
		a := b.Send("GET", "com.atproto.server.getServiceAuth?"+c.query, "Bearer "+c.by.AccessJWT, nil, &out)
		if ok := a.Status == http.StatusOK; ok != (c.want == "") || c.want != "*" && a.Name != c.want {
			t.Errorf("%s: %d %s", c.query, a.Status, a.Body)
		}
		if a.Status != http.StatusOK {
			continue
		}
		v := &serviceauth.Verifier{
			Audience: []string{"did:web:example.com", "did:web:example.com#svc"}, Now: b.Now,
			Keys: &serviceauth.DocumentKeys{Resolver: b.Resolver, Now: b.Now},
		}
		method := "com.example.get"
		if _, lxm, ok := strings.Cut(c.query, "lxm="); ok {
			method, _, _ = strings.Cut(lxm, "&")
		}
		if token, err := v.Verify(t.Context(), out.Token, method); err != nil && strings.Contains(c.query, "lxm") || err == nil && token.DID() != alice.DID {
			t.Errorf("%s: %+v, %v", c.query, token, err)
		}
	}
}
