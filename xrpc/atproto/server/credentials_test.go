package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Twenty logins with the old password that are under way when it is reset have nothing afterwards:
// the sessions that some of them got ended with the reset.
func TestLoginsUnderWayAtReset(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	token := b.resetToken(alice.DID)
	var wg sync.WaitGroup
	got := make(chan tokens, 20)
	begun := make(chan struct{}, 20)
	for i := range 20 {
		wg.Go(func() {
			begun <- struct{}{}
			s, a := b.login([]string{"alice.test", "alice@example.com", string(alice.DID)}[i%3], "password of alice")
			switch a.Status {
			case http.StatusOK:
				got <- s
			case http.StatusUnauthorized:
			default:
				t.Errorf("%d %s", a.Status, a.Body)
			}
		})
	}
	for range 20 {
		<-begun
	}
	b.post("com.atproto.server.resetPassword", "", map[string]string{"token": token, "password": "another"}, nil)
	wg.Wait()
	close(got)
	for s := range got {
		if a := b.refresh(s); a.Status != 400 || a.Name != "ExpiredToken" {
			t.Errorf("its refresh token: %d %s", a.Status, a.Body)
		}
		if a := b.send("GET", "com.atproto.server.getSession", "Bearer "+s.AccessJWT, "", nil, nil); a.Name != "ExpiredToken" {
			t.Errorf("its access token: %d %s", a.Status, a.Body)
		}
	}
	if _, a := b.login("alice.test", "another"); a.Status != http.StatusOK {
		t.Errorf("the new password: %s", a.Body)
	}
}

// inputs are bodies for the methods that check them before they look at anything else.
func inputs(did syntax.DID) map[string]any {
	note := map[string]any{"repo": did, "collection": "com.example.note", "rkey": "one", "record": map[string]any{}}
	return map[string]any{
		"com.atproto.server.createAppPassword": map[string]any{"name": "late"}, "com.atproto.server.revokeAppPassword": map[string]any{"name": "late"},
		"com.atproto.server.deactivateAccount": map[string]any{}, "com.atproto.server.confirmEmail": map[string]any{"email": "a@example.com", "token": "x"},
		"com.atproto.server.updateEmail": map[string]any{"email": "late@example.com"}, "com.atproto.identity.updateHandle": map[string]any{"handle": "late.test"},
		"com.atproto.identity.signPlcOperation": map[string]any{"token": "x"}, "com.atproto.identity.submitPlcOperation": map[string]any{"operation": map[string]any{}},
		"com.atproto.repo.createRecord": note, "com.atproto.repo.putRecord": note, "com.atproto.repo.deleteRecord": note,
		"com.atproto.repo.applyWrites": map[string]any{"repo": did, "writes": []any{}}, "app.bsky.actor.putPreferences": map[string]any{"preferences": []any{}},
	}
}

