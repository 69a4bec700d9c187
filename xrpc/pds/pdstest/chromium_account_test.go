package pdstest_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// openAccount signs somebody in at the pages of the account.
func (p *person) openAccount(a *pdstest.Account) {
	p.t.Helper()
	p.Goto("https://" + strings.SplitN(string(a.Handle), ".", 2)[1] + "/account")
	p.signIn(a, true)
	p.WaitFor("@" + string(a.Handle))
}

// Somebody looks after an account: sees the apps that are let in and takes that back, enrols an
// authenticator app, makes recovery codes, changes the password, signs others out. Every page is looked
// at as axe-core and somebody with a narrow window see it.
func TestBrowserAccountPages(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	alice.Create("com.example.note", map[string]any{"text": "a note"})
	app := net.App(noteScope)
	session := app.Login(alice)
	if _, err := api.ServerCreateAppPassword(t.Context(), alice, api.ServerCreateAppPasswordInput{Name: "phone"}); err != nil {
		t.Fatal(err)
	}
	p, other := newPerson(t, net, browser.Options{}), newPerson(t, net, browser.Options{})
	other.openAccount(alice)
	p.openAccount(alice)
	p.Audit("account")
	for _, page := range []string{"Devices", "Apps", "App passwords", "Sign-in and security", "E-mail", "Handle", "Your data", "Leave"} {
		p.Submit(page)
		p.Audit("account-" + strings.ToLower(strings.ReplaceAll(page, " ", "-")))
		for _, f := range p.TabOrder() {
			if f.Name == "" || !f.Visible {
				t.Errorf("%s: %+v", page, f)
			}
		}
	}

	p.Submit("Apps")
	p.WaitFor("app1.example.net")
	if err := create(t, session, "com.example.note", "before"); err != nil {
		t.Fatal(err)
	}
	p.Submit("Revoke: app1.example.net")
	p.WaitFor("The app has no access any more.")
	p.Audit("account-apps-none")
	ended(t, session, "it was revoked on the page")

	p.Submit("Sign-in and security")
	p.Submit("Authenticator app: Add")
	p.Submit("Add an app")
	p.Audit("account-authenticator")
	secret := regexp.MustCompile(`[^A-Z2-7]`).ReplaceAllString(p.TextOf(".secret code"), "")
	code := func() string {
		net.Clock.Advance(time.Minute)
		code, err := credential.AppCode(secret, net.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	p.Fill("Code", "000000")
	p.Submit("Confirm")
	p.WaitFor("The code is wrong.")
	p.Audit("account-authenticator-wrong")
	p.Fill("Code", code())
	p.Submit("Confirm")
	p.WaitFor("The authenticator app is added.")
	p.Audit("account-recovery-codes")
	recovery := strings.Fields(p.TextOf(".codes"))
	p.Submit("I have kept them")

	p.Submit("Change") // the password: more than five minutes after the sign-in
	p.Audit("account-password")
	net.Clock.Advance(6 * time.Minute)
	p.Fill("New password", "another password")
	p.Fill("New password, once more", "another password")
	p.Submit("Change the password")
	p.WaitFor("Confirm that it is you")
	p.Fill("Password", alice.Password)
	p.Submit("Sign in")
	p.Fill("Code", recovery[0])
	p.Submit("Sign in")
	p.Fill("New password", "another password")
	p.Fill("New password, once more", "another password")
	p.Submit("Change the password")
	p.WaitFor("Your password is changed.")
	alice.Password = "another password"
	other.Goto("https://pds1.test/account")
	other.WaitFor("Handle or e-mail address") // was signed out
	other.signIn(alice, true)
	other.Fill("Code", recovery[1])
	other.Submit("Sign in")
	other.WaitFor("@alice.pds1.test")

	p.Submit("Devices")
	p.Audit("account-devices-two")
	p.Submit("Sign out all other devices")
	p.WaitFor("All other devices are signed out.")
	other.Goto("https://pds1.test/account")
	other.WaitFor("Handle or e-mail address")

	p.Submit("Leave")
	p.Submit("Deactivate the account")
	p.WaitFor("Your account is deactivated.")
	p.Audit("account-deactivated")
	p.Submit("Activate the account")
	p.WaitFor("Your account is active.")
	if page := p.Status(); page != 200 {
		t.Error(page)
	}

	plain := newPerson(t, net, browser.Options{NoScript: true}) // without JavaScript
	plain.Goto("https://pds1.test/account")
	plain.signIn(alice, false)
	plain.Fill("Code", code())
	plain.Submit("Sign in")
	plain.Submit("App passwords")
	plain.WaitFor("You have no app passwords.") // they have ended with the old password
	plain.Submit("Make an app password")
	plain.Fill("Name", "tablet")
	plain.Submit("Make it")
	plain.WaitFor("It is not shown again.")
	plain.Submit("App passwords")
	plain.Submit("Revoke: tablet")
	plain.WaitFor("The app password is revoked.")
}
