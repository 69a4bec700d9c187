package operator_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/pds"
)

func TestAdministratorLooksAfterAccounts(t *testing.T) {
	w := newWorld(t)
	b := w.tab().signIn()
	b.has("The server works.", "1.2.3", w.pds.Name)
	b.get("/admin/accounts")
	b.has(string(w.alice.Handle), string(w.bob.Handle))
	b.get("/admin/accounts?q=" + url.QueryEscape(string(w.alice.Handle)))
	b.has(string(w.alice.DID))
	b.hasNot(string(w.bob.DID))
	b.get("/admin/accounts?q=bob@")
	b.has(string(w.bob.DID))
	b.get("/admin/account?did=" + string(w.alice.DID))
	b.has(string(w.alice.Handle), "active", "Take down", "sessions: 1")
	b.act("takedown", string(w.alice.DID), "case <7>")
	b.has("Done: Take down", "taken down", "case <7>", "Lift the takedown")
	if _, err := w.alice.Login(w.alice.Password); err == nil {
		t.Error("an account that is taken down logs in")
	}
	b.get("/admin/taken-down")
	b.has(string(w.alice.DID))
	b.act("restore", string(w.alice.DID), "")
	b.has("active")
	if _, err := w.alice.Login(w.alice.Password); err != nil {
		t.Error(err)
	}
	b.act("deactivate", string(w.alice.DID), "")
	b.has("deactivated", "Activate")
	b.act("activate", string(w.alice.DID), "")
	b.act("email", string(w.alice.DID), "new@example.com")
	b.has("new@example.com")
	b.act("email", string(w.alice.DID), "bob@example.com")
	b.Expect(422, "Change the e-mail address")
	b.has("already in use")
	b.act("handle", string(w.alice.DID), "@admin."+w.pds.Name)
	b.has("admin." + w.pds.Name)
	b.act("reset-mail", string(w.alice.DID), "")
	if m, err := w.Mail.Take(t.Context(), "new@example.com", server.ResetPassword); err != nil || m.Token == "" {
		t.Errorf("%+v, %v", m, err)
	}
	b.act("end-sessions", string(w.alice.DID), "")
	b.has("sessions: 0")
	b.act("invites-off", string(w.alice.DID), "")
	b.has("may not invite others", "Allow to invite")
	b.act("invites-on", string(w.alice.DID), "")
	b.hasNot("may not invite others")
	b.act("delete", string(w.bob.DID), string(w.bob.DID)) // its handle is asked for
	b.Expect(422, "Delete the account")
	b.act("delete", string(w.bob.DID), string(w.bob.Handle))
	b.Expect(200, "Accounts")
	b.has("Done: Delete the account")
	if _, err := w.pds.Server().Accounts.ByDID(t.Context(), w.bob.DID); err == nil {
		t.Error("it is still there")
	}
	b.get("/admin/account?did=" + string(w.bob.DID))
	b.Expect(404, "")
	b.get("/admin/trail")
	b.has("deleteAccount", "com.atproto.admin.updateSubjectStatus", "takedown case <7>", "192.0.2.7", "sign-in", "End all sessions")
	b.hasNot("new@example.com")
}

func TestFactorsAreReset(t *testing.T) {
	w := newWorld(t)
	b := w.tab().signIn()
	if _, err := w.pds.Server().Credentials.BeginApp(t.Context(), account.Trusted(w.alice.DID), "x"); err != nil {
		t.Fatal(err)
	}
	b.get("/admin/account?did=" + string(w.alice.DID))
	b.hasNot("Remove all second factors") // it is not confirmed
	b.act("reset-factors", string(w.alice.DID), "")
	b.has("Removed by an administrator:")
	if _, err := w.Mail.Take(t.Context(), "alice@example.com", server.FactorChanged); err != nil {
		t.Error(err)
	}
}

func TestRecordsAndBlobsAreTakenDown(t *testing.T) {
	w := newWorld(t)
	b := w.tab().signIn()
	out := w.alice.Create("com.example.note", map[string]any{"text": "hello"})
	uri := string(out.URI)
	b.get("/admin/subject?of=" + url.QueryEscape(uri))
	b.has("visible", "Take this down")
	b.act("takedown-part", uri, "spam")
	b.has("taken down", "spam", "Restore this")
	b.get("/admin/account?did=" + string(w.alice.DID))
	b.has("Taken down in this account", uri)
	b.get("/admin/taken-down")
	b.has(string(w.alice.DID))
	b.act("restore-part", uri, "")
	b.has("visible")
	for _, of := range []string{uri + "x", string(w.alice.DID) + " bafkreiciqbhlghztjqn2picusww5pxwwp7m7srqz2b7vk32z4vrk2lpzv4", "at://did:web:nobody.example.com/com.example.note/1"} {
		b.get("/admin/subject?of=" + url.QueryEscape(of))
		b.Expect(422, "Record or file")
		b.get("/admin/act/takedown-part?of=" + url.QueryEscape(of))
		b.Submit("/admin/act/takedown-part", nil)
		b.Expect(422, "Take this down")
		b.has("The server refused")
	}
}

