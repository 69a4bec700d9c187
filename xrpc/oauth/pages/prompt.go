package pages

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/site"
)

// app is who asks, as people are shown it.
type app struct {
	// Name is the name of a trusted client, or the host of its client_id. It is empty for a program
	// on the user's own device.
	Name string
	// Host is its host, and ID its client_id.
	Host, ID                 string
	Logo, URI, Terms, Policy string
	Trusted, Loopback        bool
}

func describeApp(c provider.Client) app {
	a := app{ID: c.ID, Trusted: c.Trusted, Loopback: c.Loopback, URI: site.WebLink(c.URI), Terms: site.WebLink(c.Terms), Policy: site.WebLink(c.Policy)}
	if c.Loopback {
		return a
	}
	if u, err := url.Parse(c.ID); err == nil {
		a.Host = u.Host
	}
	a.Name = a.Host
	if c.Trusted && c.Name != "" {
		a.Name, a.Logo = site.Short(c.Name, 100), site.WebLink(c.Logo)
	}
	return a
}

// Device returns the browser of a request: see [provider.Logins].
func (p *Pages) Device(w http.ResponseWriter, r *http.Request) (d provider.Device, err error) {
	b, err := p.site.Browser(w, r)
	if err != nil {
		return d, err
	}
	d.ID = b.Name
	list, err := p.site.SignedIn(r.Context(), b)
	if err != nil {
		return d, err
	}
	for _, x := range list {
		d.Accounts = append(d.Accounts, provider.SignedIn{
			DID: x.Account.DID, At: x.At, Credentials: x.Credentials, Request: x.Request,
			Caller: p.site.Caller(b, x.Account.DID, site.As{Request: x.Request}),
		})
	}
	return d, nil
}

// AppName returns the name of an app to show to users: the name of a trusted client, or the host of
// its client_id, or an English text for a program on the user's device.
func AppName(c provider.Client) string {
	return cmp.Or(describeApp(c).Name, set.Languages()[0].Message("app.device"))
}

// Prompt shows what a request needs next: see [provider.Pages].
func (p *Pages) Prompt(w http.ResponseWriter, r *http.Request, q provider.Prompt) {
	who := describeApp(q.Client)
	c := &call{Call: p.site.Begin(set, w, r, site.OriginOf(who.Logo))}
	err := c.Know()
	if err != nil {
		c.Fail(err)
		return
	}
	p.setFlow(c, flow{Return: q.Return, Request: q.Request, App: who.Name, Who: q.Hint, Fixed: q.Hint != "", Locales: site.Short(q.Locales, 200)})
	var v *view
	switch ask := q.Ask; {
	case ask == provider.AskConsent:
		v, err = p.promptConsent(c, q)
	case ask == provider.AskAccount:
		v = p.promptAccount(c, q)
	case ask == provider.AskSignUp && p.signUpOffered() && !c.flow.Fixed:
		v = p.signUpView(c)
	default:
		if q.Account != "" {
			c.flow.Who = string(q.Account)
		}
		if strings.HasPrefix(c.flow.Who, "did:") { // people know handles
			if a, err := p.accounts.ByDID(r.Context(), syntax.DID(c.flow.Who)); err == nil && a.Handle != "" {
				c.flow.Who = string(a.Handle)
			}
		}
		v = p.signInView(c)
	}
	if err != nil {
		c.Fail(err)
		return
	}
	v.App = who
	p.show(c, v)
}

// promptAccount asks which account to use.
func (p *Pages) promptAccount(c *call, q provider.Prompt) *view {
	v := p.view(c, "account", "account.title")
	for _, x := range q.Accounts {
		to := q.Return + "&account=" + url.QueryEscape(string(x.Account.DID))
		v.Choices = append(v.Choices, choice{x.Account, x.SignIn, to})
	}
	return v
}

// promptConsent asks what the app may do, or first, whether a deactivated account should be active
// again.
func (p *Pages) promptConsent(c *call, q provider.Prompt) (*view, error) {
	a, err := p.accounts.ByDID(c.ctx(), q.Account)
	if err != nil {
		return nil, err
	}
	if a.Status() == account.Deactivated && p.cfg.Service != nil {
		c.flow.Who = string(a.DID)
		v := p.view(c, "activate", "activate.title")
		v.Account = a
		return v, nil
	}
	v := p.view(c, "consent", "consent.title")
	v.Account = a
	v.Consent = p.describeConsent(c, v, q)
	return v, nil
}

// activate makes an account active again, on the word of its owner, who has just signed in.
func (p *Pages) activate(c *call) error {
	did := syntax.DID(c.flow.Who)
	if p.cfg.Service == nil {
		return site.ErrNotOffered
	}
	if c.flow.Request == "" || did == "" {
		return site.ErrForm
	}
	if err := p.cfg.Service.Activate(c.ctx(), p.site.Caller(c.Browser, did, site.As{Request: c.flow.Request})); err != nil {
		return err
	}
	return p.goOn(c, did)
}
