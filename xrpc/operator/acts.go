package operator

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/site"
)

// act is something that an administrator does. Its messages are "act.NAME", its title and the text
// of its button, and "about.NAME", what it means.
type act struct {
	kind kind
	// field is what it asks for: "ref", "handle", "email", or "confirm", the account's handle, or
	// its DID, once more. Empty: nothing.
	field string
	// danger: it cannot be undone, or hurts.
	danger bool
	do     func(p *Pages, c *call, x subject, value string) error
	// there, if not nil, reports whether the pages can do it.
	available func(cfg *Config) bool
}

// setStatus takes something down or back up, or deactivates or activates an account.
func setStatus(change func(in *api.AdminUpdateSubjectStatusInput, ref string)) func(*Pages, *call, subject, string) error {
	return func(_ *Pages, c *call, x subject, ref string) error {
		in := x.update("")
		change(&in, ref)
		_, err := c.admin.UpdateSubjectStatus(c.Context(), in)
		return err
	}
}

func takeDown(in *api.AdminUpdateSubjectStatusInput, ref string) {
	in.Takedown = &api.AdminStatusAttr{Applied: true, Ref: ref}
}

func restore(in *api.AdminUpdateSubjectStatusInput, _ string) {
	in.Takedown = &api.AdminStatusAttr{}
}

func deactivate(applied bool) func(*api.AdminUpdateSubjectStatusInput, string) {
	return func(in *api.AdminUpdateSubjectStatusInput, _ string) {
		in.Deactivated = &api.AdminStatusAttr{Applied: applied}
	}
}

// ofAccount is an act that needs nothing but the account.
func ofAccount(do func(a Admin, ctx context.Context, did syntax.DID) error) func(*Pages, *call, subject, string) error {
	return func(_ *Pages, c *call, x subject, _ string) error { return do(c.admin, c.Context(), x.did) }
}

func mails(cfg *Config) bool { return cfg.Mail == nil || cfg.Mail().On }

// acts are all of them.
var acts = map[string]*act{
	"takedown":      {kind: anAccount, field: "ref", danger: true, do: setStatus(takeDown)},
	"restore":       {kind: anAccount, do: setStatus(restore)},
	"deactivate":    {kind: anAccount, danger: true, do: setStatus(deactivate(true))},
	"activate":      {kind: anAccount, do: setStatus(deactivate(false))},
	"delete":        {kind: anAccount, field: "confirm", danger: true, do: ofAccount(Admin.DeleteAccount)},
	"reset-mail":    {kind: anAccount, do: ofAccount(Admin.SendPasswordReset), available: mails},
	"reset-factors": {kind: anAccount, danger: true, do: ofAccount(Admin.ResetFactors)},
	"end-sessions":  {kind: anAccount, danger: true, do: ofAccount(Admin.EndSessions)},
	"invites-off": {kind: anAccount, do: ofAccount(func(a Admin, ctx context.Context, did syntax.DID) error {
		return a.SetInvites(ctx, did, true)
	})},
	"invites-on": {kind: anAccount, do: ofAccount(func(a Admin, ctx context.Context, did syntax.DID) error {
		return a.SetInvites(ctx, did, false)
	})},
	"handle": {kind: anAccount, field: "handle", do: func(_ *Pages, c *call, x subject, value string) error {
		return c.admin.UpdateHandle(c.Context(), x.did, syntax.Handle(strings.TrimPrefix(value, "@")))
	}},
	"email": {kind: anAccount, field: "email", do: func(_ *Pages, c *call, x subject, value string) error {
		return c.admin.UpdateEmail(c.Context(), syntax.AtIdentifier(x.did), value)
	}},
	"takedown-part": {kind: aPart, field: "ref", danger: true, do: setStatus(takeDown)},
	"restore-part":  {kind: aPart, do: setStatus(restore)},
	"disable-code": {kind: aCode, danger: true, do: func(_ *Pages, c *call, x subject, _ string) error {
		return c.admin.DisableInvites(c.Context(), api.AdminDisableInviteCodesInput{Codes: []string{x.text}})
	}},
	"end-subscriber": {kind: aSubscriber, danger: true, available: func(cfg *Config) bool { return cfg.Subscribers != nil }, do: endSubscriber},
	"ask-relay":      {kind: aRelay, available: func(cfg *Config) bool { return cfg.Relays != nil }, do: askRelay},
	"look-relay":     {kind: aRelay, available: func(cfg *Config) bool { return cfg.Relays != nil }, do: lookRelay},
	"test-mail": {field: "email", available: func(cfg *Config) bool { return cfg.Mail != nil && cfg.Mail().On }, do: func(_ *Pages, c *call, _ subject, value string) error {
		return c.admin.SendTestMail(c.Context(), value)
	}},
}

var errGone = &site.Error{Status: http.StatusNotFound, Key: "error.gone"}

