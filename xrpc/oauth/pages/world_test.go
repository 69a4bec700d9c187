package pages_test

import (
	"context"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/site"
)

// world is a PDS with pages, and an account of Alice and of Bob.
type world struct {
	*pdstest.Network
	t          *testing.T
	pds        *pdstest.PDS
	site       *site.Site
	web        *pages.Pages
	alice, bob *pdstest.Account
	app        *pdstest.App

	mu    sync.Mutex
	codes []string // that were mailed to sign in
}

var secret = []byte("a secret of at least thirty-two bytes")

func newWorld(t *testing.T, change ...func(*pages.Config, *pds.Config)) *world {
	w := &world{Network: pdstest.New(t), t: t}
	invites := false
	w.pds = w.PDS(func(c *pds.Config) {
		var try pages.Config
		for _, fn := range change {
			fn(&try, c)
		}
		invites = c.Policy.InviteRequired
		c.Brand.Name = "The Host"
		c.OAuth.Pages = func(s *pds.Server) (provider.Logins, provider.Pages) {
			cfg := pages.Config{
				Site: s.Site, Passwords: s.Sessions, Service: s.Service,
				SendCode: func(_ context.Context, _ account.Account, code string) error {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.codes = append(w.codes, code)
					return nil
				},
			}
			for _, fn := range change {
				fn(&cfg, c)
			}
			w.site, w.web = s.Site, pages.New(cfg)
			w.web.Mount(s.Mux)
			return w.web, w.web
		}
	})
	if !invites {
		w.alice, w.bob = w.pds.Account("alice"), w.pds.Account("bob")
	}
	w.app = w.App("atproto repo:com.example.note blob:image/* account:email")
	return w
}

func (w *world) origin() string { return "https://" + w.pds.Name }

func (w *world) credentials() *credential.Store { return w.pds.Server().Credentials }

// open pushes a request and returns the path to open.
func (w *world) push(change url.Values) (path string, login *pdstest.AppLogin) {
	w.t.Helper()
	l, err := w.app.Push(w.t.Context(), w.pds, change)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimPrefix(l.URL, w.origin()), l
}

// tab is a browser of which a test sees everything.
type tab struct {
	*world
	cookies map[string]string
	lang    string
	last    page
}

// page is an answer.
type page struct {
	path   string
	status int
	header http.Header
	text   string
}

func (w *world) tab() *tab { return &tab{world: w, cookies: make(map[string]string)} }

// copy is another browser with the same cookies.
func (b *tab) copy() *tab { return &tab{world: b.world, cookies: maps.Clone(b.cookies), last: b.last} }

func (b *tab) send(r *http.Request) page {
	for name, v := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: v})
	}
	r.RemoteAddr = "192.0.2.7:1234"
	r.Header.Set("Accept-Language", b.lang)
	rec := httptest.NewRecorder()
	b.pds.Server().ServeHTTP(rec, r)
	for _, c := range rec.Result().Cookies() {
		b.cookies[c.Name] = c.Value
	}
	b.last = page{r.URL.Path, rec.Code, rec.Header(), rec.Body.String()}
	return b.last
}

func set(h http.Header, header []string) {
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
		if header[i+1] == "" {
			h.Del(header[i])
		}
	}
}

func (b *tab) get(path string, header ...string) page {
	r := httptest.NewRequest("GET", b.origin()+path, nil)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	set(r.Header, header)
	return b.send(r)
}

func (b *tab) post(path string, in url.Values, header ...string) page {
	return b.postBody(path, strings.NewReader(in.Encode()), header...)
}

func (b *tab) postBody(path string, body io.Reader, header ...string) page {
	r := httptest.NewRequest("POST", b.origin()+path, body)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.origin())
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	set(r.Header, header)
	return b.send(r)
}

// follow follows redirects within the server.
func (b *tab) follow() page {
	for b.last.status == http.StatusSeeOther && strings.HasPrefix(b.last.header.Get("Location"), "/") {
		b.get(b.last.header.Get("Location"), "Sec-Fetch-Site", "same-origin")
	}
	return b.last
}

