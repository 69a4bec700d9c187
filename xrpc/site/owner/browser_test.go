//go:build !js

package owner_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/site/sitetest"
)

// everyPage returns all pages by name, as a person would see them, and the style sheet.
func everyPage(t *testing.T, lang string) (all map[string]string, style string) {
	w := newWorld(t)
	all = make(map[string]string)
	b := w.tab()
	b.Language = lang
	save := func(name string) {
		if b.Last.Status >= 500 {
			t.Fatalf("%s: %d %s", name, b.Last.Status, b.Last.Text)
		}
		all[name] = b.Last.Text
	}
	b.signIn(w.alice, "")
	save("overview")
	ctx, who := t.Context(), account.Trusted(w.alice.DID)
	w.alice.Create("com.example.note", map[string]any{"text": "x"})
	for _, name := range []string{"apps", "app-passwords", "authenticator", "recovery-codes", "email", "email-codes"} {
		b.Get(at(w.alice, name))
		save(strings.ReplaceAll(name, "/", "-") + "-empty")
	}
	phone := w.tab()
	phone.Agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
	phone.signIn(w.alice, "")
	if _, err := w.alice.Login(w.alice.Password); err != nil {
		t.Fatal(err)
	}
	w.App("atproto transition:generic identity:handle").Login(w.alice)
	w.App("atproto repo:com.example.note?action=create&action=update rpc:com.example.search?aud=did:web:api.example.net%23search blob:image/*").Login(w.alice)
	b.open(w.alice, "email", url.Values{"action": {"send"}})
	save("email-sent")
	b.Submit(at(w.alice, "email"), url.Values{"action": {"confirm"}, "code": {"x"}})
	save("email-wrong")
	b.Submit(at(w.alice, "email"), url.Values{"action": {"confirm"}, "code": {w.code(w.alice, server.ConfirmEmail)}})
	save("email")
	b.open(w.alice, "app-passwords/new", url.Values{"name": {" "}})
	save("app-passwords-new-wrong")
	b.Submit(at(w.alice, "app-passwords/new"), url.Values{"name": {"Reader on the tablet"}, "privileged": {"yes"}})
	save("app-passwords-made")
	b.open(w.alice, "authenticator", url.Values{"action": {"begin"}})
	save("authenticator-scan")
	b.Submit(at(w.alice, "authenticator"), url.Values{"code": {"000000"}})
	save("authenticator-wrong")
	b.setApp(w.alice)
	save("recovery-codes-shown")
	b.open(w.alice, "password", url.Values{"password": {"x"}, "again": {"y"}})
	save("password-wrong")
	b.Get(at(w.alice, "email/change"))
	save("email-change")
	b.open(w.alice, "handle", url.Values{"action": {"own-check"}, "own": {"alice.example.org"}})
	save("handle-unresolved")
	b.Submit(at(w.alice, "handle"), url.Values{"action": {"check"}, "label": {"carol"}})
	save("handle-free")
	if err := w.credentials().EnableEmailCodes(ctx, who); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "devices", "apps", "app-passwords", "app-passwords/new", "security", "password", "authenticator", "recovery-codes", "email-codes", "handle", "data", "close"} {
		b.Get(at(w.alice, name))
		save("page-" + strings.ReplaceAll(name, "/", "-"))
	}
	if err := w.pds.Server().Accounts.Deactivate(ctx, who, time.Time{}); err != nil {
		t.Fatal(err)
	}
	b.signIn(w.alice, "close")
	factor(b, w)
	save("close-deactivated")
	b.open(w.alice, "close", url.Values{"action": {"send"}})
	b.Submit(at(w.alice, "close"), url.Values{"action": {"delete"}, "code": {"x"}, "sure": {"yes"}})
	save("close-wrong")
	b.Submit(at(w.alice, "close"), url.Values{"action": {"delete"}, "code": {"x"}})
	save("close-unsure")
	b.Get(at(w.alice, ""))
	save("overview-deactivated")
	b.signIn(w.bob, "")
	b.Get("/account")
	save("choose")
	b.Post(at(w.bob, "close"), url.Values{})
	save("error")
	b.open(w.alice, "close", url.Values{"action": {"send"}})
	for b.Last.Status = 0; b.Last.Status != http.StatusOK; { // an earlier code may come, too, or not: it is void
		code := w.code(w.alice, server.DeleteAccount)
		b.Submit(at(w.alice, "close"), url.Values{"action": {"delete"}, "code": {code}, "sure": {"yes"}})
	}
	save("deleted")
	style = b.Get(regexp.MustCompile(`href="(/site/[^"]*)"`).FindStringSubmatch(all["overview"])[1]).Text
	return all, style
}

// factor shows a second factor.
func factor(b *tab, w *world) {
	b.T.Helper()
	if b.Last.Status != http.StatusOK || b.Last.Fields("/oauth/factor") == nil {
		b.T.Fatalf("at %s: %s", b.Last.Path, b.Last.Text)
	}
	codes, err := w.credentials().NewRecoveryCodes(b.T.Context(), account.Trusted(w.alice.DID))
	if err != nil {
		b.T.Fatal(err)
	}
	b.Submit("/oauth/factor", url.Values{"code": {codes[0]}})
}

// Every page, in every language, has what a screen reader needs, no script, and tags that match.
func TestPagesAreAccessible(t *testing.T) {
	for _, lang := range []string{"en", "de", "fr", "es", "ja", "pt"} {
		all, _ := everyPage(t, lang)
		for name, text := range all {
			sitetest.Accessible(t, lang+" "+name, lang, text)
		}
	}
}

var chromium browser.Chromium

func TestMain(m *testing.M) { chromium.Main(m) }

// All pages that have a look of their own, as axe-core and somebody with a narrow window see it, light and dark. With
// PDSKIT_SCREENSHOTS, pictures of all are written to that folder.
func TestBrowserPages(t *testing.T) {
	tab := chromium.Tab(t, browser.Options{})
	all, style := everyPage(t, "en")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, kind := style, "text/css"
		if page, ok := all[strings.TrimPrefix(r.URL.Path, "/")]; ok {
			text, kind = page, "text/html"
		}
		w.Header().Set("Content-Type", kind+"; charset=utf-8")
		io.WriteString(w, text)
	}))
	t.Cleanup(srv.Close)
	alike := regexp.MustCompile(`-(empty|wrong|deactivated)$|^(page-(|password|devices|recovery-codes|authenticator|handle)|overview|authenticator-scan|recovery-codes-shown|handle-free|deleted|error)$`)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if alike.MatchString(name) && os.Getenv("PDSKIT_SCREENSHOTS") == "" { // to one that is looked at, here or in package pdstest
			continue
		}
		tab.Goto(srv.URL + "/" + name)
		tab.Audit(name)
	}
}
