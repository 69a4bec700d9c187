package pages

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/session"
)

func (p *Pages) resetOffered() bool { return p.cfg.Service != nil && p.cfg.Service.SendsMail() }

// showForgot shows the form by which a code is asked for.
func (p *Pages) showForgot(c *call) error {
	if !p.resetOffered() {
		return errNone
	}
	return p.show(c, p.view(c, "forgot", "forgot.title"))
}

// forgot sends a code. What it shows is the same whether there is such an account or not.
func (p *Pages) forgot(c *call) error {
	if !p.resetOffered() {
		return errNone
	}
	email := strings.TrimSpace(c.form.Get("email"))
	if !strings.Contains(email, "@") || len(email) > 254 {
		v := p.view(c, "forgot", "forgot.title")
		v.Email = short(email, 256)
		v.problem("email", "signup.email.invalid")
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
		return errNone
	}
	return p.show(c, p.view(c, "reset", "reset.title"))
}

// reset sets another password, by a code. It signs nobody in.
func (p *Pages) reset(c *call) error {
	if !p.resetOffered() {
		return errNone
	}
	code, password := strings.TrimSpace(c.form.Get("code")), c.form.Get("password")
	v := p.view(c, "reset", "reset.title")
	v.Code6 = short(code, 64)
	if code == "" {
		v.problem("code", "reset.noCode")
	}
	switch n := utf8.RuneCountInString(password); {
	case n < minPassword:
		v.problem("password", "password.short", "min", minPassword)
	case n > session.MaxPassword:
		v.problem("password", "password.long", "max", session.MaxPassword)
	}
	if len(v.Problems) > 0 {
		return p.show(c, v)
	}
	err := p.cfg.Service.ResetPassword(c.ctx(), code, password)
	switch {
	case errors.Is(err, credential.ErrMailToken):
		v.problem("code", "reset.wrongCode")
	case errors.Is(err, credential.ErrMailTokenExpired):
		v.problem("code", "reset.oldCode")
	case err != nil:
		return err
	}
	if len(v.Problems) > 0 {
		return p.show(c, v)
	}
	return p.show(c, p.view(c, "done", "reset.done.title"))
}
