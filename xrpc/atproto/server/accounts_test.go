package server

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/session"
)

var _ = testenv.CheapPasswords()

func TestMisuse(t *testing.T) {
	b := newBench(t, nil)
	for want, change := range map[string]func(*Config){
		"":                    func(*Config) {},
		"Config.Sessions":     func(c *Config) { c.Sessions = nil },
		"Config.Directory":    func(c *Config) { c.Directory = nil },
		"Config.RotationKeys": func(c *Config) { c.RotationKeys = nil },
		"nil key":             func(c *Config) { c.RotationKeys = []crypto.Signer{nil} },
		"Config.RecoveryKey":  func(c *Config) { c.RecoveryKey = "did:key:z" },
		"begins with a dot":   func(c *Config) { c.Policy.Domains = []string{".Upper.test"} },
		"labels of 9 to 4":    func(c *Config) { c.Policy.MinLabel, c.Policy.MaxLabel = 9, 4 },
		"no address": func(c *Config) {
			common := b.sessions.Config()
			common.Key = []byte("a key for tests only")
			common.URL = "pds.example.com"
			c.Sessions = session.New(common)
		},
		"no ResolveHandle": func(c *Config) {
			common := b.sessions.Config()
			common.Key = []byte("a key for tests only")
			common.Resolver = struct{ session.Resolver }{common.Resolver}
			c.Sessions = session.New(common)
		},
	} {
		cfg := b.cfg
		change(&cfg)
		got := func() (got any) {
			defer func() { got = recover() }()
			New(cfg)
			return nil
		}()
		if text, _ := got.(string); !strings.Contains(text, want) || (got == nil) != (want == "") {
			t.Errorf("%s: %v", want, got)
		}
	}
}

func TestEmailIsConfirmedAndChanged(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	confirm := func(email, token string) map[string]any { return map[string]any{"email": email, "token": token} }
	b.must("POST", "com.atproto.server.requestEmailConfirmation", alice.AccessJWT, nil, nil)
	m := b.mail.last()
	if m.Kind != ConfirmEmail || m.To != "alice@example.com" || m.DID != alice.DID || m.Handle != "alice.test" ||
		m.Token == "" || !strings.Contains(m.Text, m.Token) || m.Subject != "Confirm your e-mail address (127.0.0.1)" {
		t.Errorf("%+v", m)
	}
	const method = "com.atproto.server.confirmEmail"
	b.fails(400, "InvalidEmail", "POST", method, alice.AccessJWT, confirm("bob@example.com", m.Token))
	b.fails(400, "InvalidToken", "POST", method, alice.AccessJWT, confirm("alice@example.com", "AAAAA-AAAAA"))
	b.clock.pass(16 * time.Minute)
	b.fails(400, "ExpiredToken", "POST", method, alice.AccessJWT, confirm("alice@example.com", m.Token))
	b.must("POST", "com.atproto.server.requestEmailConfirmation", alice.AccessJWT, nil, nil)
	b.must("POST", method, alice.AccessJWT, confirm("Alice@example.com", strings.ToLower(b.mail.last().Token)), nil)
	var who struct{ EmailConfirmed bool }
	if b.must("GET", "com.atproto.server.getSession", alice.AccessJWT, nil, &who); !who.EmailConfirmed {
		t.Error("not confirmed")
	}
	// A confirmed address is changed with a token that was sent there.
	var need struct{ TokenRequired bool }
	if b.must("POST", "com.atproto.server.requestEmailUpdate", alice.AccessJWT, nil, &need); !need.TokenRequired || b.mail.last().Kind != UpdateEmail {
		t.Errorf("%v, %+v", need, b.mail.last())
	}
	const update = "com.atproto.server.updateEmail"
	b.fails(400, "TokenRequired", "POST", update, alice.AccessJWT, map[string]any{"email": "a@example.com"})
	b.fails(400, "InvalidToken", "POST", update, alice.AccessJWT, confirm("a@example.com", "AAAAA-AAAAA"))
	b.fails(400, "InvalidRequest", "POST", update, alice.AccessJWT, confirm("not an address", b.mail.last().Token))
	b.must("POST", update, alice.AccessJWT, confirm("a@example.com", b.mail.last().Token), nil)
	if b.must("POST", "com.atproto.server.requestEmailUpdate", alice.AccessJWT, nil, &need); need.TokenRequired {
		t.Error("a token for an address that is not confirmed")
	}
	b.register("bob")
	b.fails(400, "InvalidRequest", "POST", update, alice.AccessJWT, map[string]any{"email": "Bob@example.com"})
}

