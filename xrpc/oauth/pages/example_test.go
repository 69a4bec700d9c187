package pages_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/session"
	"github.com/pdskit/pdskit/xrpc/site"
)

func Example() {
	box, err := sealed.New(make([]byte, 32)) // a host has a random key
	if err != nil {
		panic(err)
	}
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)
	credentials := credential.New(credential.Config{Accounts: accounts})
	secret := make([]byte, 32)
	rand.Read(secret)
	sessions := session.New(session.Config{
		Credentials: credentials, Key: secret, ServiceDID: "did:web:pds.example.com", URL: "https://pds.example.com",
	})

	look := site.New(site.Config{
		Credentials: credentials, Origin: "https://pds.example.com", Secret: secret,
		Brand: site.Brand{Name: "Example", Accent: "#0b6130", Terms: "https://example.com/terms"},
	})
	web := pages.New(pages.Config{Site: look, Passwords: sessions})
	oauth := provider.New(provider.Config{
		Accounts: accounts, Issuer: "https://pds.example.com", ServiceDID: "did:web:pds.example.com", Secret: secret, Logins: web, Pages: web,
	})
	mux := http.NewServeMux()
	look.Mount(mux)
	web.Mount(mux)
	oauth.Mount(mux)

	r := httptest.NewRequest("GET", "https://pds.example.com/oauth/sign-in", nil)
	r.Header.Set("Accept-Language", "fr")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("Content-Language"))
	// Output: 200 fr
}
