package pages

import (
	"embed"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/site"
)

//go:embed templates/*.html messages/*.txt
var files embed.FS

// set are the templates and messages of the pages.
var set = site.NewSet(files)

// view is what a template shows.
type view struct {
	site.Page
	name string // of the template

	App     app
	Request bool // an app has asked for this

	// Values that were entered or are already known.
	Who, Handle, Label, Domain, Email, Invite, Code6 string
	Fixed, Again, Remember                           bool

	// Passkeys is set if the page supports passkeys.
	Passkeys bool

	Offers struct{ SignUp, Reset bool }

	Choices []choice

	SignUp struct {
		Domains          []string
		Invite           bool
		Min, Max         int
		Available, Taken string
	}

	Factor struct {
		Proof              string
		App, Email, Mailed bool
	}

	Confirm string // whose address is to be confirmed: sealed

	Consent consent
	Account account.Account
}

// choice is an account that may be chosen.
type choice struct {
	account.Account
	SignIn bool
	Link   string
}

// view begins a page.
func (p *Pages) view(c *call, name, title string) *view {
	c.Flow = ""
	if c.flow != (flow{}) {
		c.Flow = p.flows.Seal(c.Browser, c.flow)
	}
	v := &view{Page: c.Page(title), name: name}
	v.Request = c.flow.Request != ""
	v.App.Name = c.flow.App
	v.Who, v.Fixed = c.flow.Who, c.flow.Fixed
	if s := p.cfg.Service; s != nil {
		v.Offers.SignUp = len(s.Policy().Domains) > 0 && !c.flow.Fixed
		v.Offers.Reset = s.SendsMail()
	}
	return v
}

// show answers with a page.
func (p *Pages) show(c *call, v *view) error { return c.Show(v.name, v) }
