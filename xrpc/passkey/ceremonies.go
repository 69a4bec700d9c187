//go:build !nopasskeys && !nopages

package passkey

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
)

// user is an account as the verifier knows it.
type user struct {
	account account.Account
	keys    []credential.Passkey
}

func (u user) WebAuthnID() []byte          { return []byte(u.account.UserHandle) }
func (u user) WebAuthnName() string        { return string(u.account.Handle) }
func (u user) WebAuthnDisplayName() string { return string(u.account.Handle) }

func (u user) WebAuthnCredentials() (list []webauthn.Credential) {
	for _, k := range u.keys {
		c := webauthn.Credential{ID: k.CredentialID, PublicKey: k.PublicKey}
		c.Flags.UserPresent, c.Flags.UserVerified = true, true
		c.Flags.BackupEligible, c.Flags.BackupState = k.BackupEligible, k.BackedUp
		c.Authenticator.AAGUID, c.Authenticator.SignCount = k.AAGUID, k.Counter
		list = append(list, c)
	}
	return list
}

// key returns the passkey of an ID.
func (u user) key(id []byte) (credential.Passkey, bool) {
	for _, k := range u.keys {
		if string(k.CredentialID) == string(id) {
			return k, true
		}
	}
	return credential.Passkey{}, false
}

// algorithms are those of signatures that passkeys may make: ES256, EdDSA and RS256, which between
// them all authenticators have.
func algorithms() []protocol.CredentialParameter {
	return []protocol.CredentialParameter{
		{Type: protocol.PublicKeyCredentialType, Algorithm: -7},
		{Type: protocol.PublicKeyCredentialType, Algorithm: -8},
		{Type: protocol.PublicKeyCredentialType, Algorithm: -257},
	}
}

// BeginRegistration returns the argument of PublicKeyCredential.parseCreationOptionsFromJSON, in
// JSON, to register a passkey of the caller's account. The caller of BeginRegistration must ensure
// that the account's owner has just signed in.
func (p *Passkeys) BeginRegistration(ctx context.Context, who account.Caller, binding string) (options []byte, err error) {
	a, keys, err := p.credentials.Passkeys(ctx, who)
	if err != nil {
		return nil, err
	}
	if len(keys) >= credential.MaxPasskeys {
		return nil, credential.ErrTooManyPasskeys
	}
	var have []protocol.CredentialDescriptor
	for _, k := range keys {
		d := protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: k.CredentialID}
		for _, t := range k.Transports {
			d.Transport = append(d.Transport, protocol.AuthenticatorTransport(t))
		}
		have = append(have, d)
	}
	creation, session, err := p.web.BeginRegistration(user{a, keys}, webauthn.WithExclusions(have), webauthn.WithCredentialParameters(algorithms()))
	if err != nil {
		return nil, err
	}
	if err := p.give(ctx, challenge{Purpose: toCreate, DID: a.DID, Credentials: a.Credentials, Session: *session}, binding); err != nil {
		return nil, err
	}
	return json.Marshal(creation.Response)
}

// FinishRegistration adds a passkey to the caller's account. response is the JSON of the result of
// the browser's navigator.credentials.create. name is the owner's name for it; it may be empty.
// Errors are ErrRefused, ErrChallenge, and those of [credential.Store.AddPasskey].
func (p *Passkeys) FinishRegistration(ctx context.Context, who account.Caller, binding, name string, response []byte) (added credential.Passkey, err error) {
	c, exact, err := p.read(ctx, toCreate, binding, response)
	if err != nil {
		return added, err
	}
	if c.DID != who.DID {
		return added, ErrChallenge
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(exact)
	if err != nil {
		return added, refused(err)
	}
	a, keys, err := p.credentials.Passkeys(ctx, who)
	if err != nil {
		return added, err
	}
	made, err := p.web.CreateCredential(user{a, keys}, c.Session, parsed)
	if err != nil {
		return added, refused(err)
	}
	key := credential.Passkey{
		CredentialID: made.ID, PublicKey: made.PublicKey, Counter: made.Authenticator.SignCount, AAGUID: made.Authenticator.AAGUID,
		BackupEligible: made.Flags.BackupEligible, BackedUp: made.Flags.BackupState,
	}
	for _, t := range made.Transport {
		if known(string(t)) {
			key.Transports = append(key.Transports, string(t))
		}
	}
	key.Name = name
	return p.credentials.AddPasskey(ctx, who, c.Credentials, key)
}

// known reports whether a browser may be told of a transport.
func known(transport string) bool {
	switch transport {
	case "usb", "nfc", "ble", "smart-card", "hybrid", "internal":
		return true
	}
	return false
}

// BeginLogin returns the argument of PublicKeyCredential.parseRequestOptionsFromJSON, in JSON, to
// sign in with any passkey that the browser has for this server. It serves anonymous callers and
// writes to the store, so limit the calls.
func (p *Passkeys) BeginLogin(ctx context.Context, binding string) (options []byte, err error) {
	assertion, session, err := p.web.BeginDiscoverableLogin()
	if err != nil {
		return nil, err
	}
	if err := p.give(ctx, challenge{Purpose: toGet, Session: *session}, binding); err != nil {
		return nil, err
	}
	return json.Marshal(assertion.Response)
}

// FinishLogin verifies the JSON of the result of the browser's navigator.credentials.get, and
// records the use of the passkey. The proof names the account; compare it if you expected a certain
// one. Errors are ErrRefused, ErrChallenge, and account.ErrTakenDown.
func (p *Passkeys) FinishLogin(ctx context.Context, binding string, response []byte) (proof credential.Proof, err error) {
	c, exact, err := p.read(ctx, toGet, binding, response)
	if err != nil {
		return proof, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(exact)
	if err != nil {
		return proof, refused(err)
	}
	var owner user
	var failed error // of the store
	_, _, err = p.web.ValidatePasskeyLogin(func(_, handle []byte) (_ webauthn.User, err error) {
		owner.account, owner.keys, err = p.credentials.PasskeysByHandle(ctx, string(handle))
		if err != nil && !errors.Is(err, account.ErrNotFound) {
			failed = err
		}
		return owner, err
	}, c.Session, parsed)
	switch {
	case failed != nil:
		return proof, failed
	case err != nil:
		return proof, refused(err)
	}
	key, ok := owner.key(parsed.RawID)
	if !ok {
		return proof, refused(credential.ErrWrongFactor)
	}
	if owner.account.TakedownRef != "" {
		return proof, account.ErrTakenDown
	}
	seen := parsed.Response.AuthenticatorData
	proof, err = p.credentials.UsePasskey(ctx, owner.account.DID, credential.PasskeyUse{
		CredentialID: key.CredentialID, PublicKey: key.PublicKey, Counter: seen.Counter, BackedUp: seen.Flags.HasBackupState(),
	})
	if errors.Is(err, credential.ErrWrongFactor) {
		err = refused(err)
	}
	return proof, err
}
