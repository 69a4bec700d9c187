package owner_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/site/sitetest"
)

var _ = testenv.CheapPasswords()

// world is a PDS with account pages, and an account of Alice and of Bob.
type world struct {
	*pdstest.Network
	t          *testing.T
	pds        *pdstest.PDS
	alice, bob *pdstest.Account
}

func newWorld(t *testing.T, change ...func(*pds.Config)) *world {
	w := &world{Network: pdstest.New(t), t: t}
	w.pds = w.PDS(append([]func(*pds.Config){func(c *pds.Config) { c.Brand.Name = "The Host" }}, change...)...)
	w.alice, w.bob = w.pds.Account("alice"), w.pds.Account("bob")
	return w
}

func (w *world) credentials() *credential.Store { return w.pds.Server().Credentials }

// tab is a browser at the pages of the world.
type tab struct {
	*sitetest.Tab
	w *world
}

const agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

func (w *world) tab() *tab {
	return &tab{&sitetest.Tab{T: w.t, Server: w.pds.Server(), Origin: "https://" + w.pds.Name, Agent: agent}, w}
}

// at is the path of a page of an account.
func at(a *pdstest.Account, page string) string {
	return strings.TrimSuffix("/account/"+string(a.DID)+"/"+page, "/")
}

// signIn opens a page of an account and signs in for it.
func (b *tab) signIn(a *pdstest.Account, page string) sitetest.Answer {
	b.T.Helper()
	b.Get(at(a, page))
	if b.Last.Path != "/oauth/sign-in" {
		b.T.Fatalf("at %s, not asked to sign in: %d", b.Last.Path, b.Last.Status)
	}
	return b.Submit("/oauth/sign-in", url.Values{"identifier": {string(a.Handle)}, "password": {a.Password}, "remember": {"yes"}})
}

// signedIn is a browser in which somebody has just signed in.
func (w *world) signedIn(a *pdstest.Account) *tab {
	w.t.Helper()
	b := w.tab()
	b.signIn(a, "")
	b.Expect(200, "Your account")
	return b
}

// open opens a page of an account in which somebody is signed in, and sends a form of it.
func (b *tab) open(a *pdstest.Account, page string, in url.Values) sitetest.Answer {
	b.T.Helper()
	b.Get(at(a, page))
	return b.Submit(at(a, page), in)
}

// code is the code of the oldest mail of a kind.
func (w *world) code(a *pdstest.Account, kind server.MailKind) string {
	w.t.Helper()
	m, err := w.Mail.Take(w.t.Context(), a.Email, kind)
	if err != nil {
		w.t.Fatal(kind, err)
	}
	return m.Token
}

// told fails the test unless a mail of a kind comes, which says something.
func (w *world) told(address string, kind server.MailKind, text string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	for {
		switch m, err := w.Mail.Take(ctx, address, kind); {
		case err != nil:
			w.t.Errorf("no mail about %q: %v", text, err)
			return
		case strings.Contains(m.Text, text):
			return
		}
	}
}

// setApp gives an account an authenticator app, and returns its secret.
func (b *tab) setApp(a *pdstest.Account) (secret string) {
	b.T.Helper()
	b.open(a, "authenticator", url.Values{"action": {"begin"}})
	_, rest, _ := strings.Cut(b.Last.Text, `<p class="secret"><code>`)
	secret, _, _ = strings.Cut(rest, "<")
	code, err := credential.AppCode(secret, b.w.Clock.Now())
	if err != nil {
		b.T.Fatal(err)
	}
	b.Submit(at(a, "authenticator"), url.Values{"code": {code}, "name": {"phone"}})
	return secret
}

// actions notes what the pages ask the limits of the host about.
type actions struct {
	pds.NoRates
	list *[]string
}

func (a actions) Endpoint(_ *http.Request, name, client string) error {
	if client == "" {
		*a.list = append(*a.list, name)
	}
	return nil
}
