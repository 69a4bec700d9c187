package operator_test

import (
	"html"
	"net/url"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/site/sitetest"
)

var _ = testenv.CheapPasswords()

// world is a PDS with its administrator's pages, and the accounts of Alice and Bob.
type world struct {
	*pdstest.Network
	t          *testing.T
	pds        *pdstest.PDS
	alice, bob *pdstest.Account
}

func newWorld(t *testing.T, change ...func(*pds.Config)) *world {
	w := &world{Network: pdstest.New(t), t: t}
	w.pds = w.PDS(func(c *pds.Config) {
		c.Brand.Name, c.Version = "The Host", "1.2.3"
		for _, fn := range change {
			fn(c)
		}
	})
	w.alice, w.bob = w.pds.Account("alice"), w.pds.Account("bob")
	return w
}

func (w *world) origin() string { return "https://" + w.pds.Name }

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

// get follows a link within the site, and no redirect.
func (b *tab) get(path string, header ...string) page {
	return b.Open(path, append([]string{"Sec-Fetch-Site", "same-origin"}, header...)...)
}

// signIn signs in as the administrator.
func (b *tab) signIn() *tab {
	b.t.Helper()
	b.get("/admin/sign-in")
	b.Submit("/admin/sign-in", url.Values{"password": {pdstest.AdminPassword}})
	b.Expect(200, "Overview")
	return b
}

// act opens the page of an act and sends its form.
func (b *tab) act(name, of, value string) page {
	b.t.Helper()
	if p := b.get("/admin/act/" + name + "?" + url.Values{"of": {of}}.Encode()); p.Status != 200 {
		b.t.Fatalf("%s of %s: %d %s", name, of, p.Status, p.Text)
	}
	return b.Submit("/admin/act/"+name, url.Values{"value": {value}})
}

// has reports whether the last page has a text.
func (b *tab) has(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		if !strings.Contains(html.UnescapeString(b.Last.Text), text) {
			b.t.Errorf("%s has no %q:\n%s", b.Last.Path, text, b.Last.Text)
		}
	}
}

// hasNot is the opposite.
func (b *tab) hasNot(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		if strings.Contains(html.UnescapeString(b.Last.Text), text) {
			b.t.Errorf("%s has %q", b.Last.Path, text)
		}
	}
}
