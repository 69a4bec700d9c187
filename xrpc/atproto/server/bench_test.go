package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
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
	dir     *plctest.Directory
	methods *xrpc.Server
}

// newBench starts one. change, if not nil, changes its configuration.
func newBench(t *testing.T, change func(s *session.Config, c *Config)) *bench {
	t.Helper()
	b := &bench{t: t, mail: &mailbox{}, store: memory.New(memory.Config{})}
	var err error
	if b.dir, err = plctest.New(plctest.Config{NoRateLimits: true}); err != nil {
		t.Fatal(err)
	}
	directory := httptest.NewServer(b.dir)
	t.Cleanup(directory.Close)
	plc := &identity.PLCClient{URL: directory.URL}
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
	accounts := account.Open(repo.Config{Store: b.store, TempDir: t.TempDir()}, box)
	cfg := Config{
		Directory: plc, RotationKeys: []crypto.Signer{rotation}, Mailer: b.mail, ResetDelay: -1,
		Policy: Policy{Domains: []string{".test"}},
	}
	common := session.Config{
		Credentials: credential.New(credential.Config{Accounts: accounts}), Key: []byte("a key for tests only"), ServiceDID: "did:web:localhost", URL: front.URL,
		Resolver: &identity.Resolver{PLC: plc, Development: true}, AdminPassword: "hunter2",
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

// reply is an answer.
type reply struct {
	status int
	name   string // of the error
	body   string
	header http.Header
}

// send calls a method with an Authorization header. The body is JSON of in, if that is not nil.
func (b *bench) send(verb, method, authorization, _ string, in, out any) (a reply) {
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
	a = reply{status: res.StatusCode, body: string(text), header: res.Header}
	if a.status != http.StatusOK {
		var e struct{ Error string }
		json.Unmarshal(text, &e)
		a.name = e.Error
	} else if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			b.t.Fatal(err)
		}
	}
	return a
}

// post is send of a procedure that must succeed.
func (b *bench) post(method, token string, in, out any) {
	b.t.Helper()
	if a := b.send("POST", method, "Bearer "+token, "", in, out); a.status != http.StatusOK {
		b.t.Fatalf("%s: %d %s", method, a.status, a.body)
	}
}

func (b *bench) register(name string) (t tokens) {
	b.t.Helper()
	a := b.send("POST", "com.atproto.server.createAccount", "", "", map[string]string{
		"handle": name + ".test", "email": name + "@example.com", "password": "password of " + name}, &t)
	if a.status != http.StatusOK {
		b.t.Fatal(a.body)
	}
	return t
}

func (b *bench) login(identifier, password string) (t tokens, a reply) {
	b.t.Helper()
	a = b.send("POST", "com.atproto.server.createSession", "", "", map[string]string{"identifier": identifier, "password": password}, &t)
	return t, a
}

func (b *bench) refresh(t tokens) reply {
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
