package pages

import (
	"cmp"
	"errors"
	"net/mail"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/session"
)

// minPassword is the length in characters of the shortest password that the pages accept.
const minPassword = 8

func (p *Pages) signUpOffered() bool {
	return p.cfg.Service != nil && len(p.cfg.Service.Policy().Domains) > 0
}

func (p *Pages) signUpView(c *call) *view {
	v := p.view(c, "signup", "signup.title")
	rules := p.cfg.Service.Policy()
	v.SignUp.Domains, v.SignUp.Invite = rules.Domains, rules.InviteRequired
	v.SignUp.Min, v.SignUp.Max = cmp.Or(rules.MinLabel, 3), cmp.Or(rules.MaxLabel, 18)
	v.Domain = rules.Domains[0]
	v.Remember = !v.Request
	return v
}

// showSignUp shows the form to make an account.
func (p *Pages) showSignUp(c *call) error {
	if !p.signUpOffered() || c.flow.Fixed {
		return errNone
	}
	v := p.signUpView(c)
	v.Invite = short(c.r.URL.Query().Get("invite"), 100)
	return p.show(c, v)
}

// signUp makes an account, or says whether a handle is free.
func (p *Pages) signUp(c *call) error {
	if !p.signUpOffered() || c.flow.Fixed {
		return errNone
	}
	v := p.signUpView(c)
	v.Label = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(c.form.Get("label")), "@"))
	v.Email, v.Invite = strings.TrimSpace(c.form.Get("email")), strings.TrimSpace(c.form.Get("invite"))
	v.Remember = c.form.Get("remember") != ""
	if d := c.form.Get("domain"); slices.Contains(v.SignUp.Domains, d) {
		v.Domain = d
	}
	v.Label = strings.TrimSuffix(v.Label, v.Domain)
	handle := syntax.Handle(v.Label + v.Domain)
	if n := len(v.Label); n < v.SignUp.Min || n > v.SignUp.Max || strings.Contains(v.Label, ".") {
		v.problem("label", "signup.handleRules", "min", v.SignUp.Min, "max", v.SignUp.Max)
	} else if _, err := syntax.ParseHandle(string(handle)); err != nil {
		v.problem("label", "signup.handleRules", "min", v.SignUp.Min, "max", v.SignUp.Max)
	}
	v.Label, v.Email, v.Invite = short(v.Label, 100), short(v.Email, 256), short(v.Invite, 100)
	if c.form.Get("action") == "check" {
		if len(v.Problems) == 0 {
			if err := p.cfg.Limit(c.r, "handle"); err != nil {
				return err
			}
			if err := p.cfg.Service.CheckHandle(c.ctx(), handle); err == nil {
				v.SignUp.Available = string(handle)
			} else if !p.signUpProblem(v, err) {
				return err
			}
		}
		return p.show(c, v)
	}
	if len(v.Problems) == 0 { // so that all that is wrong is said at once
		if err := p.cfg.Service.CheckHandle(c.ctx(), handle); err != nil && !p.signUpProblem(v, err) {
			return err
		}
	}
	password := c.form.Get("password")
	if addr, err := mail.ParseAddress(v.Email); err != nil || addr.Address != v.Email || len(v.Email) > 254 {
		v.problem("email", "signup.email.invalid")
	}
	switch n := utf8.RuneCountInString(password); {
	case n < minPassword:
		v.problem("password", "password.short", "min", minPassword)
	case n > session.MaxPassword:
		v.problem("password", "password.long", "max", session.MaxPassword)
	}
	if v.SignUp.Invite && v.Invite == "" {
		v.problem("invite", "signup.invite.missing")
	}
	if len(v.Problems) > 0 {
		return p.show(c, v)
	}
	a, err := p.cfg.Service.SignUp(c.ctx(), &xrpc.Request{Request: c.r}, server.SignUp{
		Handle: handle, Email: v.Email, Password: password, Invite: v.Invite,
	})
	if err != nil {
		if p.signUpProblem(v, err) {
			return p.show(c, v)
		}
		return err
	}
	return p.passed(c, credential.Proof{Account: a, At: p.now()}, v.Remember)
}

// signUpProblem adds what an error of Service says of a field.
func (p *Pages) signUpProblem(v *view, err error) bool {
	name := func(n string) bool { return errors.Is(err, &xrpc.Error{Name: n}) }
	switch {
	case errors.Is(err, account.ErrHandleTaken), name(api.ErrorHandleNotAvailable):
		v.problem("label", "signup.handle.taken", "handle", v.Label+v.Domain)
	case name(api.ErrorInvalidHandle), name(api.ErrorUnsupportedDomain):
		v.problem("label", "signup.handleRules", "min", v.SignUp.Min, "max", v.SignUp.Max)
	case errors.Is(err, account.ErrEmailTaken):
		v.problem("email", "signup.email.taken")
	case errors.Is(err, server.ErrEmail):
		v.problem("email", "signup.email.invalid")
	case errors.Is(err, account.ErrInvite), name(api.ErrorInvalidInviteCode):
		v.problem("invite", "signup.invite.wrong")
	default:
		return false
	}
	return true
}
