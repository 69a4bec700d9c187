package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/mail"
	"github.com/pdskit/pdskit/xrpc/pds"
)

var _ = testenv.CheapPasswords()

// mailbox keeps messages.
type mailbox struct {
	mu   sync.Mutex
	sent []mail.Message
}

func (m *mailbox) Send(_ context.Context, msg mail.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = append(m.sent, msg)
	return nil
}

// bench is a server in this process, whose mail stays here.
type bench struct {
	*Server
	t    *testing.T
	mail *mailbox
}

func newBench(t *testing.T, env map[string]string) *bench {
	t.Helper()
	all := map[string]string{"PDS_ADMIN_PASSWORD": "hunter2"}
	for name, value := range env {
		all[name] = value
	}
	b := &bench{t: t, mail: &mailbox{}}
	s, err := start(t.Context(), testConfig(t, all), slog.New(slog.DiscardHandler), changes{config: func(c *pds.Config) { c.Mailer, c.ResetDelay = mailer{b.mail, b.mail}, -1 }})
	if err != nil {
		t.Fatal(err)
	}
	b.Server = s
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	return b
}

// tokens are the output of createSession.
type tokens struct {
	DID        syntax.DID `json:"did"`
	AccessJWT  string     `json:"accessJwt"`
	RefreshJWT string     `json:"refreshJwt"`
}

// send calls a method with an Authorization header. The body is JSON of in, if that is not nil.
func (b *bench) send(verb, method, authorization, from string, in, out any) testxrpc.Reply {
	b.t.Helper()
	return testxrpc.Call(b.t, b.URL(), verb, method, http.Header{"Authorization": {authorization}, "X-Forwarded-For": {from}}, in, out)
}

// post is send of a procedure that must succeed.
func (b *bench) post(method, token string, in, out any) {
	b.t.Helper()
	if a := b.send("POST", method, "Bearer "+token, "", in, out); a.Status != http.StatusOK {
		b.t.Fatalf("%s: %d %s", method, a.Status, a.Body)
	}
}

func (b *bench) register(name string) (t tokens) {
	b.t.Helper()
	a := b.send("POST", "com.atproto.server.createAccount", "", "", map[string]string{
		"handle": name + ".test", "email": name + "@example.com", "password": "password of " + name}, &t)
	if a.Status != http.StatusOK {
		b.t.Fatal(a.Body)
	}
	return t
}

func (b *bench) refresh(t tokens) testxrpc.Reply {
	b.t.Helper()
	return b.send("POST", "com.atproto.server.refreshSession", "Bearer "+t.RefreshJWT, "", nil, nil)
}

// Guesses of an account's password are counted together, whatever it is called by and whatever
// method is asked; those for nobody too. The owner, elsewhere, is not locked out, and sessions go
// on.
func TestGuessing(t *testing.T) {
	b := newBench(t, map[string]string{"PDS_RATE_LIMITS_ENABLED": "true"})
	alice := b.register("alice")
	var app struct{ Password string }
	b.post("com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "phone"}, &app)
	const stranger, home = "198.51.100.7", "203.0.113.9"
	login := func(from, identifier, password string) testxrpc.Reply {
		return b.send("POST", "com.atproto.server.createSession", "", from, map[string]string{"identifier": identifier, "password": password}, nil)
	}
	remove := func(from, password string) testxrpc.Reply {
		return b.send("POST", "com.atproto.server.deleteAccount", "", from, map[string]any{"did": alice.DID, "password": password, "token": "AAAAA-AAAAA"}, nil)
	}
	names := []string{"alice.test", "ALICE.test", "Alice.Test", string(alice.DID), "alice@example.com", "Alice@EXAMPLE.com"}
	for i := range 30 {
		var a testxrpc.Reply
		if i%5 == 4 {
			a = remove(stranger, fmt.Sprint("guess ", i))
		} else {
			a = login(stranger, names[i%len(names)], []string{fmt.Sprint("guess ", i), "aaaa-bbbb-cccc-dddd"}[i%2])
		}
		if a.Status != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d %s", i, a.Status, a.Body)
		}
	}
	for _, name := range names {
		for _, password := range []string{"wrong", "password of alice", app.Password} {
			if a := login(stranger, name, password); a.Status != http.StatusTooManyRequests {
				t.Errorf("%s after 30 guesses: %d", name, a.Status)
			}
		}
	}
	if a := remove(stranger, "password of alice"); a.Status != http.StatusTooManyRequests {
		t.Errorf("deleteAccount after 30 guesses: %d", a.Status)
	}
	if a := login(home, "alice.test", "password of alice"); a.Status != http.StatusOK {
		t.Errorf("the owner: %d %s", a.Status, a.Body)
	}
	if a := b.refresh(alice); a.Status != http.StatusOK {
		t.Errorf("the owner's session: %d %s", a.Status, a.Body)
	}
	// Nobody is somebody too.
	for i := range 31 {
		a, want := login(stranger, []string{"nobody.test", "NOBODY.test", " nobody.test "}[i%3], "x"), http.StatusUnauthorized
		if i == 30 {
			want = http.StatusTooManyRequests
		}
		if a.Status != want {
			t.Fatalf("guess %d of nobody: %d %s", i, a.Status, a.Body)
		}
	}
}

