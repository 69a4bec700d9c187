package session_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testpds"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
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