func TestInviteCodes(t *testing.T) {
	w := newWorld(t)
	b := w.tab().signIn()
	b.get("/admin/invites")
	b.has("There is nothing here.")
	b.get("/admin/invites/new")
	b.Submit("/admin/invites/new", url.Values{"count": {"30"}, "uses": {"2"}})
	b.has("These codes were made:")
	if n := strings.Count(b.Last.Text, "<code>"); n != 30 {
		t.Errorf("%d codes", n)
	}
	b.get("/admin/invites/new")
	b.Submit("/admin/invites/new", url.Values{"count": {"1"}, "uses": {"5"}, "for": {string(w.alice.DID)}})
	b.get("/admin/invites")
	b.has("5 of 5 left", "2 of 2 left", "Next page")
	code := strings.Split(strings.Split(b.Last.Text, "<strong><code>")[1], "</code>")[0]
	b.act("disable-code", code, "")
	b.has("Done: Disable the code", "disabled")
	for _, wrong := range []url.Values{{"count": {"0"}}, {"count": {"101"}}, {"uses": {"-1"}}, {"uses": {"x"}}, {"for": {"alice"}}, {"for": {"did:web:nobody.example.com"}}, {"count": {"99999999999999999999"}}} {
		b.get("/admin/invites/new")
		b.Submit("/admin/invites/new", wrong)
		b.Expect(422, "Make invite codes")
	}
	b.act("disable-code", "nocode", "")
	b.Expect(422, "Disable the code")
	// All pages together have each code once.
	seen := map[string]bool{}
	for at := "/admin/invites?sort=usage"; at != ""; {
		b.get(at)
		for _, part := range strings.Split(b.Last.Text, "<strong><code>")[1:] {
			seen[strings.Split(part, "</code>")[0]] = true
		}
		_, rest, ok := strings.Cut(b.Last.Text, `<p class="more"><a class="button" href="`)
		if at = ""; ok {
			at = strings.ReplaceAll(strings.Split(rest, `"`)[0], "&amp;", "&")
		}
	}
	if len(seen) != 31 {
		t.Errorf("%d codes", len(seen))
	}
}

func TestServerPages(t *testing.T) {
	testenv.NotOnJS(t, "there are no WebSockets, and so no subscribers")
	w := newWorld(t, func(c *pds.Config) { c.Operator.BackupHelp = "pds backup DIRECTORY" })
	b := w.tab().signIn()
	b.get("/admin/stream")
	b.has("Newest number", "192.0.2.2", "Go-http-client") // the relay of the network
	b.act("end-subscriber", "1", "")
	b.has("Done: End the connection")
	b.get("/admin/act/end-subscriber?of=1")
	testenv.Until(t, "the subscriber is gone", func() bool {
		if b.Last.Status != 200 {
			return true
		}
		if b.Submit("/admin/act/end-subscriber", nil); b.Last.Title() != "This did not work" {
			b.get("/admin/act/end-subscriber?of=1")
		}
		return false
	})
	b.Expect(404, "This did not work")
	b.get("/admin/backups")
	b.has("No backup is known.", "pds backup DIRECTORY")
	notes := operator.Backups{KV: w.pds.Store().KV}
	if err := notes.Note(t.Context(), operator.Backup{At: w.Clock.Now().Add(-3 * time.Hour), Path: "/backups/<b>", Bytes: 3 << 20, Good: true, Problem: "2 blobs are lost"}); err != nil {
		t.Fatal(err)
	}
	b.get("/admin/backups")
	b.has("/backups/<b>", "3 h 0 min ago", "3.0 MiB", "2 blobs are lost")
	b.get("/admin")
	b.has("Last good backup", "3 h 0 min ago")
	b.get("/admin/mail")
	b.has("Waiting")
	b.act("test-mail", "", "op@example.net")
	b.has("Done: Send a test message")
	if list := w.Mail.To("op@example.net"); len(list) != 1 {
		t.Errorf("%+v", list)
	}
	w.Mail.Fail(&xrpc.Error{Status: 500, Message: "550 <script>no</script>"})
	b.act("test-mail", "", "op@example.net")
	b.Expect(422, "Send a test message")
	b.has("550 <script>no</script>")
	if strings.Contains(b.Last.Text, "<script") {
		t.Error("the mail server has written a script")
	}
	w.Mail.Fail(nil)
	b.get("/admin/errors")
	b.has("send mail")
	b.hasNot("op@example.net")
	b.get("/admin/sign-out")
	b.Submit("/admin/sign-out", nil)
	b.Expect(200, "Administration")
	b.get("/admin/accounts")
	b.Follow()
	b.Expect(200, "Administration")
}

func TestBackupNotesAreBounded(t *testing.T) {
	w := newWorld(t)
	notes := operator.Backups{KV: w.pds.Store().KV}
	for i := range 50 {
		if err := notes.Note(t.Context(), operator.Backup{At: w.Clock.Now().Add(time.Duration(i) * time.Minute), Path: strings.Repeat("\xff/x", 10_000)}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := notes.List(t.Context())
	if err != nil || len(list) != 30 || !list[0].At.After(list[29].At) || len(list[0].Path) > 500 {
		t.Errorf("%d notes, %v", len(list), err)
	}
}

// However often a backup fails, the last good one is not forgotten.
func TestLastGoodBackupIsKept(t *testing.T) {
	w := newWorld(t)
	notes := operator.Backups{KV: w.pds.Store().KV}
	good := w.Clock.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	for i := range 100 {
		b := operator.Backup{At: good.Add(time.Duration(i-1) * time.Minute), Path: "/backups", Good: i < 2, Problem: "x"}
		if err := notes.Note(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	tried, made, err := notes.Last(t.Context())
	if err != nil || !made.At.Equal(good) || !tried.At.Equal(good.Add(98*time.Minute)) {
		t.Errorf("%v, %v, %v", tried, made, err)
	}
	if list, err := notes.List(t.Context()); err != nil || len(list) != 30 {
		t.Errorf("%d notes, %v", len(list), err)
	}
}
