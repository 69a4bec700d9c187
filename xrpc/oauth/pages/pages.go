package pages

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
)

// Config configures Pages. Credentials, Passwords, Issuer and Secret are required.
type Config struct {
	// Credentials are those of the accounts that sign in.
	Credentials *credential.Store
	// Passwords checks passwords, and counts guesses: session.Sessions is one.
	Passwords Passwords
	// Service makes accounts, activates them, and mails codes to reset passwords: server.Service is
	// one. Nil: the pages offer nothing of that.
	Service Service
	// SendCode mails a code by which somebody signs in who has shown the password. Nil: codes by mail
	// are not sent; those of authenticator apps and recovery codes are taken.
	SendCode func(ctx context.Context, a account.Account, code string) error
	// NewDevice, if not nil, is called after somebody has signed in with a browser in which the account
	// was not signed in before, in the goroutine that serves the request.
	NewDevice func(ctx context.Context, a account.Account, s SignIn)
	// Sets resolves the permission sets that apps ask for, to show what is in them: that of the
	// provider. Nil: their names are shown.
	Sets provider.Sets
	// Issuer is the origin of this server, "https://pds.example.com". With http://, for development,
	// cookies are sent without encryption.
	Issuer string
	// Secret has at least 32 random bytes. All nodes of a server have the same. With another one,
	// forms that people have open are void.
	Secret []byte
	// Brand is how the pages look, and whose they are.
	Brand Brand
	// Limit, if not nil, bounds how often forms are used. It is called with the name of what is done:
	// "sign-in", "factor", "sign-up", "handle", "password-request" or "password-reset". Its error is
	// shown, so it is a *limit.Error, a *provider.Error or an *xrpc.Error.
	Limit func(r *http.Request, action string) error
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger gets failures that nobody is told. Nil: silent.
	Logger *slog.Logger
}

// Passwords checks passwords. It must be safe for concurrent use.
type Passwords interface {
	// CheckPassword checks a password of an account, which is named by handle, DID or e-mail address.
	// It counts guesses. If apps is false, app passwords are not good. An account that does not exist
	// cannot be told from a wrong password: both are credential.ErrWrongPassword, after the same time.
	CheckPassword(r *xrpc.Request, identifier, password string, apps bool) (credential.Proof, error)
}

// Service makes accounts, activates them, and helps those who have forgotten their password. It must
// be safe for concurrent use.
type Service interface {
	// Policy says who may have an account. Without Domains there is no sign-up.
	Policy() server.Policy
	// CheckHandle returns an error if a new account cannot have the handle at the moment: see SignUp.
	CheckHandle(ctx context.Context, h syntax.Handle) error
	// SignUp makes an account. Errors are account.ErrHandleTaken, account.ErrEmailTaken,
	// account.ErrInvite, or an *xrpc.Error whose Name or Message says what is wrong.
	SignUp(ctx context.Context, r *xrpc.Request, in server.SignUp) (account.Account, error)
	// RequestPasswordReset mails a code to the account that has an address. It takes the same time if
	// there is none.
	RequestPasswordReset(ctx context.Context, email string) error
	// ResetPassword sets a password by such a code. Errors are credential.ErrMailToken and
	// credential.ErrMailTokenExpired, or an *xrpc.Error about the password.
	ResetPassword(ctx context.Context, token, password string) error
	// Activate makes an account active again that its owner had deactivated. If it lives elsewhere by
	// now, the error is an *xrpc.Error.
	Activate(ctx context.Context, who account.Caller) error
	// SendsMail reports whether codes can be sent at all.
	SendsMail() bool
}

// Pages shows pages and knows browsers. Make one with New. It is safe for concurrent use, and
// several processes may have Pages over the same store.
type Pages struct {
	cfg         Config
	credentials *credential.Store
	accounts    *account.Store
	kv          storage.KV
	now         func() time.Time
	log         *slog.Logger
	keys        struct{ device, form, flow, proof []byte }
	look        look
}

var (
	_ provider.Pages  = (*Pages)(nil)
	_ provider.Logins = (*Pages)(nil)
)

const minSecret = 32

