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

// Logins says who is signed in in a browser. It must be safe for concurrent use.
type Logins interface {
	// Device returns the browser that a request comes from, by a cookie that scripts cannot read.
	// If the browser has none yet, Device sets one.
	Device(w http.ResponseWriter, r *http.Request) (Device, error)
}

// Device is a browser.
type Device struct {
	// ID names the browser for as long as it keeps its cookie.
	ID string
	// Accounts are those that are signed in, in the order to show them.
	Accounts []SignedIn
}

// SignedIn is an account that is signed in in a browser.
type SignedIn struct {
	DID syntax.DID
	// At is when somebody last proved to be its owner, with all the factors that the account has.
	At time.Time
	// Credentials is the value of the account's counter at that time: see account.Account.
	Credentials int64
	// Caller acts by the sign-in. It is looked at in the transaction that lets an app in, so that a
	// sign-in that is ended meanwhile, as on another device, lets none in. The zero Caller: only
	// Credentials are compared there.
	Caller account.Caller
	// Request, if not empty, is the one request (Prompt.Request) that the sign-in is good for, for
	// 15 minutes, since the browser is not to remember it.
	Request string
}

// How long a sign-in is good enough to let an app in.
const (
	signInLife    = 7 * 24 * time.Hour
	signInOneTime = 15 * time.Minute
)

// Pages shows people what the provider asks. Its methods answer the request. They may set headers
// of their own: the provider has set those that keep a page from being framed, kept or sent along
// as a referrer, and a Content-Security-Policy without scripts.
type Pages interface {
	// Prompt shows what is needed next.
	Prompt(w http.ResponseWriter, r *http.Request, q Prompt)
	// Error tells of an error, with the status that is given. Its Description is for people too, in
	// English.
	Error(w http.ResponseWriter, r *http.Request, status int, e *Error)
}

// Ask is what a Prompt asks for.
type Ask string

// What is asked for. A page may do several at once, such as a sign-in with a link to sign up.
const (
	// AskSignUp asks for a new account. Where that is not offered, it is AskSignIn.
	AskSignUp Ask = "signup"
	// AskSignIn asks to sign in, as the account of Prompt.Hint if there is one.
	AskSignIn Ask = "signin"
	// AskAccount asks which of several accounts to use.
	AskAccount Ask = "account"
	// AskConsent asks what the app may do with the account Prompt.Account. If that is deactivated,
	// it must be activated first: until then, consent ends the request with access_denied.
	AskConsent Ask = "consent"
)

// Prompt is what a person is asked.
//
// Consent is a form that is sent to the address of Action by POST. Its fields are "request" and
// "form" with the values of Request and Form, "did" with the account, "decision" with "allow" or
// "deny", and for each scope that is granted one field "scope" with its text. When somebody has
// signed in, or has chosen an account, the page goes on to Return, with "&account=" and the DID.
type Prompt struct {
	Ask    Ask
	Client Client
	// Request names the request.
	Request string
	// Form is a token that shows that a form came from this page in this browser.
	Form string
	// Action is the path that the form is sent to, and Return where the request goes on.
	Action, Return string
	// Scopes are what the app asks for, in normal form.
	Scopes []auth.Scope
	// Known are those of them that the account has granted to the app before, for AskConsent.
	Known []auth.Scope
	// Account is the account that is to consent.
	Account syntax.DID
	// Hint is the handle or DID of the account that the app asks for; empty: any. It cannot be
	// changed.
	Hint string
	// Accounts are those that may be chosen.
	Accounts []Choice
	// Locales are the languages that the app has asked for (ui_locales).
	Locales string
	// Expires is when the request is over, if nothing happens.
	Expires time.Time
}

// Choice is an account that may be chosen.
type Choice struct {
	Account account.Account
	// SignIn: its owner has to sign in again.
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