// Wrong passwords of the administrator are counted over all methods that take it.
func TestGuessingTheAdministrator(t *testing.T) {
	b := newBench(t, map[string]string{"PDS_RATE_LIMITS_ENABLED": "true"})
	alice := b.register("alice")
	methods := []string{"com.atproto.admin.getInviteCodes", "com.atproto.admin.getAccountInfo?did=" + string(alice.DID),
		"com.atproto.sync.getRepo?did=" + string(alice.DID), "com.atproto.sync.listBlobs?did=" + string(alice.DID)}
	basic := func(password string) string {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth("admin", password)
		return r.Header.Get("Authorization")
	}
	const stranger, home = "198.51.100.7", "203.0.113.9"
	for i := range 30 {
		if a := b.send("GET", methods[i%len(methods)], basic(fmt.Sprint(i)), stranger, nil, nil); a.Status != 401 {
			t.Fatalf("guess %d: %d %s", i, a.Status, a.Body)
		}
	}
	for _, method := range methods {
		for _, password := range []string{"x", "hunter2"} {
			if a := b.send("GET", method, basic(password), stranger, nil, nil); a.Status != http.StatusTooManyRequests {
				t.Errorf("%s after 30 guesses: %d", method, a.Status)
			}
		}
	}
	for range 40 {
		if a := b.send("GET", methods[0], basic("hunter2"), home, nil, nil); a.Status != http.StatusOK {
			t.Fatalf("the administrator: %d %s", a.Status, a.Body)
		}
	}
}

// The administrator's password is guessed by somebody in a trusted network who calls himself this
// machine, by many addresses.
func TestGuessingTheAdministratorAsTheMachineItself(t *testing.T) {
	b := newBench(t, map[string]string{"PDS_RATE_LIMITS_ENABLED": "true"})
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth("admin", "guess")
	guess := r.Header.Get("Authorization")
	forms := []string{"127.0.0.%d", "::ffff:127.0.1.%d", "198.51.100.%d", "127.1.0.%d"}
	for i := range 301 {
		from := fmt.Sprintf(forms[i%len(forms)], 1+i/20)
		a := b.send("GET", "com.atproto.admin.getInviteCodes", guess, from, nil, nil)
		if want := map[bool]int{false: 401, true: 429}[i == 300]; a.Status != want {
			t.Fatalf("guess %d, from %s: %d %s", i, from, a.Status, a.Body)
		}
	}
	// The administrator, on the machine, without a proxy.
	r.SetBasicAuth("admin", "hunter2")
	if a := b.send("GET", "com.atproto.admin.getInviteCodes", r.Header.Get("Authorization"), "", nil, nil); a.Status != http.StatusOK {
		t.Errorf("the administrator: %d %s", a.Status, a.Body)
	}
}
