package pages_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/site/sitetest"
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
	c := w.tab()
	c.lang = lang
	c.get("/oauth/sign-up")
	c.submit("/oauth/sign-up", url.Values{"label": {"frank"}, "email": {"frank@example.com"}, "password": {"a good password"}})
	all["confirm"] = c.last
	c.get("/oauth/sign-in?return=" + "/account/" + string(w.alice.DID))
	c.signIn(w.alice, true)
	all["signin-again"] = c.get("/oauth/sign-in?return=" + "/account/" + string(w.alice.DID))
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

// Every page, in every language, has what a screen reader needs, no script, and tags that match.
func TestPagesAreAccessible(t *testing.T) {
	for _, lang := range []string{"en", "de", "fr", "es", "ja", "pt"} {
		_, all := everyPage(t, lang)
		for name, p := range all {
			sitetest.Accessible(t, lang+" "+name, lang, p.text)
		}
	}
}
