package pages_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/site"
	"github.com/pdskit/pdskit/xrpc/site/sitetest"
)

var _ = testenv.CheapPasswords()

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

// tab is a browser at the pages of the world.
type tab struct {
	*sitetest.Tab
	*world
}

type page = sitetest.Answer

func (w *world) tab() *tab {
	return &tab{&sitetest.Tab{T: w.t, Server: w.pds.Server(), Origin: w.origin(), Cookies: make(map[string]string)}, w}
}

// copy is another browser with the same cookies.
func (b *tab) copy() *tab { return &tab{b.Tab.Copy(), b.world} }

// signIn sends the form to sign in.
func (b *tab) signIn(a *pdstest.Account, remember bool) page {
	b.t.Helper()
	in := url.Values{"identifier": {string(a.Handle)}, "password": {a.Password}, "remember": {"yes"}}
	if !remember {
		in["remember"] = nil
	}
	return b.Submit("/oauth/sign-in", in)
}

// back is what the app is told.
func (b *tab) back() url.Values {
	b.t.Helper()
	u, err := url.Parse(b.Last.Header.Get("Location"))
	if err != nil || b.Last.Status != http.StatusSeeOther || u.Host == "" {
		b.t.Fatalf("no way back to the app: %d %s", b.Last.Status, b.Last.Text)
	}
	return u.Query()
}

// signedIn reports whether a browser has the account signed in, as the page to sign out shows it.
func (b *tab) signedIn(a *pdstest.Account) bool {
	b.t.Helper()
	return strings.Contains(b.copy().Open("/oauth/sign-out").Text, string(a.DID))
}

const (
	minute = time.Minute
	second = time.Second
)

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// everything is all that is stored in key-value namespaces of the host and of Alice.
func (w *world) everything(ctx context.Context) (all map[string]string) {
	w.t.Helper()
	testenv.Until(w.t, "mail is sent", func() bool { // besides the answers
		all = w.read(ctx)
		return !slices.ContainsFunc(slices.Collect(maps.Keys(all)), mailThatWaits.MatchString)
	})
	return all
}

// mailThatWaits are the keys of mail that has not been sent yet.
var mailThatWaits = regexp.MustCompile(`^(account: outbox/mail|host: queue/mail/[mo])/`)

func (w *world) read(ctx context.Context) map[string]string {
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
