package pages

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Passkeys verifies passkeys, each of which replaces a password and a second factor. It must be
// safe for concurrent use.
type Passkeys interface {
	// BeginLogin returns options for the browser, in JSON, with a challenge. FinishLogin accepts
	// one response to the challenge, within some minutes, and only with the same binding.
	BeginLogin(ctx context.Context, binding string) (options []byte, err error)
	// FinishLogin verifies the response, including user verification by the authenticator, and
	// returns the account's proof. Errors are credential.ErrWrongFactor, credential.ErrChallenge
	// and account.ErrTakenDown.
	FinishLogin(ctx context.Context, binding string, answer []byte) (credential.Proof, error)
}

// binding is what a challenge is good for: one browser, and what it signs in for.
func (c *call) binding() string { return "sign-in\x00" + c.Browser.Name + "\x00" + c.flow.Request }

// passkeyOptions is what the script of the page to sign in asks for.
func (p *Pages) passkeyOptions(c *call) (any, error) {
	options, err := p.cfg.Passkeys.BeginLogin(c.ctx(), c.binding())
	return json.RawMessage(options), err
}

// passkey signs somebody in by a passkey.
func (p *Pages) passkey(c *call) error {
	v := p.signInView(c)
	v.Remember = c.Form.Get("remember") != ""
	wrong := func(key string) error {
		v.Status = http.StatusUnauthorized
		v.Add("passkey", key)
		return p.show(c, v)
	}
	proof, err := p.cfg.Passkeys.FinishLogin(c.ctx(), c.binding(), []byte(c.Form.Get("response")))
	switch {
	case errors.Is(err, credential.ErrChallenge):
		return wrong("passkey.late")
	case errors.Is(err, credential.ErrWrongFactor):
		p.log.DebugContext(c.ctx(), "passkey", "err", err)
		return wrong("passkey.refused")
	case err != nil:
		return err
	}
	if a := proof.Account; c.flow.Fixed && c.flow.Who != string(a.DID) && !strings.EqualFold(c.flow.Who, string(a.Handle)) {
		return wrong("signin.passkey.other")
	}
	err = p.site.Enter(c.Call, proof, site.Stay{Remember: v.Remember || c.flow.Keep, Request: c.flow.Request})
	switch {
	case err == nil:
		return p.goOn(c, proof.Account.DID)
	case errors.Is(err, credential.ErrWrongFactor), errors.Is(err, credential.ErrWrongPassword), errors.Is(err, account.ErrNotFound): // removed meanwhile
		return wrong("passkey.refused")
	}
	return err
}
