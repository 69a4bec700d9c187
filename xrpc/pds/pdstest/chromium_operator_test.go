package pdstest_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// The administrator takes an account down and lifts that again, without JavaScript too. Every page is
// looked at as axe-core and somebody with a narrow window see it, and by keys.
func TestBrowserOperatorPages(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	pds.Account("bob")
	alice.Create("com.example.note", map[string]any{"text": "a note"})
	p := newPerson(t, net, browser.Options{})
	p.Goto("https://pds1.test/admin")
	p.Audit("admin-sign-in")
	p.Fill("Password", "wrong")
	p.Submit("Sign in")
	p.WaitFor("The password is wrong.")
	p.Fill("Password", pdstest.AdminPassword)
	p.Submit("Sign in")

	var pages []string
	p.Eval(`[...document.querySelectorAll('nav.pages a')].map(a => a.href)`, &pages)
	if len(pages) < 6 {
		t.Fatalf("pages: %q", pages)
	}
	for _, address := range pages {
		p.Goto(address)
		if p.Status() != 200 {
			t.Errorf("%s: status %d", address, p.Status())
		}
		p.Audit("admin-" + path.Base(address))
		for _, f := range p.TabOrder() {
			if f.Name == "" || !f.Visible {
				t.Errorf("%s: %+v", address, f)
			}
		}
	}

	for _, o := range []browser.Options{{}, {NoScript: true, Width: 320}} {
		p := newPerson(t, net, o)
		p.Goto("https://pds1.test/admin/accounts")
		p.Fill("Password", pdstest.AdminPassword)
		p.Submit("Sign in")
		p.Goto("https://pds1.test/admin/accounts")
		p.Fill("Find accounts", "alice")
		p.Submit("Search")
		if strings.Contains(p.Text(), "bob.pds1.test") {
			t.Error("bob is found too")
		}
		p.Submit("alice.pds1.test")
		if !o.NoScript {
			p.Audit("admin-account")
		}
		p.Submit("Take down")
		if !o.NoScript {
			p.Audit("admin-act")
		}
		p.Submit(".actions button.main")
		if _, err := api.RepoListRecords(t.Context(), pds.Client(), api.RepoListRecordsParams{Repo: "alice.pds1.test", Collection: "com.example.note"}); !errors.Is(err, &xrpc.Error{Name: "InvalidRequest"}) {
			t.Errorf("taken down: %v", err)
		}
		p.Submit("Lift the takedown")
		p.Submit(".actions button.main")
		if _, err := api.RepoListRecords(t.Context(), pds.Client(), api.RepoListRecordsParams{Repo: "alice.pds1.test", Collection: "com.example.note"}); err != nil {
			t.Errorf("restored: %v", err)
		}
		p.Submit("Sign out")
		p.Submit(".actions button.main")
		p.Goto("https://pds1.test/admin/accounts")
		p.WaitFor("User name")
	}
}
