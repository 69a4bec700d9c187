package owner

import (
	"errors"
	"html/template"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/session"
	"github.com/pdskit/pdskit/xrpc/site"
)

// factorsView are the factors of an account by their kinds; nil: it has none.
type factorsView struct {
	App, Email, Recovery *credential.Factor
	Passkeys             []credential.Factor
}

// readFactors adds the factors of the account to a page.
func (p *Pages) readFactors(c *call, v *view) error {
	set, err := p.credentials.Factors(c.Context(), c.who)
	for _, x := range set.Factors {
		switch x.Kind {
		case credential.AuthenticatorApp:
			v.Factors.App = &x
		case credential.EmailCodes:
			v.Factors.Email = &x
		case credential.RecoveryCodes:
			v.Factors.Recovery = &x
		case credential.PasskeyKind:
			v.Factors.Passkeys = append(v.Factors.Passkeys, x)
		}
	}
	return err
}

// factorsPage begins a page about factors.
func (p *Pages) factorsPage(c *call, title string) (*view, error) {
	v := p.view(c, title)
	return v, p.readFactors(c, v)
}

// security shows what lets the owner in.
func (p *Pages) security(c *call) error {
	v, err := p.factorsPage(c, "security.title")
	if err != nil {
		return err
	}
	return c.Show("security", v)
}

// password shows the form to change it.
func (p *Pages) password(c *call) error { return c.Show("password", p.view(c, "password.do")) }

// changePassword changes the password. Other browsers and sessions end; apps do, unless they are to
// go on.
func (p *Pages) changePassword(c *call) error {
	v := p.view(c, "password.do")
	v.Own = c.Form.Get("apps") == "" // apps go on
	password := c.Form.Get("password")
	switch n := utf8.RuneCountInString(password); {
	case n < minPassword:
		v.Add("password", "password.short", "min", minPassword)
	case n > session.MaxPassword:
		v.Add("password", "password.long", "max", session.MaxPassword)
	case password != c.Form.Get("again"):
		v.Add("again", "password.differs")
	}
	if len(v.Problems) > 0 {
		return c.Show("password", v)
	}
	if _, err := p.credentials.ChangePassword(c.Context(), c.who, password, account.Kept{AppPasswords: v.Own, Apps: v.Own}); err != nil {
		return err
	}
	return p.to(c, "security", "done.password")
}

// authenticator shows whether there is an authenticator app.
func (p *Pages) authenticator(c *call) error {
	v, err := p.factorsPage(c, "authenticator.title")
	if err != nil {
		return err
	}
	return c.Show("authenticator", v)
}

// changeAuthenticator begins to enrol an app, ends that by a code, or removes an app.
func (p *Pages) changeAuthenticator(c *call) error {
	v, err := p.factorsPage(c, "authenticator.title")
	if err != nil {
		return err
	}
	switch c.Form.Get("action") {
	case "remove":
		if v.Factors.App == nil {
			return p.to(c, "security", "done.factorRemoved")
		}
		if err := p.credentials.RemoveFactor(c.Context(), c.who, v.Factors.App.ID); err != nil && !errors.Is(err, credential.ErrNoFactor) {
			return err
		}
		return p.to(c, "security", "done.factorRemoved")
	case "confirm":
		return p.confirmApp(c, v)
	}
	e, err := p.credentials.BeginApp(c.Context(), c.who, p.site.Brand().Name)
	if err != nil {
		return err
	}
	svg, err := e.QR()
	if err != nil {
		return err
	}
	v.Secret, v.QR, v.Sent = e.Secret, template.HTML(svg), true // nothing in it is a stranger's: it has squares
	return c.Show("authenticator", v)
}

