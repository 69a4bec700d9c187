package pages_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Somebody who looks for an invite code, tries handles, and fetches a phone, is let in all the same:
// every page and form gives five minutes more.
func TestSlowPeopleGetIn(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, login := w.push(nil)
	b.Open(path)
	b.Expect(200, "Sign in")
	wait := func() { w.Clock.Advance(4*minute + 50*second) }
	wait()
	b.Click("/oauth/sign-up")
	for i := range 4 {
		wait()
		b.Submit("/oauth/sign-up", url.Values{"label": {fmt.Sprint("carol", i)}, "action": {"check"}})
		b.Expect(200, "Create an account")
	}
	wait()
	b.Submit("/oauth/sign-up", url.Values{"label": {"carol"}, "email": {"carol@example.com"}, "password": {"short"}})
	b.Expect(http.StatusUnprocessableEntity, "Create an account")
	wait()
	b.Submit("/oauth/sign-up", url.Values{"label": {"carol"}, "email": {"carol@example.com"}, "password": {"a good password"}})
	b.Expect(200, "Confirm your e-mail address")
	b.Submit("/oauth/confirm-email", url.Values{"action": {"skip"}})
	b.Expect(200, "Let this app in?")
	wait()
	b.Submit("/oauth/authorize", url.Values{"decision": {"allow"}})
	to, _ := url.Parse(b.Last.Header.Get("Location"))
	if s, err := login.Finish(t.Context(), to); err != nil {
		t.Fatal(err)
	} else if a, err := w.pds.Server().Accounts.ByDID(t.Context(), s.Tokens().DID); err != nil || string(a.Handle) != "carol."+w.pds.Name {
		t.Errorf("%+v %v", a, err)
	}

	// A code by mail that takes its time, asked for again.
	who := account.Trusted(w.alice.DID)
	e, err := w.credentials().BeginApp(t.Context(), who, "test")
	if err != nil {
		t.Fatal(err)
	}
	code := func() string {
		text, err := credential.AppCode(e.Secret, w.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if _, err := w.credentials().ConfirmApp(t.Context(), who, "phone", code()); err != nil {
		t.Fatal(err)
	}
	b = w.tab()
	path, _ = w.push(nil)
	b.Open(path)
	wait()
	b.signIn(w.alice, true)
	b.Expect(200, "Confirm that it is you")
	wait()
	b.Submit("/oauth/factor", url.Values{"code": {"000000"}})
	b.Expect(401, "Confirm that it is you")
	wait()
	b.Submit("/oauth/factor", url.Values{"code": {code()}})
	b.Expect(200, "Let this app in?")
}

// But not for ever, and not for another browser.
func TestRequestsEndAfterAnHour(t *testing.T) {
	w := newWorld(t)
	b, thief := w.tab(), w.tab()
	path, _ := w.push(nil)
	b.Open(path)
	for range 14 {
		w.Clock.Advance(4*minute + 50*second)
		b.Submit("/oauth/sign-in", url.Values{"identifier": {"alice"}, "password": {"wrong"}})
	}
	b.signIn(w.alice, true)
	if back := b.back(); back.Get("error") != "access_denied" {
		t.Errorf("after an hour: %v", back)
	}

	path, _ = w.push(nil)
	b = w.tab()
	b.Open(path)
	form := b.Last.Fields("/oauth/sign-in")
	w.Clock.Advance(4*minute + 50*second)
	thief.Open("/oauth/sign-in?flow=" + url.QueryEscape(form.Get("flow")))
	if thief.Last.Status != 403 {
		t.Errorf("the flow in another browser: %d", thief.Last.Status)
	}
	w.Clock.Advance(minute)
	b.signIn(w.alice, true)
	if back := b.back(); back.Get("error") != "access_denied" {
		t.Errorf("another browser has extended the request: %v", back)
	}
}

// Looking whether a handle is free is limited apart from making accounts, so that neither uses up the
// other.
func TestHandleChecksAreLimitedApart(t *testing.T) {
	var asked []string
	w := newWorld(t, func(_ *pages.Config, c *pds.Config) {
		c.Rates = forms(func(action string) error { asked = append(asked, action); return nil })
	})
	b := w.tab()
	b.Open("/oauth/sign-up")
	b.Submit("/oauth/sign-up", url.Values{"label": {"carol"}, "action": {"check"}})
	b.Submit("/oauth/sign-up", url.Values{"label": {"carol"}, "email": {"carol@example.com"}, "password": {"a good password"}})
	if fmt.Sprint(asked) != "[handle sign-up]" {
		t.Errorf("%q", asked)
	}
}

// When a browser was last seen is noted every ten minutes at most, and is shown without a server.
func TestSeen(t *testing.T) {
	w := newWorld(t)
	b, other := w.tab(), w.tab()
	b.Open("/oauth/sign-in")
	b.signIn(w.alice, true)
	other.Open("/oauth/sign-in")
	other.signIn(w.alice, true)
	at := w.Clock.Now()
	list := func() []site.SignIn {
		t.Helper()
		list, err := site.SignIns{Accounts: w.pds.Server().Accounts, Now: w.Clock.Now}.List(t.Context(), account.Trusted(w.alice.DID))
		if err != nil || len(list) != 2 {
			t.Fatalf("%+v %v", list, err)
		}
		return list
	}
	first := list()
	stored := func() string { return fmt.Sprint(w.everything(t.Context())) }
	before := stored()
	w.Clock.Advance(9 * minute)
	b.Open("/oauth/sign-out")
	if stored() != before {
		t.Error("each page is a write")
	}
	w.Clock.Advance(2 * minute)
	b.Open("/oauth/sign-out")
	n := 0
	for i, x := range list() {
		if was := first[i]; x.ID != was.ID || !x.At.Equal(was.At) || !x.Since.Equal(was.Since) {
			t.Errorf("%+v, was %+v", x, was)
		}
		if d := x.Seen.Sub(at).Round(minute); d == 11*minute {
			n++
		} else if d != 0 {
			t.Errorf("seen after %s", d)
		}
	}
	if n != 1 {
		t.Errorf("%d browsers were seen", n)
	}
	// A planted cookie, or an old secret, is not somebody who was seen.
	thief := b.copy()
	b.Open("/oauth/sign-in")
	b.signIn(w.alice, true)
	seen := stored()
	w.Clock.Advance(9 * minute)
	thief.Open("/oauth/sign-out")
	if stored() != seen {
		t.Error("an old secret has changed something")
	}
	if !b.signedIn(w.alice) {
		t.Error("signed out")
	}
}
