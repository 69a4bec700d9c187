package owner

import (
	"cmp"
	"net/url"
	"slices"

	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
)

// overview shows how the account stands.
func (p *Pages) overview(c *call) error {
	v := p.view(c, "overview.title")
	if err := p.readFactors(c, v); err != nil {
		return err
	}
	return c.Show("overview", v)
}

// devices shows where the account is signed in.
func (p *Pages) devices(c *call) error {
	v := p.view(c, "devices.title")
	list, err := p.site.SignIns(c.Context(), c.who)
	if err != nil {
		return err
	}
	for _, x := range list {
		v.Browsers = append(v.Browsers, browser{x, agentName(x.Agent), x.ID == c.in.ID})
	}
	slices.SortStableFunc(v.Browsers, func(a, b browser) int {
		switch {
		case a.Here == b.Here:
			return b.Seen.Compare(a.Seen)
		case a.Here:
			return -1
		}
		return 1
	})
	if v.Sessions, err = p.credentials.Sessions(c.Context(), c.who); err != nil {
		return err
	}
	return c.Show("devices", v)
}

// endDevice ends a sign-in of a browser, a session, all others, or all.
func (p *Pages) endDevice(c *call) error {
	switch id := c.named("id"); c.Form.Get("action") {
	case "browser":
		if id == c.in.ID {
			return p.signOut(c)
		}
		if err := p.site.EndSignIn(c.Context(), c.who, id); err != nil {
			return err
		}
	case "session":
		if err := p.credentials.EndOpenSession(c.Context(), c.who, id); err != nil {
			return err
		}
	case "others":
		if err := p.credentials.EndOtherSessions(c.Context(), c.who); err != nil {
			return err
		}
		return p.to(c, "devices", "done.others")
	case "everywhere":
		if err := p.credentials.EndSessions(c.Context(), c.who); err != nil {
			return err
		}
		return p.signOut(c)
	}
	return p.to(c, "devices", "done.ended")
}

// apps shows the apps that the account has let in.
func (p *Pages) apps(c *call) error {
	v := p.view(c, "apps.title")
	list, err := p.cfg.OAuth.Sessions(c.Context(), c.who)
	if err != nil {
		return err
	}
	words := pages.Words{Sets: p.cfg.Sets, Languages: []string{c.Lang.Tag}}
	byClient := make(map[string][]provider.Session)
	for _, s := range list {
		byClient[s.Client] = append(byClient[s.Client], s)
	}
	for id, sessions := range byClient {
		x := app{ID: id, Host: hostOf(id)}
		for i, s := range sessions {
			if i == 0 || s.Created.Before(x.Created) {
				x.Created = s.Created
			}
			if s.Renewed.After(x.Used) {
				x.Used = s.Renewed
			}
			for _, may := range words.Of(c.Context(), s.Granted.Scopes()) {
				if !slices.ContainsFunc(x.May, func(y pages.Permission) bool { return y.Scope == may.Scope }) {
					x.May = append(x.May, may)
				}
			}
		}
		v.Apps = append(v.Apps, x)
	}
	slices.SortFunc(v.Apps, func(a, b app) int { return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.ID, b.ID)) })
	return c.Show("apps", v)
}

// hostOf is the host of a client_id; empty for that of a program on somebody's own device.
func hostOf(clientID string) string {
	u, err := url.Parse(clientID)
	if err != nil || u.Scheme != "https" {
		return ""
	}
	return u.Host
}

// endApp ends all that the account has granted to an app.
func (p *Pages) endApp(c *call) error {
	if err := p.cfg.OAuth.EndClient(c.Context(), c.who, c.named("client")); err != nil {
		return err
	}
	return p.to(c, "apps", "done.app")
}
