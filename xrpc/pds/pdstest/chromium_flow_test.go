package pdstest_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// Somebody without an account makes one on the way into an app.
func TestBrowserSignUp(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	pds.Account("alice")
	app := net.App(noteScope)
	p := newPerson(t, net, browser.Options{})
	l := p.begin(app, pds, nil)
	p.Submit("Create an account")
	p.Fill("Choose your handle", "alice")
	p.Submit("Check whether it is free")
	p.WaitFor("@alice.pds1.test is not available")
	p.Fill("Choose your handle", "carol")
	p.Submit("Check whether it is free")
	p.WaitFor("@carol.pds1.test is free")
	p.Fill("E-mail address", "carol@example.com")
	p.Fill("Password", "a password that is long")
	p.Submit("Create the account")
	p.WaitFor("Confirm your e-mail address")
	mail, err := net.Mail.Take(t.Context(), "carol@example.com", server.ConfirmEmail)
	if err != nil {
		t.Fatal(err)
	}
	p.Fill("Code", mail.Token)
	p.Submit("Confirm")
	p.WaitFor("It asks for access to your account @carol.pds1.test")
	p.Submit("Allow")
	s := p.letIn(l)
	if err := create(t, s, "com.example.note", "hello"); err != nil {
		t.Error(err)
	}
	if a, err := pds.Server().Accounts.Find(t.Context(), "carol.pds1.test"); err != nil || a.DID != s.Tokens().DID {
		t.Errorf("%v %v", a, err)
	}
}

// The browser remembers who wants to be, and lets choose. A person with two accounts takes one after
// the other; one is signed out.
func TestBrowserAccounts(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice, bob := pds.Account("alice"), pds.Account("bob")
	app := net.App(noteScope)
	p := newPerson(t, net, browser.Options{})
	l := p.begin(app, pds, nil)
	p.Fill("Handle or e-mail address", "alice.pds1.test")
	p.Fill("Password", "wrong")
	p.Submit("Sign in")
	p.WaitFor("The name or the password is wrong.")
	p.signIn(alice, true)
	p.WaitFor("@alice.pds1.test")
	p.Submit("Use another account")
	p.signIn(bob, true)
	p.WaitFor("@bob.pds1.test")
	p.Submit("Allow")
	if s := p.letIn(l); s.Tokens().DID != bob.DID {
		t.Errorf("the app is let in by %s", s.Tokens().DID)
	}

	l = p.begin(app, pds, nil) // 85: two accounts, and no hint
	p.WaitFor("Choose an account")
	for _, name := range []string{"@alice.pds1.test", "@bob.pds1.test"} {
		if !slices.Contains(p.Names(), name) {
			t.Errorf("no %s in %q", name, p.Names())
		}
	}
	p.Submit("@alice.pds1.test")
	p.Submit("Allow")
	if s := p.letIn(l); s.Tokens().DID != alice.DID {
		t.Errorf("the app is let in by %s", s.Tokens().DID)
	}

	l = p.begin(app, pds, nil)
	p.Submit("Sign out on this device")
	p.Submit("Sign @alice.pds1.test out on this device")
	p.Goto(l.URL)
	if p.WaitFor("@bob.pds1.test"); p.Has("@alice.pds1.test") {
		t.Error("alice is still there")
	}
	// Another tab of the same person is at the same place; another person is asked to sign in.
	same := &person{p.Another(), t, net}
	same.begin(app, pds, nil)
	same.WaitFor("@bob.pds1.test")
	other := newPerson(t, net, browser.Options{})
	other.begin(app, pds, nil)
	other.WaitFor("Handle or e-mail address")
	// 80: a second browser opens the request of the first.
	other.Goto(l.URL)
	if other.Status() < 400 || strings.Contains(other.Text(), "bob") {
		t.Errorf("another browser sees the request: %d %s", other.Status(), other.Text())
	}
	p.Submit("Allow")
	p.letIn(l)
}

