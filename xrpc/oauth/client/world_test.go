package client_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

var _ = testenv.CheapPasswords()

const noteScope = "atproto repo:com.example.note"

// app is a web app in a network, with its site.
type app struct {
	*client.Client
	t   *testing.T
	net *pdstest.Network
	cfg client.Config
}

func newKey(t testing.TB) *crypto.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newApp puts an app at a site of the network.
func newApp(t *testing.T, net *pdstest.Network, site string, change ...func(*client.Config)) *app {
	t.Helper()
	a := &app{t: t, net: net, cfg: client.Config{
		Metadata: client.Metadata{
			ID: "https://" + site + "/oauth-client-metadata.json", Name: "App", URI: "https://" + site,
			RedirectURIs: []string{"https://" + site + "/callback"}, Scope: noteScope,
		},
		Sessions:  &client.Memory{Now: net.Clock.Now},
		Discovery: &client.Discovery{Resolver: net.Resolver(), HTTP: net.Client(), Development: true, Now: net.Clock.Now},
	}}
	for _, f := range change {
		f(&a.cfg)
	}
	a.Client = a.another()
	mux := http.NewServeMux()
	mux.Handle("GET /oauth-client-metadata.json", a.MetadataHandler())
	mux.Handle("GET /jwks.json", a.KeysHandler())
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {})
	net.Handle(site, mux)
	return a
}

// another is another process of the app.
func (a *app) another() *client.Client {
	a.t.Helper()
	c, err := client.New(a.cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// begin begins a login and lets the account consent. It returns what the browser comes back with.
func (a *app) begin(l client.Login, as *pdstest.Account) url.Values {
	a.t.Helper()
	to, err := a.Start(a.t.Context(), l)
	if err != nil {
		a.t.Fatal(err)
	}
	page, err := a.net.Browser().Consent(to.String(), as, nil)
	if err != nil || page.Status >= 400 {
		a.t.Fatalf("%v %+v", err, page)
	}
	return page.URL.Query()
}

// login logs an account in.
func (a *app) login(as *pdstest.Account) *client.Session {
	a.t.Helper()
	s, _, err := a.Finish(a.t.Context(), a.begin(client.Login{Account: string(as.Handle)}, as), "")
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

func create(ctx context.Context, s *client.Session, text string) error {
	return s.Client().Procedure(ctx, "com.atproto.repo.createRecord", map[string]any{
		"repo": s.DID(), "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "text": text},
	}, nil)
}

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// claimsOf are the claims of a JWT, which is not verified.
func claimsOf(jwt string) map[string]any {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return nil
	}
	var claims map[string]any
	text, _ := base64.RawURLEncoding.DecodeString(parts[1])
	json.Unmarshal(text, &claims)
	return claims
}
