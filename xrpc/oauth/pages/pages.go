package pages

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Config configures Pages. Site and Passwords are required.
type Config struct {
	// Site is the site that the pages belong to. Its Limit is called for "sign-in", "passkey" (a
	// challenge), "factor", "sign-up", "handle", "password-request" and "password-reset".
	Site *site.Site
	// Passwords checks passwords and counts guesses; session.Sessions implements it.
	Passwords Passwords
	// Service creates and activates accounts, and mails codes to reset passwords; server.Service
	// implements it. Nil: the pages do not offer that.
	Service Service
	// SendCode mails a second-factor code after the password was shown. Nil: codes by mail are not
	// sent; only those of authenticator apps and recovery codes are accepted.
	SendCode func(ctx context.Context, a account.Account, code string) error
	// Passkeys verifies passkeys; passkey.Passkeys implements it. Nil: there are none, and the
	// pages have no script.
	Passkeys Passkeys
	// Sets resolves the permission sets of apps, to show their contents: the provider's Sets. Nil:
	// their names are shown.
	Sets provider.Sets
}

// Passwords checks passwords. It must be safe for concurrent use.
type Passwords interface {
	// CheckPassword checks a password of an account, given by handle, DID or e-mail address, and
	// counts the guess. App passwords are accepted only with apps. A missing account is
	// indistinguishable from a wrong password: both give credential.ErrWrongPassword, after the
	// same time.
	CheckPassword(r *xrpc.Request, identifier, password string, apps bool) (credential.Proof, error)
}

// Service creates and activates accounts, and resets forgotten passwords. It must be safe for
// concurrent use.
type Service interface {
	// Policy says who may have an account. Without Domains there is no sign-up.
	Policy() server.Policy
	// CheckHandle returns an error if a new account cannot have the handle at the moment: see
	// SignUp.
	CheckHandle(ctx context.Context, h syntax.Handle) error
	// SignUp creates an account. Errors are account.ErrHandleTaken, account.ErrEmailTaken,
	// account.ErrInvite, or an *xrpc.Error whose Name or Message is the reason.
	SignUp(ctx context.Context, r *xrpc.Request, in server.SignUp) (account.Account, error)
	// RequestPasswordReset mails a code to the account with an address. It takes the same time if
	// there is none.
	RequestPasswordReset(ctx context.Context, email string) error
	// ResetPassword sets a password with a mailed code. Errors are credential.ErrMailToken and
	// credential.ErrMailTokenExpired, or an *xrpc.Error about the password.
	ResetPassword(ctx context.Context, token, password string) error
	// Activate makes a deactivated account active again. If the account has moved to another
	// server, the error is an *xrpc.Error.
	Activate(ctx context.Context, who account.Caller) error
	// RequestEmailConfirmation mails a code with which the owner of a new account confirms its
	// address.
	RequestEmailConfirmation(ctx context.Context, who account.Caller) error
	// SendsMail reports whether codes can be sent at all.
	SendsMail() bool
}

// Pages shows pages. Make one with New. It is safe for concurrent use.
type Pages struct {
	cfg         Config
	site        *site.Site
	credentials *credential.Store
	accounts    *account.Store
	now         func() time.Time
	log         *slog.Logger
	requests    provider.Requests
	flows       site.Sealer
	proofs      site.Sealer
	confirms    site.Sealer
}

var (
	_ provider.Pages  = (*Pages)(nil)
	_ provider.Logins = (*Pages)(nil)
)

// New returns the pages of a configuration. It panics if something required is missing.
func New(cfg Config) *Pages {
	switch {
	case cfg.Site == nil:
		panic("pages: Config.Site is missing: make it with site.New")
	case cfg.Passwords == nil:
		panic("pages: Config.Passwords is missing: give the session.Sessions of the host, which count guesses")
	}
	s := cfg.Site
	return &Pages{
		cfg: cfg, site: s, credentials: s.Credentials(), accounts: s.Credentials().Accounts(), now: s.Now, log: s.Logger(),
		requests: provider.Requests{KV: s.Credentials().Accounts().Host().Store().KV, Now: s.Now},
		flows:    s.Sealer("flows"), proofs: s.Sealer("proofs"), confirms: s.Sealer("confirmations"),
	}
}

// The addresses.
const (
	pathSignIn   = "/oauth/sign-in"
	pathFactor   = "/oauth/factor"
	pathSignUp   = "/oauth/sign-up"
	pathForgot   = "/oauth/password"
	pathReset    = "/oauth/password/reset"
	pathSignOut  = "/oauth/sign-out"
	pathActivate = "/oauth/activate"
	pathConfirm  = "/oauth/confirm-email"
	pathPasskey  = "/oauth/passkey"
	pathOptions  = "/oauth/passkey/options"

	pathAuthorize = "/oauth/authorize" // of the provider
	pathAccount   = "/account"
)

