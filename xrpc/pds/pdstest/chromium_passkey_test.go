package pdstest_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// makePasskey has the authenticator of somebody's browser make a passkey for the options in JSON, and
// returns its answer.
const makePasskey = `(async () => {
const bytes = t => Uint8Array.from(atob(t.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
const text = b => btoa(String.fromCharCode(...new Uint8Array(b))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
const o = %s;
o.challenge = bytes(o.challenge); o.user.id = bytes(o.user.id);
for (const c of o.excludeCredentials || []) c.id = bytes(c.id);
const c = await navigator.credentials.create({ publicKey: o });
return { id: c.id, rawId: text(c.rawId), type: c.type, response: { clientDataJSON: text(c.response.clientDataJSON), attestationObject: text(c.response.attestationObject), transports: c.response.getTransports() } };
})()`

// addPasskey gives an account a passkey in the authenticator of the person's browser.
func (p *person) addPasskey(pds *pdstest.PDS, a *pdstest.Account) credential.Passkey {
	p.t.Helper()
	ctx, who := p.t.Context(), account.Trusted(a.DID)
	keys := pds.Server().Passkeys
	options, err := keys.BeginRegistration(ctx, who, "test")
	if err != nil {
		p.t.Fatal(err)
	}
	p.Goto("https://" + pds.Name + "/robots.txt")
	var response json.RawMessage
	p.Eval(fmt.Sprintf(makePasskey, options), &response)
	added, err := keys.FinishRegistration(ctx, who, "test", "laptop", response)
	if err != nil {
		p.t.Fatal(err)
	}
	return added
}

// People sign in with passkeys, offered in the field of the name or by the button, in the place of the
// password and the second factor.
func TestBrowserPasskeys(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice, bob := pds.Account("alice"), pds.Account("bob")
	codes(t, net, pds, alice)
	app := net.App(noteScope)
	p := newPerson(t, net, browser.Options{})
	authenticator := p.Authenticator()
	added := p.addPasskey(pds, alice)

	l := p.begin(app, pds, nil) // the browser offers the passkey itself, and the person takes it
	p.WaitFor("It asks for access to your account @alice.pds1.test")
	p.Submit("Allow")
	if s := p.letIn(l); s.Tokens().DID != alice.DID {
		t.Errorf("let in by %s", s.Tokens().DID)
	}

	authenticator.NoOffers()
	askFor := func(change url.Values) *pdstest.AppLogin {
		t.Helper()
		l := p.begin(app, pds, change)
		p.Click("Sign in with a passkey")
		return l
	}
	l = askFor(nil)
	p.WaitFor("It asks for access to your account @alice.pds1.test")
	p.Submit("Allow")
	p.letIn(l)

	askFor(url.Values{"login_hint": {string(bob.DID)}})
	p.WaitFor("This passkey is one of another account.")
	if p.Has("Allow") {
		t.Error("the hint was not kept")
	}

	authenticator.Verify(false) // a wrong finger
	l = askFor(nil)
	p.WaitFor("The passkey was not used. Try again.")
	authenticator.Verify(true)
	p.Click("Sign in with a passkey")
	p.WaitFor("It asks for access to your account @alice.pds1.test")
	p.Submit("Allow")
	p.letIn(l)

	// One that was removed is of no use.
	if err := pds.Server().Credentials.RemoveFactor(t.Context(), account.Trusted(alice.DID), added.ID); err != nil {
		t.Fatal(err)
	}
	askFor(nil)
	p.WaitFor("This passkey was not accepted.")

	plain := newPerson(t, net, browser.Options{NoScript: true})
	plain.begin(app, pds, nil)
	if plain.Has("Sign in with a passkey") {
		t.Error("without scripts there is a button that does nothing")
	}
	plain.signIn(bob, false)
	plain.WaitFor("Let this app in?")
}

// The owner of an account adds a passkey on its page, signs in with it, renames and removes it.
func TestBrowserPasskeyPage(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	app := net.App(noteScope)
	p := newPerson(t, net, browser.Options{})
	authenticator := p.Authenticator()
	p.openAccount(alice)
	p.Submit("Sign-in and security")
	p.Submit("Passkeys")
	p.WaitFor("You have none.")
	p.Audit("account-passkeys-none")
	p.Fill("Name", "laptop")
	authenticator.Verify(false)
	p.Click("Add a passkey")
	p.WaitFor("The passkey was not used.")
	if n := len(authenticator.Credentials()); n != 0 {
		t.Errorf("%d passkeys without a finger", n)
	}
	authenticator.Verify(true)
	p.Submit("Add a passkey")
	p.WaitFor("The passkey is added.")
	p.Audit("account-passkeys")
	if n := len(authenticator.Credentials()); n != 1 {
		t.Fatalf("the authenticator has %d passkeys", n)
	}
	p.Fill("Name", "the same again")
	p.Click("Add a passkey")
	p.WaitFor("There is a passkey of your account on this device already.")

	p.ForgetCookies()
	l := p.begin(app, pds, nil) // the browser offers the passkey, and the person takes it
	p.WaitFor("It asks for access to your account @alice.pds1.test")
	p.Submit("Allow")
	p.letIn(l)

	p.ForgetCookies()
	authenticator.NoOffers()
	p.Goto("https://pds1.test/account")
	p.Click("Sign in with a passkey")
	p.WaitFor("@alice.pds1.test")
	p.Submit("Sign-in and security")
	p.Submit("Passkeys")
	p.Submit("Remove: laptop")
	p.WaitFor("You have none.")
	p.ForgetCookies()
	p.begin(app, pds, nil)
	p.Click("Sign in with a passkey")
	p.WaitFor("This passkey was not accepted.")
}
