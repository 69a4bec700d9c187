package session_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testpds"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
	"github.com/pdskit/pdskit/xrpc/session"
)

var _ = testenv.CheapPasswords()

func TestMisuse(t *testing.T) {
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	good := session.Config{Credentials: credential.New(credential.Config{Accounts: account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)}), Key: testpds.Key, ServiceDID: "did:web:localhost", URL: "http://localhost"}
	for want, change := range map[string]func(*session.Config){
		"":                    func(*session.Config) {},
		"Config.Credentials":  func(c *session.Config) { c.Credentials = nil },
		"Config.Key":          func(c *session.Config) { c.Key = []byte("short") },
		"Config.ServiceDID":   func(c *session.Config) { c.ServiceDID = "" },
		"Config.URL":          func(c *session.Config) { c.URL = "" },
		"invalid did \"pds\"": func(c *session.Config) { c.ServiceDID = "pds" },
		"Config.Moderator":    func(c *session.Config) { c.Moderator = "mod" },
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
	b := testpds.New(t, nil)
	alice := b.Register("alice")
	for _, name := range []string{"alice.test", "ALICE.test", "alice@example.com", "Alice@Example.com", string(alice.DID)} {
		s, a := b.Login(name, "password of alice")
		if a.Status != http.StatusOK || s.DID != alice.DID || s.Handle != "alice.test" || s.Active == nil || !*s.Active || s.DIDDoc == nil {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
		if a := b.WhoAmI(s.AccessJWT); a.Status != http.StatusOK || !strings.Contains(a.Body, `"email":"alice@example.com"`) {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	for _, c := range []struct{ name, password string }{
		{"alice.test", "password of bob"}, {"alice.test", ""}, {"bob.test", "password of alice"}, {"", "password of alice"},
		{"alice.test", strings.Repeat("x", 4*session.MaxPassword+1)},
	} {
		if _, a := b.Login(c.name, c.password); a.Status != http.StatusUnauthorized {
			t.Errorf("%.20s, %.20s: %d %s", c.name, c.password, a.Status, a.Body)
		}
	}
}

// A client follows the address in the DID document, so a document that names another server is not
// shown.
func TestDocumentOfAnotherServer(t *testing.T) {
	b := testpds.New(t, func(c *session.Config) { c.URL = "https://pds.example.com" })
	alice := b.Register("alice") // its document names pds.example.com
	if s, _ := b.Login("alice.test", "password of alice"); s.DIDDoc == nil {
		t.Error("its own")
	}
	elsewhere := session.New(session.Config{
		Credentials: b.Credentials, Key: testpds.Key, ServiceDID: "did:web:localhost", URL: "https://other.example.com", Resolver: b.Resolver, Now: b.Now,
	})
	if doc := elsewhere.Document(t.Context(), alice.DID); doc != nil {
		t.Errorf("%s", doc)
	}
	if doc := elsewhere.Document(t.Context(), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"); doc != nil {
		t.Errorf("nobody's: %s", doc)
	}
}

func TestSessionOfAnAccountThatWasTakenDown(t *testing.T) {
	b := testpds.New(t, nil)
	alice := b.Register("alice")
	b.TakeDown(alice.DID, true)
	if a := b.WhoAmI(alice.AccessJWT); a.Status != 401 || a.Name != "AccountTakedown" {
		t.Errorf("the session before: %d %s", a.Status, a.Body)
	}
	if _, a := b.Login("alice.test", "password of alice"); a.Status != 401 || a.Name != "AccountTakedown" {
		t.Errorf("a login: %d %s", a.Status, a.Body)
	}
	s, a := b.Login("alice.test", "password of alice", "allowTakendown")
	if a.Status != http.StatusOK || s.Status != "takendown" || *s.Active {
		t.Fatalf("a login that allows for it: %d %s", a.Status, a.Body)
	}
	if a := b.WhoAmI(s.AccessJWT); a.Name != "InvalidToken" {
		t.Errorf("what its token is not for: %d %s", a.Status, a.Body)
	}
	if a := b.Send("POST", "com.atproto.server.deactivateAccount", "Bearer "+s.AccessJWT, map[string]any{}, nil); a.Status != http.StatusOK {
		t.Errorf("what its token is for: %d %s", a.Status, a.Body)
	}
}

func TestRefresh(t *testing.T) {
	b := testpds.New(t, nil)
	first := b.Register("alice")
	second, a := b.Refresh(first.RefreshJWT)
	if a.Status != http.StatusOK {
		t.Fatal(a.Body)
	}
	b.Pass(time.Minute) // the answer was lost: the client asks again
	again, a := b.Refresh(first.RefreshJWT)
	if a.Status != http.StatusOK || b.WhoAmI(again.AccessJWT).Status != http.StatusOK {
		t.Fatalf("once more: %s", a.Body)
	}
	if _, a := b.Refresh(second.AccessJWT); a.Name != "InvalidToken" {
		t.Errorf("an access token: %d %s", a.Status, a.Body)
	}
	if a := b.WhoAmI(second.RefreshJWT); a.Name != "InvalidToken" {
		t.Errorf("a refresh token as an access token: %d %s", a.Status, a.Body)
	}
	b.Pass(3 * time.Hour)
	if _, a := b.Refresh(first.RefreshJWT); a.Name != "ExpiredToken" {
		t.Errorf("a token that was used long ago: %d %s", a.Status, a.Body)
	}
	if _, a := b.Refresh(second.RefreshJWT); a.Name != "ExpiredToken" {
		t.Errorf("the session goes on though its token is in two hands: %d %s", a.Status, a.Body)
	}
}

func TestLogout(t *testing.T) {
	b := testpds.New(t, nil)
	alice := b.Register("alice")
	logout := func(token string) testxrpc.Reply {
		return b.Send("POST", "com.atproto.server.deleteSession", "Bearer "+token, nil, nil)
	}
	if a := logout(alice.AccessJWT); a.Name != "InvalidToken" {
		t.Errorf("with the access token: %d %s", a.Status, a.Body)
	}
	for range 2 {
		if a := logout(alice.RefreshJWT); a.Status != http.StatusOK {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	if a := b.WhoAmI(alice.AccessJWT); a.Name != "ExpiredToken" {
		t.Errorf("the access token after it: %d %s", a.Status, a.Body)
	}
	if _, a := b.Refresh(alice.RefreshJWT); a.Name != "ExpiredToken" {
		t.Errorf("the refresh token after it: %d %s", a.Status, a.Body)
	}
	// A token that has expired ends its session all the same.
	s, _ := b.Login("alice.test", "password of alice")
	b.Pass(credential.RefreshLife + time.Hour)
	if a := logout(s.RefreshJWT); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestAppPasswords(t *testing.T) {
	b := testpds.New(t, nil)
	alice := b.Register("alice")
	bearer := "Bearer " + alice.AccessJWT
	var phone, tablet struct{ Name, Password string }
	b.Must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "phone"}, &phone)
	b.Must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "tablet", "privileged": true}, &tablet)
	if a := b.Send("POST", "com.atproto.server.createAppPassword", bearer, map[string]any{"name": "phone"}, nil); a.Name != "DuplicateName" {
		t.Errorf("one more of the name: %d %s", a.Status, a.Body)
	}
	for _, name := range []string{"", strings.Repeat("x", 129)} {
		if a := b.Send("POST", "com.atproto.server.createAppPassword", bearer, map[string]any{"name": name}, nil); a.Status != 400 {
			t.Errorf("a name of %d bytes: %d", len(name), a.Status)
		}
	}
	app, a := b.Login("alice.test", phone.Password)
	if a.Status != http.StatusOK {
		t.Fatal(a.Body)
	}
	for method, in := range map[string]any{
		"com.atproto.server.createAppPassword": map[string]any{"name": "more"}, "com.atproto.server.revokeAppPassword": map[string]any{"name": "tablet"},
		"com.atproto.server.deactivateAccount": map[string]any{},
	} {
		if a := b.Send("POST", method, "Bearer "+app.AccessJWT, in, nil); a.Status != 400 || a.Name != "InvalidToken" {
			t.Errorf("%s by an app: %d %s", method, a.Status, a.Body)
		}
	}
	// What the app refreshes is an app's still.
	next, _ := b.Refresh(app.RefreshJWT)
	if a := b.Send("POST", "com.atproto.server.revokeAppPassword", "Bearer "+next.AccessJWT, map[string]any{"name": "tablet"}, nil); a.Name != "InvalidToken" {
		t.Errorf("by a refreshed app: %d %s", a.Status, a.Body)
	}
	var list struct{ Passwords []map[string]any }
	b.Must("GET", "com.atproto.server.listAppPasswords", app.AccessJWT, nil, &list)
	if len(list.Passwords) != 2 || list.Passwords[0]["name"] != "phone" || list.Passwords[1]["privileged"] != true || list.Passwords[0]["password"] != nil {
		t.Errorf("%v", list)
	}
	b.Must("POST", "com.atproto.server.revokeAppPassword", alice.AccessJWT, map[string]any{"name": "phone"}, nil)
	if a := b.WhoAmI(next.AccessJWT); a.Name != "ExpiredToken" {
		t.Errorf("its session: %d %s", a.Status, a.Body)
	}
	if _, a := b.Login("alice.test", phone.Password); a.Status != 401 {
		t.Errorf("a login: %d %s", a.Status, a.Body)
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
	b := testpds.New(t, func(c *session.Config) { c.Guesses = g })
	alice := b.Register("alice")
	b.Login("alice.test", "wrong")
	b.Login("alice@example.com", "password of alice")
	b.Login("Nobody.test ", "wrong")
	b.Send("POST", "com.atproto.server.deleteAccount", "", map[string]any{"did": alice.DID, "password": "wrong", "token": "x"}, nil)
	did := string(alice.DID)
	if got, want := fmt.Sprint(g.tries), fmt.Sprint([]string{did, did, "unknown nobody.test", did}); got != want || g.rights != 1 {
		t.Errorf("%s, %d right", got, g.rights)
	}
	b.Send("GET", "com.atproto.admin.getInviteCodes", testpds.Admin("wrong"), nil, nil)
	b.Send("GET", "com.atproto.admin.getInviteCodes", testpds.Admin("hunter2"), nil, nil)
	b.Send("GET", "com.atproto.admin.getInviteCodes", "", nil, nil)
	if g.admins != 1 {
		t.Errorf("%d guesses of the administrator's password", g.admins)
	}
	g.fail = &xrpc.Error{Status: http.StatusTooManyRequests, Name: "Enough"}
	if _, a := b.Login("alice.test", "password of alice"); a.Name != "Enough" {
		t.Errorf("too many guesses: %d %s", a.Status, a.Body)
	}
	if a := b.Send("GET", "com.atproto.admin.getInviteCodes", testpds.Admin("hunter2"), nil, nil); a.Name != "Enough" {
		t.Errorf("too many guesses of the administrator's: %d %s", a.Status, a.Body)
	}
}

// Without a password, nobody is administrator: not even who gives none.
func TestNoAdministrator(t *testing.T) {
	b := testpds.New(t, func(c *session.Config) { c.AdminPassword = "" })
	for _, password := range []string{"", "hunter2"} {
		if a := b.Send("GET", "com.atproto.admin.getInviteCodes", testpds.Admin(password), nil, nil); a.Status != http.StatusUnauthorized {
			t.Errorf("%q: %d %s", password, a.Status, a.Body)
		}
	}
}

// The moderation service looks at accounts and takes them down, but does not change them.
func TestModerator(t *testing.T) {
	m := testpds.NewModerator(t)
	b := testpds.New(t, m.Configure)
	alice := b.Register("alice")
	mod := string(m.DID)
	token := func(issuer, audience, method string) string {
		return m.Token(t, serviceauth.Token{Issuer: issuer, Audience: audience, Method: method, Issued: b.Now()})
	}
	const own, info = "did:web:localhost", "com.atproto.admin.getAccountInfo"
	once := token(mod+"#atproto_labeler", own, info)
	for _, c := range []struct {
		what, verb, method, token string
		in                        any
		ok                        bool
	}{
		{"as a labeler", "GET", info + "?did=" + string(alice.DID), once, nil, true},
		{"twice", "GET", info + "?did=" + string(alice.DID), once, nil, false},
		{"at its DID", "GET", info + "?did=" + string(alice.DID), token(mod+"#atproto_labeler", own+"#atproto_pds", info), nil, true},
		{"for another method", "GET", info + "?did=" + string(alice.DID), token(mod+"#atproto_labeler", own, "com.atproto.admin.sendEmail"), nil, false},
		{"for another server", "GET", info + "?did=" + string(alice.DID), token(mod+"#atproto_labeler", "did:web:pds.example.com", info), nil, false},
		{"as somebody else", "GET", info + "?did=" + string(alice.DID), token("did:web:other.example.com", own, info), nil, false},
		{"to delete", "POST", "com.atproto.admin.deleteAccount", token(mod+"#atproto_labeler", own, "com.atproto.admin.deleteAccount"), map[string]any{"did": alice.DID}, false},
	} {
		if a := b.Send(c.verb, c.method, c.token, c.in, nil); (a.Status == http.StatusOK) != c.ok {
			t.Errorf("%s: %d %s", c.what, a.Status, a.Body)
		}
	}
	if m.Asked("did:web:other.example.com") {
		t.Error("the document of a stranger was fetched")
	}
}

// A service that prepares blobs of an account uploads them with the account's token.
func TestUploader(t *testing.T) {
	b := testpds.New(t, nil)
	alice := b.Register("alice")
	b.Pass(time.Second) // tokens tell seconds
	signer, err := b.Accounts.Signer(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	upload := func(issuer, method string) error {
		text, err := serviceauth.Sign(t.Context(), signer, serviceauth.Token{Issuer: issuer, Audience: "did:web:localhost", Method: method, Issued: b.Now()})
		if err != nil {
			t.Fatal(err)
		}
		c := &xrpc.Client{Host: b.URL, Authorize: xrpc.Bearer(text)}
		return c.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader("x"), nil)
	}
	const method = "com.atproto.repo.uploadBlob"
	if err := upload(string(alice.DID), method); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"of another method":  upload(string(alice.DID), "com.atproto.repo.createRecord"),
		"of a service of it": upload(string(alice.DID)+"#x", method),
		"of a stranger":      upload("did:web:other.example.com", method),
	} {
		if err == nil {
			t.Errorf("a token %s", what)
		}
	}
	// The key counts that the account has now, whatever a document says that was fetched before.
	old := signer
	if err := b.Accounts.RotateKey(t.Context(), account.Trusted(alice.DID), nil); err != nil {
		t.Fatal(err)
	}
	if err := upload(string(alice.DID), method); !errors.Is(err, &xrpc.Error{Name: "BadJwtSignature"}) {
		t.Errorf("the key before: %v", err)
	}
	if signer, err = b.Accounts.Signer(t.Context(), alice.DID); err != nil || signer.PublicKey().Equal(old.PublicKey()) {
		t.Fatalf("the key is the same, %v", err)
	}
	if err := upload(string(alice.DID), method); err != nil {
		t.Errorf("the new key: %v", err)
	}
	b.TakeDown(alice.DID, true)
	if err := upload(string(alice.DID), method); !errors.Is(err, &xrpc.Error{Name: "AccountTakedown"}) {
		t.Error(err)
	}
	// Tokens from before, by their seconds, are no good once the account is back.
	b.TakeDown(alice.DID, false)
	b.Pass(-time.Second)
	if err := upload(string(alice.DID), method); !errors.Is(err, &xrpc.Error{Name: "ExpiredToken"}) {
		t.Error(err)
	}
}

// A host puts a method of its own in the place of one, and does something before another.
func TestMethodsAreReplacedAndWrapped(t *testing.T) {
	b := testpds.New(t, nil)
	var logins []string
	b.Methods.With("com.atproto.server.createSession", func(rt xrpc.Route) xrpc.Route {
		rt.Handler = rt.Handler.Wrap(func(w http.ResponseWriter, r *xrpc.Request, next func(http.ResponseWriter, *xrpc.Request) error) error {
			err := next(w, r)
			logins = append(logins, fmt.Sprint(err == nil))
			return err
		})
		return rt
	})
	b.Methods.Replace(xrpc.Route{
		NSID: "com.atproto.server.createAppPassword", Auth: b.Sessions.User(session.RefuseTakenDown), Needs: []auth.Permission{auth.ManageCredentials},
		Handler: session.Procedure(func(context.Context, *xrpc.Request, xrpc.None) (out xrpc.None, err error) {
			return out, account.ErrTokenRevoked // an error of package account, for session.Answer
		}),
	})
	b.Register("alice")
	alice, a := b.Login("alice.test", "password of alice")
	if a.Status != http.StatusOK {
		t.Fatal(a.Body)
	}
	b.Login("alice.test", "wrong")
	if fmt.Sprint(logins) != "[true false]" {
		t.Errorf("%v", logins)
	}
	if a := b.Send("POST", "com.atproto.server.createAppPassword", "Bearer "+alice.AccessJWT, nil, nil); a.Name != "ExpiredToken" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := b.Send("POST", "com.atproto.server.createAppPassword", "", nil, nil); a.Name != "AuthMissing" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// OAuth sessions are known by somebody else, who is asked once more when something is changed. Other
// credentials stay here.
func TestOAuth(t *testing.T) {
	var did syntax.DID
	var asked []string
	var ended error
	permissions := auth.Everything()
	b := testpds.New(t, func(c *session.Config) {
		c.OAuth = others{
			authenticate: func(r *xrpc.Request) (auth.Principal, error) {
				asked = append(asked, r.Header.Get("Authorization"))
				return auth.Principal{Role: auth.User, Credential: auth.OAuthSession, DID: did, Permissions: permissions}, nil
			},
			admit: func(context.Context, storage.KVReader, account.Account) ([]storage.KVCheck, error) { return nil, ended },
		}
	})
	alice := b.Register("alice")
	did = alice.DID
	for header, status := range map[string]int{"DPoP x": 200, "": 401, "Bearer x": 400, "basic x": 400, "Bearer " + alice.AccessJWT: 200} {
		if a := b.Send("GET", "com.atproto.server.getSession", header, nil, nil); a.Status != status {
			t.Errorf("%s: %d %s", header, a.Status, a.Body)
		}
	}
	if a := b.Send("POST", "com.atproto.server.requestAccountDelete", "DPoP y", nil, nil); a.Status != http.StatusNotImplemented { // there is no mail
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if want := []string{"DPoP x", "DPoP y"}; !slices.Equal(asked, want) {
		t.Errorf("%v", asked)
	}
	// What they are not permitted to see is left out.
	permissions, _ = auth.ParseScopes("atproto")
	if a := b.Send("GET", "com.atproto.server.getSession", "DPoP x", nil, nil); a.Status != 200 || strings.Contains(strings.ToLower(a.Body), "email") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	// A session that ends while a method runs changes nothing.
	permissions, ended = auth.Everything(), account.ErrTokenRevoked
	for method, in := range map[string]any{
		"com.atproto.server.deactivateAccount": map[string]any{},
		"com.atproto.server.createAppPassword": map[string]any{"name": "x"},
	} {
		if a := b.Send("POST", method, "DPoP x", in, nil); a.Status != 400 || !strings.Contains(a.Body, "ExpiredToken") {
			t.Errorf("%s: %d %s", method, a.Status, a.Body)
		}
	}
}

// others knows OAuth sessions as a test says.
type others struct {
	authenticate xrpc.Authenticator
	admit        account.Admission
}

func (o others) Authenticate(r *xrpc.Request) (auth.Principal, error) { return o.authenticate(r) }

func (o others) Caller(p auth.Principal) account.Caller {
	return account.NewCaller(p.DID, p.Session, o.admit)
}

// A host that says nothing of guesses has bounds.
func TestGuessesAreBounded(t *testing.T) {
	for _, limited := range []bool{true, false} {
		b := testpds.New(t, func(c *session.Config) {
			if !limited {
				c.Guesses = session.Unlimited{}
			}
		})
		b.Register("alice")
		for range 30 {
			if _, a := b.Login("alice.test", "wrong"); a.Status != http.StatusUnauthorized {
				t.Fatal(a.Body)
			}
		}
		if _, a := b.Login("alice.test", "wrong"); (a.Status == http.StatusTooManyRequests) != limited {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
}

// Where credentials are optional, bad ones are refused, and good ones show more.
func TestOptionalCredentials(t *testing.T) {
	b := testpds.New(t, nil)
	alice, bob := b.Register("alice"), b.Register("bob")
	get := func(header string) int {
		return b.Send("GET", "com.atproto.sync.getLatestCommit?did="+string(alice.DID), header, nil, nil).Status
	}
	for _, down := range []bool{false, true} {
		if down {
			b.TakeDown(alice.DID, true)
		}
		public := map[bool]int{false: 200, true: 400}[down]
		for header, want := range map[string]int{
			"": public, "Bearer x": 400, testpds.Admin("wrong"): 401, testpds.Admin("hunter2"): 200,
			"Bearer " + alice.AccessJWT: 200, "Bearer " + bob.AccessJWT: public, "Bearer " + alice.RefreshJWT: 400,
		} {
			if got := get(header); got != want {
				t.Errorf("taken down: %v, with %q: %d, want %d", down, header, got, want)
			}
		}
	}
}
