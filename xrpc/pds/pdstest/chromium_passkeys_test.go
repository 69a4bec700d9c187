package pdstest_test

import (
	"testing"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// An owner adds a passkey on the account pages, and signs in by it in a browser that has forgotten
// everything else.
func TestBrowserAddsPasskeys(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	page := "https://" + pds.Name + "/account/" + string(alice.DID) + "/passkeys"
	p := newPerson(t, net, browser.Options{})
	authenticator := p.Authenticator()
	authenticator.Answer(false)
	p.Goto(page)
	p.showPassword(alice, true)
	p.WaitFor("You have none.")
	authenticator.Answer(true)
	p.Fill("Name", "laptop")
	p.Submit("Add a passkey")
	p.WaitFor("The passkey is added.")
	p.Fill("Name", "again")
	p.Click("Add a passkey")
	p.WaitFor("There is a passkey of your account on this device already.")
	p.Audit("account-passkeys")
	authenticator.Verify(false)
	authenticator.Clear()
	p.Click("Add a passkey")
	p.WaitFor("The passkey was not used.")
	if n := len(authenticator.Credentials()); n != 0 {
		t.Errorf("%d passkeys without a finger", n)
	}
	authenticator.Verify(true)
	p.Submit("Add a passkey")
	p.WaitFor("The passkey is added.")

	p.ForgetCookies()
	p.Goto(page) // which leads to the sign-in, where the browser offers the passkey itself
	p.WaitFor("Last used")
	p.Submit("Remove: laptop")
	p.WaitFor("It is removed.")
	p.ForgetCookies()
	authenticator.Clear()
	p.Goto(page)
	p.WaitFor("Sign in with a passkey")
	p.Click("Sign in with a passkey")
	p.WaitFor("The passkey was not used.")
	p.Audit("signin-passkey-cancelled")
	if problems := p.Problems(); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
}
