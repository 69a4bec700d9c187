package pages_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// Checks 91 and 94: the whole flow without scripts, in a plain browser.
func TestAppIsLetIn(t *testing.T) {
	w := newWorld(t)
	s, err := w.app.LoginWith(t.Context(), w.Browser(), w.alice, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Tokens(); got.DID != w.alice.DID || got.Scope != "account:email atproto blob:image/* repo:com.example.note" {
		t.Errorf("%+v", got)
	}
	if mail, err := w.Mail.Take(t.Context(), "alice@example.com", server.NewSignIn); err != nil || !strings.Contains(mail.Text, "browser: ") {
		t.Errorf("%v %+v", err, mail)
	}
}

// 85: two accounts in one browser, and a choice between them.
func TestMatrix85TwoAccounts(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, _ := w.push(nil)
	b.get(path)
	b.expect(200, "Sign in")
	b.signIn(w.alice, true)
	b.expect(200, "Let this app in?")
	b.get(b.last.link(t, "/oauth/sign-in"))
	b.signIn(w.bob, true)
	b.expect(200, "Let this app in?")
	if in := b.last.fields(t, "/oauth/authorize"); in.Get("did") != string(w.bob.DID) {
		t.Errorf("consent of %s", in.Get("did"))
	}
	path, login := w.push(nil)
	b.get(path)
	b.expect(200, "Choose an account")
	for _, a := range []string{"@alice." + w.pds.Name, "@bob." + w.pds.Name} {
		if !strings.Contains(b.last.text, a) {
			t.Errorf("%s is not offered", a)
		}
	}
	b.get(path + "&account=" + url.QueryEscape(string(w.alice.DID)))
	b.submit("/oauth/authorize", url.Values{"decision": {"allow"}})
	to, _ := url.Parse(b.last.header.Get("Location"))
	s, err := login.Finish(t.Context(), to)
	if err != nil || s.Tokens().DID != w.alice.DID {
		t.Errorf("%+v %v", s, err)
	}
	// One of them signs out.
	b.get("/oauth/sign-out")
	in := b.last.fields(t, "/oauth/sign-out")
	in.Set("did", string(w.alice.DID))
	b.post("/oauth/sign-out", in)
	if b.signedIn(w.alice) || !b.signedIn(w.bob) {
		t.Error("the wrong account is signed out")
	}
}

// 83: prompt=create shows the sign-up.
func TestMatrix83SignUpInFlow(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, login := w.push(url.Values{"prompt": {"create"}})
	b.get(path)
	b.expect(200, "Create an account")
	form := url.Values{"label": {"Carol"}, "email": {"carol@example.com"}, "password": {"a good password"}}
	check := func(label string) string {
		b.submit("/oauth/sign-up", url.Values{"label": {label}, "action": {"check"}})
		return b.last.text
	}
	for label, want := range map[string]string{
		"carol": "@carol." + w.pds.Name + " is free", "alice": "@alice." + w.pds.Name + " is not available", "admin": "@admin." + w.pds.Name + " is not available",
		"a": "3 to 18 letters", "a.b.c": "3 to 18 letters", "-abc-": "3 to 18 letters", strings.Repeat("x", 300): "3 to 18 letters",
	} {
		if text := check(label); !strings.Contains(text, want) {
			t.Errorf("%s: no %q in %s", label, want, text)
		}
	}
	for field, x := range map[string]struct{ value, want string }{
		"label":    {"bob", "is not available"},
		"email":    {"ALICE@example.com", "There is an account with this e-mail"},
		"password": {"short", "at least 8"},
	} {
		in := url.Values{field: {x.value}}
		for name, v := range form {
			if name != field {
				in[name] = v
			}
		}
		b.submit("/oauth/sign-up", in)
		if b.last.status != http.StatusUnprocessableEntity || !strings.Contains(b.last.text, x.want) {
			t.Errorf("%s: %d %s", field, b.last.status, b.last.text)
		}
	}
	b.submit("/oauth/sign-up", form)
	b.expect(200, "Confirm your e-mail address")
	asked := b.last
	b.submit("/oauth/confirm-email", url.Values{"code": {""}})
	b.expect(422, "Confirm your e-mail address")
	b.submit("/oauth/confirm-email", url.Values{"code": {"AAAAA-AAAAA"}})
	b.expect(422, "Confirm your e-mail address")
	// Not in another browser, nor for another account.
	other := w.tab()
	other.get("/oauth/sign-in")
	in := asked.fields(t, "/oauth/confirm-email")
	if p := other.post("/oauth/confirm-email", in); p.status != 403 {
		t.Errorf("in another browser: %d", p.status)
	}
	in.Set("account", "x"+in.Get("account"))
	if p := b.copy().post("/oauth/confirm-email", in); p.status != 403 {
		t.Errorf("another account: %d", p.status)
	}
	b.last = asked
	b.submit("/oauth/confirm-email", url.Values{"action": {"again"}})
	mail, err := w.Mail.Take(t.Context(), "carol@example.com", server.ConfirmEmail)
	if err != nil {
		t.Fatal(err)
	}
	b.submit("/oauth/confirm-email", url.Values{"code": {mail.Token}})
	b.expect(422, "Confirm your e-mail address") // there is a later one
	if mail, err = w.Mail.Take(t.Context(), "carol@example.com", server.ConfirmEmail); err != nil {
		t.Fatal(err)
	}
	b.submit("/oauth/confirm-email", url.Values{"code": {mail.Token}})
	b.expect(200, "Let this app in?")
	b.submit("/oauth/authorize", url.Values{"decision": {"allow"}})
	to, _ := url.Parse(b.last.header.Get("Location"))
	s, err := login.Finish(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	a, err := w.pds.Server().Accounts.ByDID(t.Context(), s.Tokens().DID)
	if err != nil || string(a.Handle) != "carol."+w.pds.Name || a.Email != "carol@example.com" || a.EmailConfirmedAt.IsZero() {
		t.Errorf("%+v %v", a, err)
	}
}

func TestSignUpNeedsInvite(t *testing.T) {
	w := newWorld(t, func(_ *pages.Config, c *pds.Config) { c.Policy.InviteRequired = true })
	codes, err := w.pds.Server().Accounts.CreateInvites(t.Context(), w.pds.Name, "admin", "admin", 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"label": {"carol"}, "email": {"carol@example.com"}, "password": {"a good password"}}
	b := w.tab()
	b.get("/oauth/sign-up?invite=" + url.QueryEscape(codes[0]))
	b.expect(200, "Create an account")
	if in := b.last.fields(t, "/oauth/sign-up"); in.Get("invite") != codes[0] {
		t.Errorf("the code of the link is not filled in: %v", in)
	}
	for _, code := range []string{"", "wrong"} {
		form.Set("invite", code)
		if b.submit("/oauth/sign-up", form); b.last.status != 422 || !strings.Contains(b.last.text, "nvite code") {
			t.Errorf("%q: %d", code, b.last.status)
		}
	}
	form.Set("invite", codes[0])
	b.submit("/oauth/sign-up", form)
	b.expect(200, "Confirm your e-mail address")
	if p := b.post("/oauth/confirm-email", merge(b.last.fields(t, "/oauth/confirm-email"), url.Values{"action": {"skip"}})); p.status != 303 || p.header.Get("Location") != "/account" {
		t.Errorf("%d %s", p.status, p.text)
	}
	form.Set("label", "dave")
	form.Set("email", "dave@example.com")
	b.get("/oauth/sign-up")
	if b.submit("/oauth/sign-up", form); b.last.status != 422 || !strings.Contains(b.last.text, "used already") {
		t.Errorf("a code is good twice: %d", b.last.status)
	}
}

func merge(a, b url.Values) url.Values {
	for name, v := range b {
		a[name] = v
	}
	return a
}

// 93, and the permissions that a person takes away.
func TestMatrix93PartialConsentAndDeny(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, login := w.push(nil)
	b.get(path)
	b.signIn(w.alice, true)
	for _, want := range []string{
		"See your e-mail address", "Change your public data of these kinds:", "com.example.note", "Upload files of these kinds:", "image/*",
		"see or change your password", "read your direct messages", "app1.example.net", "alice." + w.pds.Name,
	} {
		if !strings.Contains(b.last.text, want) {
			t.Errorf("the consent does not say %q", want)
		}
	}
	if strings.Contains(b.last.text, "App app1") {
		t.Error("the name of an app that nobody vouches for is shown")
	}
	in := b.last.fields(t, "/oauth/authorize")
	if len(in["scope"]) != 4 {
		t.Errorf("scopes %q", in["scope"])
	}
	b.submit("/oauth/authorize", url.Values{"scope": {"atproto", "repo:com.example.note"}, "decision": {"allow"}})
	to, _ := url.Parse(b.last.header.Get("Location"))
	s, err := login.Finish(t.Context(), to)
	if err != nil || s.Tokens().Scope != "atproto repo:com.example.note" {
		t.Errorf("%+v %v", s, err)
	}
	path, _ = w.push(nil)
	b.get(path)
	b.submit("/oauth/authorize", url.Values{"decision": {"deny"}})
	if back := b.back(); back.Get("error") != "access_denied" || back.Get("state") == "" || back.Get("iss") != w.origin() {
		t.Errorf("%v", back)
	}
}

// 122, of browsers: a password that is reset ends all sign-ins.
func TestMatrix122ForgottenPassword(t *testing.T) {
	w := newWorld(t)
	other := w.tab()
	path, _ := w.push(nil)
	other.get(path)
	other.signIn(w.alice, true)
	if !other.signedIn(w.alice) {
		t.Fatal("nobody is signed in")
	}
	b := w.tab()
	path, _ = w.push(nil)
	b.get(path)
	b.get(b.last.link(t, "/oauth/password"))
	b.expect(200, "Forgot your password?")
	b.submit("/oauth/password", url.Values{"email": {"nobody@example.com"}})
	unknown := strings.ReplaceAll(b.last.text, "nobody@example.com", "X")
	b.get(b.last.link(t, "/oauth/password"))
	b.submit("/oauth/password", url.Values{"email": {w.alice.Email}})
	// Check 170, of resets: the answer is the same for an address that nobody has.
	if known := strings.ReplaceAll(b.last.text, w.alice.Email, "X"); known != unknown {
		t.Errorf("the page tells who has an account:\n%s\n%s", known, unknown)
	}
	mail, err := w.Mail.Take(t.Context(), w.alice.Email, server.ResetPassword)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"code": {"WRONG-CODE0"}, "password": {"another password"}}
	b.submit("/oauth/password/reset", form)
	if b.last.status != 422 || !strings.Contains(b.last.text, "The code is wrong") {
		t.Errorf("%d %s", b.last.status, b.last.text)
	}
	form.Set("code", mail.Token)
	b.submit("/oauth/password/reset", form)
	b.expect(200, "Your password is changed")
	if other.signedIn(w.alice) {
		t.Error("a sign-in outlasts the reset of the password")
	}
	b.get(b.last.link(t, "/oauth/sign-in"))
	b.signIn(w.alice, true)
	b.expect(401, "Sign in")
	w.alice.Password = "another password"
	b.signIn(w.alice, true)
	b.expect(200, "Let this app in?")
}

// Checks 164 and 168: the password alone does not sign in, and a code is good for once.
func TestSecondFactor(t *testing.T) {
	w := newWorld(t)
	who := account.Trusted(w.alice.DID)
	e, err := w.credentials().BeginApp(t.Context(), who, "test")
	if err != nil {
		t.Fatal(err)
	}
	code := func() string {
		t.Helper()
		text, err := credential.AppCode(e.Secret, w.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if _, err := w.credentials().ConfirmApp(t.Context(), who, "phone", code()); err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(minute)
	b := w.tab()
	path, _ := w.push(nil)
	b.get(path)
	b.signIn(w.alice, true)
	b.expect(200, "Confirm that it is you")
	if b.signedIn(w.alice) {
		t.Fatal("the password alone signs in")
	}
	thief := w.tab()
	thief.get(path)
	stolen := b.last.fields(t, "/oauth/factor")
	stolen.Set("code", code())
	if p := thief.post("/oauth/factor", stolen); p.status != 403 {
		t.Errorf("the form in another browser: %d", p.status)
	}
	b.submit("/oauth/factor", url.Values{"code": {"000000"}})
	b.expect(401, "Confirm that it is you")
	now := code()
	form := b.last.fields(t, "/oauth/factor")
	form.Set("code", now)
	b.submit("/oauth/factor", url.Values{"code": {now}})
	b.expect(200, "Let this app in?")
	c := w.tab()
	path, _ = w.push(nil)
	c.get(path)
	c.signIn(w.alice, true)
	c.submit("/oauth/factor", url.Values{"code": {now}})
	c.expect(401, "Confirm that it is you")
	// After ten minutes the password has to be shown again.
	w.Clock.Advance(11 * minute)
	c.submit("/oauth/factor", url.Values{"code": {code()}})
	if c.last.status != 400 || c.signedIn(w.alice) {
		t.Errorf("%d %s", c.last.status, c.last.text)
	}
}

func TestCodesByMail(t *testing.T) {
	w := newWorld(t)
	who := account.Trusted(w.alice.DID)
	token, a, err := w.credentials().NewMailToken(t.Context(), who, credential.ForEmailConfirmation)
	if err == nil {
		err = w.credentials().ConfirmEmail(t.Context(), who, a.Email, token)
	}
	if err == nil {
		err = w.credentials().EnableEmailCodes(t.Context(), who)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := w.tab()
	path, _ := w.push(nil)
	b.get(path)
	b.signIn(w.alice, true)
	b.expect(200, "Confirm that it is you")
	if len(w.codes) != 1 {
		t.Fatalf("%q", w.codes)
	}
	b.submit("/oauth/factor", url.Values{"code": {w.codes[0]}})
	b.expect(200, "Let this app in?")
}

// 167: a deactivated account is asked to come back, and one that is taken down is refused.
func TestMatrix167DeactivatedAndTakenDown(t *testing.T) {
	w := newWorld(t)
	accounts := w.pds.Server().Accounts
	if err := accounts.Deactivate(t.Context(), account.Trusted(w.alice.DID), w.Clock.Now().AddDate(0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	b := w.tab()
	path, _ := w.push(nil)
	b.get(path)
	b.signIn(w.alice, false)
	b.expect(200, "Your account is deactivated")
	b.submit("/oauth/activate", nil)
	b.expect(200, "Let this app in?")
	if a, err := accounts.ByDID(t.Context(), w.alice.DID); err != nil || a.Status() != account.Active {
		t.Errorf("%v %v", a.Status(), err)
	}
	if err := accounts.TakeDown(t.Context(), w.bob.DID, account.Takedown{Applied: true, Ref: "ref"}); err != nil {
		t.Fatal(err)
	}
	c := w.tab()
	path, _ = w.push(nil)
	c.get(path)
	c.signIn(w.bob, true)
	c.expect(403, "This did not work")
	if c.signedIn(w.bob) {
		t.Error("an account that is taken down is signed in")
	}
}

// An account that lives elsewhere by now is not made active here.
func TestMovedAccountStaysDeactivated(t *testing.T) {
	w := newWorld(t)
	if err := w.pds.Server().Accounts.Deactivate(t.Context(), account.Trusted(w.alice.DID), time.Time{}); err != nil {
		t.Fatal(err)
	}
	// A document that does not name the account's key any more stands for one of another server.
	if err := w.pds.Server().Accounts.RotateKey(t.Context(), account.Trusted(w.alice.DID), nil); err != nil {
		t.Fatal(err)
	}
	b := w.tab()
	path, _ := w.push(nil)
	b.get(path)
	b.signIn(w.alice, false)
	b.expect(200, "Your account is deactivated")
	b.submit("/oauth/activate", nil)
	b.expect(400, "This did not work")
	if a, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err != nil || a.Status() != account.Deactivated {
		t.Errorf("%v %v", a.Status(), err)
	}
}

// 81: whoever takes too long is sent back to the app, and does not lose what was entered.
func TestMatrix81RequestExpires(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, _ := w.push(nil)
	b.get(path)
	w.Clock.Advance(6 * minute)
	b.signIn(w.alice, true)
	if back := b.back(); back.Get("error") != "access_denied" {
		t.Errorf("%v", back)
	}
	if !b.signedIn(w.alice) {
		t.Error("nobody is signed in")
	}
}

func TestHintIsShownAsHandle(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, _ := w.push(url.Values{"login_hint": {string(w.alice.DID)}})
	b.get(path)
	if in := b.last.fields(t, "/oauth/sign-in"); in.Get("identifier") != string(w.alice.Handle) {
		t.Errorf("%v", in)
	}
	b.submit("/oauth/sign-in", url.Values{"identifier": {"bob"}, "password": {w.alice.Password}})
	b.expect(200, "Let this app in?")
}

// Languages follow the browser, or the app.
func TestLanguages(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	b.lang = "de-AT, en;q=0.5"
	path, _ := w.push(nil)
	b.get(path)
	b.expect(200, "Anmelden")
	if b.last.header.Get("Content-Language") != "de" || !strings.Contains(b.last.text, `<html lang="de">`) {
		t.Errorf("%v", b.last.header)
	}
	path, _ = w.push(url.Values{"ui_locales": {"ja en"}})
	b.get(path)
	b.expect(200, "サインイン")
	b.submit("/oauth/sign-in", url.Values{"identifier": {"alice"}, "password": {"wrong"}})
	b.expect(401, "サインイン")
}
