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
	"github.com/pdskit/pdskit/xrpc/site"
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
		return site.ErrNotOffered
	}
	v := p.signUpView(c)
	v.Invite = site.Short(c.R.URL.Query().Get("invite"), 100)
	return p.show(c, v)
}

// signUp makes an account, or says whether a handle is free.
func (p *Pages) signUp(c *call) error {
	if !p.signUpOffered() || c.flow.Fixed {
		return site.ErrNotOffered
	}
	check := c.Form.Get("action") == "check"
	action := "sign-up"
	if check {
		action = "handle"
	}
	if err := p.site.Limit(c.R, action); err != nil {
		return err
	}
	v := p.signUpView(c)
	v.Label = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(c.Form.Get("label")), "@"))
	v.Email, v.Invite = strings.TrimSpace(c.Form.Get("email")), strings.TrimSpace(c.Form.Get("invite"))
	v.Remember = c.Form.Get("remember") != ""
	if d := c.Form.Get("domain"); slices.Contains(v.SignUp.Domains, d) {
		v.Domain = d
	}
	v.Label = strings.TrimSuffix(v.Label, v.Domain)
	handle := syntax.Handle(v.Label + v.Domain)
	if n := len(v.Label); n < v.SignUp.Min || n > v.SignUp.Max || strings.Contains(v.Label, ".") {
		v.Add("label", "signup.handleRules", "min", v.SignUp.Min, "max", v.SignUp.Max)
	} else if _, err := syntax.ParseHandle(string(handle)); err != nil {
		v.Add("label", "signup.handleRules", "min", v.SignUp.Min, "max", v.SignUp.Max)
	}
	v.Label, v.Email, v.Invite = site.Short(v.Label, 100), site.Short(v.Email, 256), site.Short(v.Invite, 100)
	if check {
		if len(v.Problems) == 0 {
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
	password := c.Form.Get("password")
	if addr, err := mail.ParseAddress(v.Email); err != nil || addr.Address != v.Email || len(v.Email) > 254 {
		v.Add("email", "signup.email.invalid")
	}
	switch n := utf8.RuneCountInString(password); {
	case n < minPassword:
		v.Add("password", "password.short", "min", minPassword)
	case n > session.MaxPassword:
		v.Add("password", "password.long", "max", session.MaxPassword)
	}
	if v.SignUp.Invite && v.Invite == "" {
		v.Add("invite", "signup.invite.missing")
	}
	if len(v.Problems) > 0 {
		return p.show(c, v)
	}
	a, err := p.cfg.Service.SignUp(c.ctx(), &xrpc.Request{Request: c.R}, server.SignUp{
		Handle: handle, Email: v.Email, Password: password, Invite: v.Invite,
	})
	if err != nil {
		if p.signUpProblem(v, err) {
			return p.show(c, v)
		}
		return err
	}
	proof := credential.Proof{Account: a, At: p.now()}
	if !p.cfg.Service.SendsMail() {
		return p.passed(c, proof, v.Remember)
	}
	if err := p.site.Enter(c.Call, proof, site.Stay{Remember: v.Remember, Request: c.flow.Request}); err != nil {
		return err
	}
	if err := p.cfg.Service.RequestEmailConfirmation(c.ctx(), account.Trusted(a.DID)); err != nil {
		p.log.ErrorContext(c.ctx(), "mail to confirm an address", "did", a.DID, "err", err)
		return p.goOn(c, a.DID) // it can be done later
	}
	return p.show(c, p.confirmView(c, a))
}

// signUpProblem adds what an error of Service says of a field.
func (p *Pages) signUpProblem(v *view, err error) bool {
	name := func(n string) bool { return errors.Is(err, &xrpc.Error{Name: n}) }
	switch {
	case errors.Is(err, account.ErrHandleTaken), name(api.ErrorHandleNotAvailable):
		v.Add("label", "signup.handle.taken", "handle", v.Label+v.Domain)
	case name(api.ErrorInvalidHandle), name(api.ErrorUnsupportedDomain):
		v.Add("label", "signup.handleRules", "min", v.SignUp.Min, "max", v.SignUp.Max)
	case errors.Is(err, account.ErrEmailTaken):
		v.Add("email", "signup.email.taken")
	case errors.Is(err, server.ErrEmail):
		v.Add("email", "signup.email.invalid")
	case errors.Is(err, account.ErrInvite), name(api.ErrorInvalidInviteCode):
		v.Add("invite", "signup.invite.wrong")
	default:
		return false
	}
	return true
}

// confirmView asks for the code that was sent to the address of a new account.
func (p *Pages) confirmView(c *call, a account.Account) *view {
	v := p.view(c, "confirm", "confirm.title")
	v.Account, v.Confirm = a, p.confirms.Seal(c.Browser, string(a.DID))
	return v
}

// confirmEmail takes that code, sends another one, or goes on without: the account's own page asks
// for it too.
func (p *Pages) confirmEmail(c *call) error {
	var did syntax.DID
	if p.cfg.Service == nil || !p.cfg.Service.SendsMail() {
		return site.ErrNotOffered
	}
	if !p.confirms.Open(c.Browser, c.Form.Get("account"), &did) {
		return site.ErrForm
	}
	if c.Form.Get("action") == "skip" {
		return p.goOn(c, did)
	}
	who := p.site.Caller(c.Browser, did, site.As{Request: c.flow.Request})
	a, err := p.accounts.Authenticate(c.ctx(), who)
	if err != nil {
		return err
	}
	v := p.confirmView(c, a)
	code := strings.TrimSpace(c.Form.Get("code"))
	switch {
	case c.Form.Get("action") == "again":
		if err := p.site.Limit(c.R, "mail"); err != nil {
			return err
		}
		if err := p.cfg.Service.RequestEmailConfirmation(c.ctx(), who); err != nil {
			return err
		}
		return p.show(c, v)
	case code == "":
		v.Add("code", "reset.noCode")
		return p.show(c, v)
	}
	switch err := p.credentials.ConfirmEmail(c.ctx(), who, a.Email, code); {
	case errors.Is(err, credential.ErrMailToken), errors.Is(err, credential.ErrOtherEmail):
		v.Add("code", "reset.wrongCode")
	case errors.Is(err, credential.ErrMailTokenExpired):
		v.Add("code", "reset.oldCode")
	case err != nil:
		return err
	default:
		return p.goOn(c, did)
	}
	return p.show(c, v)
}
