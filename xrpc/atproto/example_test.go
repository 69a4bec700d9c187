package atproto_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// single is the directory of a host with one account, a did:web.
type single struct{ acct atproto.Account }

func (s single) Account(_ context.Context, id syntax.AtIdentifier) (atproto.Account, error) {
	if id == syntax.AtIdentifier(s.acct.DID) || id == syntax.AtIdentifier(s.acct.Handle) {
		return s.acct, nil
	}
	return atproto.Account{}, atproto.ErrNoAccount
}

func (s single) ListAccounts(_ context.Context, _ time.Time, after syntax.DID, _ int) (list []atproto.Account, err error) {
	if after == "" {
		list = append(list, s.acct)
	}
	return list, nil
}

func (s single) Document(context.Context, syntax.DID) ([]byte, syntax.Handle, error) {
	doc, err := json.Marshal(identity.Document{ID: s.acct.DID, AlsoKnownAs: []string{"at://" + string(s.acct.Handle)}})
	return doc, s.acct.Handle, err
}

// A PDS for one person, whose password is a bearer token. What it takes to mount the methods by which clients
// write and the network reads is what is between the two lines.
func Example() {
	ctx := context.Background()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	signer := func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }
	me := single{atproto.Account{DID: "did:web:me.example.com", Handle: "me.example.com", Created: time.Now()}}
	owner := func(r *xrpc.Request) (auth.Principal, error) {
		if r.Header.Get("Authorization") != "Bearer correct horse" {
			return auth.Principal{}, &xrpc.Error{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required"}
		}
		return auth.Principal{Role: auth.User, DID: me.acct.DID, Permissions: auth.Everything()}, nil
	}

	// ---------------------------------------------------------------------------
	store := memory.New(memory.Config{}) // or storage/sqlite
	host := repo.NewHost(repo.Config{Store: store, Signer: signer})
	schemas := lexicon.Builtin()
	methods := &xrpc.Server{Catalog: schemas}
	service := &atproto.Service{
		Host: host, Accounts: me, Schemas: schemas,
		Auth:   atproto.Auth{User: owner},
		Outbox: &stream.Outbox{Events: store.Events},
	}
	service.Mount(methods)
	srv := httptest.NewServer(methods) // or http.ListenAndServe
	// ---------------------------------------------------------------------------
	defer srv.Close()

	if _, err := host.Create(ctx, me.acct.DID, repo.Batch{}); err != nil {
		panic(err)
	}
	client := &xrpc.Client{Host: srv.URL, Authorize: xrpc.Bearer("correct horse")}
	err = client.Procedure(ctx, "com.atproto.repo.createRecord", map[string]any{
		"repo": me.acct.DID, "collection": "com.example.note", "rkey": "first", "record": map[string]any{"text": "hello"},
	}, nil)
	if err != nil {
		panic(err)
	}
	// Anybody may read it, and believe only what is signed.
	export, err := (&xrpc.Client{Host: srv.URL}).Get(ctx, "com.atproto.sync.getRepo", url.Values{"did": {string(me.acct.DID)}})
	if err != nil {
		panic(err)
	}
	defer export.Body.Close()
	r, err := commit.ReadRepo(export.Body, commit.RepoOptions{DID: me.acct.DID, Key: key.PublicKey()})
	if err != nil {
		panic(err)
	}
	defer r.Close()
	for rec, err := range r.Records() {
		if err != nil {
			panic(err)
		}
		fmt.Println(rec.Path, rec.CID)
	}
	// Output: com.example.note/first bafyreidwydhkxbncvxuvbwefh5wchyyei7fikeu4oplmgkynqmsvpcjo2i
}