// A mail server that fails is not the caller's fault, and is not told to whom it must not matter.
func TestMailerThatFails(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	b.mail.set(nil, errors.New("no such mailbox"))
	for _, method := range []string{
		"com.atproto.server.requestEmailConfirmation", "com.atproto.server.requestAccountDelete", "com.atproto.identity.requestPlcOperationSignature",
	} {
		b.fails(502, "UpstreamFailure", "POST", method, alice.AccessJWT, nil)
	}
	if a := b.admin("POST", "com.atproto.admin.sendEmail", map[string]any{"recipientDid": alice.DID, "content": "x", "senderDid": alice.DID}, nil); a.Status != 502 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	b.must("POST", "com.atproto.server.requestPasswordReset", "", map[string]any{"email": "alice@example.com"}, nil)
	b.drain()
	if m := b.mail.last(); m.Kind != ResetPassword {
		t.Errorf("%+v", m)
	}
}

func TestNoMailer(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) { c.Mailer = nil })
	alice := b.register("alice")
	for _, method := range []string{
		"com.atproto.server.requestEmailConfirmation", "com.atproto.server.requestAccountDelete", "com.atproto.identity.requestPlcOperationSignature",
	} {
		b.fails(501, "MethodNotImplemented", "POST", method, alice.AccessJWT, nil)
	}
	b.fails(501, "MethodNotImplemented", "POST", "com.atproto.server.requestPasswordReset", "", map[string]any{"email": "alice@example.com"})
	if a := b.admin("POST", "com.atproto.admin.sendEmail", map[string]any{"recipientDid": alice.DID, "content": "x", "senderDid": alice.DID}, nil); a.Status != 501 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestAccountIsDeleted(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	b.must("POST", "com.atproto.server.requestAccountDelete", alice.AccessJWT, nil, nil)
	m := b.mail.last()
	if m.Kind != DeleteAccount {
		t.Errorf("%+v", m)
	}
	_, seq := b.events(alice.DID, 0)
	const method = "com.atproto.server.deleteAccount"
	in := func(did syntax.DID, password, token string) map[string]any {
		return map[string]any{"did": did, "password": password, "token": token}
	}
	b.fails(401, "AuthenticationRequired", "POST", method, "", in(alice.DID, "wrong", m.Token))
	b.fails(400, "InvalidToken", "POST", method, "", in(alice.DID, "password of alice", "AAAAA-AAAAA"))
	b.fails(400, "InvalidRequest", "POST", method, "", in("did:web:nobody.example.com", "x", m.Token))
	b.must("POST", method, "", in(alice.DID, "password of alice", m.Token), nil)
	if kinds, _ := b.events(alice.DID, seq); !slices.Equal(kinds, []string{"#account"}) {
		t.Errorf("%v", kinds)
	}
	b.fails(403, "AccountNotFound", "GET", "com.atproto.server.getSession", alice.AccessJWT, nil)
	b.register("alice") // the names are free
}

func TestAccountSleepsAndWakes(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	_, seq := b.events(alice.DID, 0)
	status := func() (out struct {
		Activated, ValidDid bool
		RepoCommit          string
		IndexedRecords      int
	}) {
		b.t.Helper()
		b.must("GET", "com.atproto.server.checkAccountStatus", alice.AccessJWT, nil, &out)
		return out
	}
	if s := status(); !s.Activated || !s.ValidDid || s.RepoCommit == "" {
		t.Errorf("%+v", s)
	}
	b.must("POST", "com.atproto.server.deactivateAccount", alice.AccessJWT, map[string]any{"deleteAfter": "2026-02-15T12:00:00.000Z"}, nil)
	if s := status(); s.Activated {
		t.Errorf("%+v", s)
	}
	b.must("POST", "com.atproto.server.activateAccount", alice.AccessJWT, nil, nil)
	if s := status(); !s.Activated {
		t.Errorf("%+v", s)
	}
	if kinds, _ := b.events(alice.DID, seq); !slices.Equal(kinds, []string{"#account", "#account", "#identity", "#sync"}) {
		t.Errorf("%v", kinds)
	}
}

func TestDescribeServer(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) {
		c.Policy.PrivacyPolicy, c.Policy.ContactEmail = "https://example.com/privacy", "help@example.com"
	})
	var got map[string]any
	b.must("GET", "com.atproto.server.describeServer", "", nil, &got)
	want := map[string]any{
		"did": "did:web:localhost", "availableUserDomains": []any{".test"}, "inviteCodeRequired": false,
		"links": map[string]any{"privacyPolicy": "https://example.com/privacy"}, "contact": map[string]any{"email": "help@example.com"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	alice := b.register("alice")
	var queue struct{ Activated bool }
	if b.must("GET", "com.atproto.temp.checkSignupQueue", alice.AccessJWT, nil, &queue); !queue.Activated {
		t.Error("there is a queue")
	}
}