// No method that takes an access token takes one from before a reset of the password, a change by
// the administrator, a takedown, or a deactivation by the administrator.
func TestOldAccessTokens(t *testing.T) {
	b := newBench(t, nil)
	anonymous := func(method, verb string, in any) bool {
		return b.send(verb, method, "", "", in, nil).Name == "AuthMissing"
	}
	for what, change := range map[string]func(did syntax.DID){
		"reset": func(did syntax.DID) {
			b.post("com.atproto.server.resetPassword", "", map[string]string{"token": b.resetToken(did), "password": "another"}, nil)
		},
		"change": func(did syntax.DID) {
			if _, err := b.credentials.SetPassword(t.Context(), account.Trusted(did), "another"); err != nil {
				t.Fatal(err)
			}
		},
		"takedown": func(did syntax.DID) { b.takedown(did, true) },
		"pardon":   func(did syntax.DID) { b.takedown(did, true); b.takedown(did, false) },
		"sleep": func(did syntax.DID) {
			if err := b.accounts.Deactivate(t.Context(), account.Trusted(did), time.Time{}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		u := b.register(what)
		var app struct{ Password string }
		b.post("com.atproto.server.createAppPassword", u.AccessJWT, map[string]any{"name": "phone"}, &app)
		phone, a := b.login(what+".test", app.Password)
		if a.Status != http.StatusOK {
			t.Fatal(a.Body)
		}
		change(u.DID)
		want, status := "ExpiredToken", 400
		if what == "takedown" {
			want, status = "AccountTakedown", 401
		}
		tried := 0
		in := inputs(u.DID)
		for _, rt := range b.methods.Routes() {
			method := rt.NSID
			schema, err := b.methods.Catalog.Method(syntax.NSID(method))
			if err != nil || strings.HasPrefix(method, "com.atproto.admin.") || strings.Contains(method, "InviteCode") && !strings.Contains(method, "Account") ||
				strings.HasPrefix(method, "com.atproto.sync.") || method == "com.atproto.server.refreshSession" || method == "com.atproto.server.deleteSession" {
				continue
			}
			verb, path := "POST", method
			if schema.Input == nil && schema.Output != nil {
				verb = "GET"
			}
			if method == "com.atproto.server.getServiceAuth" {
				path += "?aud=did:web:example.com"
			}
			if !anonymous(path, verb, in[method]) {
				if verb == "GET" || !anonymous(path, "GET", nil) {
					continue
				}
				verb = "GET"
			}
			tried++
			for _, token := range []string{u.AccessJWT, phone.AccessJWT} {
				a := b.send(verb, path, "Bearer "+token, "", in[method], nil)
				if scoped := token == phone.AccessJWT && a.Name == "InvalidToken"; !scoped && (a.Status != status || a.Name != want) {
					t.Errorf("%s after a %s: %d %s", method, what, a.Status, a.Body)
				}
			}
		}
		if tried < 25 {
			t.Errorf("only %d methods were tried", tried)
		}
		for _, s := range []tokens{u, phone} {
			if a := b.refresh(s); a.Status == http.StatusOK {
				t.Errorf("a refresh after a %s", what)
			}
		}
	}
}

// An app password has fewer rights than the account's, also when the account is taken down.
func TestAppPasswordAfterTakedown(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	var app struct{ Password string }
	b.post("com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "phone", "privileged": true}, &app)
	b.takedown(alice.DID, true)
	login := func(password string) (s tokens, a testxrpc.Reply) {
		a = b.send("POST", "com.atproto.server.createSession", "", "", map[string]any{"identifier": "alice.test", "password": password, "allowTakendown": true}, &s)
		return s, a
	}
	if _, a := login(app.Password); a.Status != 401 || a.Name != "AccountTakedown" {
		t.Errorf("the app password: %d %s", a.Status, a.Body)
	}
	down, a := login("password of alice")
	if a.Status != http.StatusOK {
		t.Fatal(a.Body)
	}
	b.takedown(alice.DID, false)
	if _, a := b.login("alice.test", app.Password); a.Status != http.StatusOK {
		t.Errorf("the app password of an account that is back: %s", a.Body)
	}
	b.takedown(alice.DID, true)
	if a := b.send("POST", "com.atproto.identity.requestPlcOperationSignature", "Bearer "+down.AccessJWT, "", nil, nil); a.Status == http.StatusOK {
		t.Error("a session of the first takedown outlasts the second")
	}
}

// A service token that the account's session was given is no good for uploads once the session's
// password is.
func TestServiceTokenAfterReset(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	var auth struct{ Token string }
	q := url.Values{"aud": {"did:web:localhost"}, "lxm": {"com.atproto.repo.uploadBlob"}, "exp": {fmt.Sprint(b.clock.Now().Add(30 * time.Minute).Unix())}}
	if a := b.send("GET", "com.atproto.server.getServiceAuth?"+q.Encode(), "Bearer "+alice.AccessJWT, "", nil, &auth); a.Status != http.StatusOK {
		t.Fatal(a.Body)
	}
	upload := func() error {
		c := &xrpc.Client{Host: b.url, Authorize: xrpc.Bearer(auth.Token)}
		return c.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader("x"), nil)
	}
	if err := upload(); err != nil {
		t.Fatal(err)
	}
	b.clock.pass(time.Second) // tokens tell seconds
	b.post("com.atproto.server.resetPassword", "", map[string]string{"token": b.resetToken(alice.DID), "password": "another"}, nil)
	if err := upload(); !errors.Is(err, &xrpc.Error{Status: 400, Name: "ExpiredToken"}) {
		t.Errorf("after a reset: %v", err)
	}
}

// Whoever knows an address asks for codes without end: the owner gets one a minute, and the one that
// came is good.
func TestStrangersAskForResetCodes(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	sent := func() (n int) {
		b.mail.mu.Lock()
		defer b.mail.mu.Unlock()
		for _, m := range b.mail.sent {
			if m.Kind == ResetPassword {
				n++
			}
		}
		return n
	}
	var token string
	for i := range 3 {
		for range 12 {
			b.must("POST", "com.atproto.server.requestPasswordReset", "", map[string]any{"email": "Alice@example.com"}, nil)
		}
		b.drain()
		if n := sent(); n != i+1 {
			t.Fatalf("after %d minutes: %d messages", i, n)
		}
		token = b.mail.last().Token
		b.clock.pass(time.Minute - time.Second)
		b.must("POST", "com.atproto.server.requestPasswordReset", "", map[string]any{"email": "alice@example.com"}, nil)
		b.drain()
		b.clock.pass(time.Second)
	}
	left := 0
	err := b.store.KV.Read(t.Context(), func(r storage.KVReader) error {
		for _, err := range r.Keys(t.Context(), storage.Prefix("reset/")) {
			if err != nil {
				return err
			}
			left++
		}
		return nil
	})
	if err != nil || left > 12 { // of those who ask at once, some may leave a key
		t.Errorf("%d keys are stored: %v", left, err)
	}
	// The administrator is no stranger.
	who := audit.Actor{By: "administrator"}
	for range 2 {
		if err := b.Administration(who).SendPasswordReset(t.Context(), alice.DID); err != nil {
			t.Fatal(err)
		}
	}
	if n := sent(); n != 5 {
		t.Errorf("%d messages", n)
	}
	if err := b.ResetPassword(t.Context(), token, "another password"); !errors.Is(err, credential.ErrMailToken) {
		t.Errorf("a code that was replaced: %v", err)
	}
	if err := b.ResetPassword(t.Context(), b.mail.last().Token, "another password"); err != nil {
		t.Error(err)
	}
}

// Who may not have an account is not told who has one.
func TestSignUpTellsNobodyWithoutInvite(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) { c.Policy.InviteRequired = true })
	codes, err := b.accounts.CreateInvites(t.Context(), "test", "admin", "admin", 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	in := SignUp{Handle: "alice.test", Email: "alice@example.com", Password: "a good password", Invite: codes[0]}
	if _, err := b.SignUp(t.Context(), nil, in); err != nil {
		t.Fatal(err)
	}
	in.Handle = "mallory.test"
	for _, code := range []string{"", "test-abcde-fghij", codes[0]} {
		in.Invite = code
		if _, err := b.SignUp(t.Context(), nil, in); !errors.Is(err, account.ErrInvite) {
			t.Errorf("with the invite code %q: %v", code, err)
		}
	}
	in.Invite = codes[1]
	if _, err := b.SignUp(t.Context(), nil, in); !errors.Is(err, account.ErrEmailTaken) {
		t.Errorf("with an invite code: %v", err)
	}
}

// requestPasswordReset answers alike for an address that is known and one that is not: in status,
// text and header, and without waiting for the mail, however that fares.
func TestPasswordResetTellsNothing(t *testing.T) {
	b := newBench(t, nil)
	b.register("alice")
	ask := func(email string) testxrpc.Reply {
		return b.send("POST", "com.atproto.server.requestPasswordReset", "", "", map[string]string{"email": email}, nil)
	}
	same := func(when string) {
		t.Helper()
		known, unknown := ask("Alice@Example.com"), ask("nobody@example.com")
		for _, h := range []http.Header{known.Header, unknown.Header} {
			h.Del("X-Request-Id")
			h.Del("Date")
		}
		if fmt.Sprint(known) != fmt.Sprint(unknown) {
			t.Errorf("%s: %v and %v", when, known, unknown)
		}
	}
	gate := make(chan struct{})
	b.mail.set(gate, nil)
	same("a mail server that does not answer") // neither does it hold up the answer
	for range postWaiting + 2*postWorkers {
		b.Service.post.do(func(context.Context) { <-gate }) // those of other accounts
	}
	if a := ask("nobody@example.com"); a.Status != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("too many messages: %d %s", a.Status, a.Body)
	}
	same("too many messages")
	close(gate)
	b.drain()
	b.mail.set(nil, errors.New("no such mailbox"))
	b.clock.pass(time.Minute)
	same("a mail server that refuses")
	b.drain()
	b.mail.mu.Lock()
	defer b.mail.mu.Unlock()
	last := b.mail.sent[len(b.mail.sent)-1]
	token := regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`).FindString(last.Text)
	if last.To != "alice@example.com" || token == "" {
		t.Fatalf("%+v", last)
	}
	b.post("com.atproto.server.resetPassword", "", map[string]string{"token": strings.ToLower(token), "password": "another"}, nil)
}

// drain waits until all messages that were asked for have been seen to.
func (b *bench) drain() { b.Service.post.done.Wait() }

// Renames by the owner and the administrator at once end well: no status 500, and one name.
func TestRenamesAtOnce(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth("admin", "hunter2")
	admin := r.Header.Get("Authorization")
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			var a testxrpc.Reply
			switch i % 3 {
			case 0:
				a = b.send("POST", "com.atproto.identity.updateHandle", "Bearer "+alice.AccessJWT, "", map[string]string{"handle": fmt.Sprintf("alice%d.test", i)}, nil)
			case 1:
				a = b.send("POST", "com.atproto.admin.updateAccountHandle", admin, "", map[string]any{"did": alice.DID, "handle": fmt.Sprintf("alice%d.test", i)}, nil)
			default:
				a = b.send("POST", "com.atproto.server.updateEmail", "Bearer "+alice.AccessJWT, "", map[string]string{"email": fmt.Sprintf("alice%d@example.com", i)}, nil)
			}
			if a.Status != http.StatusOK {
				t.Errorf("%d: %d %s", i, a.Status, a.Body)
			}
		})
	}
	wg.Wait()
	if problems, err := b.accounts.Check(t.Context()); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	a, err := b.accounts.ByDID(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := b.plc.Data(t.Context(), alice.DID)
	if err != nil || doc.AlsoKnownAs[0] != "at://"+string(a.Handle) {
		t.Errorf("the account is %s, its document says %v (%v)", a.Handle, doc.AlsoKnownAs, err)
	}
}