var inputs = regexp.MustCompile(`<input ([^>]*)>`)
var attrs = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)

// fields are those of the form that is sent to a path, as they are when nobody changes them.
func (p page) fields(t *testing.T, action string) url.Values {
	t.Helper()
	_, form, ok := strings.Cut(p.text, `action="`+action+`">`)
	if !ok {
		t.Fatalf("%d %s: no form for %s in %s", p.status, p.path, action, p.text)
	}
	form, _, _ = strings.Cut(form, "</form>")
	out := url.Values{}
	for _, m := range inputs.FindAllStringSubmatch(form, -1) {
		a := map[string]string{}
		for _, x := range attrs.FindAllStringSubmatch(m[1], -1) {
			a[x[1]] = html.UnescapeString(x[2])
		}
		if _, checked := a["checked"]; a["type"] == "checkbox" && !checked {
			continue
		}
		out.Add(a["name"], a["value"])
	}
	return out
}

// link is the address of a link to a path.
func (p page) link(t *testing.T, path string) string {
	t.Helper()
	m := regexp.MustCompile(`href="(` + regexp.QuoteMeta(path) + `\?[^"]*)"`).FindStringSubmatch(p.text)
	if m == nil {
		t.Fatalf("no link to %s in %s", path, p.text)
	}
	return html.UnescapeString(m[1])
}

func (p page) title() string {
	_, rest, _ := strings.Cut(p.text, "<h1>")
	title, _, _ := strings.Cut(rest, "</h1>")
	return html.UnescapeString(title)
}

// submit sends the form of the last page, with changes; a nil value leaves a field out.
func (b *tab) submit(action string, change url.Values, header ...string) page {
	b.t.Helper()
	in := b.last.fields(b.t, action)
	maps.Copy(in, change)
	maps.DeleteFunc(in, func(_ string, v []string) bool { return v == nil })
	b.post(action, in, header...)
	return b.follow()
}

// signIn sends the form to sign in.
func (b *tab) signIn(a *pdstest.Account, remember bool) page {
	b.t.Helper()
	in := url.Values{"identifier": {string(a.Handle)}, "password": {a.Password}, "remember": {"yes"}}
	if !remember {
		in["remember"] = nil
	}
	return b.submit("/oauth/sign-in", in)
}

func (b *tab) expect(status int, title string) {
	b.t.Helper()
	if b.last.status != status || b.last.title() != title {
		b.t.Fatalf("%s: %d %q, want %d %q\n%s\n%v", b.last.path, b.last.status, b.last.title(), status, title, b.last.text, b.last.header)
	}
}

// back is what the app is told.
func (b *tab) back() url.Values {
	b.t.Helper()
	u, err := url.Parse(b.last.header.Get("Location"))
	if err != nil || b.last.status != http.StatusSeeOther || u.Host == "" {
		b.t.Fatalf("no way back to the app: %d %s", b.last.status, b.last.text)
	}
	return u.Query()
}

// signedIn reports whether a browser has the account signed in, as the page to sign out shows it.
func (b *tab) signedIn(a *pdstest.Account) bool {
	b.t.Helper()
	return strings.Contains(b.copy().get("/oauth/sign-out").text, string(a.DID))
}

const (
	minute = time.Minute
	second = time.Second
)

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// everything is all that is stored in key-value namespaces of the host and of Alice.
func (w *world) everything(ctx context.Context) map[string]string {
	w.t.Helper()
	out := make(map[string]string)
	read := func(where string, r storage.KVReader) error {
		for pair, err := range r.Keys(ctx, storage.Range{}) {
			if err != nil {
				return err
			}
			out[where+pair.Key] = string(pair.Value)
		}
		return nil
	}
	if err := w.pds.Store().KV.Read(ctx, func(r storage.KVReader) error { return read("host: ", r) }); err != nil {
		w.t.Fatal(err)
	}
	if err := w.pds.Store().Repos.View(ctx, w.alice.DID, func(r storage.Reader) error { return read("account: ", r) }); err != nil {
		w.t.Fatal(err)
	}
	return out
}
