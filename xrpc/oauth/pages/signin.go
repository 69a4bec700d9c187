package pages

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/site"
)

// maxPassword is the length in bytes of the longest password that is looked at.
const maxPassword = 1024

func (p *Pages) signInView(c *call) *view {
	v := p.view(c, "signin", "signin.title")
	if v.Again = c.flow.Again; v.Again {
		v.Title = v.T("factor.title")
	}
	v.Remember = !v.Request
	if p.cfg.Passkeys != nil {
		v.Passkeys, v.Script = true, site.PasskeyScript()
	}
	return v
}

// showSignIn shows the form to sign in.
func (p *Pages) showSignIn(c *call) error { return p.show(c, p.signInView(c)) }

// signIn checks a password. If the account has second factors, a code is asked for next.
func (p *Pages) signIn(c *call) error {
	who, password := strings.TrimSpace(c.Form.Get("identifier")), c.Form.Get("password")
	if c.flow.Fixed {
		who = c.flow.Who
	}
	v := p.signInView(c)
	v.Remember = c.Form.Get("remember") != "" || c.flow.Keep
	if !v.Fixed {
		v.Who = site.Short(who, 256)
	}
	if who == "" {
		v.Add("identifier", "signin.noIdentifier")
	}
	if password == "" {
		v.Add("password", "signin.noPassword")
	}
	if len(v.Problems) > 0 {
		return p.show(c, v)
	}
	proof, err := p.checkPassword(c, who, password)
	if errors.Is(err, credential.ErrWrongPassword) {
		v.Status = http.StatusUnauthorized
		v.Add("password", "signin.wrong")
		return p.show(c, v)
	} else if err != nil {
		return err
	}
	return p.passed(c, proof, v.Remember)
}

// checkPassword checks a password. Names that are too long for anybody count as those of nobody.
func (p *Pages) checkPassword(c *call, who, password string) (credential.Proof, error) {
	who = p.identifier(who)
	if len(who) > 2048 || len(password) > maxPassword {
		return credential.Proof{}, credential.ErrWrongPassword
	}
	proof, err := p.cfg.Passwords.CheckPassword(&xrpc.Request{Request: c.R}, who, password, false)
	if err == nil && proof.App != nil { // whoever checks passwords was not asked for that
		return credential.Proof{}, credential.ErrWrongPassword
	}
	return proof, err
}

// identifier is what somebody means who writes "@alice.example.com", or, where there is one domain,
// "alice".
func (p *Pages) identifier(who string) string {
	who = strings.TrimPrefix(who, "@")
	if p.cfg.Service != nil && !strings.ContainsAny(who, ".@:") {
		if domains := p.cfg.Service.Policy().Domains; len(domains) > 0 {
			return who + domains[0]
		}
	}
	return who
}

// passed signs somebody in whose password was right, or asks for the second factor.
func (p *Pages) passed(c *call, proof credential.Proof, remember bool) error {
	err := p.site.Enter(c.Call, proof, site.Stay{Remember: remember, Request: c.flow.Request})
	switch {
	case err == nil:
		return p.goOn(c, proof.Account.DID)
	case errors.Is(err, credential.ErrFactorRequired):
		v, err := p.factorView(c, proof, remember)
		if err != nil {
			return err
		}
		return p.show(c, v)
	case errors.Is(err, credential.ErrWrongPassword), errors.Is(err, account.ErrNotFound): // changed meanwhile
		v := p.signInView(c)
		v.Status = http.StatusUnauthorized
		v.Add("password", "signin.wrong")
		return p.show(c, v)
	}
	return err
}

// shownProof is what somebody has shown who is being asked for a code: it goes along in the form,
// under a MAC for the browser.
type shownProof struct {
	DID         syntax.DID `json:"did"`
	Credentials int64      `json:"credentials"`
	At          int64      `json:"at"` // in seconds
	Remember    bool       `json:"remember"`
	Flow        string     `json:"flow"`
}

// proofLife is how long a password is remembered that was right, until the code is entered.
const proofLife = 10 * time.Minute

// factorView asks for a code. If the account has nothing else, one is sent by mail.
func (p *Pages) factorView(c *call, proof credential.Proof, remember bool) (*view, error) {
	a := proof.Account
	set, err := p.credentials.Factors(c.ctx(), account.Trusted(a.DID))
	if err != nil {
		return nil, err
	}
	v := p.view(c, "factor", "factor.title")
	for _, f := range set.Factors {
		v.Factor.App = v.Factor.App || f.Kind == credential.AuthenticatorApp
	}
	v.Account = a
	v.Factor.Email = set.Email && p.cfg.SendCode != nil
	v.Factor.Proof = p.proofs.Seal(c.Browser, shownProof{
		DID: a.DID, Credentials: a.Credentials, At: proof.At.Unix(), Remember: remember, Flow: site.Hash(v.Flow),
	})
	if v.Factor.Email && !v.Factor.App {
		return v, p.mailCode(c, v, proof)
	}
	return v, nil
}

