package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

func TestTwoUsers(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.visit(), w.visit()
	alice.signIn(w.pds.Account("alice"))
	bob.signIn(w.pds.Account("bob"))

	alice.submit("/status", url.Values{"status": {"👍"}})
	if alice.page.URL.Path != "/" || !slices.Equal(alice.list(), []string{"👍"}) {
		t.Errorf("after writing, alice is at %s and sees %q", alice.page.URL, alice.list())
	}
	bob.submit("/status", url.Values{"other": {"👩‍👩‍👧‍👦"}})
	w.wait("bob 👩‍👩‍👧‍👦", "alice 👍")
	alice.open()
	if !slices.Equal(alice.list(), []string{"👩‍👩‍👧‍👦", "👍"}) {
		t.Errorf("alice sees %q", alice.list())
	}
	// The event of a write that is there already must not change anything.
	eventually(t, func() error { return w.caughtUp() })
	w.wait("bob 👩‍👩‍👧‍👦", "alice 👍")

	// A write of another app, and its end.
	w.say(alice.acct, "🚀")
	w.wait("alice 🚀", "bob 👩‍👩‍👧‍👦", "alice 👍")
	bob.open()
	if !strings.Contains(bob.page.Body, "@alice."+w.pds.Name) && !strings.Contains(bob.page.Body, ">alice."+w.pds.Name) {
		t.Errorf("bob does not see who alice is: %s", bob.page.Body)
	}
	alice.open()
	alice.submit("/remove", nil) // of the newest
	w.wait("bob 👩‍👩‍👧‍👦", "alice 👍")
	eventually(t, func() error { return w.caughtUp() })
	w.wait("bob 👩‍👩‍👧‍👦", "alice 👍")

	// One's own statuses only.
	form := alice.form("/remove")
	alice.take(alice.Submit(alice.page, form, url.Values{"uri": {"at://" + string(bob.acct.DID) + "/xyz.statusphere.status/3lrlzvvvvvv2a"}}))
	if alice.page.Status != http.StatusForbidden {
		t.Errorf("removing bob's status: %d", alice.page.Status)
	}
}

func TestSignOut(t *testing.T) {
	w := newWorld(t)
	u, alice, bob := w.visit(), w.pds.Account("alice"), w.pds.Account("bob")
	u.signIn(alice)
	u.submit("/sign-in", url.Values{"account": {string(bob.Handle)}}) // the form in the menu
	u.take(u.Consent(u.page.Links[0].String(), bob, nil))
	for range 2 { // whoever is used: the other one can be switched to
		u.submit("/switch", nil)
	}
	u.submit("/status", url.Values{"status": {"🎧"}})
	w.wait("bob 🎧")
	u.submit("/sign-out", nil)
	u.submit("/status", url.Values{"status": {"🌙"}})
	w.wait("alice 🌙", "bob 🎧")
	old := *u.page
	u.submit("/sign-out", nil)
	if !strings.Contains(u.page.Body, "Your handle") {
		t.Errorf("after signing out: %s", u.page.Body)
	}
	// Neither has a session left.
	for s, err := range w.app.mustOAuth(t).Sessions(t.Context(), "") {
		t.Errorf("a session is left: %v, %v", s, err)
	}
	p, err := u.Submit(&old, old.Forms[len(old.Forms)-1], url.Values{"status": {"🌙"}})
	if err != nil || p.Status != http.StatusForbidden {
		t.Errorf("a form from before: %v, %v", p.Status, err)
	}
}

func TestSessionEndsAtTheServer(t *testing.T) {
	w := newWorld(t)
	u, alice := w.visit(), w.pds.Account("alice")
	u.signIn(alice)
	if err := api.AdminUpdateAccountPassword(t.Context(), w.pds.Admin(), api.AdminUpdateAccountPasswordInput{DID: alice.DID, Password: "another one"}); err != nil {
		t.Fatal(err)
	}
	u.submit("/status", url.Values{"status": {"👍"}})
	if u.page.Status != http.StatusForbidden || !strings.Contains(u.page.Body, "Your sign-in has ended") || !strings.Contains(u.page.Body, "Your handle") {
		t.Errorf("status %d: %s", u.page.Status, u.page.Body)
	}
	w.wait()
}