// New returns the pages of a configuration, and sees to it that sign-ins end when an account's
// credentials change. It panics if something that is required is missing. Call it before the
// accounts are used.
func New(cfg Config) *Pages {
	u, err := url.Parse(cfg.Issuer)
	switch {
	case cfg.Credentials == nil:
		panic("pages: Config.Credentials is missing: give the credential.Store of the host")
	case cfg.Passwords == nil:
		panic("pages: Config.Passwords is missing: give the session.Sessions of the host, which count guesses")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || cfg.Issuer != u.Scheme+"://"+u.Host:
		panic("pages: Config.Issuer must be the origin of this server, without a path or a slash at the end, as https://pds.example.com")
	case len(cfg.Secret) < minSecret:
		panic("pages: Config.Secret is too short: give at least 32 random bytes, the same for all nodes and always")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Limit == nil {
		cfg.Limit = func(*http.Request, string) error { return nil }
	}
	if cfg.Brand.Name == "" {
		cfg.Brand.Name = u.Hostname()
	}
	p := &Pages{cfg: cfg, credentials: cfg.Credentials, accounts: cfg.Credentials.Accounts(), now: cfg.Now, log: cfg.Logger, look: newLook(cfg.Brand)}
	p.kv = p.accounts.Host().Store().KV
	p.keys.device, p.keys.form = derive(cfg.Secret, "browsers"), derive(cfg.Secret, "forms")
	p.keys.flow, p.keys.proof = derive(cfg.Secret, "flows"), derive(cfg.Secret, "proofs")
	p.accounts.OnRaise(raised)
	return p
}

func derive(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "pdskit pages: "+purpose, sha256.Size)
	if err != nil {
		panic("pages: " + err.Error()) // cannot be: the length is that of one block
	}
	return key
}

