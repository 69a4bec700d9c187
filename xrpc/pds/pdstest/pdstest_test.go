package pdstest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

var _ = testenv.CheapPasswords()

func TestNetwork(t *testing.T) {
	net := pdstest.New(t)
	one, two := net.PDS(), net.PDS()
	alice, bob := one.Account("alice"), two.Account("bob")
	note := alice.Create("com.example.note", map[string]any{"text": "hello"})
	bob.Put("com.example.note", "first", map[string]any{"text": "hello, alice"})

	// Each server resolves the accounts of the other.
	id, err := net.Resolver().Lookup(t.Context(), "bob.pds2.test")
	if err != nil || id.DID != bob.DID {
		t.Errorf("%v, %v", id, err)
	}
	if err := net.Relay.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, m := range net.Relay.Seen(alice.DID) {
		kinds = append(kinds, m.Frame.Kind)
		if m.PDS != one {
			t.Errorf("%s comes from %s", m.Frame.Kind, m.PDS.Name)
		}
		if m.Commit != nil && len(m.Commit.Ops) > 0 && !strings.HasSuffix(string(note.URI), m.Commit.Ops[0].Path) {
			t.Errorf("%v", m.Commit.Ops)
		}
	}
	if got := strings.Join(kinds, " "); got != "#identity #account #commit #sync #commit" {
		t.Errorf("messages about alice: %s", got)
	}
}

// Sessions end by the clock of the network, in a bubble or out of it.
func TestClock(t *testing.T) {
	test := func(t *testing.T, pass func(*pdstest.Network, time.Duration)) {
		net := pdstest.New(t)
		alice := net.PDS().Account("alice")
		if _, err := api.ServerGetSession(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
		pass(net, 3*time.Hour)
		if _, err := api.ServerGetSession(t.Context(), alice); !errors.Is(err, &xrpc.Error{Name: "ExpiredToken"}) {
			t.Errorf("an access token after three hours: %v", err)
		}
	}
	test(t, func(n *pdstest.Network, d time.Duration) { n.Clock.Advance(d) })
	synctest.Test(t, func(t *testing.T) {
		test(t, func(_ *pdstest.Network, d time.Duration) { time.Sleep(d) })
	})
}

func TestMail(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	if err := api.ServerRequestPasswordReset(t.Context(), pds.Client(), api.ServerRequestPasswordResetInput{Email: alice.Email}); err != nil {
		t.Fatal(err)
	}
	mail, err := net.Mail.Take(t.Context(), alice.Email, server.ResetPassword)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.ServerResetPassword(t.Context(), pds.Client(), api.ServerResetPasswordInput{Token: mail.Token, Password: "another password"}); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Login(alice.Password); err == nil {
		t.Error("the old password is good")
	}
	if _, err := alice.Login("another password"); err != nil {
		t.Error(err)
	}
	if _, err := net.Mail.Take(t.Context(), alice.Email, server.PasswordChanged); err != nil {
		t.Error(err)
	}
	if list := net.Mail.To("ALICE@example.com"); len(list) != 0 {
		t.Errorf("%d messages are left", len(list))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := net.Mail.Take(ended, alice.Email, server.ResetPassword); !errors.Is(err, context.Canceled) {
		t.Errorf("without a message: %v", err)
	}
	refused := errors.New("no such mailbox")
	net.Mail.Fail(refused)
	if err := api.ServerRequestEmailConfirmation(t.Context(), alice); err == nil {
		t.Error("mail that was refused is no error")
	}
}

// A server that was restarted goes on where it was, and its followers too.
func TestRestart(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	alice.Create("com.example.note", map[string]any{"text": "before"})
	pds.Restart()
	alice.Create("com.example.note", map[string]any{"text": "after"})
	if err := net.Relay.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(net.Relay.Seen(alice.DID)); n != 6 {
		t.Errorf("%d messages", n)
	}
}

// What another server answers is what the test says.
func TestAppView(t *testing.T) {
	net := pdstest.New(t)
	var asked string
	net.Handle("appview.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path + " " + r.Header.Get("Authorization")[:7]
		fmt.Fprint(w, `{"feed":[]}`)
	}))
	alice := net.PDS(func(c *pds.Config) {
		c.AppView.Service = pds.Service{URL: "https://appview.test", DID: "did:web:appview.test"}
	}).Account("alice")
	var out struct{ Feed []any }
	if err := alice.Query(t.Context(), "app.bsky.feed.getTimeline", nil, &out); err != nil || out.Feed == nil {
		t.Errorf("%v, %v", out, err)
	}
	if asked != "/xrpc/app.bsky.feed.getTimeline Bearer " {
		t.Error(asked)
	}
}

// What does not verify is noticed.
func TestFaults(t *testing.T) {
	net := pdstest.New(t)
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	alice := net.PDS(func(c *pds.Config) { c.Secrets.RotationKeys = []crypto.Signer{rotation} }).Account("alice")
	other, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	if err := net.Relay.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Rotate(t.Context(), net.PLC(), alice.DID, func(op *identity.PLCOperation) error {
		op.SetSigningKey(other.PublicKey())
		return nil
	}, rotation); err != nil {
		t.Fatal(err)
	}
	alice.Create("com.example.note", map[string]any{"text": "signed with the key before"})
	if err := net.Relay.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list := net.Relay.Faults(); len(list) != 1 || !strings.Contains(list[0].Error(), "signature") {
		t.Errorf("%v", list)
	}
}
