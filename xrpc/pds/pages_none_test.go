//go:build nopages

package pds

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/storage/memory"
)

// A server without pages serves methods, and has neither pages nor OAuth: go test -tags nopages -run NoPages
func TestNoPages(t *testing.T) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{
		URL: "https://pds.example.com", Store: memory.New(memory.Config{}),
		Secrets: Secrets{MasterKeys: [][]byte{make([]byte, 32)}, RotationKeys: []crypto.Signer{key}, AdminPassword: "a password"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Site != nil || s.OAuth != nil || s.Passkeys != nil {
		t.Error("there are pages")
	}
	for path, want := range map[string]int{
		"/xrpc/com.atproto.server.describeServer": 200, "/xrpc/_health": 200, "/": 200, "/robots.txt": 200, "/account": 404, "/admin": 404,
		"/oauth/jwks": 404, "/.well-known/oauth-authorization-server": 404, "/.well-known/oauth-protected-resource": 404,
		"/xrpc/com.atproto.server.getSession": 401,
	} {
		w := httptest.NewRecorder()
		if s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://pds.example.com"+path, nil)); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "https://pds.example.com/xrpc/com.atproto.server.getSession", nil)
	r.Header.Set("Authorization", "DPoP abc")
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, r); w.Code != 401 && w.Code != 400 {
		t.Errorf("a token of OAuth: %d %s", w.Code, w.Body)
	}
}
