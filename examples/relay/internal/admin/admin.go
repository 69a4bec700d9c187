// Package admin is the operator's interface of a relay: pages, and the same as JSON for programs.
//
//	GET  /admin                 the pages; they work without scripts
//	GET  /admin/api/WHAT        status, hosts, host, accounts, account, bans, takedowns, consumers
//	POST /admin/api/ACT         addHost, addRelay, reconnect, resetCursor, compare, setLimits,
//	                            setPolicy, ban, unban, takedown, restore, repair, endConsumer
//
// Requests need the user name "admin" and the administrator's password (HTTP Basic authentication).
// Browsers send those automatically, so requests caused by other sites are refused.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Root is the path that all addresses begin with.
const Root = "/admin"

// user is the name of the only user.
const user = "admin"

// Config says what is administered. Relay and Password are required.
type Config struct {
	Relay    *relay.Relay
	Password string
	// Tried, if not nil, counts a try of the password, and refuses it if there were too many.
	Tried func(r *http.Request, right bool) error
	// Status, if not nil, says how the process is.
	Status func(ctx context.Context) Status
	// Logger gets each act. Nil: silent.
	Logger *slog.Logger
}

// Status is how the process is. Zero fields are left out.
type Status struct {
	Version string `json:"version"`
	Address string `json:"address,omitempty"`
	// Problem is why it does not work; empty: it works.
	Problem       string    `json:"problem,omitempty"`
	Settings      string    `json:"settings,omitempty"`
	Retention     string    `json:"retention"`
	Started       time.Time `json:"started"`
	DatabaseBytes int64     `json:"databaseBytes,omitempty"`
}

// Admin serves everything below Root. Make one with New. It is safe for concurrent use.
type Admin struct {
	cfg      Config
	password [sha256.Size]byte
	rates    rates
	style    string
	mux      *http.ServeMux
	handler  http.Handler
}

// New returns the pages of a relay.
func New(cfg Config) *Admin {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Admin{cfg: cfg, password: sha256.Sum256([]byte(cfg.Password)), style: site.StyleSheet(site.Brand{}) + ownStyle, mux: http.NewServeMux()}
	a.mountPages()
	a.mountAPI()
	a.handler = a.Guard(http.NewCrossOriginProtection().Handler(a.mux))
	return a
}

// Observe counts a message for the rates that are shown.
func (a *Admin) Observe(o relay.Observation) { a.rates.add(o.Host, time.Now()) }

// ServeHTTP serves everything below Root.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex")
	a.handler.ServeHTTP(w, r)
}

// Guard asks for the password before a handler.
func (a *Admin) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, given := r.BasicAuth()
		sum := sha256.Sum256([]byte(password))
		right := subtle.ConstantTimeCompare(sum[:], a.password[:]) == 1 && name == user
		if given && a.cfg.Tried != nil {
			if err := a.cfg.Tried(r, right); err != nil {
				http.Error(w, "Too many wrong passwords. Try again later.", http.StatusTooManyRequests)
				return
			}
		}
		if !right {
			w.Header().Set("WWW-Authenticate", `Basic realm="relay", charset="UTF-8"`)
			http.Error(w, "The user is admin, with the administrator's password.", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// problem is an error of whoever asks.
type problem string

func (p problem) Error() string { return string(p) }

// explain returns the status and the text of an error.
func explain(err error) (status int, text string) {
	var p problem
	switch {
	case errors.As(err, &p), errors.Is(err, relay.ErrHostname):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, relay.ErrNoHost), errors.Is(err, relay.ErrNoAccount):
		return http.StatusNotFound, err.Error()
	case errors.Is(err, relay.ErrBanned), errors.Is(err, relay.ErrLoop):
		return http.StatusConflict, err.Error()
	}
	return http.StatusInternalServerError, err.Error()
}
