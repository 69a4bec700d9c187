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
	"time"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
	"github.com/pdskit/pdskit/xrpc/session"
)

func TestMisuse(t *testing.T) {
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	good := session.Config{Credentials: credential.New(credential.Config{Accounts: account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)}), Key: key, ServiceDID: "did:web:localhost", URL: "http://localhost"}
	for want, change := range map[string]func(*session.Config){
		"":                   func(*session.Config) {},
		"Config.Credentials": func(c *session.Config) { c.Credentials = nil },
		"Config.Key":         func(c *session.Config) { c.Key = []byte("short") },
		"Config.ServiceDID":  func(c *session.Config) { c.ServiceDID = "" },
		"Config.URL":         func(c *session.Config) { c.URL = "" },
	} {
		cfg := good
		change(&cfg)
		got := func() (got any) {
			defer func() { got = recover() }()
			session.New(cfg)
			return nil
		}()
		if text, _ := got.(string); !strings.Contains(text, want) || (got == nil) != (want == "") {
			t.Errorf("without %s: %v", want, got)
		}
	}
}

func TestLogin(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	for _, name := range []string{"alice.test", "ALICE.test", "alice@example.com", "Alice@Example.com", string(alice.DID)} {
		s, a := b.login(name, "password of alice")
		if a.status != http.StatusOK || s.DID != alice.DID || s.Handle != "alice.test" || s.Active == nil || !*s.Active || s.DIDDoc == nil {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if a := b.whoami(s.AccessJWT); a.status != http.StatusOK || !strings.Contains(a.body, `"email":"alice@example.com"`) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for _, c := range []struct{ name, password string }{
		{"alice.test", "password of bob"}, {"alice.test", ""}, {"bob.test", "password of alice"}, {"", "password of alice"},
		{"alice.test", strings.Repeat("x", 4*session.MaxPassword+1)},
	} {
		if _, a := b.login(c.name, c.password); a.status != http.StatusUnauthorized {
			t.Errorf("%.20s, %.20s: %d %s", c.name, c.password, a.status, a.body)
		}
	}
}

// A client follows the address in the DID document, so a document that names another server is not
// shown.
func TestDocumentOfAnotherServer(t *testing.T) {
	b := newBench(t, func(c *session.Config) { c.URL = "https://pds.example.com" })
	alice := b.register("alice") // its document names pds.example.com
	if s, _ := b.login("alice.test", "password of alice"); s.DIDDoc == nil {
		t.Error("its own")
	}
	elsewhere := session.New(session.Config{
		Credentials: b.credentials, Key: key, ServiceDID: "did:web:localhost", URL: "https://other.example.com", Resolver: b.resolver, Now: b.Now,
	})
	if doc := elsewhere.Document(t.Context(), alice.DID); doc != nil {
		t.Errorf("%s", doc)
	}
	if doc := elsewhere.Document(t.Context(), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"); doc != nil {
		t.Errorf("nobody's: %s", doc)
	}
}

func TestSessionOfAnAccountThatWasTakenDown(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	b.takedown(alice.DID, true)
	if a := b.whoami(alice.AccessJWT); a.status != 401 || a.name != "AccountTakedown" {
		t.Errorf("the session before: %d %s", a.status, a.body)
	}
	if _, a := b.login("alice.test", "password of alice"); a.status != 401 || a.name != "AccountTakedown" {
		t.Errorf("a login: %d %s", a.status, a.body)
	}
	s, a := b.login("alice.test", "password of alice", "allowTakendown")
	if a.status != http.StatusOK || s.Status != "takendown" || *s.Active {
		t.Fatalf("a login that allows for it: %d %s", a.status, a.body)
	}
	if a := b.whoami(s.AccessJWT); a.name != "InvalidToken" {
		t.Errorf("what its token is not for: %d %s", a.status, a.body)
	}
	if a := b.send("POST", "com.atproto.server.deactivateAccount", "Bearer "+s.AccessJWT, map[string]any{}, nil); a.status != http.StatusOK {
		t.Errorf("what its token is for: %d %s", a.status, a.body)
	}
}

func TestRefresh(t *testing.T) {
	b := newBench(t, nil)
	first := b.register("alice")
	second, a := b.refresh(first.RefreshJWT)
	if a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	b.pass(time.Minute) // the answer was lost: the client asks again
	again, a := b.refresh(first.RefreshJWT)
	if a.status != http.StatusOK || b.whoami(again.AccessJWT).status != http.StatusOK {
		t.Fatalf("once more: %s", a.body)
	}
	if _, a := b.refresh(second.AccessJWT); a.name != "InvalidToken" {
		t.Errorf("an access token: %d %s", a.status, a.body)
	}
	if a := b.whoami(second.RefreshJWT); a.name != "InvalidToken" {
		t.Errorf("a refresh token as an access token: %d %s", a.status, a.body)
	}
	b.pass(3 * time.Hour)
	if _, a := b.refresh(first.RefreshJWT); a.name != "ExpiredToken" {
		t.Errorf("a token that was used long ago: %d %s", a.status, a.body)
	}
	if _, a := b.refresh(second.RefreshJWT); a.name != "ExpiredToken" {
		t.Errorf("the session goes on though its token is in two hands: %d %s", a.status, a.body)
	}
}

func TestLogout(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	logout := func(token string) reply {
		return b.send("POST", "com.atproto.server.deleteSession", "Bearer "+token, nil, nil)
	}
	if a := logout(alice.AccessJWT); a.name != "InvalidToken" {
		t.Errorf("with the access token: %d %s", a.status, a.body)
	}
	for range 2 {
		if a := logout(alice.RefreshJWT); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if a := b.whoami(alice.AccessJWT); a.name != "ExpiredToken" {
		t.Errorf("the access token after it: %d %s", a.status, a.body)
	}
	if _, a := b.refresh(alice.RefreshJWT); a.name != "ExpiredToken" {
		t.Errorf("the refresh token after it: %d %s", a.status, a.body)
	}
	// A token that has expired ends its session all the same.
	s, _ := b.login("alice.test", "password of alice")
	b.pass(credential.RefreshLife + time.Hour)
	if a := logout(s.RefreshJWT); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAppPasswords(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	bearer := "Bearer " + alice.AccessJWT
	var phone, tablet struct{ Name, Password string }
	b.must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "phone"}, &phone)
	b.must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "tablet", "privileged": true}, &tablet)
	if a := b.send("POST", "com.atproto.server.createAppPassword", bearer, map[string]any{"name": "phone"}, nil); a.name != "DuplicateName" {
		t.Errorf("one more of the name: %d %s", a.status, a.body)
	}
	for _, name := range []string{"", strings.Repeat("x", 129)} {
		if a := b.send("POST", "com.atproto.server.createAppPassword", bearer, map[string]any{"name": name}, nil); a.status != 400 {
			t.Errorf("a name of %d bytes: %d", len(name), a.status)
		}
	}
	app, a := b.login("alice.test", phone.Password)
	if a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	for method, in := range map[string]any{
		"com.atproto.server.createAppPassword": map[string]any{"name": "more"}, "com.atproto.server.revokeAppPassword": map[string]any{"name": "tablet"},
		"com.atproto.server.deactivateAccount": map[string]any{},
	} {
		if a := b.send("POST", method, "Bearer "+app.AccessJWT, in, nil); a.status != 400 || a.name != "InvalidToken" {
			t.Errorf("%s by an app: %d %s", method, a.status, a.body)
		}
	}
	// What the app refreshes is an app's still.
	next, _ := b.refresh(app.RefreshJWT)
	if a := b.send("POST", "com.atproto.server.revokeAppPassword", "Bearer "+next.AccessJWT, map[string]any{"name": "tablet"}, nil); a.name != "InvalidToken" {
		t.Errorf("by a refreshed app: %d %s", a.status, a.body)
	}
	var list struct{ Passwords []map[string]any }
	b.must("GET", "com.atproto.server.listAppPasswords", app.AccessJWT, nil, &list)
	if len(list.Passwords) != 2 || list.Passwords[0]["name"] != "phone" || list.Passwords[1]["privileged"] != true || list.Passwords[0]["password"] != nil {
		t.Errorf("%v", list)
	}
	b.must("POST", "com.atproto.server.revokeAppPassword", alice.AccessJWT, map[string]any{"name": "phone"}, nil)
	if a := b.whoami(next.AccessJWT); a.name != "ExpiredToken" {
		t.Errorf("its session: %d %s", a.status, a.body)
	}
	if _, a := b.login("alice.test", phone.Password); a.status != 401 {
		t.Errorf("a login: %d %s", a.status, a.body)
	}
}

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
	b := newBench(t, nil)
	alice := b.register("alice")
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
	old := sign(`{"typ":"at+jwt","alg":"HS256"}`, fmt.Sprintf(`{"scope":"com.atproto.access","aud":"did:web:localhost","sub":%q,"iat":1768478400,"exp":1768485600}`, alice.DID), key)
	if a := b.whoami(old); a.status != http.StatusOK {
		t.Errorf("an old one: %d %s", a.status, a.body)
	}
}