// mailCode sends a code by mail.
func (p *Pages) mailCode(c *call, v *view, proof credential.Proof) error {
	code, a, err := p.credentials.NewFactorCode(c.ctx(), proof)
	if err != nil {
		return err
	}
	if code != "" { // empty: the last one is on its way
		if err := p.cfg.SendCode(c.ctx(), a, code); err != nil {
			// Void it, so that the next try sends another one.
			_ = p.credentials.UseMailToken(c.ctx(), account.Trusted(a.DID), credential.ForSignIn, code)
			p.log.ErrorContext(c.ctx(), "mail a code to sign in", "did", a.DID, "err", err)
			return site.ErrBusy
		}
	}
	v.Factor.Mailed = true
	return nil
}

// factor checks a code.
func (p *Pages) factor(c *call) error {
	var s shownProof
	if !p.proofs.Open(c.Browser, c.Form.Get("proof"), &s) || s.Flow != site.Hash(c.Form.Get("flow")) {
		return site.ErrForm
	}
	// One from the future was made by a clock that was ahead, and would live for longer.
	if age := p.now().Sub(time.Unix(s.At, 0)); age > proofLife || age < -time.Minute {
		return site.ErrExpired
	}
	a, err := p.accounts.ByDID(c.ctx(), s.DID)
	switch {
	case errors.Is(err, account.ErrNotFound) || err == nil && a.Credentials != s.Credentials:
		return site.ErrSignedOut
	case err != nil:
		return err
	}
	proof := credential.Proof{Account: a, At: time.Unix(s.At, 0)}
	again := func() (*view, error) { return p.factorViewAgain(c, proof, s) }
	if c.Form.Get("action") == "mail" {
		v, err := again()
		if err == nil && v.Factor.Email {
			err = p.mailCode(c, v, proof)
		}
		if err != nil {
			return err
		}
		return p.show(c, v)
	}
	code := strings.TrimSpace(c.Form.Get("code"))
	full, err := credential.Proof{}, credential.ErrWrongFactor
	if code != "" && len(code) <= 64 {
		full, err = p.credentials.CheckFactor(c.ctx(), proof, code)
	}
	switch {
	case errors.Is(err, credential.ErrWrongFactor), errors.Is(err, credential.ErrTooManyCodes):
		v, again := again()
		if again != nil {
			return again
		}
		v.Status = http.StatusUnauthorized
		key := "factor.wrong"
		if errors.Is(err, credential.ErrTooManyCodes) {
			v.Status, key = http.StatusTooManyRequests, "factor.tooMany"
		}
		v.Add("code", key)
		return p.show(c, v)
	case errors.Is(err, credential.ErrWrongPassword):
		return site.ErrSignedOut
	case err != nil:
		return err
	}
	return p.passed(c, full, s.Remember)
}

// factorViewAgain is factorView without another mail.
func (p *Pages) factorViewAgain(c *call, proof credential.Proof, s shownProof) (*view, error) {
	set, err := p.credentials.Factors(c.ctx(), account.Trusted(proof.Account.DID))
	if err != nil {
		return nil, err
	}
	v := p.view(c, "factor", "factor.title")
	for _, f := range set.Factors {
		v.Factor.App = v.Factor.App || f.Kind == credential.AuthenticatorApp
	}
	v.Account = proof.Account
	v.Factor.Email = set.Email && p.cfg.SendCode != nil
	v.Factor.Proof = p.proofs.Seal(c.Browser, s)
	return v, nil
}

// showSignOut shows who is signed in in this browser.
func (p *Pages) showSignOut(c *call) error {
	v := p.view(c, "signout", "signout.title")
	list, err := p.site.SignedIn(c.ctx(), c.Browser)
	if err != nil {
		return err
	}
	for _, x := range list {
		v.Choices = append(v.Choices, choice{Account: x.Account})
	}
	return p.show(c, v)
}

// signOut signs an account out in this browser.
func (p *Pages) signOut(c *call) error {
	if err := p.site.Leave(c.ctx(), c.Browser, syntax.DID(c.Form.Get("did"))); err != nil {
		return err
	}
	return p.goOn(c, "")
}
