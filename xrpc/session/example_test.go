package session_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// A host lets the accounts of its store log in, and has a method of its own for them.
func Example() {
	store := memory.New(memory.Config{})
	box, err := sealed.New([]byte("32 bytes that stay the same, ok?"))
	if err != nil {
		panic(err)
	}
	accounts := account.Open(repo.Config{Store: store}, box)
	credentials := credential.New(credential.Config{Accounts: accounts, Enter: session.HashQueue()})
	sessions := session.New(session.Config{
		Credentials: credentials, Key: []byte("random bytes that stay the same"), ServiceDID: "did:web:pds.example.com", URL: "https://pds.example.com",
	})

	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
	srv.Handle(sessions.Routes()...)
	srv.Handle(xrpc.Route{
		NSID: "com.example.hello", Auth: sessions.User(session.RefuseTakenDown), Needs: []auth.Permission{auth.ReadEmail},
		Handler: session.Query(func(ctx context.Context, r *xrpc.Request, _ struct{}) (map[string]string, error) {
			a, err := accounts.ByDID(ctx, r.Principal.DID)
			return map[string]string{"hello": a.Email}, err
		}),
	})
	front := httptest.NewServer(srv)
	defer front.Close()

	// Package server makes accounts over HTTP. This one is made by the host itself.
	ctx := context.Background()
	if err := makeAccount(ctx, credentials); err != nil {
		panic(err)
	}
	client := &xrpc.Client{Host: front.URL}
	var login struct {
		AccessJWT string `json:"accessJwt"`
	}
	err = client.Procedure(ctx, "com.atproto.server.createSession", map[string]string{"identifier": "alice.example.com", "password": "correct horse"}, &login)
	if err != nil {
		panic(err)
	}
	client.Authorize = xrpc.Bearer(login.AccessJWT)
	var out map[string]string
	err = client.Query(ctx, "com.example.hello", nil, &out)
	fmt.Println(out["hello"], err)

	client.Authorize = func(r *http.Request) error { r.Header.Set("Authorization", "Bearer x"); return nil }
	fmt.Println(client.Query(ctx, "com.example.hello", nil, &out))
	// Output:
	// alice@example.com <nil>
	// xrpc: 400 InvalidToken: Token could not be verified
}

func makeAccount(ctx context.Context, credentials *credential.Store) error {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return err
	}
	hash, err := credentials.HashPassword(ctx, "correct horse")
	if err != nil {
		return err
	}
	_, err = credentials.Accounts().Create(ctx, account.Account{
		DID: "did:web:alice.example.com", Handle: "alice.example.com", Email: "alice@example.com", Password: hash,
	}, key, repo.Batch{})
	return err
}