// confirmApp ends the enrolment of an app by a code that it shows. Whoever has no recovery codes
// yet gets some.
func (p *Pages) confirmApp(c *call, v *view) error {
	v.Name, v.Sent = site.Short(strings.TrimSpace(c.Form.Get("name")), 256), true
	_, err := p.credentials.ConfirmApp(c.Context(), c.who, v.Name, strings.TrimSpace(c.Form.Get("code")))
	switch {
	case errors.Is(err, credential.ErrWrongFactor):
		v.Add("code", "authenticator.wrong")
	case errors.Is(err, credential.ErrNoFactor):
		v.Sent = false
		v.Status.Problem = v.T("authenticator.late")
	case errors.Is(err, credential.ErrFactorName):
		v.Add("name", "newapppassword.badName", "max", maxAppName)
	case err != nil:
		return err
	case v.Factors.Recovery == nil:
		return p.showRecoveryCodes(c, "done.authenticator")
	default:
		return p.to(c, "security", "done.authenticator")
	}
	return c.Show("authenticator", v)
}

// recoveryCodes shows whether there are recovery codes.
func (p *Pages) recoveryCodes(c *call) error {
	v, err := p.factorsPage(c, "recovery.title")
	if err != nil {
		return err
	}
	return c.Show("recovery", v)
}

// newRecoveryCodes makes recovery codes, and shows them for once. Earlier ones are void.
func (p *Pages) newRecoveryCodes(c *call) error { return p.showRecoveryCodes(c, "") }

func (p *Pages) showRecoveryCodes(c *call, note string) error {
	codes, err := p.credentials.NewRecoveryCodes(c.Context(), c.who)
	if errors.Is(err, credential.ErrNoFactor) {
		return &site.Error{Status: http.StatusConflict, Key: "recovery.needsFactor"}
	} else if err != nil {
		return err
	}
	v := p.view(c, "recovery.title")
	v.Codes = codes
	if note != "" {
		v.Done = v.T(note)
	}
	return c.Show("recovery", v)
}

// emailCodes shows whether codes are sent by mail.
func (p *Pages) emailCodes(c *call) error {
	v, err := p.factorsPage(c, "emailcodes.title")
	if err != nil {
		return err
	}
	return c.Show("emailcodes", v)
}

// changeEmailCodes has codes sent by mail, or no longer. That needs a code sent to the address, so
// that nobody ends it who does not read its mail.
func (p *Pages) changeEmailCodes(c *call) error {
	if c.Form.Get("action") == "on" {
		err := p.credentials.EnableEmailCodes(c.Context(), c.who)
		switch {
		case errors.Is(err, credential.ErrEmailNotConfirmed), errors.Is(err, credential.ErrNoEmail):
			return &site.Error{Status: http.StatusConflict, Key: "emailcodes.needsEmail"}
		case err != nil:
			return err
		}
		v, err := p.factorsPage(c, "security.title")
		if err != nil {
			return err
		}
		if v.Factors.Recovery == nil {
			return p.showRecoveryCodes(c, "done.emailCodes")
		}
		return p.to(c, "security", "done.emailCodes")
	}
	v, err := p.factorsPage(c, "emailcodes.title")
	if err != nil {
		return err
	}
	v.Sent = true
	if c.Form.Get("action") == "send" {
		if err := p.mail(c, func() error { return p.sendChange(c) }); err != nil {
			return err
		}
		return c.Show("emailcodes", v)
	}
	err = p.credentials.DisableEmailCodes(c.Context(), c.who, strings.TrimSpace(c.Form.Get("code")))
	if p.wrongCode(v, err) {
		return c.Show("emailcodes", v)
	} else if err != nil {
		return err
	}
	return p.to(c, "security", "done.factorRemoved")
}

// mail sends a mail, if that is not done too often.
func (p *Pages) mail(c *call, send func() error) error {
	if !p.service.SendsMail() {
		return site.ErrNotOffered
	}
	if err := p.site.Limit(c.R, "mail"); err != nil {
		return err
	}
	err := send()
	if errors.Is(err, credential.ErrNoEmail) {
		return &site.Error{Status: http.StatusConflict, Key: "email.none"}
	}
	return err
}

// wrongCode adds to a page what is wrong with a code that was sent by mail.
func (p *Pages) wrongCode(v *view, err error) bool {
	switch {
	case errors.Is(err, credential.ErrMailTokenRequired):
		v.Add("code", "code.missing")
	case errors.Is(err, credential.ErrMailToken):
		v.Add("code", "code.wrong")
	case errors.Is(err, credential.ErrMailTokenExpired):
		v.Add("code", "code.old")
	default:
		return false
	}
	return true
}
