package pages

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
)

// app is who asks, as people are shown it.
type app struct {
	// Name is the name of a trusted client, else the host of its client_id. Empty: a program on the
	// person's own device.
	Name string
	// Host is where it is; ID its client_id.
	Host, ID                 string
	Logo, URI, Terms, Policy string
	Trusted, Loopback        bool
}

func describeApp(c provider.Client) app {
	a := app{ID: c.ID, Trusted: c.Trusted, Loopback: c.Loopback, URI: webLink(c.URI), Terms: webLink(c.Terms), Policy: webLink(c.Policy)}
	if c.Loopback {
		return a
	}
	if u, err := url.Parse(c.ID); err == nil {
		a.Host = u.Host
	}
	a.Name = a.Host
	if c.Trusted && c.Name != "" {
		a.Name, a.Logo = short(c.Name, 100), webLink(c.Logo)
	}
	return a
}

// webLink returns an address that a page may link to, or nothing.
func webLink(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// origin is the origin of an https address, for a Content-Security-Policy; empty if it has none.
func origin(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(strings.ToLower(u.Host), "abcdefghijklmnopqrstuvwxyz0123456789.-:") != "" {
		return ""
	}
	return "https://" + strings.ToLower(u.Host)
}

// Prompt shows what a request needs next: see [provider.Pages].
func (p *Pages) Prompt(w http.ResponseWriter, r *http.Request, q provider.Prompt) {
	who := describeApp(q.Client)
	p.headers(w.Header(), origin(who.Logo))
	c := &call{w: w, r: r, lang: chooseLanguage(q.Locales, r.Header.Get("Accept-Language"))}
	b, err := p.promptBrowser(c)
	if err != nil {
		p.fail(c, err)
		return
	}
	c.device = b
	c.flow = flow{Return: q.Return, Request: q.Request, App: who.Name, Who: q.Hint, Fixed: q.Hint != "", Locales: short(q.Locales, 200)}
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
		p.fail(c, err)
		return
	}
	v.App = who
	p.show(c, v)
}

// promptBrowser is the browser of a request whose cookie the provider has looked at already. If it
// had none, the new one is in the answer.
func (p *Pages) promptBrowser(c *call) (browser, error) {
	for _, line := range c.w.Header()["Set-Cookie"] {
		if x, err := http.ParseSetCookie(line); err == nil && x.Name == p.cookieName() {
			name, secret, _ := strings.Cut(x.Value, ".")
			return browser{Name: name, secret: secret}, nil
		}
	}
	return p.browser(c.w, c.r)
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
		return errNone
	}
	if c.flow.Request == "" || did == "" || c.device.stale {
		return errForm
	}
	if err := p.cfg.Service.Activate(c.ctx(), p.caller(c.device, did, c.flow.Request)); err != nil {
		return signedOut(err)
	}
	return p.goOn(c, did)
}
