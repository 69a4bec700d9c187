package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/session"
)

// key signs the tokens of benches.
var key = []byte("a key for tests only")

// bench is a server with accounts in memory.
type bench struct {
	t           *testing.T
	url         string
	accounts    *account.Store
	credentials *credential.Store
	resolver    *identity.Resolver
	methods     *xrpc.Server

	mu  sync.Mutex
	now time.Time
}

// Now is the clock of all of it.
func (b *bench) Now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// pass lets time pass.
func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// newBench starts a server. change, if not nil, changes its configuration.
func newBench(t *testing.T, change func(*session.Config)) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC), methods: &xrpc.Server{Catalog: lexicon.Builtin()}}
	dir, err := plctest.New(plctest.Config{Now: b.Now, NoRateLimits: true})
	if err != nil {
		t.Fatal(err)
	}
	directory := httptest.NewServer(dir)
	t.Cleanup(directory.Close)
	front := httptest.NewServer(b.methods)
	t.Cleanup(front.Close)
	b.url = front.URL
	plc := &identity.PLCClient{URL: directory.URL}
	b.resolver = &identity.Resolver{PLC: plc, Development: true, Now: b.Now}
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(memory.Config{Now: b.Now})
	b.accounts = account.Open(repo.Config{Store: store, TempDir: t.TempDir(), Now: b.Now}, box)
	b.credentials = credential.New(credential.Config{Accounts: b.accounts, Now: b.Now})
	cfg := session.Config{
		Credentials: b.credentials, Key: key, ServiceDID: "did:web:localhost", URL: b.url, Resolver: b.resolver,
		AdminPassword: "hunter2", Now: b.Now,
	}
	if change != nil {
		change(&cfg)
	}
	sessions := session.New(cfg)
	svc := server.New(server.Config{
		Sessions:  sessions,
		Directory: plc, RotationKeys: []crypto.Signer{rotation}, Policy: server.Policy{Domains: []string{".test"}},
	})
	t.Cleanup(func() { svc.Close(context.Background()) })
	for _, rt := range slices.Concat(sessions.Routes(), svc.Routes()) {
		b.methods.Handle(rt)
	}
	return b
}

// tokens are the output of createSession and of others.
type tokens struct {
	DID        syntax.DID `json:"did"`
	Handle     string     `json:"handle"`
	AccessJWT  string     `json:"accessJwt"`
	RefreshJWT string     `json:"refreshJwt"`
	Active     *bool      `json:"active"`
	Status     string     `json:"status"`
	DIDDoc     any        `json:"didDoc"`
}

// reply is an answer.
type reply struct {
	status  int
	name    string // of the error
	message string
	body    string
}

// send calls a method with an Authorization header. The body is JSON of in, if that is not nil.
func (b *bench) send(verb, method, authorization string, in, out any) (a reply) {
	b.t.Helper()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			b.t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequest(verb, b.url+"/xrpc/"+method, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	a = reply{status: res.StatusCode, body: string(text)}
	if a.status != http.StatusOK {
		var e struct{ Error, Message string }
		json.Unmarshal(text, &e)
		a.name, a.message = e.Error, e.Message
	} else if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			b.t.Fatal(err)
		}
	}
	return a
}

// must is send of what must succeed.
func (b *bench) must(verb, method, token string, in, out any) {
	b.t.Helper()
	if token != "" {
		token = "Bearer " + token
	}
	if a := b.send(verb, method, token, in, out); a.status != http.StatusOK {
		b.t.Fatalf("%s: %d %s", method, a.status, a.body)
	}
}

func (b *bench) register(name string) (t tokens) {
	b.t.Helper()
	b.must("POST", "com.atproto.server.createAccount", "", map[string]string{
		"handle": name + ".test", "email": name + "@example.com", "password": "password of " + name}, &t)
	return t
}

func (b *bench) login(identifier, password string, more ...string) (t tokens, a reply) {
	b.t.Helper()
	in := map[string]any{"identifier": identifier, "password": password}
	for _, name := range more {
		in[name] = true
	}
	a = b.send("POST", "com.atproto.server.createSession", "", in, &t)
	return t, a
}

// whoami calls getSession.
func (b *bench) whoami(token string) reply {
	b.t.Helper()
	return b.send("GET", "com.atproto.server.getSession", "Bearer "+token, nil, nil)
}

func (b *bench) refresh(token string) (t tokens, a reply) {
	b.t.Helper()
	a = b.send("POST", "com.atproto.server.refreshSession", "Bearer "+token, nil, &t)
	return t, a
}

// admin is the header of the administrator with a password.
func admin(password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth("admin", password)
	return r.Header.Get("Authorization")
}

// takedown takes an account down, or back up.
func (b *bench) takedown(did syntax.DID, applied bool) {
	b.t.Helper()
	a := b.send("POST", "com.atproto.admin.updateSubjectStatus", admin("hunter2"), map[string]any{
		"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": did},
		"takedown": map[string]any{"applied": applied},
	}, nil)
	if a.status != http.StatusOK {
		b.t.Fatal(a.body)
	}
}
