// Package web has the pages of the app. They are HTML and work without scripts; a small script
// updates the page while it is open.
//
// Users are protected as follows. The cookie is signed, and with HTTPS its name begins with
// "__Host-", so that no other site can set it. Each form has a token of its browser, and is
// accepted only from a page of this origin. The content security policy allows nothing from
// elsewhere, and the script cannot make HTML from text.
package web

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// Config says what the pages are about. All fields are required, except those that say otherwise.
type Config struct {
	// URL is the origin of the app: "https://status.example.com".
	URL   string
	Index *index.Index
	Type  *status.Type
	// OAuth lets people sign in. CallbackPath is the path of its redirect URI.
	OAuth *client.Client
	// Secret signs cookies: 32 random bytes that stay the same.
	Secret []byte
	// Logins are shown as accounts to try. None: there is no such part.
	Logins []string
	// Unverified says, on the page, where statuses come from that nobody has verified. Empty: all
	// are.
	Unverified string
	// MaxLive bounds the pages that are kept up to date at a time. 0: 1000. A network may have 20:
	// an IPv4 address or an IPv6 /64, as package limit knows it.
	MaxLive int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Log gets what an operator should know. Nil: silent.
	Log *slog.Logger
}

// Addresses that servers know.
const (
	CallbackPath = "/oauth/callback"
	MetadataPath = "/oauth-client-metadata.json"
	KeysPath     = "/oauth-keys.json"
)

// Scope is what the app asks for: to write statuses, and nothing else.
const Scope = "atproto repo:" + string(status.Collection)

// Server serves the pages. Make one with [New]. It is safe for concurrent use.
type Server struct {
	cfg     Config
	host    string
	secure  bool
	keys    struct{ cookie, form []byte }
	assets  *assets
	live    *live
	pages   *limit.Gate // pages that are kept up to date
	logins  *limit.Gate // logins that are being started, which makes requests to servers of anyone's choice
	lookups *limit.Gate // other requests that make the app wait for such a server
	mux     *http.ServeMux
}

// New returns a server. [Server.Run] has to run while it serves.
func New(cfg Config) (*Server, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Path != "" {
		return nil, errors.New("web: Config.URL is an origin, such as https://status.example.com")
	}
	if len(cfg.Secret) < 32 {
		return nil, errors.New("web: Config.Secret has fewer than 32 bytes")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxLive == 0 {
		cfg.MaxLive = 1000
	}
	s := &Server{cfg: cfg, host: u.Host, secure: u.Scheme == "https", live: newLive(cfg.Index), mux: http.NewServeMux()}
	s.pages = &limit.Gate{Name: "open pages", Total: cfg.MaxLive, PerNetwork: 20, Reserved: cfg.MaxLive / 8}
	s.logins = &limit.Gate{Name: "logins", Total: 32, PerNetwork: 4, Reserved: 8, Queue: 256, QueuePerNetwork: 8, Wait: 5 * time.Second}
	s.lookups = &limit.Gate{Name: "requests to servers", Total: 128, PerNetwork: 8, Reserved: 16, Queue: 256, QueuePerNetwork: 4, Wait: 5 * time.Second}
	if s.keys.cookie, err = hkdf.Key(sha256.New, cfg.Secret, nil, "statusphere cookie", 32); err != nil {
		return nil, err
	}
	if s.keys.form, err = hkdf.Key(sha256.New, cfg.Secret, nil, "statusphere form", 32); err != nil {
		return nil, err
	}
	if s.assets, err = newLook(); err != nil {
		return nil, err
	}
	s.routes()
	return s, nil
}

func (s *Server) routes() {
	s.mux.HandleFunc("GET /{$}", s.page(s.home))
	s.mux.HandleFunc("GET "+CallbackPath, s.page(s.gated(s.finish)))
	s.mux.HandleFunc("POST /sign-in", s.form(s.signIn))
	s.mux.HandleFunc("POST /sign-out", s.form(s.gated(s.signOut)))
	s.mux.HandleFunc("POST /switch", s.form(s.switchTo))
	s.mux.HandleFunc("POST /status", s.form(s.gated(s.post)))
	s.mux.HandleFunc("POST /remove", s.form(s.gated(s.remove)))
	s.mux.HandleFunc("GET /live", s.serveLive)
	s.mux.HandleFunc("GET /static/{name}", s.assets.serveStatic)
	s.mux.Handle("GET "+MetadataPath, s.cfg.OAuth.MetadataHandler())
	s.mux.Handle("GET "+KeysPath, s.cfg.OAuth.KeysHandler())
	s.mux.HandleFunc("/", s.page(func(*call) error {
		return &refusal{http.StatusNotFound, "There is no such page."}
	}))
}

// Run tells open pages what is new, until the context ends; then it ends them. It also revokes
// sessions that nobody uses any more.
func (s *Server) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.sweep(ctx) })
	s.live.run(ctx, s.cfg.Log)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would take the Origin from forms
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	if s.secure {
		h.Set("Strict-Transport-Security", "max-age=63072000")
	}
	if r.Host != s.host {
		// Cookies are of one host. And whoever points a name of their own here gets nothing.
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			http.Redirect(w, r, s.cfg.URL+"/", http.StatusFound)
		} else {
			http.Error(w, "wrong host", http.StatusMisdirectedRequest)
		}
		return
	}
	s.mux.ServeHTTP(w, r)
}
