package pdstest

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// AdminPassword is the administrator's password on every PDS, unless change sets another one.
const AdminPassword = "the administrator's password"

// PDS is a server of a Network.
type PDS struct {
	// Name is its host name; the first one is "pds1.test".
	Name string

	net    *Network
	config pds.Config
	serves atomic.Pointer[pds.Server]
	stop   func()
}

// PDS starts a server. Its store is in memory; change may set another one, or anything else in its
// configuration. Handles of accounts are below its name.
//
// Add methods and pages in Setup of the configuration: the relay of the network reads the server as
// soon as it has started.
func (n *Network) PDS(change ...func(*pds.Config)) *PDS {
	n.t.Helper()
	n.mu.Lock()
	name := fmt.Sprintf("pds%d.test", len(n.all)+1)
	p := &PDS{Name: name, net: n}
	n.all = append(n.all, p)
	n.mu.Unlock()
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		n.t.Fatal(err)
	}
	p.config = pds.Config{
		URL: "https://" + name, Store: memory.New(memory.Config{Now: n.Clock.Now}),
		Secrets: pds.Secrets{MasterKeys: [][]byte{[]byte("0123456789abcdef0123456789abcdef")}, RotationKeys: []crypto.Signer{rotation}, AdminPassword: AdminPassword},
		Mailer:  n.Mail, Directory: n.PLC(), Resolver: n.Resolver(), HTTP: n.Client(), Development: true, Now: n.Clock.Now, ResetDelay: -1,
		SignAnyway: true, // the clock is the test's
	}
	for _, f := range change {
		f(&p.config)
	}
	p.start()
	n.Handle(name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Server().ServeHTTP(w, r) }))
	n.t.Cleanup(func() { p.stop() })
	n.Relay.follow(p)
	return p
}

// start makes a server of the configuration.
func (p *PDS) start() {
	p.net.t.Helper()
	s, err := pds.New(p.config)
	if err != nil {
		p.net.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	p.stop = func() {
		cancel()
		running.Wait()
		s.Close(context.Background())
	}
	p.serves.Store(s)
}

// Server returns the present server.
func (p *PDS) Server() *pds.Server { return p.serves.Load() }

// Store returns the server's store.
func (p *PDS) Store() storage.Store { return p.config.Store }

// Restart stops the server and starts another one with the same configuration and store.
func (p *PDS) Restart() {
	p.net.t.Helper()
	p.stop()
	p.start()
}

// Client returns a client without credentials.
func (p *PDS) Client() *xrpc.Client { return &xrpc.Client{Host: p.config.URL, HTTP: p.net.Client()} }

// Admin returns a client with the administrator's password.
func (p *PDS) Admin() *xrpc.Client {
	c := p.Client()
	c.Authorize = func(r *http.Request) error {
		r.SetBasicAuth("admin", p.config.Secrets.AdminPassword)
		return nil
	}
	return c
}

// Account is an account on a PDS, with a session. Its Client calls methods with it.
type Account struct {
	*xrpc.Client
	DID             syntax.DID
	Handle          syntax.Handle
	Email, Password string

	pds *PDS
}

// Account makes an account by createAccount: with the handle NAME.pdsN.test, the e-mail address
// NAME@example.com and a password.
func (p *PDS) Account(name string) *Account {
	t := p.net.t
	t.Helper()
	a := &Account{pds: p, Handle: syntax.Handle(name + "." + p.Name), Email: name + "@example.com", Password: "password of " + name}
	out, err := api.ServerCreateAccount(t.Context(), p.Client(), api.ServerCreateAccountInput{Handle: a.Handle, Email: a.Email, Password: a.Password})
	if err != nil {
		t.Fatalf("account %s: %v", a.Handle, err)
	}
	a.DID, a.Client = out.DID, p.Client()
	a.Authorize = xrpc.Bearer(out.AccessJWT)
	return a
}

// Login opens another session, with the account's password or an app password, and returns a client
// of it.
func (a *Account) Login(password string) (*xrpc.Client, error) {
	c := a.pds.Client()
	out, err := api.ServerCreateSession(a.pds.net.t.Context(), c, api.ServerCreateSessionInput{Identifier: string(a.Handle), Password: password})
	if err != nil {
		return nil, err
	}
	c.Authorize = xrpc.Bearer(out.AccessJWT)
	return c, nil
}

// Create makes a record.
func (a *Account) Create(collection syntax.NSID, record map[string]any) api.RepoCreateRecordOutput {
	t := a.pds.net.t
	t.Helper()
	out, err := api.RepoCreateRecord(t.Context(), a, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(a.DID), Collection: collection, Record: a.encode(record)})
	if err != nil {
		t.Fatalf("%s creates a record: %v", a.Handle, err)
	}
	return out
}

// Put makes or replaces the record with a key.
func (a *Account) Put(collection syntax.NSID, rkey syntax.RecordKey, record map[string]any) api.RepoPutRecordOutput {
	t := a.pds.net.t
	t.Helper()
	out, err := api.RepoPutRecord(t.Context(), a, api.RepoPutRecordInput{Repo: syntax.AtIdentifier(a.DID), Collection: collection, RKey: rkey, Record: a.encode(record)})
	if err != nil {
		t.Fatalf("%s puts a record: %v", a.Handle, err)
	}
	return out
}

func (a *Account) encode(record map[string]any) data.Raw {
	a.pds.net.t.Helper()
	raw, err := data.MarshalJSON(record)
	if err != nil {
		a.pds.net.t.Fatal(err)
	}
	return raw
}
