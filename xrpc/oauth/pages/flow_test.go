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
	b.Open(path)
	b.Expect(200, "Sign in")
	b.signIn(w.alice, true)
	b.Expect(200, "Let this app in?")
	b.Click("/oauth/sign-in")
	b.signIn(w.bob, true)
	b.Expect(200, "Let this app in?")
	if in := b.Last.Fields("/oauth/authorize"); in.Get("did") != string(w.bob.DID) {
		t.Errorf("consent of %s", in.Get("did"))
	}
	path, login := w.push(nil)
	b.Open(path)
	b.Expect(200, "Choose an account")
	for _, a := range []string{"@alice." + w.pds.Name, "@bob." + w.pds.Name} {
		if !strings.Contains(b.Last.Text, a) {
			t.Errorf("%s is not offered", a)
		}
	}
	b.Open(path + "&account=" + url.QueryEscape(string(w.alice.DID)))
	b.Submit("/oauth/authorize", url.Values{"decision": {"allow"}})
	to, _ := url.Parse(b.Last.Header.Get("Location"))
	s, err := login.Finish(t.Context(), to)
	if err != nil || s.Tokens().DID != w.alice.DID {
		t.Errorf("%+v %v", s, err)
	}
	// One of them signs out.
	b.Open("/oauth/sign-out")
	in := b.Last.Fields("/oauth/sign-out")
	in.Set("did", string(w.alice.DID))
	b.Post("/oauth/sign-out", in)
	if b.signedIn(w.alice) || !b.signedIn(w.bob) {
		t.Error("the wrong account is signed out")
	}
}