func TestForgedTokens(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	const header = `{"alg":"HS256","typ":"at+jwt"}`
	claims := func(more string) string {
		return fmt.Sprintf(`{"scope":"com.atproto.access","aud":"did:web:localhost","sub":%q,"iat":1768478400,"exp":1768485600%s}`, alice.DID, more)
	}
	if a := b.whoami(sign(header, claims(""), key)); a.status != http.StatusOK {
		t.Fatalf("the form itself: %s", a.body)
	}
	none := sign(`{"alg":"none"}`, claims(""), key)
	for what, c := range map[string]struct{ token, name string }{
		"another key":          {sign(header, claims(""), []byte("another key for tests")), "InvalidToken"},
		"no key":               {sign(header, claims(""), nil), "InvalidToken"},
		"no signature":         {none[:strings.LastIndex(none, ".")+1], "InvalidToken"},
		"algorithm none":       {none, "InvalidToken"},
		"another algorithm":    {sign(`{"alg":"HS512","typ":"at+jwt"}`, claims(""), key), "InvalidToken"},
		"algorithm twice":      {sign(`{"alg":"HS256","alg":"HS256"}`, claims(""), key), "InvalidToken"},
		"subject twice":        {sign(header, claims(`,"sub":"did:web:other.example.com"`), key), "InvalidToken"},
		"scope twice":          {sign(header, claims(`,"scope":"com.atproto.refresh"`), key), "InvalidToken"},
		"scope in capitals":    {sign(header, strings.Replace(claims(""), `"scope"`, `"Scope"`, 1), key), "InvalidToken"},
		"another audience":     {sign(header, strings.Replace(claims(""), "web:localhost", "web:pds.example.com", 1), key), "InvalidToken"},
		"no audience":          {sign(header, strings.Replace(claims(""), `"aud":"did:web:localhost",`, "", 1), key), "InvalidToken"},
		"no expiry":            {sign(header, strings.Replace(claims(""), `,"exp":1768485600`, "", 1), key), "InvalidToken"},
		"expired":              {sign(header, strings.Replace(claims(""), "1768485600", "1768478399", 1), key), "ExpiredToken"},
		"from the future":      {sign(header, strings.Replace(claims(""), "1768478400", "1768478500", 1), key), "ExpiredToken"},
		"expired, and foreign": {sign(header, strings.NewReplacer("1768485600", "1768478399", "localhost", "x.example.com").Replace(claims("")), key), "InvalidToken"},
		"no DID":               {sign(header, strings.Replace(claims(""), string(alice.DID), "alice", 1), key), "InvalidToken"},
		"another scope":        {sign(header, strings.Replace(claims(""), "com.atproto.access", "com.atproto.all", 1), key), "InvalidToken"},
		"other credentials":    {sign(header, claims(`,"cred":7`), key), "ExpiredToken"},
		"another session":      {sign(header, claims(`,"sid":"x"`), key), "ExpiredToken"},
		"nobody":               {sign(header, strings.Replace(claims(""), string(alice.DID), "did:web:nobody.example.com", 1), key), "AccountNotFound"},
		"no token":             {"x", "InvalidToken"},
		"empty":                {"", "InvalidToken"},
		"of four parts":        {alice.AccessJWT + ".x", "InvalidToken"},
		"very long":            {strings.Repeat("x", 1<<15), "InvalidToken"},
	} {
		for range 2 { // what was seen before is not believed more
			if a := b.whoami(c.token); a.name != c.name {
				t.Errorf("%s: %d %s", what, a.status, a.body)
			}
		}
	}
	if a := b.send("GET", "com.atproto.server.getSession", "", nil, nil); a.status != 401 || a.name != "AuthMissing" {
		t.Errorf("without credentials: %d %s", a.status, a.body)
	}
	if a := b.send("GET", "com.atproto.server.getSession", "DPoP "+alice.AccessJWT, nil, nil); a.name != "InvalidToken" {
		t.Errorf("of another scheme: %d %s", a.status, a.body)
	}
	refresh := strings.Replace(claims(""), "com.atproto.access", "com.atproto.refresh", 1)
	if _, a := b.refresh(sign(header, refresh, key)); a.name != "InvalidToken" {
		t.Errorf("a refresh token without an ID: %d %s", a.status, a.body)
	}
}

