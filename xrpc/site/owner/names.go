package owner

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/site"
)

// email shows the address, and how to confirm it.
func (p *Pages) email(c *call) error { return c.Show("email", p.view(c, "email.title")) }

// confirmEmail sends a code to the address, or takes it.
func (p *Pages) confirmEmail(c *call) error {
	v := p.view(c, "email.title")
	v.Sent = true
	if c.Form.Get("action") == "send" {
		if err := p.mail(c, func() error { return p.service.RequestEmailConfirmation(c.Context(), c.who) }); err != nil {
			return err
		}
		return c.Show("email", v)
	}
	code := strings.TrimSpace(c.Form.Get("code"))
	err := credential.ErrMailTokenRequired
	if code != "" {
		err = p.credentials.ConfirmEmail(c.Context(), c.who, c.account.Email, code)
	}
	if errors.Is(err, credential.ErrOtherEmail) { // it was changed meanwhile
		err = credential.ErrMailToken
	}
	if p.wrongCode(v, err) {
		return c.Show("email", v)
	} else if err != nil {
		return err
	}
	return p.to(c, "email", "done.confirmed")
}

// newEmail shows the form to change the address.
func (p *Pages) newEmail(c *call) error {
	v := p.view(c, "newemail.title")
	v.NeedsCode = !c.account.EmailConfirmedAt.IsZero()
	return c.Show("newemail", v)
}

// changeEmail changes the address, by a code that was sent to the one before if that is confirmed.
func (p *Pages) changeEmail(c *call) error {
	v := p.view(c, "newemail.title")
	v.NeedsCode = !c.account.EmailConfirmedAt.IsZero()
	email := strings.TrimSpace(c.Form.Get("email"))
	v.Email = site.Short(email, 256)
	if c.Form.Get("action") == "send" {
		if err := p.mail(c, func() error { return p.sendChange(c) }); err != nil {
			return err
		}
		v.Sent = true
		return c.Show("newemail", v)
	}
	if err := p.site.Limit(c.R, "email-change"); err != nil {
		return err
	}
	err := p.service.ChangeEmail(c.Context(), c.who, email, strings.TrimSpace(c.Form.Get("code")))
	switch {
	case errors.Is(err, server.ErrEmail):
		v.Add("email", "email.invalid")
	case errors.Is(err, account.ErrEmailTaken):
		v.Add("email", "email.taken")
	case p.wrongCode(v, err):
	case err != nil:
		return err
	default:
		return p.to(c, "email", "done.email")
	}
	return c.Show("newemail", v)
}

// sendChange sends the code that a change of the address needs, or of what it is used for. None
// goes to an address that is not confirmed.
func (p *Pages) sendChange(c *call) error {
	sent, err := p.service.RequestEmailChange(c.Context(), c.who)
	if err == nil && !sent {
		return &site.Error{Status: http.StatusConflict, Key: "emailcodes.needsEmail"}
	}
	return err
}

func (p *Pages) handleView(c *call) *view {
	v := p.view(c, "handle.title")
	rules := p.service.Policy()
	v.Domains, v.Min, v.Max = rules.Domains, cmp.Or(rules.MinLabel, 3), cmp.Or(rules.MaxLabel, 18)
	if len(v.Domains) > 0 {
		v.Domain = v.Domains[0]
	}
	return v
}

// handle shows the forms to change the handle.
func (p *Pages) handle(c *call) error { return c.Show("handle", p.handleView(c)) }

// changeHandle changes the handle, or says whether it could be changed.
func (p *Pages) changeHandle(c *call) error {
	v := p.handleView(c)
	if err := p.site.Limit(c.R, "handle"); err != nil {
		return err
	}
	name := func(field string) string {
		return strings.ToLower(strings.TrimPrefix(strings.TrimSpace(c.Form.Get(field)), "@"))
	}
	action, field := c.Form.Get("action"), "label"
	var handle syntax.Handle
	if strings.HasPrefix(action, "own") {
		field, v.Own = "own", true
		handle = syntax.Handle(name("own"))
		v.Handle = site.Short(string(handle), 256)
	} else {
		if d := c.Form.Get("domain"); slices.Contains(v.Domains, d) {
			v.Domain = d
		}
		v.Label = site.Short(strings.TrimSuffix(name("label"), v.Domain), 100)
		handle = syntax.Handle(v.Label + v.Domain)
		if n := len(v.Label); n < v.Min || n > v.Max || strings.Contains(v.Label, ".") {
			v.Add(field, "handle.rules", "min", v.Min, "max", v.Max)
			return c.Show("handle", v)
		}
	}
	if _, err := syntax.ParseHandle(string(handle)); err != nil || len(v.Domains) == 0 && field == "label" {
		v.Add(field, "handle.invalid")
		return c.Show("handle", v)
	}
	switch action {
	case "check":
		err := p.service.CheckHandle(c.Context(), handle)
		if err == nil {
			v.Free = string(handle)
		} else if !handleProblem(v, field, handle, err) {
			return err
		}
		return c.Show("handle", v)
	case "own-check":
		p.lookUp(c, v, handle)
		return c.Show("handle", v)
	}
	if err := p.site.Limit(c.R, "handle-change"); err != nil {
		return err
	}
	err := p.service.ChangeHandle(c.Context(), c.who, handle)
	if handleProblem(v, field, handle, err) {
		return c.Show("handle", v)
	} else if err != nil {
		return err
	}
	return p.to(c, "handle", "done.handle")
}

// handleProblem adds to a page why an account cannot have a handle.
func handleProblem(v *view, field string, handle syntax.Handle, err error) bool {
	var method *xrpc.Error
	switch {
	case errors.Is(err, account.ErrHandleTaken), errors.Is(err, &xrpc.Error{Name: api.ErrorHandleNotAvailable}):
		v.Add(field, "handle.taken", "handle", handle)
	case errors.Is(err, &xrpc.Error{Name: api.ErrorInvalidHandle}), errors.Is(err, &xrpc.Error{Name: api.ErrorUnsupportedDomain}):
		v.Add(field, "handle.invalid")
	case errors.As(err, &method) && (method.Status == 0 || method.Status == http.StatusBadRequest) && field == "own":
		v.Add(field, "handle.unresolved", "handle", handle)
	default:
		return false
	}
	return true
}

// lookUp says what the network sees of a handle.
func (p *Pages) lookUp(c *call, v *view, handle syntax.Handle) {
	did, err := p.service.LookUpHandle(c.Context(), handle)
	var ways *identity.HandleError
	switch {
	case err == nil && did == c.account.DID:
		v.Free = string(handle)
	case err == nil:
		v.Add("own", "handle.other", "handle", handle, "did", did)
	case errors.As(err, &ways):
		v.Add("own", "handle.unresolved", "handle", handle)
		v.DNS, v.HTTPS = v.T(seen(ways.DNS)), v.T(seen(ways.HTTPS))
	case errors.Is(err, identity.ErrAmbiguous):
		v.Add("own", "handle.unresolved", "handle", handle)
		v.DNS, v.HTTPS = v.T("seen.ambiguous"), v.T("seen.unasked")
	default:
		v.Add("own", "handle.invalid")
	}
}

// seen is the message that says why one of the ways gave nothing.
func seen(err error) string {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return "seen.nothing"
	case errors.Is(err, identity.ErrAmbiguous):
		return "seen.ambiguous"
	}
	return "seen.failed"
}