// 83: prompt=create shows the sign-up.
func TestMatrix83SignUpInFlow(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, login := w.push(url.Values{"prompt": {"create"}})
	b.Open(path)
	b.Expect(200, "Create an account")
	form := url.Values{"label": {"Carol"}, "email": {"carol@example.com"}, "password": {"a good password"}}
	check := func(label string) string {
		b.Submit("/oauth/sign-up", url.Values{"label": {label}, "action": {"check"}})
		return b.Last.Text
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
		b.Submit("/oauth/sign-up", in)
		if b.Last.Status != http.StatusUnprocessableEntity || !strings.Contains(b.Last.Text, x.want) {
			t.Errorf("%s: %d %s", field, b.Last.Status, b.Last.Text)
		}
	}
	b.Submit("/oauth/sign-up", form)
	b.Expect(200, "Confirm your e-mail address")
	asked := b.Last
	b.Submit("/oauth/confirm-email", url.Values{"code": {""}})
	b.Expect(422, "Confirm your e-mail address")
	b.Submit("/oauth/confirm-email", url.Values{"code": {"AAAAA-AAAAA"}})
	b.Expect(422, "Confirm your e-mail address")
	// Not in another browser, nor for another account.
	other := w.tab()
	other.Open("/oauth/sign-in")
	in := asked.Fields("/oauth/confirm-email")
	if p := other.Post("/oauth/confirm-email", in); p.Status != 403 {
		t.Errorf("in another browser: %d", p.Status)
	}
	in.Set("account", "x"+in.Get("account"))
	if p := b.copy().Post("/oauth/confirm-email", in); p.Status != 403 {
		t.Errorf("another account: %d", p.Status)
	}
	b.Last = asked
	mail, err := w.Mail.Take(t.Context(), "carol@example.com", server.ConfirmEmail)
	if err != nil {
		t.Fatal(err)
	}
	b.Submit("/oauth/confirm-email", url.Values{"action": {"again"}})
	b.Submit("/oauth/confirm-email", url.Values{"code": {mail.Token}})
	b.Expect(422, "Confirm your e-mail address") // there is a later one
	if mail, err = w.Mail.Take(t.Context(), "carol@example.com", server.ConfirmEmail); err != nil {
		t.Fatal(err)
	}
	b.Submit("/oauth/confirm-email", url.Values{"code": {mail.Token}})
	b.Expect(200, "Let this app in?")
	b.Submit("/oauth/authorize", url.Values{"decision": {"allow"}})
	to, _ := url.Parse(b.Last.Header.Get("Location"))
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
	b.Open("/oauth/sign-up?invite=" + url.QueryEscape(codes[0]))
	b.Expect(200, "Create an account")
	if in := b.Last.Fields("/oauth/sign-up"); in.Get("invite") != codes[0] {
		t.Errorf("the code of the link is not filled in: %v", in)
	}
	for _, code := range []string{"", "wrong"} {
		form.Set("invite", code)
		if b.Submit("/oauth/sign-up", form); b.Last.Status != 422 || !strings.Contains(b.Last.Text, "nvite code") {
			t.Errorf("%q: %d", code, b.Last.Status)
		}
	}
	form.Set("invite", codes[0])
	b.Submit("/oauth/sign-up", form)
	b.Expect(200, "Confirm your e-mail address")
	if p := b.Post("/oauth/confirm-email", merge(b.Last.Fields("/oauth/confirm-email"), url.Values{"action": {"skip"}})); p.Status != 303 || p.Header.Get("Location") != "/account" {
		t.Errorf("%d %s", p.Status, p.Text)
	}
	form.Set("label", "dave")
	form.Set("email", "dave@example.com")
	b.Open("/oauth/sign-up")
	if b.Submit("/oauth/sign-up", form); b.Last.Status != 422 || !strings.Contains(b.Last.Text, "used already") {
		t.Errorf("a code is good twice: %d", b.Last.Status)
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
	b.Open(path)
	b.signIn(w.alice, true)
	for _, want := range []string{
		"See your e-mail address", "Change your public data of these kinds:", "com.example.note", "Upload files of these kinds:", "image/*",
		"see or change your password", "read your direct messages", "app1.example.net", "alice." + w.pds.Name,
	} {
		if !strings.Contains(b.Last.Text, want) {
			t.Errorf("the consent does not say %q", want)
		}
	}
	if strings.Contains(b.Last.Text, "App app1") {
		t.Error("the name of an app that nobody vouches for is shown")
	}
	in := b.Last.Fields("/oauth/authorize")
	if len(in["scope"]) != 4 {
		t.Errorf("scopes %q", in["scope"])
	}
	b.Submit("/oauth/authorize", url.Values{"scope": {"atproto", "repo:com.example.note"}, "decision": {"allow"}})
	to, _ := url.Parse(b.Last.Header.Get("Location"))
	s, err := login.Finish(t.Context(), to)
	if err != nil || s.Tokens().Scope != "atproto repo:com.example.note" {
		t.Errorf("%+v %v", s, err)
	}
	path, _ = w.push(nil)
	b.Open(path)
	b.Submit("/oauth/authorize", url.Values{"decision": {"deny"}})
	if back := b.back(); back.Get("error") != "access_denied" || back.Get("state") == "" || back.Get("iss") != w.origin() {
		t.Errorf("%v", back)
	}
}

// 122, of browsers: a password that is reset ends all sign-ins.
func TestMatrix122ForgottenPassword(t *testing.T) {
	w := newWorld(t)
	other := w.tab()
	path, _ := w.push(nil)
	other.Open(path)
	other.signIn(w.alice, true)
	if !other.signedIn(w.alice) {
		t.Fatal("nobody is signed in")
	}
	b := w.tab()
	path, _ = w.push(nil)
	b.Open(path)
	b.Click("/oauth/password")
	b.Expect(200, "Forgot your password?")
	b.Submit("/oauth/password", url.Values{"email": {"nobody@example.com"}})
	unknown := strings.ReplaceAll(b.Last.Text, "nobody@example.com", "X")
	b.Click("/oauth/password")
	b.Submit("/oauth/password", url.Values{"email": {w.alice.Email}})
	// Check 170, of resets: the answer is the same for an address that nobody has.
	if known := strings.ReplaceAll(b.Last.Text, w.alice.Email, "X"); known != unknown {
		t.Errorf("the page tells who has an account:\n%s\n%s", known, unknown)
	}
	mail, err := w.Mail.Take(t.Context(), w.alice.Email, server.ResetPassword)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"code": {"WRONG-CODE0"}, "password": {"another password"}}
	b.Submit("/oauth/password/reset", form)
	if b.Last.Status != 422 || !strings.Contains(b.Last.Text, "The code is wrong") {
		t.Errorf("%d %s", b.Last.Status, b.Last.Text)
	}
	form.Set("code", mail.Token)
	b.Submit("/oauth/password/reset", form)
	b.Expect(200, "Your password is changed")
	if other.signedIn(w.alice) {
		t.Error("a sign-in outlasts the reset of the password")
	}
	b.Click("/oauth/sign-in")
	b.signIn(w.alice, true)
	b.Expect(401, "Sign in")
	w.alice.Password = "another password"
	b.signIn(w.alice, true)
	b.Expect(200, "Let this app in?")
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
	b.Open(path)
	b.signIn(w.alice, true)
	b.Expect(200, "Confirm that it is you")
	if b.signedIn(w.alice) {
		t.Fatal("the password alone signs in")
	}
	thief := w.tab()
	thief.Open(path)
	stolen := b.Last.Fields("/oauth/factor")
	stolen.Set("code", code())
	if p := thief.Post("/oauth/factor", stolen); p.Status != 403 {
		t.Errorf("the form in another browser: %d", p.Status)
	}
	b.Submit("/oauth/factor", url.Values{"code": {"000000"}})
	b.Expect(401, "Confirm that it is you")
	now := code()
	form := b.Last.Fields("/oauth/factor")
	form.Set("code", now)
	b.Submit("/oauth/factor", url.Values{"code": {now}})
	b.Expect(200, "Let this app in?")
	c := w.tab()
	path, _ = w.push(nil)
	c.Open(path)
	c.signIn(w.alice, true)
	c.Submit("/oauth/factor", url.Values{"code": {now}})
	c.Expect(401, "Confirm that it is you")
	// After ten minutes the password has to be shown again.
	w.Clock.Advance(11 * minute)
	c.Submit("/oauth/factor", url.Values{"code": {code()}})
	if c.Last.Status != 400 || c.signedIn(w.alice) {
		t.Errorf("%d %s", c.Last.Status, c.Last.Text)
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
	b.Open(path)
	b.signIn(w.alice, true)
	b.Expect(200, "Confirm that it is you")
	if len(w.codes) != 1 {
		t.Fatalf("%q", w.codes)
	}
	b.Submit("/oauth/factor", url.Values{"code": {w.codes[0]}})
	b.Expect(200, "Let this app in?")
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
	b.Open(path)
	b.signIn(w.alice, false)
	b.Expect(200, "Your account is deactivated")
	b.Submit("/oauth/activate", nil)
	b.Expect(200, "Let this app in?")
	if a, err := accounts.ByDID(t.Context(), w.alice.DID); err != nil || a.Status() != account.Active {
		t.Errorf("%v %v", a.Status(), err)
	}
	if err := accounts.TakeDown(t.Context(), w.bob.DID, account.Takedown{Applied: true, Ref: "ref"}); err != nil {
		t.Fatal(err)
	}
	c := w.tab()
	path, _ = w.push(nil)
	c.Open(path)
	c.signIn(w.bob, true)
	c.Expect(403, "This did not work")
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
	b.Open(path)
	b.signIn(w.alice, false)
	b.Expect(200, "Your account is deactivated")
	b.Submit("/oauth/activate", nil)
	b.Expect(400, "This did not work")
	if a, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err != nil || a.Status() != account.Deactivated {
		t.Errorf("%v %v", a.Status(), err)
	}
}

// 81: whoever takes too long is sent back to the app, and does not lose what was entered.
func TestMatrix81RequestExpires(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, _ := w.push(nil)
	b.Open(path)
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
	b.Open(path)
	if in := b.Last.Fields("/oauth/sign-in"); in.Get("identifier") != string(w.alice.Handle) {
		t.Errorf("%v", in)
	}
	b.Submit("/oauth/sign-in", url.Values{"identifier": {"bob"}, "password": {w.alice.Password}})
	b.Expect(200, "Let this app in?")
}

// Languages follow the browser, or the app.
func TestLanguages(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	b.Language = "de-AT, en;q=0.5"
	path, _ := w.push(nil)
	b.Open(path)
	b.Expect(200, "Anmelden")
	if b.Last.Header.Get("Content-Language") != "de" || !strings.Contains(b.Last.Text, `<html lang="de">`) {
		t.Errorf("%v", b.Last.Header)
	}
	path, _ = w.push(url.Values{"ui_locales": {"ja en"}})
	b.Open(path)
	b.Expect(200, "サインイン")
	b.Submit("/oauth/sign-in", url.Values{"identifier": {"alice"}, "password": {"wrong"}})
	b.Expect(401, "サインイン")
}