func TestRefusedLogins(t *testing.T) {
	w := newWorld(t)
	u := w.visit()
	for _, account := range []string{"", "nobody." + w.pds.Name, "not a handle", "https://127.0.0.1", "http://localhost:1", "did:web:localhost", "<script>alert(1)</script>"} {
		u.open()
		u.submit("/sign-in", url.Values{"account": {account}})
		if u.page.Status < 400 || !strings.Contains(u.page.Body, `role="alert"`) || strings.Contains(u.page.Body, "<script>alert") {
			t.Errorf("%q: status %d: %s", account, u.page.Status, u.page.Body)
		}
	}
	for _, query := range []string{"", "?code=a&state=b&iss=https://" + w.pds.Name, "?error=access_denied&state=b", "?code=a&code=b&state=c"} {
		u.take(u.Open(w.set.url + "/oauth/callback" + query))
		if u.page.Status == http.StatusOK && u.page.URL.Path != "/" {
			t.Errorf("%q is taken", query)
		}
	}
	// A login that somebody else began.
	alice := w.pds.Account("alice")
	u.open()
	u.submit("/sign-in", url.Values{"account": {string(alice.Handle)}})
	victim := w.visit()
	victim.take(victim.Consent(u.page.Links[0].String(), alice, nil))
	if !strings.Contains(victim.page.Body, "began in another browser") {
		t.Errorf("another browser ends the login: %d %s", victim.page.Status, victim.page.Body)
	}
}

