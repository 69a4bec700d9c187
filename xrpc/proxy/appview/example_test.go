package appview_test

import (
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/proxy/appview"
	"github.com/pdskit/pdskit/xrpc/session"
)

// A host has its accounts see Bluesky.
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
	view := appview.New(appview.Config{
		Sessions: sessions, Host: accounts.Host(),
		AppView: proxy.Service{DID: "did:web:api.bsky.app", URL: "https://api.bsky.app"},
		Reports: proxy.Service{DID: "did:plc:ar7c4by46qjdydhdevvrndac", URL: "https://mod.bsky.app"},
		CDN:     "https://cdn.bsky.app/img/%s/plain/%s/%s@jpeg",
	})
	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
	srv.Handle(sessions.Routes()...)
	view.Mount(srv)
}
