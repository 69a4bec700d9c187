package owner

import (
	"context"
	"embed"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Config configures Pages. Site and Service are required.
type Config struct {
	// Site is the site that the pages belong to. Its Limit is called for "account" for each form,
	// and also for "handle", "handle-change", "email-change", "mail" and "passkey" for forms that
	// cost or reveal more, and for the pages "account-data" and "export".
	Site *site.Site
	// Service changes accounts; server.Service implements it.
	Service Service
	// OAuth has the sessions of apps; [provider.Apps] implements it. Nil: there are none, and no
	// page for them.
	OAuth OAuth
	// Passkeys registers passkeys; passkey.Passkeys implements it. Nil: there is no page for them.
	Passkeys Passkeys
	// Sets resolves permission sets, to describe their contents: the provider's Sets. Nil: their
	// names are shown.
	Sets provider.Sets
	// SignIn is the path of the sign-in page, which leads back to the path in its parameter
	// "return". Empty: "/oauth/sign-in".
	SignIn string
}

// Service changes accounts for callers, and returns their state. It must be safe for concurrent
// use. Its methods are those of [server.Service].
type Service interface {
	Policy() server.Policy
	SendsMail() bool
	Status(ctx context.Context, did syntax.DID) (server.Status, error)
	CheckHandle(ctx context.Context, h syntax.Handle) error
	LookUpHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error)
	ChangeHandle(ctx context.Context, who account.Caller, h syntax.Handle) error
	RequestEmailConfirmation(ctx context.Context, who account.Caller) error
	RequestEmailChange(ctx context.Context, who account.Caller) (needed bool, err error)
	ChangeEmail(ctx context.Context, who account.Caller, email, code string) error
	RequestDeletion(ctx context.Context, who account.Caller) error
	Activate(ctx context.Context, who account.Caller) error
}

// OAuth lists and ends sessions of apps. It must be safe for concurrent use. [provider.Apps]
// implements it and documents the methods.
type OAuth interface {
	Sessions(ctx context.Context, who account.Caller) ([]provider.Session, error)
	EndClient(ctx context.Context, who account.Caller, clientID string) error
}

// FreshFor is the maximum age of a sign-in for dangerous changes.
const FreshFor = 5 * time.Minute

// Pages are the pages. Make them with New. They are safe for concurrent use.
type Pages struct {
	cfg         Config
	site        *site.Site
	service     Service
	credentials *credential.Store
	accounts    *account.Store
	notes       site.Sealer
}

// New returns the pages of a configuration. It panics if something required is missing.
func New(cfg Config) *Pages {
	switch {
	case cfg.Site == nil:
		panic("owner: Config.Site is missing: make it with site.New")
	case cfg.Service == nil:
		panic("owner: Config.Service is missing: give the server.Service of the host")
	}
	if cfg.SignIn == "" {
		cfg.SignIn = "/oauth/sign-in"
	}
	c := cfg.Site.Credentials()
	return &Pages{cfg: cfg, site: cfg.Site, service: cfg.Service, credentials: c, accounts: c.Accounts(), notes: cfg.Site.Sealer("notes")}
}

//go:embed templates/*.html messages/*.txt
var files embed.FS

// set are the templates and messages of the pages.
var set = site.NewSet(files)

// page is a page of an account.
type page struct {
	name string // in the path; "": the overview
	// fresh: the page is only shown, and its form only taken, from somebody who has just signed in.
	fresh     bool
	get, post func(*call) error
	// fetch answers the script of a page.
	fetch func(*call) (any, error)
}

func (p *Pages) pages() []page {
	list := []page{
		{name: "", get: p.overview},
		{name: "sign-out", post: p.signOut},
		{name: "devices", get: p.devices, post: p.endDevice},
		{name: "app-passwords", get: p.appPasswords, post: p.revokeAppPassword},
		{name: "app-passwords/new", fresh: true, get: p.newAppPassword, post: p.makeAppPassword},
		{name: "security", get: p.security},
		{name: "password", fresh: true, get: p.password, post: p.changePassword},
		{name: "authenticator", fresh: true, get: p.authenticator, post: p.changeAuthenticator},
		{name: "recovery-codes", fresh: true, get: p.recoveryCodes, post: p.newRecoveryCodes},
		{name: "email-codes", fresh: true, get: p.emailCodes, post: p.changeEmailCodes},
		{name: "email", get: p.email, post: p.confirmEmail},
		{name: "email/change", fresh: true, get: p.newEmail, post: p.changeEmail},
		{name: "handle", fresh: true, get: p.handle, post: p.changeHandle},
		{name: "data", get: p.data},
		{name: "data/repository.car", get: p.export},
		{name: "close", fresh: true, get: p.closing, post: p.close},
	}
	if p.cfg.OAuth != nil {
		list = append(list, page{name: "apps", get: p.apps, post: p.endApp})
	}
	if p.cfg.Passkeys != nil {
		list = append(list, page{name: passkeysPage, fresh: true, get: p.passkeys, post: p.changePasskeys},
			page{name: passkeyOptionsPage, fresh: true, fetch: p.passkeyOptions})
	}
	return list
}