// TestLifeOfAnAccount: what happens to an account is seen.
func TestLifeOfAnAccount(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.pds.Account("alice"), w.pds.Account("bob")
	first := w.say(alice, "👍")
	w.say(bob, "☕")
	w.wait("bob ☕", "alice 👍")

	// An update, and a record that takes the place of a valid one but is none.
	_, rkey, _ := syntax.ParsePath(strings.TrimPrefix(string(first.URI), "at://"+string(alice.DID)+"/"))
	now := string(syntax.NewDatetime(w.net.Clock.Now()))
	alice.Put(status.Collection, rkey, map[string]any{"$type": string(status.Collection), "status": "👎", "createdAt": now})
	w.wait("alice 👎", "bob ☕")
	no := false
	if _, err := api.RepoPutRecord(t.Context(), alice, api.RepoPutRecordInput{
		Repo: syntax.AtIdentifier(alice.DID), Collection: status.Collection, RKey: rkey, Validate: &no,
		Record: []byte(`{"$type":"xyz.statusphere.status","status":"two","createdAt":"` + now + `"}`),
	}); err != nil {
		t.Fatal(err)
	}
	w.wait("bob ☕")
	w.say(alice, "🌱")
	w.wait("alice 🌱", "bob ☕")

	// Names, in the profile and by a change of the handle.
	alice.Put("app.bsky.actor.profile", "self", map[string]any{"$type": "app.bsky.actor.profile", "displayName": "Alice\u202e <b>\n\n of W."})
	eventually(t, func() error { return w.personIs(alice.DID, "alice", "Alice <b> of W.") })
	if err := api.IdentityUpdateHandle(t.Context(), alice, api.IdentityUpdateHandleInput{Handle: syntax.Handle("carol." + w.pds.Name)}); err != nil {
		t.Fatal(err)
	}
	w.wait("carol 🌱", "bob ☕")

	// Deactivated, back again, taken down, deleted.
	if err := api.ServerDeactivateAccount(t.Context(), alice, api.ServerDeactivateAccountInput{}); err != nil {
		t.Fatal(err)
	}
	w.wait("bob ☕")
	if err := api.ServerActivateAccount(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	w.wait("carol 🌱", "bob ☕")
	takedown := func(applied bool) {
		t.Helper()
		subject := api.AdminUpdateSubjectStatusInput_Subject{RepoRef: &api.AdminRepoRef{DID: bob.DID}}
		_, err := api.AdminUpdateSubjectStatus(t.Context(), w.pds.Admin(), api.AdminUpdateSubjectStatusInput{Subject: subject, Takedown: &api.AdminStatusAttr{Applied: applied}})
		if err != nil {
			t.Fatal(err)
		}
	}
	takedown(true)
	w.wait("carol 🌱")
	takedown(false)
	w.wait("carol 🌱", "bob ☕")
	if err := api.AdminDeleteAccount(t.Context(), w.pds.Admin(), api.AdminDeleteAccountInput{DID: bob.DID}); err != nil {
		t.Fatal(err)
	}
	w.wait("carol 🌱")
	for uri := range w.statuses() {
		if strings.Contains(uri, string(bob.DID)) {
			t.Errorf("%s is left", uri)
		}
	}
}

// TestHostileRecords: what a hostile repository has is not shown, and breaks nothing.
func TestHostileRecords(t *testing.T) {
	w := newWorld(t)
	mallory := w.pds.Account("mallory")
	const when = `,"createdAt":"2026-08-01T12:00:00Z"}`
	for _, record := range []string{
		`{"$type":"xyz.statusphere.status","status":"👍👍"` + when,
		`{"$type":"xyz.statusphere.status","status":17` + when,
		`{"$type":"xyz.statusphere.status","status":["👍"]` + when,
		`{"$type":"xyz.statusphere.status","status":{"a":"👍"}` + when,
		`{"$type":"xyz.statusphere.status","status":"👍","createdAt":"now"}`,
		`{"$type":"xyz.statusphere.status","status":"👍"}`,
		`{"$type":"xyz.statusphere.status","status":"<img src=x onerror=alert(1)>"` + when,
		`{"$type":"xyz.statusphere.status","status":"\u202e"` + when,
		`{"$type":"xyz.statusphere.status","status":"` + strings.Repeat("e\u0301", 1) + strings.Repeat("\u0301", 400000) + `"` + when,
		`{"$type":"xyz.statusphere.status","big":"` + strings.Repeat("x", 900000) + `","status":"e` + strings.Repeat("\u0301", 20) + `"` + when,
	} {
		if _, err := w.writeAnything(mallory, record); err != nil {
			t.Errorf("%.80s is refused by the PDS: %v", record, err)
		}
	}
	// A date to come does not keep a status on top.
	if _, err := w.writeAnything(mallory, `{"$type":"xyz.statusphere.status","status":"<","createdAt":"9999-12-31T23:59:59Z"}`); err != nil {
		t.Fatal(err)
	}
	mallory.Put("app.bsky.actor.profile", "self", map[string]any{"$type": "app.bsky.actor.profile", "displayName": `</bdi><script>alert("1")</script>` + strings.Repeat("\u0336", 30)})
	w.wait("mallory <")
	w.say(w.pds.Account("alice"), "👍")
	w.wait("alice 👍", "mallory <")
	u := w.visit()
	if strings.Contains(u.page.Body, "ZgotmplZ") {
		t.Errorf("the template does not take a value where it is: %s", u.page.Body)
	}
	if strings.Contains(u.page.Body, "<script>alert") || strings.Contains(u.page.Body, "onerror") || !slices.Equal(u.list(), []string{"👍", "&lt;"}) {
		t.Errorf("the page has %q: %s", u.list(), u.page.Body)
	}
	eventually(t, func() error { return w.caughtUp() })
	if n := len(w.statuses()); n != 2 {
		t.Errorf("the index has %d statuses", n)
	}
}