// What is unticked is not granted; nobody is let in when the person says no.
func TestBrowserConsent(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	app := net.App(noteScope + " transition:email blob:image/*")
	p := newPerson(t, net, browser.Options{})
	l := p.begin(app, pds, url.Values{"login_hint": {string(alice.Handle)}})
	if p.Value("Handle or e-mail address") != "alice.pds1.test" {
		t.Error("the hint is not filled in")
	}
	p.Fill("Password", alice.Password)
	p.Submit("Sign in")
	p.WaitFor("app1.example.net")
	p.Check("See your e-mail address", false)
	p.Submit("Allow")
	s := p.letIn(l)
	if got := s.Tokens().Scope; strings.Contains(got, "email") || !strings.Contains(got, "repo:com.example.note") || !strings.Contains(got, "blob:image/*") {
		t.Errorf("granted: %s", got)
	}
	if err := create(t, s, "com.example.note", "x"); err != nil {
		t.Error(err)
	}
	if err := create(t, s, "com.example.other", "x"); !errors.Is(err, &xrpc.Error{Name: "ScopeMissingError"}) {
		t.Error(err)
	}

	p.begin(app, pds, url.Values{"state": {"ü&="}, "response_mode": {"fragment"}, "login_hint": {string(alice.Handle)}})
	p.Fill("Password", alice.Password)
	p.Submit("Sign in")
	p.Submit("Deny")
	back, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	q, err := url.ParseQuery(back.EscapedFragment())
	if err != nil || q.Get("error") != "access_denied" || q.Get("iss") != "https://pds1.test" || q.Get("state") != "ü&=" {
		t.Errorf("93: %v %v", q, err)
	}

	l = p.begin(app, pds, url.Values{"login_hint": {string(alice.Handle)}})
	p.Fill("Password", alice.Password)
	p.Submit("Sign in")
	p.Submit("Deny")
	if _, err := p.finish(l); !errors.Is(err, &provider.Error{Code: "access_denied"}) {
		t.Error(err)
	}
	p.Back() // 82, 100: the form is there again, and is sent once more
	p.Submit("Allow")
	if p.Status() < 400 || strings.HasPrefix(p.URL(), app.Redirect) {
		t.Errorf("the request is answered twice: %s", p.URL())
	}
}

// The whole way, on a device of the person's own, without JavaScript: check 94.
func TestBrowserMatrix94WithoutScripts(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	code, _ := codes(t, net, pds, alice)
	app := net.App(noteScope)
	loopback(t, app)
	p := newPerson(t, net, browser.Options{NoScript: true, Width: 320})
	l := p.begin(app, pds, nil)
	p.signIn(alice, true)
	p.Fill("Code", code())
	p.Submit("Sign in")
	p.WaitFor("An app on this device")
	p.Submit("Allow")
	p.WaitFor("You are back in the app.")
	if err := create(t, p.letIn(l), "com.example.note", "x"); err != nil {
		t.Error(err)
	}
	l = p.begin(app, pds, nil)
	p.Submit("Use another account")
	p.Submit("Forgot your password?")
	p.Fill("E-mail address", alice.Email)
	p.Submit("Send the code")
	mail, err := net.Mail.Take(t.Context(), alice.Email, server.ResetPassword)
	if err != nil {
		t.Fatal(err)
	}
	alice.Password = "another password"
	p.Fill("Code", mail.Token)
	p.Fill("New password", alice.Password)
	p.Submit("Set the password")
	p.WaitFor("Your password is changed")
	p.Submit("Sign in")
	p.signIn(alice, false)
	p.Fill("Code", code())
	p.Submit("Sign in")
	p.Submit("Allow")
	p.letIn(l)
}

// Everything can be done by keys alone, and what has the focus can be seen.
func TestBrowserKeyboard(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	app := net.App(noteScope + " blob:image/*")
	p := newPerson(t, net, browser.Options{})
	// to presses the tabulator key until something has the focus.
	to := func(name string) {
		t.Helper()
		for range 40 {
			p.Press("Tab")
			f := p.Focus()
			if !f.Visible {
				t.Errorf("it cannot be seen that %q has the focus", f.Name)
			}
			if strings.HasPrefix(f.Name, name) {
				return
			}
		}
		t.Fatalf("the tabulator key does not lead to %q", name)
	}
	l := p.begin(app, pds, nil)
	if f := p.Focus(); f.Name != "Handle or e-mail address" {
		t.Errorf("%+v has the focus at first", f)
	}
	p.Type(string(alice.Handle))
	to("Password")
	p.Type(alice.Password)
	to("Keep me signed in")
	p.Press("Space")
	p.Press("Shift+Tab")
	p.Enter() // in the field of the password
	p.WaitFor("Let this app in?")
	p.Press("Tab")
	if f := p.Focus(); f.Name != "Skip to the content" || !f.Visible {
		t.Errorf("first is %+v", f)
	}
	to("Upload files")
	p.Press("Space")
	to("Allow")
	p.Enter()
	if got := p.letIn(l).Tokens().Scope; strings.Contains(got, "blob") || !strings.Contains(got, "repo:") {
		t.Errorf("granted: %s", got)
	}
	// On the page with most on it: all has a name, and is reached in the order in which it is read.
	p.begin(app, pds, nil)
	var names []string
	for _, f := range p.TabOrder() {
		names = append(names, f.Name)
		if f.Name == "" || !f.Visible {
			t.Errorf("%+v", f)
		}
	}
	order := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "Change your public data") })
	allow, deny := slices.Index(names, "Allow"), slices.Index(names, "Deny")
	if order < 0 || order > allow || allow+1 != deny {
		t.Errorf("the order is %q", names)
	}
}

