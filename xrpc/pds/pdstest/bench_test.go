package pdstest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// What a call costs the server, by a session of a password and by one of an app, whose proofs were
// made before.
func BenchmarkCall(b *testing.B) {
	net := pdstest.New(b)
	one := net.PDS()
	alice := one.Account("alice")
	app := net.App(noteScope).Login(alice)
	if err := app.Query(b.Context(), "com.atproto.server.listAppPasswords", nil, nil); err == nil {
		b.Fatal("an app lists app passwords")
	} // and knows a nonce now
	for name, prove := range map[string]func(*http.Request) error{"password": alice.Authorize, "app": app.Prove} {
		b.Run(name, func(b *testing.B) {
			requests := make([]*http.Request, b.N)
			for i := range requests {
				requests[i] = httptest.NewRequest("GET", "https://pds1.test/xrpc/com.atproto.repo.listMissingBlobs", nil)
				if err := prove(requests[i]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, r := range requests {
				w := httptest.NewRecorder()
				if one.Server().ServeHTTP(w, r); w.Code != http.StatusOK {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}

// What it costs to let an app in where somebody is signed in already: the request, two pages, the
// tokens, with the work of app and browser.
func BenchmarkLogin(b *testing.B) {
	net := pdstest.New(b)
	alice, app, browser := net.PDS().Account("alice"), net.App(noteScope), net.Browser()
	login := func() {
		if _, err := app.LoginWith(b.Context(), browser, alice, nil); err != nil {
			b.Fatal(err)
		}
	}
	login()
	b.ReportAllocs()
	for b.Loop() {
		login()
	}
}
