package browser

import (
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
)

// Authenticator is a platform authenticator that the browser simulates: it keeps passkeys and says
// yes to everything, as a person who touches the sensor.
type Authenticator struct {
	tab *Tab
	id  webauthn.AuthenticatorID
}

// Authenticator plugs an authenticator into the tab.
func (tab *Tab) Authenticator() *Authenticator {
	tab.t.Helper()
	do(tab, webauthn.Enable, webauthn.EnableParams{})
	out := do(tab, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		DefaultBackupEligibility: true, DefaultBackupState: true,
		HasCmtgKey: true, // nobody asks for one, but Chromium 156 takes no passkey that could have one
	}})
	return &Authenticator{tab, out.AuthenticatorID}
}

// Verify sets whether it succeeds in verifying the person, by a finger or a PIN.
func (a *Authenticator) Verify(ok bool) {
	a.tab.t.Helper()
	do(a.tab, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: ok})
}

// NoOffers makes the browser one that does not offer passkeys in the fields of pages that it opens
// from now on. Where it offers them, the authenticator takes the offer at once.
func (a *Authenticator) NoOffers() {
	a.tab.t.Helper()
	do(a.tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: "PublicKeyCredential.isConditionalMediationAvailable = async () => false",
	})
}

// Credentials returns the passkeys.
func (a *Authenticator) Credentials() []*webauthn.Credential {
	a.tab.t.Helper()
	return do(a.tab, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id}).Credentials
}

// Add puts a passkey in, as one that was copied from another authenticator.
func (a *Authenticator) Add(c *webauthn.Credential) {
	a.tab.t.Helper()
	// Without keys, the index that Chromium 156 gives is out of bounds.
	copied := *c
	copied.CmtgKeys, copied.ActiveCmtgKeyIndex = nil, nil
	do(a.tab, webauthn.AddCredential, webauthn.AddCredentialParams{AuthenticatorID: a.id, Credential: &copied})
}

// Clear removes all passkeys.
func (a *Authenticator) Clear() {
	a.tab.t.Helper()
	do(a.tab, webauthn.ClearCredentials, webauthn.ClearCredentialsParams{AuthenticatorID: a.id})
}
