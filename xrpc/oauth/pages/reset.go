package pages

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/session"
	"github.com/pdskit/pdskit/xrpc/site"
)

func (p *Pages) resetOffered() bool { return p.cfg.Service != nil && p.cfg.Service.SendsMail() }

// showForgot shows the form by which a code is asked for.
func (p *Pages) showForgot(c *call) error {
	if !p.resetOffered() {
		return site.ErrNotOffered
	}
	return p.show(c, p.view(c, "forgot", "forgot.title"))
}

// forgot sends a code. What it shows is the same whether there is such an account or not.
func (p *Pages) forgot(c *call) error {
	if !p.resetOffered() {
		return site.ErrNotOffered
	}
	email := strings.TrimSpace(c.Form.Get("email"))
	if !strings.Contains(email, "@") || len(email) > 254 {
		v := p.view(c, "forgot", "forgot.title")
		v.Email = site.Short(email, 256)
		v.Add("email", "signup.email.invalid")
		return p.show(c, v)
	}
	if err := p.cfg.Service.RequestPasswordReset(c.ctx(), email); err != nil {
		return err
	}
	v := p.view(c, "reset", "reset.title")
	v.Email, v.Factor.Mailed = email, true
	return p.show(c, v)
}

// showReset shows the form in which a code is entered.
func (p *Pages) showReset(c *call) error {
	if !p.resetOffered() {
		return site.ErrNotOffered
	}
	return p.show(c, p.view(c, "reset", "reset.title"))
}

// reset sets another password, by a code. It signs nobody in.
func (p *Pages) reset(c *call) error {
	if !p.resetOffered() {
		return site.ErrNotOffered
	}
	code, password := strings.TrimSpace(c.Form.Get("code")), c.Form.Get("password")
	v := p.view(c, "reset", "reset.title")
	v.Code6 = site.Short(code, 64)
	if code == "" {
		v.Add("code", "reset.noCode")
	}
	switch n := utf8.RuneCountInString(password); {
	case n < minPassword:
		v.Add("password", "password.short", "min", minPassword)
	case n > session.MaxPassword:
		v.Add("password", "password.long", "max", session.MaxPassword)
	}
	if len(v.Problems) > 0 {
		return p.show(c, v)
	}
	err := p.cfg.Service.ResetPassword(c.ctx(), code, password)
	switch {
	case errors.Is(err, credential.ErrMailToken):
		v.Add("code", "reset.wrongCode")
	case errors.Is(err, credential.ErrMailTokenExpired):
		v.Add("code", "reset.oldCode")
	case err != nil:
		return err
	}
	if len(v.Problems) > 0 {
		return p.show(c, v)
	}
	return p.show(c, p.view(c, "done", "reset.done.title"))
}
