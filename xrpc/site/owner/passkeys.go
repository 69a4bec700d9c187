package owner

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

// Passkeys registers passkeys; passkey.Passkeys implements it and documents the methods. It must be
// safe for concurrent use.
type Passkeys interface {
	// BeginRegistration returns options for the browser, in JSON, with a challenge. The challenge
	// is valid for one use, for some minutes, with the same binding.
	BeginRegistration(ctx context.Context, who account.Caller, binding string) (options []byte, err error)
	// FinishRegistration verifies the response and adds the passkey. Errors are
	// credential.ErrWrongFactor, credential.ErrChallenge, and those of credential.Store.AddPasskey.
	FinishRegistration(ctx context.Context, who account.Caller, binding, name string, answer []byte) (credential.Passkey, error)
}

const passkeysPage, passkeyOptionsPage = "passkeys", "passkeys/options"

// maxFactorName is the length in characters of the longest name of a factor.
const maxFactorName = 64

// binding is what a challenge is good for: one browser, to add a passkey to one account.
func (c *call) binding() string {
	return "account\x00" + c.Browser.Name + "\x00" + string(c.account.DID)
}

func (p *Pages) passkeysView(c *call) (*view, error) {
	v, err := p.factorsPage(c, "passkeys.title")
	v.Full = len(v.Factors.Passkeys) >= credential.MaxPasskeys
	if !v.Full {
		v.Script = site.PasskeyScript()
	}
	return v, err
}

// passkeys shows the passkeys of the account.
func (p *Pages) passkeys(c *call) error {
	v, err := p.passkeysView(c)
	if err != nil {
		return err
	}
	return c.Show("passkeys", v)
}

// Create returns the values that the script needs to add a passkey.
func (v *view) Create() site.PasskeyForm {
	return v.PasskeyForm("create", plain(v.Account.DID, passkeyOptionsPage))
}

// passkeyOptions is what the script asks for to add a passkey.
func (p *Pages) passkeyOptions(c *call) (any, error) {
	if err := p.site.Limit(c.R, "passkey"); err != nil {
		return nil, err
	}
	options, err := p.cfg.Passkeys.BeginRegistration(c.Context(), c.who, c.binding())
	if errors.Is(err, credential.ErrTooManyPasskeys) {
		return nil, &site.Error{Status: http.StatusConflict, Key: "passkeys.tooMany"}
	}
	return json.RawMessage(options), err
}

// changePasskeys adds, renames or removes a passkey.
func (p *Pages) changePasskeys(c *call) error {
	ctx, id := c.Context(), c.Form.Get("id")
	name := strings.TrimSpace(c.Form.Get("name"))
	field, note := "name", ""
	var err error
	switch c.Form.Get("action") {
	case "add":
		note = "done.passkey"
		_, err = p.cfg.Passkeys.FinishRegistration(ctx, c.who, c.binding(), name, []byte(c.Form.Get("response")))
	case "rename":
		field, note = "name-"+id, "done.passkeyRenamed"
		if err = p.isPasskey(c, id); err == nil {
			err = p.credentials.RenameFactor(ctx, c.who, id, name)
		}
	case "remove":
		note = "done.factorRemoved"
		if err = p.isPasskey(c, id); err == nil {
			err = p.credentials.RemoveFactor(ctx, c.who, id)
		}
	default:
		return site.Refuse(http.StatusBadRequest, "The form has no action")
	}
	key := ""
	switch {
	case err == nil, errors.Is(err, credential.ErrNoFactor): // it is gone already
		return p.to(c, passkeysPage, note)
	case errors.Is(err, credential.ErrChallenge):
		field, key = "passkey", "passkey.late"
	case errors.Is(err, credential.ErrWrongFactor):
		p.site.Logger().DebugContext(ctx, "passkey", "err", err)
		field, key = "passkey", "passkey.refused"
	case errors.Is(err, credential.ErrDuplicatePasskey):
		field, key = "passkey", "passkey.duplicate"
	case errors.Is(err, credential.ErrTooManyPasskeys):
		return &site.Error{Status: http.StatusConflict, Key: "passkeys.tooMany"}
	case errors.Is(err, credential.ErrLastFactor):
		return &site.Error{Status: http.StatusConflict, Key: "passkeys.last"}
	case errors.Is(err, credential.ErrFactorName):
		key = "newapppassword.badName"
	default:
		return err
	}
	v, err := p.passkeysView(c)
	if err != nil {
		return err
	}
	v.Name = site.Short(name, 256)
	v.Add(field, key, "max", maxFactorName)
	return c.Show("passkeys", v)
}

// isPasskey returns credential.ErrNoFactor unless something is the ID of a passkey of the account:
// other factors have pages of their own, which ask for more.
func (p *Pages) isPasskey(c *call, id string) error {
	set, err := p.credentials.Factors(c.Context(), c.who)
	if err != nil {
		return err
	}
	for _, x := range set.Factors {
		if x.ID == id && x.Kind == credential.PasskeyKind {
			return nil
		}
	}
	return credential.ErrNoFactor
}
