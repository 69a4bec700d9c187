package owner

import (
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/site"
)

// appPasswords lists the app passwords.
func (p *Pages) appPasswords(c *call) (err error) {
	v := p.view(c, "apppasswords.title")
	if v.AppPasswords, err = p.credentials.AppPasswords(c.Context(), c.account.DID); err != nil {
		return err
	}
	return c.Show("apppasswords", v)
}

// revokeAppPassword deletes one, with its sessions.
func (p *Pages) revokeAppPassword(c *call) error {
	if err := p.credentials.RevokeAppPassword(c.Context(), c.who, c.named("name")); err != nil {
		return err
	}
	return p.to(c, "app-passwords", "done.apppassword")
}

func (p *Pages) newAppPassword(c *call) error {
	return c.Show("newapppassword", p.view(c, "newapppassword.title"))
}

// maxAppName is the length in characters of the longest name of an app password.
const maxAppName = 64

// makeAppPassword makes one, and shows it for once.
func (p *Pages) makeAppPassword(c *call) error {
	v := p.view(c, "newapppassword.title")
	name := strings.TrimSpace(c.Form.Get("name"))
	v.Name, v.Privileged = site.Short(name, 4*maxAppName), c.Form.Get("privileged") != ""
	if name == "" || utf8.RuneCountInString(name) > maxAppName || strings.ContainsFunc(name, unicode.IsControl) {
		v.Add("name", "newapppassword.badName", "max", maxAppName)
		return c.Show("newapppassword", v)
	}
	password, _, err := p.credentials.CreateAppPassword(c.Context(), c.who, name, v.Privileged)
	if errors.Is(err, credential.ErrDuplicateName) {
		v.Add("name", "newapppassword.duplicate")
		return c.Show("newapppassword", v)
	} else if errors.Is(err, credential.ErrTooManyAppPasswords) {
		return &site.Error{Status: http.StatusConflict, Key: "newapppassword.tooMany"}
	} else if err != nil {
		return err
	}
	v.Secret = password
	return c.Show("newapppassword", v)
}
