package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/session"
)

// mailbox keeps messages. If there is a gate, a message waits for it.
type mailbox struct {
	mu   sync.Mutex
	sent []Mail
	gate chan struct{}
	fail error
}

// set makes it wait for a gate, or fail.
func (m *mailbox) set(gate chan struct{}, fail error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate, m.fail = gate, fail
}

func (m *mailbox) Send(ctx context.Context, msg Mail) error {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = append(m.sent, msg)
	return m.fail
}

// bench is a server with accounts and repositories in memory, whose mail stays here.
type bench struct {
	*Service
	t       *testing.T
	mail    *mailbox
	store   storage.Store
	plcURL  string
	methods *xrpc.Server
	uploads chan struct{} // one for each upload whose caller is known
	clock   *clock
}

// clock is what all of a bench has the time from.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// pass lets time pass.
func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newBench starts one. change, if not nil, changes its configuration.
func newBench(t *testing.T, change func(s *session.Config, c *Config)) *bench {
	t.Helper()
	clock := newClock()
	directory := testplc.Start(t, plctest.Config{NoRateLimits: true, Now: clock.Now})
	return newBenchAt(t, directory.URL, clock, change)
}

// newBenchAt starts one that uses a did:plc directory.
func newBenchAt(t *testing.T, plcURL string, clock *clock, change func(s *session.Config, c *Config)) *bench {
	t.Helper()
	b := &bench{t: t, mail: &mailbox{}, store: memory.New(memory.Config{Now: clock.Now}), plcURL: plcURL, clock: clock, uploads: make(chan struct{}, 100)}
	plc := &identity.PLCClient{URL: plcURL}
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	b.methods = &xrpc.Server{Catalog: lexicon.Builtin()}
	front := httptest.NewServer(b.methods)
	t.Cleanup(front.Close)
	accounts := account.Open(repo.Config{Store: b.store, TempDir: t.TempDir(), Now: clock.Now}, box)
	cfg := Config{
		Directory: plc, RotationKeys: []crypto.Signer{rotation}, Mailer: b.mail, ResetDelay: -1,
		Policy: Policy{Domains: []string{".test"}},
	}
	common := session.Config{
		Credentials: credential.New(credential.Config{Accounts: accounts, Now: clock.Now}), Key: []byte("a key for tests only"), ServiceDID: "did:web:localhost", URL: front.URL,
		Resolver: &identity.Resolver{PLC: plc, Development: true, Now: clock.Now}, AdminPassword: "hunter2", Now: clock.Now,
	}
	if change != nil {
		change(&common, &cfg)
	}
	cfg.Sessions = session.New(common)
	b.Service = New(cfg)
	t.Cleanup(func() { b.Close(context.Background()) })
	repos := &atproto.Service{
		Host: b.host, Accounts: b.Service, Takedowns: b.accounts, Schemas: lexicon.Builtin(), ImportKeys: b.ImportKeys,
		Auth: atproto.Auth{
			User: b.sessions.User(session.RefuseTakenDown), Optional: b.sessions.Optional(), Upload: b.sessions.Uploader(), Guard: b.sessions.Guard,
		},
	}
	repos.Mount(b.methods)
	b.methods.With("com.atproto.repo.uploadBlob", func(rt xrpc.Route) xrpc.Route {
		rt.Handler = rt.Handler.Wrap(func(w http.ResponseWriter, r *xrpc.Request, next func(http.ResponseWriter, *xrpc.Request) error) error {
			b.uploads <- struct{}{}
			return next(w, r)
		})
		return rt
	})
	b.methods.Handle(b.sessions.Routes()...)
	b.methods.Handle(b.Routes()...)
	return b
}

// tokens are the output of createSession.
type tokens struct {
	DID        syntax.DID `json:"did"`
	AccessJWT  string     `json:"accessJwt"`
	RefreshJWT string     `json:"refreshJwt"`
}

// send calls a method with an Authorization header. The body is JSON of in, if that is not nil.
func (b *bench) send(verb, method, authorization, _ string, in, out any) testxrpc.Reply {
	b.t.Helper()
	return testxrpc.Call(b.t, b.url, verb, method, http.Header{"Authorization": {authorization}}, in, out)
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

func (b *bench) login(identifier, password string) (t tokens, a testxrpc.Reply) {
	b.t.Helper()
	a = b.send("POST", "com.atproto.server.createSession", "", "", map[string]string{"identifier": identifier, "password": password}, &t)
	return t, a
}

func (b *bench) refresh(t tokens) testxrpc.Reply {
	b.t.Helper()
	return b.send("POST", "com.atproto.server.refreshSession", "Bearer "+t.RefreshJWT, "", nil, nil)
}

// resetToken asks for a token to reset a password, and makes the job that sends it happen.
func (b *bench) resetToken(did syntax.DID) string {
	b.t.Helper()
	token, _, err := b.credentials.NewMailToken(b.t.Context(), account.Trusted(did), credential.ForPasswordReset)
	if err != nil {
		b.t.Fatal(err)
	}
	return token
}

func (b *bench) takedown(did syntax.DID, applied bool) {
	b.t.Helper()
	if err := b.accounts.TakeDown(b.t.Context(), did, account.Takedown{Applied: applied, Ref: "x"}); err != nil {
		b.t.Fatal(err)
	}
}

// must is send of what must succeed, by an account with an access token, or by nobody.
func (b *bench) must(verb, method, token string, in, out any) {
	b.t.Helper()
	if token != "" {
		token = "Bearer " + token
	}
	if a := b.send(verb, method, token, "", in, out); a.Status != http.StatusOK {
		b.t.Fatalf("%s: %d %s", method, a.Status, a.Body)
	}
}

// fails is send of what must fail, with a status and an error name.
func (b *bench) fails(status int, name, verb, method, token string, in any) {
	b.t.Helper()
	if token != "" && !strings.HasPrefix(token, "Basic ") {
		token = "Bearer " + token
	}
	if a := b.send(verb, method, token, "", in, nil); a.Status != status || a.Name != name {
		b.t.Errorf("%s: %d %s, want %d %s", method, a.Status, a.Body, status, name)
	}
}

// admin is send by the administrator.
func (b *bench) admin(verb, method string, in, out any) testxrpc.Reply {
	b.t.Helper()
	return b.send(verb, method, administrator, "", in, out)
}

// administrator is the header of the administrator.
var administrator = func() string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth("admin", "hunter2")
	return r.Header.Get("Authorization")
}()

// last is the last message.
func (m *mailbox) last() Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sent) == 0 {
		return Mail{}
	}
	return m.sent[len(m.sent)-1]
}

// events are the kinds of all events about an account since a number, and the number after them.
func (b *bench) events(did syntax.DID, since int64) (kinds []string, seq int64) {
	b.t.Helper()
	seq = since
	for ev, err := range b.store.Events.Since(b.t.Context(), since) {
		if err != nil {
			b.t.Fatal(err)
		}
		if seq = ev.Seq; ev.DID == did {
			kinds = append(kinds, string(ev.Kind))
		}
	}
	return kinds, seq
}
