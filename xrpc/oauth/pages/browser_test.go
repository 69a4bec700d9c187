package pages_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
)

// everyPage returns all pages by name, as a person would see them.
func everyPage(t *testing.T, lang string) (w *world, all map[string]page) {
	w = newWorld(t)
	w.app.Scope = "atproto transition:generic transition:email repo:com.example.note?action=create rpc:com.example.search?aud=did:web:api.example.net%23search blob:image/* identity:* account:repo?action=manage"
	w.app.Change(func(d map[string]any) {
		d["scope"], d["tos_uri"], d["policy_uri"] = w.app.Scope, "https://app1.example.net/terms", "https://app1.example.net/privacy"
	})
	all = make(map[string]page)
	b := w.tab()
	b.lang = lang
	save := func(name string) page { all[name] = b.last; return b.last }
	path, _ := w.push(nil)
	b.get(path)
	start := save("signin")
	b.submit("/oauth/sign-in", url.Values{"identifier": {"alice"}, "password": {"wrong"}})
	save("signin-wrong")
	b.get(start.link(t, "/oauth/sign-up"))
	save("signup")
	b.submit("/oauth/sign-up", url.Values{"label": {"carol"}, "action": {"check"}})
	save("signup-free")
	b.submit("/oauth/sign-up", url.Values{"label": {"alice"}, "email": {"x"}, "password": {"y"}})
	save("signup-wrong")
	b.get(start.link(t, "/oauth/password"))
	save("forgot")
	b.submit("/oauth/password", url.Values{"email": {"alice@example.com"}})
	save("reset")
	b.get(path)
	b.signIn(w.alice, true)
	save("consent")
	b.get(b.last.link(t, "/oauth/sign-in"))
	b.signIn(w.bob, true)
	path, _ = w.push(nil)
	b.get(path)
	save("accounts")
	b.get(b.last.link(t, "/oauth/sign-out"))
	save("signout")
	b.post("/oauth/sign-in", url.Values{})
	save("error-form")
	b.get("/oauth/authorize?client_id=x")
	save("error-oauth")
	mail, a, err := w.credentials().NewMailToken(t.Context(), account.Trusted(w.bob.DID), credential.ForPasswordReset)
	if err != nil {
		t.Fatal(a, err)
	}
	b.get("/oauth/password/reset")
	b.submit("/oauth/password/reset", url.Values{"code": {mail}, "password": {"another password"}})
	save("done")
	who := account.Trusted(w.alice.DID)
	e, err := w.credentials().BeginApp(t.Context(), who, "test")
	if err != nil {
		t.Fatal(err)
	}
	code, _ := credential.AppCode(e.Secret, w.Clock.Now())
	if _, err := w.credentials().ConfirmApp(t.Context(), who, "phone", code); err != nil {
		t.Fatal(err)
	}
	path, _ = w.push(url.Values{"prompt": {"login"}, "login_hint": {string(w.alice.DID)}})
	b.get(path)
	b.submit("/oauth/sign-in", url.Values{"password": {w.alice.Password}})
	save("factor")
	if err := w.pds.Server().Accounts.Deactivate(t.Context(), account.Trusted(w.bob.DID), time.Time{}); err != nil {
		t.Fatal(err)
	}
	rec := newRecorder()
	r := b.request("/oauth/authorize")
	r.Header.Set("Accept-Language", lang)
	w.web.Prompt(rec, r, provider.Prompt{Ask: provider.AskConsent, Account: w.bob.DID, Request: "x", Expires: w.Clock.Now().Add(minute)})
	all["activate"] = page{"activate", rec.Code, rec.Header(), rec.Body.String()}
	return w, all
}

var (
	inputTag = regexp.MustCompile(`<(?:input|select)\b[^>]*>`)
	anyTag   = regexp.MustCompile(`<(/?)([a-z0-9]+)\b[^>]*?(/?)>`)
)

// Every page, in every language, has what a screen reader needs, no script, and tags that match.
func TestPagesAreAccessible(t *testing.T) {
	for _, lang := range []string{"en", "de", "fr", "es", "ja", "pt"} {
		_, all := everyPage(t, lang)
		for name, p := range all {
			bad := func(format string, args ...any) {
				t.Errorf("%s %s: %s", lang, name, fmt.Sprintf(format, args...))
			}
			for want, n := range map[string]int{"<h1>": 1, "<main ": 1, "<title>": 1, `<html lang="` + lang + `">`: 1, "<script": 0, " style=": 0, " onclick": 0, "ZgotmplZ": 0, "{": 0} {
				if got := strings.Count(p.text, want); got != n {
					bad("%d times %s, want %d", got, want, n)
				}
			}
			ids := make(map[string]bool)
			for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(p.text, -1) {
				if ids[m[1]] {
					bad("the id %s is there twice", m[1])
				}
				ids[m[1]] = true
			}
			for _, m := range regexp.MustCompile(`(?:for|aria-describedby)="([^"]*)"`).FindAllStringSubmatch(p.text, -1) {
				for id := range strings.FieldsSeq(m[1]) {
					if !ids[id] {
						bad("nothing has the id %s", id)
					}
				}
			}
			for _, m := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(p.text, -1) {
				if !ids[m[1]] {
					bad("a link to nothing: %s", m[1])
				}
			}
			for _, tag := range inputTag.FindAllString(p.text, -1) {
				id := regexp.MustCompile(` id="([^"]*)"`).FindStringSubmatch(tag)
				if !strings.Contains(tag, `type="hidden"`) && !strings.Contains(tag, "aria-label=") && (id == nil || !strings.Contains(p.text, `<label`) || !strings.Contains(p.text, `for="`+id[1]+`"`)) {
					bad("no label for %s", tag)
				}
			}
			var open []string
			for _, m := range anyTag.FindAllStringSubmatch(p.text, -1) {
				switch {
				case strings.Contains(" meta link input img br ", " "+m[2]+" "):
				case m[1] == "":
					open = append(open, m[2])
				case len(open) == 0 || open[len(open)-1] != m[2]:
					bad("</%s> closes %v", m[2], open)
				default:
					open = open[:len(open)-1]
				}
			}
			if len(open) > 0 {
				bad("open: %v", open)
			}
		}
	}
}

// TestScreenshots writes pictures of all pages, in both schemes, for a phone and a desk, to the folder
// that PDSKIT_SCREENSHOTS names. It needs a Chromium.
func TestScreenshots(t *testing.T) {
	folder := os.Getenv("PDSKIT_SCREENSHOTS")
	chromium, err := exec.LookPath("chromium")
	if folder == "" || err != nil {
		t.Skip("PDSKIT_SCREENSHOTS names no folder, or there is no Chromium")
	}
	w, all := everyPage(t, os.Getenv("PDSKIT_SCREENSHOTS_LANGUAGE"))
	style := w.tab().get(regexp.MustCompile(`href="(/oauth/style/[^"]*)"`).FindStringSubmatch(all["signin"].text)[1])
	srv := httptest.NewServer(serveStored(all, style))
	defer srv.Close()
	for name := range all {
		for _, scheme := range []string{"light", "dark"} {
			for _, size := range []string{"320,900", "1000,900"} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				file := filepath.Join(folder, name+"-"+scheme+"-"+strings.Split(size, ",")[0]+".png")
				args := []string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1", "--window-size=" + size, "--screenshot=" + file}
				if scheme == "dark" {
					args = append(args, "--blink-settings=preferredColorScheme=0")
				}
				out, err := exec.CommandContext(ctx, chromium, append(args, srv.URL+"/"+name)...).CombinedOutput()
				cancel()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
		}
	}
}
