package provider_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
)

const did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"

// logins says that the owner of the one account is signed in in every browser. A real one looks at a
// cookie.
type logins struct{}

func (logins) Device(http.ResponseWriter, *http.Request) (provider.Device, error) {
	return provider.Device{ID: "the browser", Accounts: []provider.SignedIn{{DID: did, At: time.Now()}}}, nil
}

// pages prints what it is to show.
type pages struct{}

func (pages) Prompt(_ http.ResponseWriter, _ *http.Request, q provider.Prompt) {
	fmt.Printf("%s: %s wants %v\n", q.Ask, q.Client, q.Scopes)
}

func (pages) Error(w http.ResponseWriter, _ *http.Request, status int, e *provider.Error) {
	w.WriteHeader(status)
	fmt.Println(e.Description)
}

// A server with one account, and a program on its owner's device that asks to be let in.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	secret := make([]byte, 32)
	rand.Read(secret)
	box, err := sealed.New(secret)
	if err != nil {
		panic(err)
	}
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{}), TempDir: dir}, box)
	const issuer = "https://pds.example.com"
	oauth := provider.New(provider.Config{
		Accounts: accounts, Issuer: issuer, ServiceDID: "did:web:pds.example.com", Secret: secret, Logins: logins{}, Pages: pages{},
	})
	mux := http.NewServeMux()
	oauth.Mount(mux)

	signing, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	owner := account.Account{DID: did, Handle: "alice.example.com", Created: time.Now()}
	if _, err := accounts.Create(ctx, owner, signing, repo.Batch{}); err != nil {
		panic(err)
	}

	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		panic(err)
	}
	request := "client_id=http%3A%2F%2Flocalhost&redirect_uri=http%3A%2F%2F127.0.0.1%3A8080%2F&response_type=code&state=x&scope=atproto" +
		"&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&dpop_jkt=" + dpop.Thumbprint(key.PublicKey())
	r := httptest.NewRequest("POST", issuer+"/oauth/par", strings.NewReader(request))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code)

	_, rest, _ := strings.Cut(w.Body.String(), `"request_uri":"`)
	uri, _, _ := strings.Cut(rest, `"`)
	mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", issuer+"/oauth/authorize?client_id=http%3A%2F%2Flocalhost&request_uri="+uri, nil))
	// Output:
	// 201
	// consent: An application on your device wants [atproto]
}
