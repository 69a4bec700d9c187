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
	// Credentials are those of the accounts that sign in.
	Credentials *credential.Store
	// Origin is that of the server, "https://pds.example.com". With http://, for development,
	// cookies are sent without encryption.
	Origin string
	// Secret has at least 32 random bytes. All nodes of a server have the same. With another one,
	// forms that people have open are void, and browsers in which nobody is signed in are
	// forgotten.
	Secret []byte
	// Brand is how the pages look, and whose they are.
	Brand Brand
	// NewDevice, if not nil, is called after somebody has signed in with a browser in which the
	// account was not signed in before, in the goroutine that serves the request.
	NewDevice func(ctx context.Context, a account.Account, in SignIn)
	// Limit, if not nil, bounds how often forms are sent. It is called with the Action of the
	// form's Handler. Its error is shown: see [Call.Fail].
	Limit func(r *http.Request, action string) error
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger gets failures that nobody is told. Nil: silent.
	Logger *slog.Logger
}

// Site is what the pages of a server have in common. Make one with New. It is safe for concurrent
// use, and several processes may have a Site over the same store.
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

// New returns the site of a configuration, and sees to it that sign-ins end when an account's
// credentials change. It panics if something that is required is missing, or the Brand is wrong
// (see [Brand.Validate]). Call it once, before the accounts are used.
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

// Credentials are those of the configuration.
func (s *Site) Credentials() *credential.Store { return s.credentials }

// Brand is that of the configuration, with a Name.
func (s *Site) Brand() Brand { return s.cfg.Brand }

// Origin is that of the server.
func (s *Site) Origin() string { return s.cfg.Origin }

// Now is the time by the clock of the configuration.
func (s *Site) Now() time.Time { return s.now() }

// Logger is that of the configuration.
func (s *Site) Logger() *slog.Logger { return s.log }

// Limit asks the limit of the configuration about an action that is no form's.
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

// OriginOf is the origin of an https address, for a Content-Security-Policy; empty if it has none.
func OriginOf(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(strings.ToLower(u.Host), "abcdefghijklmnopqrstuvwxyz0123456789.-:") != "" {
		return ""
	}
	return "https://" + strings.ToLower(u.Host)
}

// WebLink returns an address that a page may link to, or nothing.
func WebLink(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// Short is a text of a stranger, of at most n bytes.
func Short(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
