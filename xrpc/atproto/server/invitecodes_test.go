package server

import (
	"net/http"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/session"
)

func TestInvites(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) {
		c.Policy.InviteRequired, c.Policy.InviteInterval = true, 24*time.Hour
	})
	var described struct{ InviteCodeRequired bool }
	if b.must("GET", "com.atproto.server.describeServer", "", nil, &described); !described.InviteCodeRequired {
		t.Error("describeServer does not say so")
	}
	b.fails(400, "InvalidInviteCode", "POST", createAccount, "", newAccount("alice"))
	b.fails(400, "InvalidInviteCode", "POST", createAccount, "", newAccount("alice", "inviteCode", "127-0-0-1-abcde-fghij"))
	b.fails(401, "AuthMissing", "POST", "com.atproto.server.createInviteCode", "", map[string]any{"useCount": 1})
	var one struct{ Code string }
	if a := b.admin("POST", "com.atproto.server.createInviteCode", map[string]any{"useCount": 1}, &one); a.Status != http.StatusOK {
		t.Fatal(a.Body)
	}
	var alice tokens
	b.must("POST", createAccount, "", newAccount("alice", "inviteCode", one.Code), &alice)
	b.fails(400, "InvalidInviteCode", "POST", createAccount, "", newAccount("bob", "inviteCode", one.Code))
	for what, c := range map[string]struct {
		method string
		in     map[string]any
	}{
		"no use":   {"createInviteCode", map[string]any{"useCount": 0}},
		"nobody":   {"createInviteCode", map[string]any{"useCount": 1, "forAccount": "did:web:nobody.example.com"}},
		"no uses":  {"createInviteCodes", map[string]any{"codeCount": 1, "useCount": 0}},
		"no codes": {"createInviteCodes", map[string]any{"codeCount": 0, "useCount": 1}},
		"too many": {"createInviteCodes", map[string]any{"codeCount": 1001, "useCount": 1}},
		"nobody's": {"createInviteCodes", map[string]any{"codeCount": 1, "useCount": 1, "forAccounts": []string{"did:web:nobody.example.com"}}},
	} {
		if a := b.admin("POST", "com.atproto.server."+c.method, c.in, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	var many struct {
		Codes []struct {
			Account string
			Codes   []string
		}
	}
	if a := b.admin("POST", "com.atproto.server.createInviteCodes", map[string]any{"codeCount": 2, "useCount": 3, "forAccounts": []any{alice.DID}}, &many); a.Status != 200 || len(many.Codes[0].Codes) != 2 {
		t.Fatal(a.Body)
	}
	type codes struct {
		Codes []struct {
			Code string
			Uses []any
		}
	}
	mine := func(query string) int {
		var out codes
		b.must("GET", "com.atproto.server.getAccountInviteCodes"+query, alice.AccessJWT, nil, &out)
		return len(out.Codes)
	}
	if n := mine(""); n != 2 {
		t.Errorf("%d codes", n)
	}
	b.clock.pass(25 * time.Hour)
	alice, _ = b.login("alice.test", "password of alice")
	if n := mine("?createAvailable=false"); n != 2 {
		t.Errorf("%d codes without those that were earned", n)
	}
	if n := mine(""); n != 3 {
		t.Errorf("%d codes with one that was earned", n)
	}
	var bob tokens
	b.must("POST", createAccount, "", newAccount("bob", "inviteCode", many.Codes[0].Codes[0]), &bob)
	// The operator's views.
	var info struct {
		InvitedBy struct{ Code, ForAccount string }
		Invites   []any
	}
	if a := b.admin("GET", "com.atproto.admin.getAccountInfo?did="+string(bob.DID), nil, &info); a.Status != 200 || info.InvitedBy.ForAccount != string(alice.DID) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := b.admin("GET", "com.atproto.admin.getAccountInfo?did="+string(alice.DID), nil, &info); a.Status != 200 || len(info.Invites) != 3 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	var all codes
	if a := b.admin("GET", "com.atproto.admin.getInviteCodes?sort=usage&limit=2", nil, &all); a.Status != 200 || len(all.Codes) != 2 || len(all.Codes[0].Uses) != 1 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	for _, query := range []string{"sort=usage&cursor=x", "sort=age"} {
		if a := b.admin("GET", "com.atproto.admin.getInviteCodes?"+query, nil, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
	}
	// They are disabled.
	for what, in := range map[string]any{
		"an unknown code": map[string]any{"codes": []string{"x"}}, "the administrator's": map[string]any{"accounts": []string{"admin"}},
	} {
		if a := b.admin("POST", "com.atproto.admin.disableInviteCodes", in, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	if a := b.admin("POST", "com.atproto.admin.disableInviteCodes", map[string]any{"accounts": []any{alice.DID}}, nil); a.Status != 200 {
		t.Error(a.Body)
	}
	if n := mine("?createAvailable=false"); n != 0 {
		t.Errorf("%d codes after all were disabled", n)
	}
	b.fails(400, "InvalidInviteCode", "POST", createAccount, "", newAccount("carla", "inviteCode", many.Codes[0].Codes[1]))
	for method, disabled := range map[string]bool{"disableAccountInvites": true, "enableAccountInvites": false} {
		if a := b.admin("POST", "com.atproto.admin."+method, map[string]any{"account": alice.DID}, nil); a.Status != 200 {
			t.Error(a.Body)
		}
		if a, err := b.accounts.ByDID(t.Context(), alice.DID); err != nil || a.InvitesDisabled != disabled {
			t.Errorf("%s: %+v %v", method, a, err)
		}
		if a := b.admin("POST", "com.atproto.admin."+method, map[string]any{"account": "did:web:nobody.example.com"}, nil); a.Status != 400 {
			t.Errorf("%s of nobody: %d %s", method, a.Status, a.Body)
		}
	}
}
