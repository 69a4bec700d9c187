package main_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// 169: codes sent by mail as a second factor, and an operator who resets it while the server runs.
func TestMatrix169EmailFactor(t *testing.T) {
	dir, mail := t.TempDir(), filepath.Join(t.TempDir(), "mail.jsonl")
	b := &sandbox{start(t, dir, "PDS_EMAIL_SINK_FILE="+mail), mail}
	o := newOperator(t, dir, b.port())
	alice := b.register("alice")
	const address = "alice@example.com"
	alice.call(t, "com.atproto.server.requestEmailConfirmation", nil, nil)
	alice.call(t, "com.atproto.server.confirmEmail", map[string]any{"email": address, "token": b.token(t, address)}, nil)
	alice.call(t, "com.atproto.server.updateEmail", map[string]any{"email": address, "emailAuthFactor": true}, nil)
	var app struct{ Password string }
	alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": "phone"}, &app)

	login := func(password, code string) error {
		in := map[string]string{"identifier": "alice.test", "password": password}
		if code != "" {
			in["authFactorToken"] = code
		}
		return b.anonymous().Procedure(t.Context(), "com.atproto.server.createSession", in, nil)
	}
	fails(t, login("password of alice", ""), 401, "AuthFactorTokenRequired")
	code := b.token(t, address)
	fails(t, login("password of alice", "AAAAA-BBBBB"), 400, "InvalidToken")
	if err := login("password of alice", code); err != nil {
		t.Error(err)
	}
	fails(t, login("password of alice", code), 400, "InvalidToken")
	if err := login(app.Password, ""); err != nil {
		t.Error(err)
	}

	type factors struct {
		Factors []struct{ Kind string }
		Resets  []struct {
			By      string
			Removed []string
		}
		Required bool
	}
	var set factors
	if o.ok(&set, "account", "factors", "alice.test"); !set.Required || len(set.Factors) != 1 || set.Factors[0].Kind != "email" || len(set.Resets) != 0 {
		t.Errorf("%+v", set)
	}
	o.fails(1, "no such account", "account", "reset-factors", "bob.test")
	o.ok(nil, "account", "reset-factors", "alice.test")
	if err := login("password of alice", ""); err != nil {
		t.Error(err)
	}
	set = factors{}
	o.ok(&set, "account", "factors", "alice.test")
	if set.Required || len(set.Factors) != 0 || len(set.Resets) != 1 || set.Resets[0].By != "operator" {
		t.Fatalf("%+v", set)
	}
	if diff := cmp.Diff([]string{"email"}, set.Resets[0].Removed); diff != "" {
		t.Error(diff)
	}
	var r checkReport
	if o.ok(&r, "check"); r.Found != 0 {
		t.Errorf("%+v", r)
	}
}
