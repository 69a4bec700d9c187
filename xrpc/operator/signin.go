package operator

import (
	"net/http"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/site"
)

// signInView is the page to sign in. Nobody has yet, so it has no menu.
type signInView struct{ site.Page }

func (p *Pages) showSignIn(c *site.Call) error {
	token, err := p.session(c)
	if err != nil {
		return err
	}
	if token != "" {
		return c.Redirect(Root)
	}
	return c.Show("signin", &signInView{c.Page("signin.title")})
}

// signIn checks the password. Guesses are counted, and take the same time whatever is wrong.
func (p *Pages) signIn(c *site.Call) error {
	right, err := p.cfg.Passwords.CheckAdmin(&xrpc.Request{Request: c.R}, "admin", c.Form.Get("password"))
	if err != nil {
		return err
	}
	if !right {
		v := &signInView{c.Page("signin.title")}
		v.Add("password", "signin.wrong")
		v.Status = http.StatusUnauthorized
		return c.Show("signin", v)
	}
	if p.cfg.Audit != nil {
		who := audit.Actor{By: "administrator", Through: "pages", Address: address(c.R)}
		if err := p.cfg.Audit.Note(c.Context(), audit.Entry{Actor: who, Action: "sign-in"}); err != nil {
			return err
		}
	}
	if err := p.begin(c); err != nil {
		return err
	}
	return c.Redirect(Root)
}

func (p *Pages) showSignOut(c *call) error {
	return c.Show("signout", p.view(c, "signout.title"))
}

func (p *Pages) signOut(c *call) error {
	if err := p.end(c.Call, c.token, c.Form.Get("all") == "yes"); err != nil {
		return err
	}
	return c.Redirect(pathSignIn)
}