func endSubscriber(p *Pages, c *call, x subject, _ string) error {
	name := x.text
	for _, s := range p.cfg.Subscribers.Subscriptions() {
		if s.ID == x.id {
			name = s.Address
		}
	}
	return p.written(c, "end-subscriber", name, func() error {
		if !p.cfg.Subscribers.End(x.id) {
			return errGone
		}
		return nil
	})
}

func askRelay(p *Pages, c *call, x subject, _ string) error {
	return p.written(c, "ask-relay", x.text, func() error {
		_, err := p.cfg.Relays.Ask(c.Context(), x.text) // what the relay says is shown with it
		return err
	})
}

func lookRelay(p *Pages, c *call, x subject, _ string) error {
	_, err := p.cfg.Relays.Look(c.Context(), x.text)
	return err
}

// actView is the page of an act.
type actView struct {
	*view
	Name, Of, Field string
	Danger          bool
	Account         *account.Account
	// Confirm is the text to enter once more, and Value the text that was entered.
	Confirm, Value string
	Back           string
}

// findAct returns the act of a request and its subject.
func (p *Pages) findAct(c *call, of string) (name string, a *act, x subject, err error) {
	name = c.R.PathValue("act")
	a = acts[name]
	if a == nil || a.available != nil && !a.available(&p.cfg) {
		return "", nil, x, site.ErrNotOffered
	}
	x, err = parseSubject(a.kind, of)
	return name, a, x, err
}

// actPage begins the page of an act.
func (p *Pages) actPage(c *call, name string, a *act, x subject) (*actView, error) {
	v := &actView{view: p.view(c, "act."+name), Name: name, Of: x.text, Field: a.field, Danger: a.danger, Back: back(name, x)}
	if a.kind != anAccount {
		return v, nil
	}
	list, _, err := c.admin.Search(c.Context(), account.Search{Text: string(x.did)})
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, errNoAccount
	}
	v.Account = &list[0]
	if a.field == "confirm" {
		v.Confirm = string(list[0].Handle)
		if v.Confirm == "" {
			v.Confirm = string(list[0].DID)
		}
	}
	return v, nil
}

func (p *Pages) showAct(c *call) error {
	name, a, x, err := p.findAct(c, c.R.URL.Query().Get("of"))
	if err != nil {
		return err
	}
	v, err := p.actPage(c, name, a, x)
	if err != nil {
		return err
	}
	return c.Show("act", v)
}

// act does something, by the form of its page.
func (p *Pages) act(c *call) error {
	name, a, x, err := p.findAct(c, c.Form.Get("of"))
	if err != nil {
		return err
	}
	v, err := p.actPage(c, name, a, x)
	if err != nil {
		return err
	}
	v.Value = strings.TrimSpace(c.Form.Get("value"))
	field := "value"
	if a.field == "" {
		field = "do"
	}
	switch {
	case len(v.Value) > maxValue || short(v.Value, maxValue) != v.Value:
		v.Value = ""
		v.Add(field, "act.long")
	case v.Value == "" && a.field != "" && a.field != "ref":
		v.Add(field, "act.missing")
	case a.field == "confirm" && v.Value != v.Confirm:
		v.Add(field, "act.other")
	}
	if len(v.Problems) > 0 {
		return c.Show("act", v)
	}
	if err := a.do(p, c, x, v.Value); err != nil {
		return p.refused(c, v, field, err)
	}
	return c.Redirect(pageAfter(name, x))
}

// maxValue is the length in bytes of the longest value.
const maxValue = 300

// refused shows why an act was refused, with its form. What else fails is an error.
func (p *Pages) refused(c *call, v *actView, field string, err error) error {
	var method *xrpc.Error
	var mail *server.MailError
	var shown *site.Error
	why := ""
	switch {
	case errors.As(err, &mail):
		why = mail.Error()
	case errors.As(err, &method) && (method.Status < http.StatusInternalServerError || method.Status == http.StatusNotImplemented):
		why = strings.TrimSpace(method.Message)
		if why == "" {
			why = method.Name
		}
	case errors.Is(err, crawl.ErrTooSoon), errors.Is(err, crawl.ErrNoRelay):
		why = err.Error()
	case errors.As(err, &shown):
		return shown
	default:
		return err
	}
	v.Add(field, "act.refused", "why", short(why, 400))
	return c.Show("act", v)
}

// back is the page that an act is reached from.
func back(name string, x subject) string {
	switch x.kind {
	case anAccount:
		return pathAccount + "?" + url.Values{"did": {x.text}}.Encode()
	case aPart:
		return pathSubject + "?" + url.Values{"of": {x.text}}.Encode()
	case aCode:
		return pathInvites
	case aSubscriber:
		return pathStream
	case aRelay:
		return pathRelays
	}
	return pathMail
}

// pageAfter is the page that is shown when it is done.
func pageAfter(name string, x subject) string {
	to := back(name, x)
	if name == "delete" {
		to = pathAccounts
	}
	sep := "?"
	if strings.Contains(to, "?") {
		sep = "&"
	}
	return to + sep + "done=" + name
}
