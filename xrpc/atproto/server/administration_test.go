package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// newAuditedBench is newBench with an audit trail.
func newAuditedBench(t *testing.T) (*bench, *audit.Log) {
	trail := &audit.Log{}
	b := newBench(t, func(_ *session.Config, c *Config) { c.Audit = trail })
	trail.KV, trail.Now = b.store.KV, b.clock.Now
	return b, trail
}

// trailOf returns the trail, the latest act first.
func trailOf(t *testing.T, trail *audit.Log) (list []string) {
	t.Helper()
	entries, err := trail.List(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		action := e.Action[strings.LastIndexByte(e.Action, '.')+1:]
		list = append(list, strings.TrimSpace(fmt.Sprint(action, " ", e.Outcome, " ", e.Detail)))
	}
	return list
}

// The trail tells what the service that moderates does from what the administrator does.
func TestTheTrailNamesTheModerator(t *testing.T) {
	old := newBench(t, nil)
	mod := old.register("carol").DID
	signer, err := old.accounts.Signer(t.Context(), mod)
	if err != nil {
		t.Fatal(err)
	}
	trail := &audit.Log{}
	b := newBenchAt(t, old.plcURL, old.clock, func(s *session.Config, c *Config) { s.Moderator, c.Audit = mod, trail })
	trail.KV, trail.Now = b.store.KV, b.clock.Now
	alice := b.register("alice")
	const method = "com.atproto.admin.disableAccountInvites"
	for _, issuer := range []string{string(mod), string(mod) + "#atproto_labeler"} {
		token := serviceauth.Token{Issuer: issuer, Audience: "did:web:localhost", Method: method, Issued: b.clock.Now(), KeyID: "atproto"}
		text, err := serviceauth.Sign(t.Context(), signer, token)
		if err != nil {
			t.Fatal(err)
		}
		b.post(method, text, map[string]any{"account": alice.DID}, nil)
		list, err := trail.List(t.Context(), 0, 1)
		if err != nil || len(list) != 1 || list[0].By != string(mod) || list[0].Through != "xrpc" {
			t.Errorf("%s: %+v, %v", issuer, list, err)
		}
	}
}

