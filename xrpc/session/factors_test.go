package session_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/internal/testpds"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/session"
)

// counted counts guesses, and refuses none.
type counted struct{ right, wrong int }

func (c *counted) Password(*xrpc.Request, string) (done func(right bool), err error) {
	return func(right bool) {
		if right {
			c.right++
		} else {
			c.wrong++
		}
	}, nil
}

func (c *counted) Admin(*xrpc.Request, bool) error { return nil }

// enrol gives an account an authenticator app and returns its secret.
func enrol(t *testing.T, b *testpds.Bench, a testpds.Tokens) (secret string) {
	t.Helper()
	e, err := b.Credentials.BeginApp(t.Context(), account.Trusted(a.DID), "PDS")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Credentials.ConfirmApp(t.Context(), account.Trusted(a.DID), "", code(t, b, e.Secret, -1)); err != nil {
		t.Fatal(err)
	}
	return e.Secret
}

// code is what the app shows, some periods from now.
func code(t *testing.T, b *testpds.Bench, secret string, periods int) string {
	t.Helper()
	code, err := credential.AppCode(secret, b.Now().Add(time.Duration(periods)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// loginWith logs in with a code.
func loginWith(b *testpds.Bench, password, code string) testxrpc.Reply {
	return b.Send("POST", "com.atproto.server.createSession", "", map[string]any{"identifier": "alice.test", "password": password, "authFactorToken": code}, nil)
}

// 169, and that codes are counted as passwords are.
func TestMatrix169SecondFactor(t *testing.T) {
	var guesses counted
	b := testpds.New(t, func(c *session.Config) { c.Guesses = &guesses })
	alice := b.Register("alice")
	const password = "password of alice"
	// Without a factor, a code is not looked at.
	if a := loginWith(b, password, "123456"); a.Status != http.StatusOK {
		t.Errorf("a code that nobody asks for: %d %s", a.Status, a.Body)
	}
	secret := enrol(t, b, alice)
	var app struct{ Password string }
	b.Must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]string{"name": "phone"}, &app)
	recovery, err := b.Credentials.NewRecoveryCodes(t.Context(), account.Trusted(alice.DID))
	if err != nil {
		t.Fatal(err)
	}
	guesses = counted{}
	now := code(t, b, secret, 0)
	for _, c := range []struct {
		what, password, code string
		status               int
		name                 string
		right                bool
	}{
		{"the password alone", password, "", 401, "AuthFactorTokenRequired", true},
		{"a wrong password and no code", "x", "", 401, "AuthenticationRequired", false},
		{"a wrong password and the code", "x", now, 401, "AuthenticationRequired", false},
		{"a wrong code", password, "000 000 0", 400, "InvalidToken", false},
		{"the code", password, " " + now[:3] + " " + now[3:], 200, "", true},
		{"the code again", password, now, 400, "InvalidToken", false},
		{"the app password", app.Password, "", 200, "", true},
		{"the app password with a code", app.Password, now, 200, "", true},
		{"a recovery code", password, recovery[0], 200, "", true},
		{"a recovery code again", password, recovery[0], 400, "InvalidToken", false},
		{"an app password as a code", password, app.Password, 400, "InvalidToken", false},
	} {
		before := guesses
		a := loginWith(b, c.password, c.code)
		if a.Status != c.status || a.Name != c.name {
			t.Errorf("%s: %d %s", c.what, a.Status, a.Body)
		}
		if right, wrong := guesses.right-before.right, guesses.wrong-before.wrong; right+wrong != 1 || (right == 1) != c.right {
			t.Errorf("%s: %d right and %d wrong guesses were counted", c.what, right, wrong)
		}
	}
	// The sessions that there were go on.
	if a := b.WhoAmI(alice.AccessJWT); a.Status != http.StatusOK {
		t.Errorf("a session from before: %d %s", a.Status, a.Body)
	}
}

// 163: after wrong codes the right one is refused too.
func TestMatrix163Locked(t *testing.T) {
	b := testpds.New(t, func(c *session.Config) { c.Guesses = session.Unlimited{} })
	alice := b.Register("alice")
	secret := enrol(t, b, alice)
	wrong := "000000"
	for wrong == code(t, b, secret, 0) || wrong == code(t, b, secret, 1) || wrong == code(t, b, secret, -1) {
		wrong = "1" + wrong[:5]
	}
	for range 5 {
		if a := loginWith(b, "password of alice", wrong); a.Name != "InvalidToken" {
			t.Errorf("a wrong code: %d %s", a.Status, a.Body)
		}
	}
	if a := loginWith(b, "password of alice", code(t, b, secret, 0)); a.Status != http.StatusTooManyRequests || a.Name != "RateLimitExceeded" {
		t.Errorf("the right code: %d %s", a.Status, a.Body)
	}
}

// 170: whoever does not have the password does not learn whether there is a second factor, or an
// account.
func TestMatrix170SameAnswer(t *testing.T) {
	b := testpds.New(t, nil)
	enrol(t, b, b.Register("alice"))
	b.Register("bob")
	var bodies []string
	for _, name := range []string{"alice.test", "bob.test", "nobody.test"} {
		for _, code := range []string{"", "123456", "AAAAA-AAAAA"} {
			a := b.Send("POST", "com.atproto.server.createSession", "", map[string]any{"identifier": name, "password": "x", "authFactorToken": code}, nil)
			if a.Status != http.StatusUnauthorized {
				t.Errorf("%s: %d", name, a.Status)
			}
			bodies = append(bodies, a.Body)
		}
	}
	for _, body := range bodies {
		if body != bodies[0] {
			t.Errorf("%s is not %s", body, bodies[0])
		}
	}
}

// A code that could not be sent is void, and the next try sends another one.
func TestMailedCode(t *testing.T) {
	var sent []string
	fail := errors.New("no mail today")
	b := testpds.New(t, func(c *session.Config) {
		c.SendCode = func(_ context.Context, a account.Account, code string) error {
			if a.Email != "alice@example.com" {
				t.Errorf("to %s", a.Email)
			}
			sent = append(sent, code)
			return fail
		}
	})
	alice := b.Register("alice")
	who := account.Trusted(alice.DID)
	_, err := b.Accounts.Update(t.Context(), who, func(a *account.Account, _ *repo.Step) error { a.EmailConfirmedAt = b.Now(); return nil })
	if err == nil {
		err = b.Credentials.EnableEmailCodes(t.Context(), who)
	}
	if err != nil {
		t.Fatal(err)
	}
	if a := loginWith(b, "password of alice", ""); a.Status < 500 {
		t.Errorf("mail that fails: %d %s", a.Status, a.Body)
	}
	if a := loginWith(b, "password of alice", sent[0]); a.Name != "InvalidToken" {
		t.Errorf("a code that was not sent: %d %s", a.Status, a.Body)
	}
	fail = nil
	for range 3 {
		if a := loginWith(b, "password of alice", ""); a.Name != "AuthFactorTokenRequired" || !strings.Contains(a.Message, "has been sent") {
			t.Errorf("mail that does not: %d %s", a.Status, a.Body)
		}
	}
	if len(sent) != 2 { // one a minute
		t.Fatalf("%d codes were sent", len(sent))
	}
	if a := b.WhoAmI(alice.AccessJWT); !strings.Contains(a.Body, `"emailAuthFactor":true`) {
		t.Errorf("%s", a.Body)
	}
	if a := loginWith(b, "password of alice", sent[1]); a.Status != http.StatusOK {
		t.Errorf("the code: %d %s", a.Status, a.Body)
	}
	// With an app, no code is sent.
	enrol(t, b, alice)
	b.Pass(5 * time.Minute)
	if a := loginWith(b, "password of alice", ""); a.Name != "AuthFactorTokenRequired" || strings.Contains(a.Message, "has been sent") {
		t.Errorf("with an app: %d %s", a.Status, a.Body)
	}
	if diff := cmp.Diff(2, len(sent)); diff != "" {
		t.Error(diff)
	}
}
