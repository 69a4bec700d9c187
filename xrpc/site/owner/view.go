package owner

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/session"
	"github.com/pdskit/pdskit/xrpc/site"
)

// view is what a template shows.
type view struct {
	site.Page
	Account account.Account
	// Done is the name of the form that was just carried out.
	Done string
	// Nav are the pages, and Here is the current one.
	Nav  []navItem
	Mail bool // the server sends mail
	// Passkeys is set if there is a page for passkeys.
	Passkeys bool

	// Fields for the choice of an account.
	Choices        []choice
	SignIn, Return string

	Factors factorsView
	Full    bool // there can be no more passkeys
	Status  server.Status
	Missing []string // blobs
	// Elsewhere is set if the account is on another server, or is being moved here.
	Elsewhere bool

	Browsers []browser
	Sessions []credential.OpenSession
	Apps     []app

	AppPasswords []credential.AppPassword
	// Secret and Codes are shown once. QR is a picture of Secret.
	Secret string
	QR     template.HTML
	Codes  []string

	// Values that were entered, and results.
	Name, Email, Code                string
	Privileged, Sent, NeedsCode, Own bool
	Label, Domain, Handle, Free      string
	Domains                          []string
	Min, Max                         int
	DNS, HTTPS                       string
	MinPassword, MaxPassword         int
}

type navItem struct {
	Name, Link string
	Here       bool
}

type choice struct {
	Handle syntax.Handle
	Link   string
}

// browser is a browser in which the account is signed in.
type browser struct {
	site.SignIn
	Name string
	Here bool
}

// app is an app that the account has let in.
type app struct {
	// ID is its client_id. Host is the host to show to users; empty for a program on the user's own
	// device.
	ID, Host            string
	Created, Used, Ends time.Time
	May                 []pages.Permission
}

// minPassword is the length in characters of the shortest password that the pages accept.
const minPassword = 8

// view begins a page.
func (p *Pages) view(c *call, title string) *view {
	v := &view{Page: c.Page(title), Account: c.account, Mail: p.service.SendsMail(), Passkeys: p.cfg.Passkeys != nil, MinPassword: minPassword, MaxPassword: session.MaxPassword}
	var note string
	if p.notes.Open(c.Browser, c.R.URL.Query().Get("done"), &note) && c.Lang.Has(note) {
		v.Done = v.T(note)
	}
	for _, name := range []string{"", "devices", "apps", "app-passwords", "security", "email", "handle", "data", "close"} {
		if name == "apps" && p.cfg.OAuth == nil {
			continue
		}
		here, _, _ := strings.Cut(c.page.name, "/")
		v.Nav = append(v.Nav, navItem{v.T("nav." + name), path(c.account.DID, name), name == navOf(here)})
	}
	return v
}

// navOf is the page of the navigation that another one belongs to.
func navOf(name string) string {
	switch name {
	case "password", "authenticator", "recovery-codes", "email-codes", "passkeys":
		return "security"
	}
	return name
}

// Link returns the path of a page of the account.
func (v *view) Link(page string) string { return path(v.Account.DID, page) }

// form is what the template "begin" makes the beginning of a form of.
type form struct {
	Action string
	site.Hidden
}

// Form returns a form that is sent to a page of the account.
func (v *view) Form(page string) form {
	return form{path(v.Account.DID, page), v.Hidden(plain(v.Account.DID, page))}
}

// Time returns a time in a form for people, in all languages.
func (v *view) Time(t time.Time) string {
	if t.IsZero() {
		return v.T("unknown")
	}
	return t.UTC().Format("2006-01-02 15:04") + " UTC"
}

// Bytes returns a number of bytes in a form for people.
func (v *view) Bytes(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}

// maxName is the length in bytes of the longest name of something that a form may ask for.
const maxName = 2048

// named is the name in a field of a form. One that is too long for anything is that of nothing.
func (c *call) named(field string) string {
	if name := c.Form.Get(field); len(name) <= maxName {
		return name
	}
	return ""
}

// agentName is the name of a browser and its system, by what it says of itself.
func agentName(agent string) string {
	first := func(list ...[2]string) string {
		for _, x := range list {
			if strings.Contains(agent, x[0]) {
				return x[1]
			}
		}
		return ""
	}
	name := first([2]string{"Edg", "Edge"}, [2]string{"OPR/", "Opera"}, [2]string{"SamsungBrowser/", "Samsung Internet"}, [2]string{"Firefox/", "Firefox"},
		[2]string{"FxiOS/", "Firefox"}, [2]string{"CriOS/", "Chrome"}, [2]string{"Chrome/", "Chrome"}, [2]string{"Safari/", "Safari"})
	system := first([2]string{"Windows", "Windows"}, [2]string{"Android", "Android"}, [2]string{"iPhone", "iPhone"}, [2]string{"iPad", "iPad"},
		[2]string{"Mac OS X", "macOS"}, [2]string{"CrOS", "ChromeOS"}, [2]string{"Linux", "Linux"})
	switch {
	case name != "" && system != "":
		return name + " · " + system
	case name != "":
		return name
	}
	return site.Short(agent, 80)
}
