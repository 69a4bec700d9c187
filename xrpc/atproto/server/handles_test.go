package server

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/xrpc/session"
)

// txt is DNS with TXT records.
type txt map[string]string

func (x txt) LookupTXT(_ context.Context, name string) ([]string, error) {
	if text, ok := x[strings.TrimSuffix(name, ".")]; ok {
		return []string{text}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// refusing is a transport that reaches nobody.
type refusing struct{}

func (refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, errors.New("nobody is reached")
}

func TestHandleIsChanged(t *testing.T) {
	names := txt{}
	b := newBench(t, func(s *session.Config, _ *Config) {
		r := s.Resolver.(*identity.Resolver)
		r.DNS, r.HTTP = names, &http.Client{Transport: refusing{}}
	})
	alice, bob := b.register("alice"), b.register("bob")
	names["_atproto.alice.example.com"] = "did=" + string(alice.DID)
	names["_atproto.bob.example.com"] = "did=" + string(bob.DID)
	_, seq := b.events(alice.DID, 0)
	const method = "com.atproto.identity.updateHandle"
	handle := func(h string) map[string]any { return map[string]any{"handle": h} }
	for h, name := range map[string]string{
		"bob.test": "InvalidRequest", "x.test": "InvalidHandle", "root.test": "HandleNotAvailable",
		"bob.example.com": "InvalidRequest", "nobody.example.com": "InvalidRequest",
	} {
		b.fails(400, name, "POST", method, alice.AccessJWT, handle(h))
	}
	for _, h := range []string{"Alice2.test", "alice.example.com", "alice.example.com"} {
		b.must("POST", method, alice.AccessJWT, handle(h), nil)
		doc, err := b.plc.Data(t.Context(), alice.DID)
		if want := "at://" + strings.ToLower(h); err != nil || doc.AlsoKnownAs[0] != want {
			t.Errorf("%v, %v", doc, err)
		}
	}
	// The network is told even if nothing changes.
	if kinds, _ := b.events(alice.DID, seq); !slices.Equal(kinds, []string{"#identity", "#identity", "#identity"}) {
		t.Errorf("%v", kinds)
	}
	// The administrator may give short and reserved ones, but none of others.
	change := func(h string) testxrpc.Reply {
		return b.admin("POST", "com.atproto.admin.updateAccountHandle", map[string]any{"did": alice.DID, "handle": h}, nil)
	}
	for h, status := range map[string]int{"root.test": 200, "x.test": 200, "bob.test": 400, "bob.example.com": 400} {
		if a := change(h); a.Status != status {
			t.Errorf("%s: %d %s", h, a.Status, a.Body)
		}
	}
	if a := b.admin("POST", "com.atproto.admin.updateAccountHandle", map[string]any{"did": "did:web:nobody.example.com", "handle": "nobody.test"}, nil); a.Name != "AccountNotFound" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestPLCOperations(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	var recommended map[string]any
	b.must("GET", "com.atproto.identity.getRecommendedDidCredentials", alice.AccessJWT, nil, &recommended)
	b.must("POST", "com.atproto.identity.requestPlcOperationSignature", alice.AccessJWT, nil, nil)
	m := b.mail.last()
	if m.Kind != PLCOperation {
		t.Errorf("%+v", m)
	}
	const sign, submit = "com.atproto.identity.signPlcOperation", "com.atproto.identity.submitPlcOperation"
	b.fails(400, "InvalidRequest", "POST", sign, alice.AccessJWT, recommended)
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	ask := map[string]any{"token": "AAAAA-AAAAA", "rotationKeys": []string{key.PublicKey().DIDKey(), b.rotation.PublicKey().DIDKey()}}
	b.fails(400, "InvalidToken", "POST", sign, alice.AccessJWT, ask)
	ask["token"] = m.Token
	bad := map[string]any{"token": m.Token, "rotationKeys": []string{"did:key:zNone"}}
	b.fails(400, "InvalidRequest", "POST", sign, alice.AccessJWT, bad)
	var signed struct{ Operation map[string]any }
	b.must("POST", sign, alice.AccessJWT, ask, &signed) // the token was not spent on what failed
	b.fails(400, "InvalidToken", "POST", sign, alice.AccessJWT, ask)
	// An operation that would leave the account without this server is not passed on, though the
	// directory would take it.
	text, err := json.Marshal(signed.Operation)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(op *identity.PLCOperation){
		"another server": func(op *identity.PLCOperation) { op.SetPDS("https://other.example.com") },
		"no server":      func(op *identity.PLCOperation) { op.Services = nil },
		"another service": func(op *identity.PLCOperation) {
			op.Services = map[string]identity.PLCService{identity.PDSID: {Type: "Other", Endpoint: b.url}}
		},
		"another key":     func(op *identity.PLCOperation) { op.SetSigningKey(key.PublicKey()) },
		"another handle":  func(op *identity.PLCOperation) { op.SetHandle("bob.test") },
		"without our key": func(op *identity.PLCOperation) { op.RotationKeys = []string{key.PublicKey().DIDKey()} },
	} {
		op, err := identity.ParsePLCOperation(text)
		if err != nil {
			t.Fatal(err)
		}
		change(op)
		if err := op.Sign(t.Context(), b.rotation); err != nil {
			t.Fatal(err)
		}
		if a := b.send("POST", submit, "Bearer "+alice.AccessJWT, "", map[string]any{"operation": op}, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	for what, op := range map[string]map[string]any{"no operation": {}, "a tombstone": {"type": "plc_tombstone", "prev": signed.Operation["prev"]}, "of another shape": {"type": 7}} {
		if a := b.send("POST", submit, "Bearer "+alice.AccessJWT, "", map[string]any{"operation": op}, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	_, seq := b.events(alice.DID, 0)
	b.must("POST", submit, alice.AccessJWT, map[string]any{"operation": signed.Operation}, nil)
	if kinds, _ := b.events(alice.DID, seq); !slices.Equal(kinds, []string{"#identity"}) {
		t.Errorf("%v", kinds)
	}
	doc, err := b.plc.Data(t.Context(), alice.DID)
	if err != nil || doc.RotationKeys[0] != key.PublicKey().DIDKey() {
		t.Errorf("%v, %v", doc, err)
	}
}

// A host has its own rules for the handles under its domains.
func TestRulesForHandles(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) {
		c.Policy.MinLabel, c.Policy.MaxLabel = 1, 25
		c.Policy.Reserved = func(label string) bool { return label == "me" || ReservedLabel(label) && label != "news" }
	})
	for name, want := range map[string]string{
		"x": "", strings.Repeat("x", 25): "", "news": "", "me": "HandleNotAvailable", "admin": "HandleNotAvailable", strings.Repeat("x", 26): "InvalidHandle",
	} {
		if a := b.send("POST", createAccount, "", "", newAccount(name), nil); a.Name != want {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
}
