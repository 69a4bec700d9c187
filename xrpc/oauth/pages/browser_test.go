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
	b.Language = lang
	save := func(name string) page { all[name] = b.Last; return b.Last }
	path, _ := w.push(nil)
	b.Open(path)
	start := save("signin")
	b.Submit("/oauth/sign-in", url.Values{"identifier": {"alice"}, "password": {"wrong"}})
	save("signin-wrong")
	b.Last = start
	b.Click("/oauth/sign-up")
	save("signup")
	b.Submit("/oauth/sign-up", url.Values{"label": {"carol"}, "action": {"check"}})
	save("signup-free")
	b.Submit("/oauth/sign-up", url.Values{"label": {"alice"}, "email": {"x"}, "password": {"y"}})
	save("signup-wrong")
	c := w.tab()
	c.Language = lang
	c.Open("/oauth/sign-up")
	c.Submit("/oauth/sign-up", url.Values{"label": {"frank"}, "email": {"frank@example.com"}, "password": {"a good password"}})
	all["confirm"] = c.Last
	c.Open("/oauth/sign-in?return=" + "/account/" + string(w.alice.DID))
	c.signIn(w.alice, true)
	all["signin-again"] = c.Open("/oauth/sign-in?return=" + "/account/" + string(w.alice.DID))
	b.Last = start
	b.Click("/oauth/password")
	save("forgot")
	b.Submit("/oauth/password", url.Values{"email": {"alice@example.com"}})
	save("reset")
	b.Open(path)
	b.signIn(w.alice, true)
	save("consent")
	b.Click("/oauth/sign-in")
	b.signIn(w.bob, true)
	path, _ = w.push(nil)
	b.Open(path)
	save("accounts")
	b.Click("/oauth/sign-out")
	save("signout")
	b.Post("/oauth/sign-in", url.Values{})
	save("error-form")
	b.Open("/oauth/authorize?client_id=x")
	save("error-oauth")
	mail, a, err := w.credentials().NewMailToken(t.Context(), account.Trusted(w.bob.DID), credential.ForPasswordReset)
	if err != nil {
		t.Fatal(a, err)
	}
	b.Open("/oauth/password/reset")
	b.Submit("/oauth/password/reset", url.Values{"code": {mail}, "password": {"another password"}})
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
	b.Open(path)
	b.Submit("/oauth/sign-in", url.Values{"password": {w.alice.Password}})
	save("factor")
	if err := w.pds.Server().Accounts.Deactivate(t.Context(), account.Trusted(w.bob.DID), time.Time{}); err != nil {
		t.Fatal(err)
	}
	rec := newRecorder()
	r := b.request("/oauth/authorize")
	r.Header.Set("Accept-Language", lang)
	w.web.Prompt(rec, r, provider.Prompt{Ask: provider.AskConsent, Account: w.bob.DID, Request: "x", Expires: w.Clock.Now().Add(minute)})
	all["activate"] = page{Path: "activate", Status: rec.Code, Header: rec.Header(), Text: rec.Body.String()}
	return w, all
}

// Every page, in every language, has what a screen reader needs, no script, and tags that match.
func TestPagesAreAccessible(t *testing.T) {
	for _, lang := range []string{"en", "de", "fr", "es", "ja", "pt"} {
		_, all := everyPage(t, lang)
		for name, p := range all {
			sitetest.Accessible(t, lang+" "+name, lang, p.Text)
		}
	}
}
