// Package testpds is a server with accounts and repositories in memory, for the tests of its own
// packages.
package testpds

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
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
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Key signs the tokens.
var Key = []byte("a key for tests only")

// Bench is a server. Its clock stands at noon of 15 January 2026 until Pass is called.
type Bench struct {
	t        *testing.T
	URL      string
	Accounts *account.Store
	// Credentials are theirs.
	Credentials *credential.Store
	Resolver    *identity.Resolver
	Sessions    *session.Sessions
	Host        *repo.Host
	Methods     *xrpc.Server

	mu  sync.Mutex
	now time.Time
}

// Now is the clock of all of it.
func (b *Bench) Now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// Pass lets time pass.
func (b *Bench) Pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// New starts a server. change, if not nil, changes its configuration.
func New(t *testing.T, change func(*session.Config)) *Bench {
	t.Helper()
	b := &Bench{t: t, now: time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC), Methods: &xrpc.Server{Catalog: lexicon.Builtin()}}
	directory := testplc.Start(t, plctest.Config{Now: b.Now, NoRateLimits: true})
	front := httptest.NewServer(b.Methods)
	t.Cleanup(front.Close)
	b.URL = front.URL
	plc := &identity.PLCClient{URL: directory.URL}
	b.Resolver = &identity.Resolver{PLC: plc, Development: true, Now: b.Now}
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(memory.Config{Now: b.Now})
	b.Accounts = account.Open(repo.Config{Store: store, TempDir: t.TempDir(), Now: b.Now}, box)
	b.Credentials = credential.New(credential.Config{Accounts: b.Accounts, Now: b.Now})
	cfg := session.Config{
		Credentials: b.Credentials, Key: Key, ServiceDID: "did:web:localhost", URL: b.URL, Resolver: b.Resolver,
		AdminPassword: "hunter2", Now: b.Now,
	}
	if change != nil {
		change(&cfg)
	}
	b.Sessions = session.New(cfg)
	b.Host = b.Accounts.Host()
	svc := server.New(server.Config{
		Sessions: b.Sessions, Directory: plc, RotationKeys: []crypto.Signer{rotation}, Policy: server.Policy{Domains: []string{".test"}},
	})
	t.Cleanup(func() { svc.Close(context.Background()) })
	b.Methods.Handle(slices.Concat(b.Sessions.Routes(), svc.Routes())...)
	(&atproto.Service{
		Host: b.Host, Accounts: svc, Takedowns: b.Accounts, Schemas: b.Methods.Catalog,
		Auth: atproto.Auth{User: b.Sessions.User(session.RefuseTakenDown), Optional: b.Sessions.Optional(), Upload: b.Sessions.Uploader(), Guard: b.Sessions.Guard},
	}).Mount(b.Methods)
	return b
}

// Tokens are the output of createSession and of others.
type Tokens struct {
	DID        syntax.DID `json:"did"`
	Handle     string     `json:"handle"`
	AccessJWT  string     `json:"accessJwt"`
	RefreshJWT string     `json:"refreshJwt"`
	Active     *bool      `json:"active"`
	Status     string     `json:"status"`
	DIDDoc     any        `json:"didDoc"`
}

// Send calls a method with an Authorization header. The body is JSON of in, if that is not nil.
func (b *Bench) Send(verb, method, authorization string, in, out any) testxrpc.Reply {
	b.t.Helper()
	return testxrpc.Call(b.t, b.URL, verb, method, http.Header{"Authorization": {authorization}}, in, out)
}

// Must is send of what must succeed.
func (b *Bench) Must(verb, method, token string, in, out any) {
	b.t.Helper()
	if token != "" {
		token = "Bearer " + token
	}
	if a := b.Send(verb, method, token, in, out); a.Status != http.StatusOK {
		b.t.Fatalf("%s: %d %s", method, a.Status, a.Body)
	}
}

// Register creates an account. Its password is "password of " and its name.
func (b *Bench) Register(name string) (t Tokens) {
	b.t.Helper()
	b.Must("POST", "com.atproto.server.createAccount", "", map[string]string{
		"handle": name + ".test", "email": name + "@example.com", "password": "password of " + name}, &t)
	return t
}

// Login opens a session. more are flags of the input that are true.
func (b *Bench) Login(identifier, password string, more ...string) (t Tokens, a testxrpc.Reply) {
	b.t.Helper()
	in := map[string]any{"identifier": identifier, "password": password}
	for _, name := range more {
		in[name] = true
	}
	a = b.Send("POST", "com.atproto.server.createSession", "", in, &t)
	return t, a
}

// WhoAmI calls getSession.
func (b *Bench) WhoAmI(token string) testxrpc.Reply {
	b.t.Helper()
	return b.Send("GET", "com.atproto.server.getSession", "Bearer "+token, nil, nil)
}

// Refresh exchanges a refresh token.
func (b *Bench) Refresh(token string) (t Tokens, a testxrpc.Reply) {
	b.t.Helper()
	a = b.Send("POST", "com.atproto.server.refreshSession", "Bearer "+token, nil, &t)
	return t, a
}

// Admin is the header of the administrator with a password.
func Admin(password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth("admin", password)
	return r.Header.Get("Authorization")
}

// TakeDown takes an account down, or back up.
func (b *Bench) TakeDown(did syntax.DID, applied bool) {
	b.t.Helper()
	a := b.Send("POST", "com.atproto.admin.updateSubjectStatus", Admin("hunter2"), map[string]any{
		"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": did},
		"takedown": map[string]any{"applied": applied},
	}, nil)
	if a.Status != http.StatusOK {
		b.t.Fatal(a.Body)
	}
}
