package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/xrpc/mailqueue"
)

// The mail server is down when a token is asked for, and the server is killed. An operator sees the
// message, without its token; the next server sends it, once. Of two messages that cannot be sent one is
// dropped.
func TestMailOutlivesTheServer(t *testing.T) {
	root := t.TempDir()
	dir, mail := filepath.Join(root, "data"), filepath.Join(root, "not there yet", "mail.jsonl")
	env := "PDS_EMAIL_SINK_FILE=" + mail
	p := start(t, dir, env, "PDS_LOG_LEVEL=error")
	alice, bob := p.register("alice"), p.register("bob")
	for _, u := range []*user{alice, bob} {
		u.call(t, "com.atproto.server.requestEmailConfirmation", nil, nil)
	}
	p.kill()

	o := newOperator(t, dir, env)
	var list []mailqueue.Letter
	o.ok(&list, "mail", "list")
	if len(list) != 2 || list[0].State == queue.Buried || list[0].Kind != "confirm_email" || tokenPattern.MatchString(list[0].Subject+list[0].Error) {
		t.Fatalf("%+v", list)
	}
	ids := map[string]string{}
	for _, l := range list {
		ids[l.To] = l.ID
	}
	o.ok(nil, "mail", "drop", ids["bob@example.com"])
	o.fails(1, "no message has the ID", "mail", "retry", ids["bob@example.com"])
	o.fails(2, "give IDs, or -all", "mail", "drop")

	if err := os.Mkdir(filepath.Dir(mail), 0o700); err != nil {
		t.Fatal(err)
	}
	p = start(t, dir, env)
	b := &sandbox{p, mail}
	token := b.token(t, "alice@example.com") // when its lease or its back-off has ended
	alice, err := p.login(t, "alice.test", "password of alice")
	if err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.server.confirmEmail", map[string]any{"email": "alice@example.com", "token": token}, nil)
	p.interrupt()
	o.ok(&list, "mail", "list")
	text, err := os.ReadFile(mail)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(tokenPattern.FindAll(text, -1)); n != 1 || len(list) > 0 {
		t.Errorf("%d messages with a token arrived, %d are left", n, len(list))
	}
}