// Checks 101 and 102: a cookie that somebody has planted is worth nothing after the sign-in; an old one
// that comes back ends what the browser has.
func TestBrowserMatrix101_102Cookies(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	app := net.App(noteScope)
	const cookie = "__Host-device"
	attacker := newPerson(t, net, browser.Options{})
	attacker.begin(app, pds, nil)
	planted := attacker.Cookie(cookie)
	if planted == "" {
		t.Fatal("the attacker has no cookie")
	}
	victim := newPerson(t, net, browser.Options{})
	victim.Goto("https://pds1.test/robots.txt")
	victim.SetCookie(cookie, planted)
	victim.begin(app, pds, nil)
	victim.signIn(alice, true)
	victim.WaitFor("@alice.pds1.test")
	if victim.Cookie(cookie) == planted {
		t.Error("101: the planted cookie is still that of the browser")
	}
	attacker.begin(app, pds, nil)
	if attacker.WaitFor("Handle or e-mail address"); strings.Contains(attacker.Text(), "alice") {
		t.Error("101: the attacker is signed in")
	}

	bob := pds.Account("bob")
	owner := newPerson(t, net, browser.Options{})
	owner.begin(app, pds, nil)
	owner.signIn(alice, true)
	stolen := owner.Cookie(cookie)
	owner.Submit("Use another account")
	owner.signIn(bob, true) // which changes the secret of the cookie
	if owner.WaitFor("@bob.pds1.test"); owner.Cookie(cookie) == stolen {
		t.Fatal("102: the cookie has not changed")
	}
	net.Clock.Advance(11 * time.Minute)
	thief := newPerson(t, net, browser.Options{})
	thief.Goto("https://pds1.test/robots.txt")
	thief.SetCookie(cookie, stolen)
	thief.begin(app, pds, nil)
	if thief.WaitFor("Handle or e-mail address"); strings.Contains(thief.Text(), "alice") {
		t.Error("102: the thief is signed in")
	}
	owner.begin(app, pds, nil)
	owner.WaitFor("Handle or e-mail address") // the cookie was in two hands
}

// The authenticator app's code, each once, and the recovery codes.
func TestBrowserFactors(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	code, recovery := codes(t, net, pds, alice)
	app := net.App(noteScope)
	p := newPerson(t, net, browser.Options{})
	l := p.begin(app, pds, nil)
	p.signIn(alice, false)
	p.WaitFor("Confirm that it is you")
	// 168: straight on, after the password alone.
	direct := p.Another()
	direct.Goto(l.URL)
	if direct.Has("Allow") {
		t.Error("168: consent is asked after the password alone")
	}
	p.Fill("Code", "000000")
	p.Submit("Sign in")
	p.WaitFor("The code is wrong, or was used already.")
	used := code()
	p.Fill("Code", used)
	p.Submit("Sign in")
	p.Submit("Allow")
	p.letIn(l)

	for i, c := range []struct {
		code string
		good bool
	}{{used, false}, {recovery[2], true}, {recovery[2], false}, {strings.ToUpper(recovery[3]), true}} {
		l := p.begin(app, pds, nil)
		p.signIn(alice, false)
		p.Fill("Code", c.code)
		p.Submit("Sign in")
		if !c.good {
			p.WaitFor("The code is wrong, or was used already.")
			continue
		}
		p.Submit("Allow")
		if _, err := p.finish(l); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}