func TestServiceAuth(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	var app struct{ Password string }
	b.must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "phone"}, &app)
	phone, _ := b.login("alice.test", app.Password)
	b.must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "privileged", "privileged": true}, &app)
	privileged, _ := b.login("alice.test", app.Password)
	now := b.Now().Unix()
	for _, c := range []struct {
		query string
		by    tokens
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
		a := b.send("GET", "com.atproto.server.getServiceAuth?"+c.query, "Bearer "+c.by.AccessJWT, nil, &out)
		if ok := a.status == http.StatusOK; ok != (c.want == "") || c.want != "*" && a.name != c.want {
			t.Errorf("%s: %d %s", c.query, a.status, a.body)
		}
		if a.status != http.StatusOK {
			continue
		}
		v := &serviceauth.Verifier{
			Audience: []string{"did:web:example.com", "did:web:example.com#svc"}, Now: b.Now,
			Keys: &serviceauth.DocumentKeys{Resolver: b.resolver, Now: b.Now},
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

// guesses counts them, and has enough at some point.
type guesses struct {
	tries  []string
	rights int
	admins int
	fail   error
}

func (g *guesses) Password(_ *xrpc.Request, account string) (func(bool), error) {
	g.tries = append(g.tries, account)
	return func(right bool) {
		if right {
			g.rights++
		}
	}, g.fail
}

func (g *guesses) Admin(_ *xrpc.Request, right bool) error {
	if !right {
		g.admins++
	}
	return g.fail
}

func TestGuessesAreCounted(t *testing.T) {
	g := &guesses{}
	b := newBench(t, func(c *session.Config) { c.Guesses = g })
	alice := b.register("alice")
	b.login("alice.test", "wrong")
	b.login("alice@example.com", "password of alice")
	b.login("Nobody.test ", "wrong")
	b.send("POST", "com.atproto.server.deleteAccount", "", map[string]any{"did": alice.DID, "password": "wrong", "token": "x"}, nil)
	did := string(alice.DID)
	if got, want := fmt.Sprint(g.tries), fmt.Sprint([]string{did, did, "unknown nobody.test", did}); got != want || g.rights != 1 {
		t.Errorf("%s, %d right", got, g.rights)
	}
	b.send("GET", "com.atproto.admin.getInviteCodes", admin("wrong"), nil, nil)
	b.send("GET", "com.atproto.admin.getInviteCodes", admin("hunter2"), nil, nil)
	b.send("GET", "com.atproto.admin.getInviteCodes", "", nil, nil)
	if g.admins != 1 {
		t.Errorf("%d guesses of the administrator's password", g.admins)
	}
	g.fail = &xrpc.Error{Status: http.StatusTooManyRequests, Name: "Enough"}
	if _, a := b.login("alice.test", "password of alice"); a.name != "Enough" {
		t.Errorf("too many guesses: %d %s", a.status, a.body)
	}
	if a := b.send("GET", "com.atproto.admin.getInviteCodes", admin("hunter2"), nil, nil); a.name != "Enough" {
		t.Errorf("too many guesses of the administrator's: %d %s", a.status, a.body)
	}
}

// Without a password, nobody is administrator: not even who gives none.
func TestNoAdministrator(t *testing.T) {
	b := newBench(t, func(c *session.Config) { c.AdminPassword = "" })
	for _, password := range []string{"", "hunter2"} {
		if a := b.send("GET", "com.atproto.admin.getInviteCodes", admin(password), nil, nil); a.status != http.StatusUnauthorized {
			t.Errorf("%q: %d %s", password, a.status, a.body)
		}
	}
}
