package provider

import (
	"crypto/hmac"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Logins says which accounts are signed in in a browser. It must be safe for concurrent use.
type Logins interface {
	// Device returns the browser of a request, identified by a cookie that scripts cannot read. If
	// the browser has none, Device sets one.
	Device(w http.ResponseWriter, r *http.Request) (Device, error)
}

// Device is a browser.
type Device struct {
	// ID identifies the browser as long as it keeps its cookie.
	ID string
	// Accounts are the signed-in accounts, in the order in which to show them.
	Accounts []SignedIn
}

// SignedIn is an account that is signed in in a browser.
type SignedIn struct {
	DID syntax.DID
	// At is when somebody last proved to be its owner, with all the factors that the account
	// demands.
	At time.Time
	// Credentials is the value of the account's counter at that time: see account.Account.
	Credentials int64
	// Caller acts by the sign-in. It is checked in the transaction that creates an app's session,
	// so a sign-in that was ended in the meantime creates none. If it is the zero Caller, only
	// Credentials are compared there.
	Caller account.Caller
	// Request, if not empty, is the only request (Prompt.Request) for which the sign-in is valid,
	// for 15 minutes. It is set if the browser is not to be remembered.
	Request string
}

// How recent a sign-in must be to create an app's session.
const (
	signInLife    = 7 * 24 * time.Hour
	signInOneTime = 15 * time.Minute
)

// Pages shows the provider's prompts to the user. Its methods write the response. They may set
// headers. The provider has already set those that keep a page from being framed, cached or sent as
// a referrer, and a Content-Security-Policy without scripts.
type Pages interface {
	// Prompt shows what is needed next.
	Prompt(w http.ResponseWriter, r *http.Request, q Prompt)
	// Error shows an error, with the given status. Its Description is readable for users, in
	// English.
	Error(w http.ResponseWriter, r *http.Request, status int, e *Error)
}

// Ask is what a Prompt asks for.
type Ask string

// Questions of a Prompt. One page may show several, such as a sign-in with a link to sign up.
const (
	// AskSignUp asks for a new account. A server without sign-up treats it as AskSignIn.
	AskSignUp Ask = "signup"
	// AskSignIn asks to sign in, as the account of Prompt.Hint if there is one.
	AskSignIn Ask = "signin"
	// AskAccount asks which of several accounts to use.
	AskAccount Ask = "account"
	// AskConsent asks what the app may do with the account Prompt.Account. A deactivated account
	// must be activated first. Until then, consent ends the request with access_denied.
	AskConsent Ask = "consent"
)

// Prompt is a question to the user.
//
// Consent is a form, sent by POST to Action. Its fields are "request" and "form" with the values of
// Request and Form, "did" with the account, "decision" with "allow" or "deny", and one field
// "scope" for each granted scope. After a sign-in or a choice of an account, the page continues at
// Return, with "&account=" and the DID appended.
type Prompt struct {
	Ask    Ask
	Client Client
	// Request identifies the request.
	Request string
	// Form is a token that proves that a form came from this page in this browser.
	Form string
	// Action is the path of the form. Return is the path at which the request continues.
	Action, Return string
	// Scopes are the requested scopes, in normal form.
	Scopes []auth.Scope
	// Known are those of them that the account has already granted to the app, for AskConsent.
	Known []auth.Scope
	// Account is the account whose consent is asked for.
	Account syntax.DID
	// Hint is the handle or DID of the account that the app requests; empty: any. The user cannot
	// change it.
	Hint string
	// Accounts are the accounts to choose from.
	Accounts []Choice
	// Locales are the languages that the app has requested (ui_locales).
	Locales string
	// Expires is when the request expires if nothing happens.
	Expires time.Time
}

// Choice is an account to choose.
type Choice struct {
	Account account.Account
	// SignIn is set if the owner must sign in again.
	SignIn bool
}

// form is the token of a form.
func (p *Provider) form(device, id string) string { return digest.MAC(p.secrets.form, device, id) }

func (p *Provider) checkForm(token, device, id string) bool {
	return hmac.Equal([]byte(token), []byte(p.form(device, id)))
}

// pageHeaders sets the headers of all pages.
func pageHeaders(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would take the Origin from forms
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex")
}