func TestActsAreWrittenDown(t *testing.T) {
	b, trail := newAuditedBench(t)
	alice := b.register("alice")
	b.admin("POST", "com.atproto.admin.updateAccountEmail", map[string]any{"account": alice.DID, "email": "new@example.com"}, nil)
	b.admin("POST", "com.atproto.admin.updateAccountPassword", map[string]any{"did": alice.DID, "password": "another password"}, nil)
	b.admin("POST", "com.atproto.admin.disableInviteCodes", map[string]any{"codes": []string{"nocode"}}, nil)
	b.admin("POST", "com.atproto.server.createInviteCode", map[string]any{"useCount": 3}, nil)
	b.send("POST", "com.atproto.admin.deleteAccount", "", "", map[string]any{"did": alice.DID}, nil) // by nobody
	a := b.Administration(audit.Actor{By: "administrator", Through: "pages", Address: "192.0.2.1"})
	var in api.AdminUpdateSubjectStatusInput
	in.Subject.RepoRef = &api.AdminRepoRef{DID: alice.DID}
	in.Takedown = &api.AdminStatusAttr{Applied: true, Ref: "case 7"}
	if _, err := a.UpdateSubjectStatus(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(trailOf(t, trail), "\n")
	want := strings.Join([]string{
		"updateSubjectStatus done takedown case 7", "createInviteCodes done codes 1, uses 3", "disableInviteCodes failed",
		"updateAccountPassword done", "updateAccountEmail done",
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	list, err := trail.List(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if e := list[0]; e.Address != "192.0.2.1" || e.Through != "pages" || e.Subject != string(alice.DID) {
		t.Errorf("%+v", e)
	}
	if e := list[4]; e.Address != "127.0.0.1" || e.Through != "xrpc" || e.By != "administrator" {
		t.Errorf("%+v", e)
	}
	text := fmt.Sprintf("%+v", list)
	for _, secret := range []string{"another password", "new@example.com"} {
		if strings.Contains(text, secret) {
			t.Errorf("the trail has %q", secret)
		}
	}
}

// full is a store whose host's namespace cannot be written.
type full struct{ storage.KV }

func (full) Write(context.Context, func(storage.KVTx) error) error { return storage.ErrFull }

func TestWhatCannotBeWrittenDownIsNotDone(t *testing.T) {
	b, trail := newAuditedBench(t)
	alice := b.register("alice")
	trail.KV = full{trail.KV}
	a := b.admin("POST", "com.atproto.admin.deleteAccount", map[string]any{"did": alice.DID}, nil)
	if a.Status != 503 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if _, err := b.accounts.ByDID(t.Context(), alice.DID); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}

func TestStanding(t *testing.T) {
	b, _ := newAuditedBench(t)
	alice := b.register("alice")
	blob := b.upload(alice, "some text")
	b.must("POST", "com.atproto.repo.createRecord", alice.AccessJWT, map[string]any{
		"repo": alice.DID, "collection": "com.example.note", "rkey": "one",
		"record": map[string]any{"file": map[string]any{"$type": "blob", "ref": map[string]any{"$link": blob}, "mimeType": "text/plain", "size": 9}},
	}, nil)
	a := b.Administration(audit.Actor{By: "administrator"})
	st, err := a.Standing(t.Context(), alice.DID)
	if err != nil || st.Records != 1 || st.Blobs != 1 || st.BlobBytes != 9 || st.Sessions != 1 || st.Handle != "alice.test" || st.Rev == "" {
		t.Errorf("%+v, %v", st, err)
	}
	if err := a.EndSessions(t.Context(), alice.DID); err != nil {
		t.Fatal(err)
	}
	b.fails(400, "ExpiredToken", "GET", "com.atproto.server.getSession", alice.AccessJWT, nil)
	if st, err = a.Standing(t.Context(), alice.DID); err != nil || st.Sessions != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := a.Standing(t.Context(), "did:web:nobody.example.com"); !errors.Is(err, account.ErrNotFound) {
		t.Error(err)
	}
}

func TestMailOfTheOperator(t *testing.T) {
	b, _ := newAuditedBench(t)
	alice := b.register("alice")
	a := b.Administration(audit.Actor{By: "administrator"})
	if err := a.SendPasswordReset(t.Context(), alice.DID); err != nil {
		t.Fatal(err)
	}
	if m := b.mail.last(); m.Kind != ResetPassword || m.Token == "" || m.DID != alice.DID {
		t.Errorf("%+v", m)
	}
	if err := a.SendTestMail(t.Context(), "op@example.com"); err != nil || b.mail.last().To != "op@example.com" {
		t.Error(err)
	}
	for _, wrong := range []string{"", "op", "op@example.com\r\nBcc: x@example.com", "a@b, c@d"} {
		var xerr *xrpc.Error
		if err := a.SendTestMail(t.Context(), wrong); !errors.As(err, &xerr) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	b.mail.set(nil, errors.New("550 relaying denied"))
	var failed *MailError
	if err := a.SendTestMail(t.Context(), "op@example.com"); !errors.As(err, &failed) || !strings.Contains(err.Error(), "550 relaying denied") {
		t.Error(err)
	}
	st := b.MailStats()
	if !st.On || st.Sent != 2 || st.Failed != 1 || !st.LastFailed.Equal(b.clock.Now()) || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
	// What a client is told says nothing of the mail server.
	var xerr *xrpc.Error
	if err := a.SendPasswordReset(t.Context(), alice.DID); !errors.As(err, &xerr) || strings.Contains(xerr.Message, "550") {
		t.Error(err)
	}
}
