package site

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
)

// Config configures a Site. Credentials, Origin and Secret are required.
type Config struct {
	// Credentials are the credentials of the accounts that sign in.
	Credentials *credential.Store
	// Origin is the origin of the server, "https://pds.example.com". With http://, for development,
	// cookies are sent without encryption.
	Origin string
	// Secret has at least 32 random bytes. All nodes of a server have the same. If it changes, open
	// forms become void, and browsers without sign-ins are forgotten.
	Secret []byte
	// Brand is the look of the pages, and the name of their operator.
	Brand Brand
	// NewDevice, if not nil, is called after a sign-in in a browser in which the account was not
	// signed in before. It runs in the goroutine of the request.
	NewDevice func(ctx context.Context, a account.Account, in SignIn)
	// Limit, if not nil, limits how often forms are sent. It is called with the Action of the
	// form's Handler. Its error is shown: see [Call.Fail].
	Limit func(r *http.Request, action string) error
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger logs failures that no page shows. Nil: nothing is logged.
	Logger *slog.Logger
}

// Site is the common base of a server's pages. Make one with New. It is safe for concurrent use.
// Several processes may have a Site over the same store.
type Site struct {
	cfg         Config
	credentials *credential.Store
	accounts    *account.Store
	kv          storage.KV
	now         func() time.Time
	log         *slog.Logger
	look        look
	keys        struct{ device, form []byte }
}

const minSecret = 32

// New returns the site of a configuration. It registers with the accounts, so that sign-ins end
// when an account's credentials change. It panics if something required is missing, or if the Brand
// is invalid (see [Brand.Validate]). Call it once, before the accounts are used.
func New(cfg Config) *Site {
	u, err := url.Parse(cfg.Origin)
	switch {
	case cfg.Credentials == nil:
		panic("site: Config.Credentials is missing: give the credential.Store of the host")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || cfg.Origin != u.Scheme+"://"+u.Host:
		panic("site: Config.Origin must be the origin of this server, without a path or a slash at the end, as https://pds.example.com")
	case len(cfg.Secret) < minSecret:
		panic("site: Config.Secret is too short: give at least 32 random bytes, the same for all nodes and always")
	}
	if err := cfg.Brand.Validate(); err != nil {
		panic(err.Error())
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
	s := &Site{cfg: cfg, credentials: cfg.Credentials, accounts: cfg.Credentials.Accounts(), now: cfg.Now, log: cfg.Logger, look: newLook(cfg.Brand)}
	s.kv = s.accounts.Host().Store().KV
	s.keys.device, s.keys.form = digest.Derive(cfg.Secret, "pdskit pages: browsers"), digest.Derive(cfg.Secret, "pdskit pages: forms")
	s.accounts.OnRaise(raised)
	return s
}

// Mount adds the style sheet and the script for passkeys to a mux.
func (s *Site) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET "+s.look.stylePath, serveFile("text/css", s.look.style))
	mux.HandleFunc("GET "+passkeyPath, serveFile("text/javascript", passkeyScript))
}

// Credentials returns the credentials of the configuration.
func (s *Site) Credentials() *credential.Store { return s.credentials }

// Brand returns the brand of the configuration, with a Name.
func (s *Site) Brand() Brand { return s.cfg.Brand }

// Origin returns the origin of the server.
func (s *Site) Origin() string { return s.cfg.Origin }

// Now returns the time of the configured clock.
func (s *Site) Now() time.Time { return s.now() }

// Logger returns the logger of the configuration.
func (s *Site) Logger() *slog.Logger { return s.log }

// Limit calls the configured Limit for an action other than a form.
func (s *Site) Limit(r *http.Request, action string) error { return s.cfg.Limit(r, action) }

func (s *Site) secure() bool { return strings.HasPrefix(s.cfg.Origin, "https:") }

// headers sets the headers of a page. images is a further source of pictures.
func (s *Site) headers(h http.Header, images string) {
	img := strings.Join(strings.Fields("'self' "+s.look.logoOrigin+" "+images), " ")
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
	if s.secure() {
		h.Set("Strict-Transport-Security", "max-age=63072000")
	}
}

// OriginOf returns the origin of an https URL, for a Content-Security-Policy, or "" if it has none.
func OriginOf(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(strings.ToLower(u.Host), "abcdefghijklmnopqrstuvwxyz0123456789.-:") != "" {
		return ""
	}
	return "https://" + strings.ToLower(u.Host)
}

// WebLink returns the URL if a page may link to it, or "".
func WebLink(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// Short truncates an untrusted text to at most n bytes.
func Short(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
