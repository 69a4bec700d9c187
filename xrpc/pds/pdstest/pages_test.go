package pdstest_test

import (
	"crypto/rand"
	"html/template"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// ownPages are pages of a host's own: as little as lets apps in. They outlive a restart.
type ownPages struct {
	mu       sync.Mutex
	server   *pds.Server
	now      func() time.Time
	signedIn map[string][]provider.SignedIn // by cookie
}

// withPages makes the pages of a PDS those of the test.
func withPages(c *pds.Config) {
	p := &ownPages{now: c.Now, signedIn: make(map[string][]provider.SignedIn)}
	c.OAuth.Pages = func(s *pds.Server) (provider.Logins, provider.Pages) {
		p.mu.Lock()
		p.server = s
		p.mu.Unlock()
		s.Mux.HandleFunc("POST /sign-in", p.signIn)
		return p, p
	}
}

func (p *ownPages) Device(w http.ResponseWriter, r *http.Request) (provider.Device, error) {
	c, err := r.Cookie("__Host-device")
	if err != nil {
		c = &http.Cookie{Name: "__Host-device", Value: rand.Text(), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
		http.SetCookie(w, c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return provider.Device{ID: c.Value, Accounts: p.signedIn[c.Value]}, nil
}

func (p *ownPages) signIn(w http.ResponseWriter, r *http.Request) {
	d, err := p.Device(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	p.mu.Lock()
	s := p.server
	p.mu.Unlock()
	a, err := s.Accounts.Find(r.Context(), r.FormValue("name"))
	if err == nil {
		_, err = s.Credentials.CheckPassword(r.Context(), a, r.FormValue("password"), false)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	p.signedIn[d.ID] = []provider.SignedIn{{DID: a.DID, At: p.now(), Credentials: a.Credentials}}
	p.mu.Unlock()
	http.Redirect(w, r, r.FormValue("return")+"&account="+string(a.DID), http.StatusSeeOther)
}

var ownPage = template.Must(template.New("").Parse(`<!DOCTYPE html><title>{{.Ask}}</title>
{{if eq .Ask "consent"}}<form method=post action="{{.Action}}">
<input type=hidden name=request value="{{.Request}}"><input type=hidden name=form value='{{.Form}}'>
<input type=hidden name=did value="{{.Account}}">
{{range .Scopes}}<label><input type=checkbox checked name=scope value="{{.}}"> {{.}}</label>
{{end}}<button name=decision value=allow>Allow</button><button name=decision value=deny>Deny</button></form>
{{else}}<form method=post action="/sign-in"><input name=name autocomplete="username" value="{{.Hint}}">
<input type=password name=password autocomplete="current-password"><input type=hidden name=return value="{{.Return}}"><button>Sign in</button></form>
{{end}}`))

func (p *ownPages) Prompt(w http.ResponseWriter, r *http.Request, q provider.Prompt) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	ownPage.Execute(w, q)
}

func (p *ownPages) Error(w http.ResponseWriter, r *http.Request, status int, e *provider.Error) {
	http.Error(w, e.Code+": "+e.Description, status)
}