// Mount adds all paths to a mux. They are below /oauth/, beside those of the provider. The style
// sheet is the site's: see [site.Site.Mount].
func (p *Pages) Mount(mux *http.ServeMux) {
	mux.HandleFunc(pathSignIn, p.serve("sign-in", p.showSignIn, p.signIn))
	mux.HandleFunc(pathFactor, p.serve("factor", nil, p.factor))
	mux.HandleFunc(pathSignUp, p.serve("", p.showSignUp, p.signUp))
	mux.HandleFunc(pathForgot, p.serve("password-request", p.showForgot, p.forgot))
	mux.HandleFunc(pathReset, p.serve("password-reset", p.showReset, p.reset))
	mux.HandleFunc(pathSignOut, p.serve("", p.showSignOut, p.signOut))
	mux.HandleFunc(pathConfirm, p.serve("factor", nil, p.confirmEmail))
	mux.HandleFunc(pathActivate, p.serve("", nil, p.activate))
	if p.cfg.Passkeys != nil {
		mux.HandleFunc(pathPasskey, p.serve("sign-in", nil, p.passkey))
		mux.HandleFunc(pathOptions, p.site.Serve(set, site.Handler{Action: "passkey", Fetch: func(c *site.Call) (any, error) {
			x := &call{Call: c}
			if err := p.openFlow(x); err != nil {
				return nil, err
			}
			return p.passkeyOptions(x)
		}}))
	}
}

// call is a request for a page.
type call struct {
	*site.Call
	flow flow
}

func (c *call) ctx() context.Context { return c.R.Context() }

// serve serves an address: get shows a page, post takes its form.
func (p *Pages) serve(action string, get, post func(*call) error) http.HandlerFunc {
	h := site.Handler{Action: action, Post: func(c *site.Call) error {
		x := &call{Call: c}
		if err := p.enterFlow(x); err != nil {
			return err
		}
		return post(x)
	}}
	if get != nil {
		h.Get = func(c *site.Call) error {
			q := c.R.URL.Query()
			c.Flow = q.Get("flow")
			x := &call{Call: c}
			if err := p.enterFlow(x); err != nil {
				return err
			}
			if c.Flow == "" {
				x.flow.Return = ownPath(q.Get("return"))
				if err := p.setOwner(x); err != nil {
					return err
				}
			}
			return get(x)
		}
	}
	return p.site.Serve(set, h)
}

// flow is what a request is about, as it goes from page to page.
type flow struct {
	// Return is the path at which the request continues; empty: this is not an app's request.
	Return string `json:"return,omitempty"`
	// Request identifies the request, and App the app.
	Request string `json:"request,omitempty"`
	App     string `json:"app,omitempty"`
	// Who is the account that should sign in, if known. With Fixed, no other account may.
	Who   string `json:"who,omitempty"`
	Fixed bool   `json:"fixed,omitempty"`
	// Again is set if the account is signed in, but its owner must sign in again. Keep is set if
	// the browser remembers the account, and is to remember it afterwards.
	Again bool `json:"again,omitempty"`
	Keep  bool `json:"keep,omitempty"`
	// Locales are the languages that the app requests.
	Locales string `json:"locales,omitempty"`
}

// setFlow says what a request is about.
func (p *Pages) setFlow(c *call, f flow) {
	c.flow = f
	c.Lang = set.Language(f.Locales, c.R.Header.Get("Accept-Language"))
}

// openFlow reads what a request is about. An empty text is an empty flow.
func (p *Pages) openFlow(c *call) error {
	var f flow
	if c.Flow != "" && !p.flows.Open(c.Browser, c.Flow, &f) {
		return site.ErrForm
	}
	p.setFlow(c, f)
	return nil
}

// enterFlow is openFlow that gives somebody who is at the request more time: a person, who has
// asked for a page or sent a form, and not a script that waits for one.
func (p *Pages) enterFlow(c *call) error {
	if err := p.openFlow(c); err != nil || c.flow.Request == "" || c.R.Method == http.MethodHead {
		return err
	}
	return p.requests.Extend(c.ctx(), c.Browser.Name, c.flow.Request)
}

// setOwner sees to it that who is led to a page of an account signs in as that account.
func (p *Pages) setOwner(c *call) error {
	name, ok := strings.CutPrefix(c.flow.Return, pathAccount+"/")
	if !ok {
		return nil
	}
	name, _, _ = strings.Cut(name, "/")
	name, err := url.PathUnescape(name)
	if err != nil {
		return nil
	}
	did, err := syntax.ParseDID(name)
	if err != nil {
		return nil
	}
	a, err := p.accounts.ByDID(c.ctx(), did)
	if errors.Is(err, account.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	c.flow.Who, c.flow.Fixed = cmp.Or(string(a.Handle), string(did)), true
	_, in, err := p.site.SignIn(c.ctx(), c.Browser, did)
	c.flow.Again = err == nil
	c.flow.Keep = err == nil && in.Remembered
	return nil
}

// ownPath returns the path of an account page, and nothing for what else somebody writes there.
func ownPath(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return ""
	}
	if u.Path != pathAccount && !strings.HasPrefix(u.Path, pathAccount+"/") || strings.Contains(u.Path, "..") || strings.ContainsAny(u.Path, "\\\r\n") {
		return ""
	}
	return (&url.URL{Path: u.Path}).EscapedPath()
}

// goOn leads back to the request, with the account that has signed in.
func (p *Pages) goOn(c *call, did syntax.DID) error {
	to := c.flow.Return
	switch {
	case to == "":
		to = pathAccount
	case c.flow.Request != "" && did != "":
		to += "&account=" + url.QueryEscape(string(did))
	}
	return c.Redirect(to)
}