// mac is a MAC over parts, in base64url.
func mac(key []byte, parts ...string) string {
	h := hmac.New(sha256.New, key)
	for _, part := range parts {
		io.WriteString(h, part)
		h.Write([]byte{0})
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func equal(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

// hash is what is stored of a secret.
func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
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
	pathStyle    = "/oauth/style/"

	pathAuthorize = "/oauth/authorize" // of the provider
	pathAccount   = "/account"
)

// Mount adds all addresses to a mux. They are below /oauth/, beside those of the provider.
func (p *Pages) Mount(mux *http.ServeMux) {
	mux.HandleFunc(pathSignIn, p.serve("sign-in", p.showSignIn, p.signIn))
	mux.HandleFunc(pathFactor, p.serve("factor", nil, p.factor))
	mux.HandleFunc(pathSignUp, p.serve("sign-up", p.showSignUp, p.signUp))
	mux.HandleFunc(pathForgot, p.serve("password-request", p.showForgot, p.forgot))
	mux.HandleFunc(pathReset, p.serve("password-reset", p.showReset, p.reset))
	mux.HandleFunc(pathSignOut, p.serve("", p.showSignOut, p.signOut))
	mux.HandleFunc(pathActivate, p.serve("", nil, p.activate))
	mux.HandleFunc("GET "+p.look.stylePath, p.look.serveStyle)
}

// call is a request for a page.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	device browser
	flow   flow
	form   url.Values // of a POST
	lang   language
}

func (c *call) ctx() context.Context { return c.r.Context() }

// serve serves an address: get shows a page, post takes its form.
func (p *Pages) serve(action string, get, post func(*call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.headers(w.Header(), "")
		c := &call{w: w, r: r, lang: chooseLanguage("", r.Header.Get("Accept-Language"))}
		if err := p.try(c, action, get, post); err != nil {
			p.fail(c, err)
		}
	}
}

func (p *Pages) try(c *call, action string, get, post func(*call) error) (err error) {
	isGet := c.r.Method == http.MethodGet || c.r.Method == http.MethodHead
	switch {
	case isGet && get != nil:
	case c.r.Method == http.MethodPost:
	default:
		allow := "POST"
		if get != nil {
			allow = "GET, HEAD, POST"
		}
		c.w.Header().Set("Allow", allow)
		return refuse(http.StatusMethodNotAllowed, "The method is not allowed here")
	}
	if err := navigated(c.r); err != nil {
		return err
	}
	if isGet {
		q := c.r.URL.Query()
		if c.device, err = p.browser(c.w, c.r); err != nil {
			return err
		}
		if c.flow, err = p.openFlow(c.device.Name, q.Get("flow")); err != nil {
			return err
		}
		if q.Get("flow") == "" {
			c.flow.Return = ownPath(q.Get("return"))
		}
		c.lang = chooseLanguage(c.flow.Locales, c.r.Header.Get("Accept-Language"))
		return get(c)
	}
	if err := p.readForm(c); err != nil {
		return err
	}
	if action != "" {
		if err := p.cfg.Limit(c.r, action); err != nil {
			return err
		}
	}
	return post(c)
}

// maxForm is the length in bytes of the longest form.
const maxForm = 64 << 10

// readForm reads a form and checks that it is one of ours, from this browser.
func (p *Pages) readForm(c *call) error {
	r := c.r
	if r.Header.Get("Origin") != p.cfg.Issuer {
		return errForeign
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return errForeign
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || r.Header.Get("Content-Encoding") != "" {
		return refuse(http.StatusUnsupportedMediaType, "The body must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, r.Body, maxForm))
	if err != nil {
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return refuse(http.StatusRequestEntityTooLarge, "The form is too long")
		}
		return refuse(http.StatusBadRequest, "The form could not be read")
	}
	if c.form, err = url.ParseQuery(string(body)); err != nil {
		return refuse(http.StatusBadRequest, "The form is malformed")
	}
	for name, v := range c.form {
		if len(v) > 1 || !utf8.ValidString(name) || !utf8.ValidString(v[0]) {
			return refuse(http.StatusBadRequest, "The form is malformed")
		}
	}
	if c.device, err = p.browser(c.w, r); err != nil {
		return err
	}
	if !equal(c.form.Get("token"), p.token(c.device.Name, r.URL.Path, c.form.Get("flow"))) {
		return errForm
	}
	if c.flow, err = p.openFlow(c.device.Name, c.form.Get("flow")); err != nil {
		return err
	}
	c.lang = chooseLanguage(c.flow.Locales, r.Header.Get("Accept-Language"))
	return nil
}

// token is that of a form: for one browser, one address and one flow.
func (p *Pages) token(device, path, flow string) string { return mac(p.keys.form, device, path, flow) }

// navigated checks that a browser asks for a page as such. Old browsers do not say.
func navigated(r *http.Request) error {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
		return refuse(http.StatusBadRequest, "This page can only be navigated to")
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "document" {
		return refuse(http.StatusBadRequest, "This page cannot be part of another one")
	}
	return nil
}

// flow is what a request is about, as it goes from page to page.
type flow struct {
	// Return is the path at which the request goes on; empty: this is no request of an app.
	Return string `json:"return,omitempty"`
	// Request names the request, and App who has asked.
	Request string `json:"request,omitempty"`
	App     string `json:"app,omitempty"`
	// Who is the account that is to sign in, as far as it is known. Fixed: no other may.
	Who   string `json:"who,omitempty"`
	Fixed bool   `json:"fixed,omitempty"`
	// Locales are the languages that the app has asked for.
	Locales string `json:"locales,omitempty"`
}

// sealFlow writes a flow for one browser.
func (p *Pages) sealFlow(device string, f flow) string { return seal(p.keys.flow, device, f) }

// openFlow reads one. An empty text is an empty flow.
func (p *Pages) openFlow(device, text string) (f flow, err error) {
	if text == "" {
		return f, nil
	}
	if !unseal(p.keys.flow, device, text, &f) {
		return flow{}, errForm
	}
	return f, nil
}

// seal writes a value with a MAC for one browser. It can be read, but not changed.
func seal(key []byte, device string, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("pages: " + err.Error()) // cannot be: they are structs of strings and numbers
	}
	body := base64.RawURLEncoding.EncodeToString(text)
	return body + "." + mac(key, device, body)
}

func unseal(key []byte, device, text string, v any) bool {
	body, sum, _ := strings.Cut(text, ".")
	if !equal(sum, mac(key, device, body)) {
		return false
	}
	doc, err := base64.RawURLEncoding.DecodeString(body)
	return err == nil && exactjson.UnmarshalPlain(doc, v) == nil
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
	c.w.Header().Set("Location", to)
	c.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// headers sets the headers of a page. images is a further source of pictures.
func (p *Pages) headers(h http.Header, images string) {
	img := strings.Join(strings.Fields("'self' "+p.look.logoOrigin+" "+images), " ")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src "+img+"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would take the Origin from forms
	h.Set("Vary", "Accept-Language, Cookie")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex")
	if strings.HasPrefix(p.cfg.Issuer, "https:") {
		h.Set("Strict-Transport-Security", "max-age=63072000")
	}
}
