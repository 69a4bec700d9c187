package pdstest_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Every page on which apps are let in, as axe-core and somebody with a narrow window see it, light and
// dark. With PDSKIT_SCREENSHOTS, pictures of all are written to that folder.
func TestBrowserPages(t *testing.T) {
	net := pdstest.New(t)
	server1 := net.PDS(func(c *pds.Config) {
		c.Brand = site.Brand{Name: "Example", Terms: "https://pds1.test/terms", Privacy: "https://pds1.test/privacy", Support: "mailto:help@example.com"}
	})
	alice, bob := server1.Account("alice"), server1.Account("bob")
	code, _ := codes(t, net, server1, alice)
	app := net.App("atproto transition:generic transition:email repo:com.example.note?action=create rpc:com.example.search?aud=did:web:api.example.net%23search blob:image/* identity:* account:repo?action=manage",
		func(d map[string]any) {
			d["tos_uri"], d["policy_uri"] = "https://app1.example.net/terms", "https://app1.example.net/privacy"
		})
	p := newPerson(t, net, browser.Options{})
	l := p.begin(app, server1, nil)
	p.Audit("sign-in")
	p.Fill("Handle or e-mail address", "alice.pds1.test")
	p.Fill("Password", "wrong")
	p.Submit("Sign in")
	p.Audit("sign-in-wrong")
	p.Submit("Create an account")
	p.Audit("sign-up")
	p.Fill("Choose your handle", "carol")
	p.Submit("Check whether it is free")
	p.Audit("sign-up-free")
	p.Fill("Choose your handle", "alice")
	p.Submit("Check whether it is free")
	p.Audit("sign-up-taken")
	p.Goto(l.URL)
	p.Submit("Forgot your password?")
	p.Audit("forgot")
	p.Fill("E-mail address", bob.Email)
	p.Submit("Send the code")
	p.Audit("reset")
	p.Fill("Code", "AAAAA-BBBBB")
	p.Fill("New password", "another password")
	p.Submit("Set the password")
	p.Audit("reset-wrong")
	mail, err := net.Mail.Take(t.Context(), bob.Email, server.ResetPassword)
	if err != nil {
		t.Fatal(err)
	}
	p.Fill("Code", mail.Token)
	p.Fill("New password", "another password")
	bob.Password = "another password"
	p.Submit("Set the password")
	p.Audit("reset-done")
	p.Submit("Sign in")
	p.signIn(alice, true)
	p.Audit("factor")
	p.Fill("Code", "000000")
	p.Submit("Sign in")
	p.Audit("factor-wrong")
	p.Fill("Code", code())
	p.Submit("Sign in")
	p.Audit("consent")
	p.Submit("Use another account")
	p.signIn(bob, true)
	p.WaitFor("@bob.pds1.test")
	p.begin(app, server1, nil)
	p.Audit("accounts")
	p.Submit("Sign out on this device")
	p.Audit("sign-out")
	p.Goto("https://pds1.test/oauth/authorize?" + url.Values{"client_id": {app.ID}, "request_uri": {"urn:ietf:params:oauth:request_uri:req-none"}}.Encode())
	p.Audit("error")

	if err := server1.Server().Accounts.Deactivate(t.Context(), account.Trusted(bob.DID), time.Time{}); err != nil {
		t.Fatal(err)
	}
	p.begin(app, server1, url.Values{"login_hint": {string(bob.DID)}})
	p.Fill("Password", bob.Password) // it was signed out
	p.Submit("Sign in")
	p.WaitFor("Your account is deactivated")
	p.Audit("activate")
	p.Submit("Make it active again")
	p.WaitFor("Let this app in?")
	app.Scope = noteScope
	loopback(t, app)
	p.begin(app, server1, url.Values{"login_hint": {string(bob.DID)}})
	p.Audit("consent-loopback")
}