// Mount adds the pages to a mux, and /.well-known/change-password, which redirects to one of them.
func (p *Pages) Mount(mux *http.ServeMux) {
	mux.HandleFunc("/account", p.site.Serve(set, site.Handler{Get: p.choose}))
	mux.HandleFunc("/account/{$}", p.site.Serve(set, site.Handler{Get: p.choose}))
	for _, x := range p.pages() {
		path := "/account/{did}"
		if x.name != "" {
			path += "/" + x.name
		}
		mux.HandleFunc(path, p.site.Serve(set, p.handler(x)))
	}
	mux.HandleFunc("GET /.well-known/change-password", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/account/-/password")
		w.WriteHeader(http.StatusFound)
	})
}

// call is a request for a page of an account.
type call struct {
	*site.Call
	page    page
	account account.Account
	in      site.SignIn
	// who is who acts: a caller who has just signed in, on pages that ask for that.
	who account.Caller
}

// path is that of a page of an account, as it is written in a link.
func path(did syntax.DID, page string) string {
	at := "/account/" + url.PathEscape(string(did))
	if page != "" {
		at += "/" + page
	}
	return at
}

// plain is the same as the server reads it, which is what the tokens of forms are for.
func plain(did syntax.DID, page string) string {
	return strings.TrimSuffix("/account/"+string(did)+"/"+page, "/")
}

// handler serves a page to the owner of the account.
func (p *Pages) handler(x page) site.Handler {
	run := func(c *site.Call, fn func(*call) error) error {
		did := syntax.DID(c.R.PathValue("did"))
		if did == "-" {
			return p.chooseFor(c, x.name)
		}
		if _, err := syntax.ParseDID(string(did)); err != nil {
			return site.ErrNotOffered
		}
		a, in, err := p.site.SignIn(c.Context(), c.Browser, did)
		switch {
		case errors.Is(err, account.ErrTokenRevoked), errors.Is(err, account.ErrNotFound):
			return p.askSignIn(c, did, x)
		case err != nil:
			return err
		}
		as := site.As{}
		if x.fresh {
			as.Fresh = FreshFor
		}
		y := &call{Call: c, page: x, account: a, in: in, who: p.site.Caller(c.Browser, did, as)}
		if x.fresh && !in.Within(FreshFor, p.site.Now()) {
			err = site.ErrStale
		} else {
			err = fn(y)
		}
		switch {
		case errors.Is(err, site.ErrStale), errors.Is(err, account.ErrTokenRevoked):
			return p.askSignIn(c, did, x)
		}
		return err
	}
	h := site.Handler{Action: "account"}
	if x.get != nil {
		h.Get = func(c *site.Call) error { return run(c, x.get) }
	}
	if x.fetch != nil {
		h.Fetch = func(c *site.Call) (out any, err error) {
			err = run(c, func(y *call) error { out, err = x.fetch(y); return err })
			return out, err
		}
	}
	if x.post != nil {
		h.Post = func(c *site.Call) error { return run(c, x.post) }
	}
	return h
}

// askSignIn leads to the page to sign in, and from there back to a page of an account. A script is
// told that its page must be opened anew.
func (p *Pages) askSignIn(c *site.Call, did syntax.DID, x page) error {
	if x.fetch != nil {
		return site.ErrSignedOut
	}
	if x.get == nil {
		x.name = ""
	}
	return c.Redirect(p.cfg.SignIn + "?return=" + url.QueryEscape(path(did, x.name)))
}

// to leads to a page of the account, after a form: with a note that says what was done.
func (p *Pages) to(c *call, page, note string) error {
	return c.Redirect(path(c.account.DID, page) + "?done=" + url.QueryEscape(p.notes.Seal(c.Browser, note)))
}

// choose asks which account somebody wants to look after.
func (p *Pages) choose(c *site.Call) error { return p.chooseFor(c, "") }

// chooseFor leads to a page of the account that is signed in, asks which one if there are several,
// and asks somebody to sign in if there is none.
func (p *Pages) chooseFor(c *site.Call, name string) error {
	list, err := p.site.SignedIn(c.Context(), c.Browser)
	if err != nil {
		return err
	}
	v := &view{Page: c.Page("choose.title"), Return: url.QueryEscape(path("-", name))}
	for _, x := range list {
		if x.Request == "" && x.Credentials == x.Account.Credentials && x.Account.Status() != account.TakenDown {
			v.Choices = append(v.Choices, choice{x.Account.Handle, path(x.Account.DID, name)})
		}
	}
	v.SignIn = p.cfg.SignIn
	switch {
	case len(v.Choices) == 0:
		return c.Redirect(p.cfg.SignIn + "?return=" + v.Return)
	case len(v.Choices) == 1 && c.R.URL.Query().Get("choose") == "":
		return c.Redirect(v.Choices[0].Link)
	}
	return c.Show("choose", v)
}

// signOut signs the account out in this browser.
func (p *Pages) signOut(c *call) error {
	if err := p.site.Leave(c.Context(), c.Browser, c.account.DID); err != nil {
		return err
	}
	return c.Redirect("/account")
}
