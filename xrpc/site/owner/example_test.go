package owner_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/session"
	"github.com/pdskit/pdskit/xrpc/site"
	"github.com/pdskit/pdskit/xrpc/site/owner"
)

// The account pages of a host that puts its parts together by itself. A pds.Server has them.
func Example() {
	box, err := sealed.New(make([]byte, 32)) // a host has random keys
	if err != nil {
		panic(err)
	}
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	secret := make([]byte, 32)
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)
	credentials := credential.New(credential.Config{Accounts: accounts})
	sessions := session.New(session.Config{
		Credentials: credentials, Key: secret, ServiceDID: "did:web:pds.example.com", URL: "https://pds.example.com", Resolver: &identity.Resolver{},
	})
	service := server.New(server.Config{Sessions: sessions, Directory: &identity.PLCClient{}, RotationKeys: []crypto.Signer{rotation}})

	look := site.New(site.Config{Credentials: credentials, Origin: "https://pds.example.com", Secret: secret})
	mux := http.NewServeMux()
	look.Mount(mux)
	pages.New(pages.Config{Site: look, Passwords: sessions, Service: service}).Mount(mux) // where people sign in
	owner.New(owner.Config{Site: look, Service: service, OAuth: provider.Apps{Accounts: accounts}}).Mount(mux)

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "https://pds.example.com/.well-known/change-password", nil))
	fmt.Println(w.Code, w.Header().Get("Location"))
	w = httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "https://pds.example.com/account/-/password", nil))
	fmt.Println(w.Code, w.Header().Get("Location"))
	// Output:
	// 302 /account/-/password
	// 303 /oauth/sign-in?return=%2Faccount%2F-%2Fpassword
}

// A wrong configuration says what to do.
func ExampleNew() {
	defer func() { fmt.Println(recover()) }()
	owner.New(owner.Config{})
	// Output: owner: Config.Site is missing: make it with site.New
}
