package provider

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

const browser = "one browser"

// page demands an error page that goes nowhere.
func (r reply) page(t testing.TB, name string, status int) {
	t.Helper()
	if r.status != status || r.header.Get("Location") != "" || r.header.Get("X-Error") == "" {
		t.Errorf("%s: %d %v %s", name, r.status, r.header, r.text)
	}
}

// asks demands a prompt.
func (r reply) asks(t testing.TB, name string, what Ask) {
	t.Helper()
	if r.status != 200 || r.header.Get("X-Ask") != string(what) {
		t.Errorf("%s: %d %v %s", name, r.status, r.header, r.text)
	}
}

func TestMatrix74_75_76_77Navigation(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	path := a.push(nil)
	open := func(header ...string) reply {
		r := httptest.NewRequest("GET", issuer+path, nil)
		r.AddCookie(&http.Cookie{Name: "device", Value: browser})
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return w.do(r)
	}
	open().asks(t, "74", AskConsent)
	w.submit(browser, w.consentForm(alice, nil), "Origin", "").page(t, "74: without an Origin", 400)
	open("Sec-Fetch-Dest", "iframe", "Sec-Fetch-Mode", "navigate").page(t, "75 iframe", 400)
	open("Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors").page(t, "75 cors", 400)
	out := open()
	if h := out.header; !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || !strings.Contains(h.Get("Content-Security-Policy"), "base-uri 'none'") ||
		h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("76: %v", h)
	}
	plain := a.request(nil).Encode()
	w.browse(browser, pathAuthorize+"?"+plain).page(t, "77", 400)
	w.browse(browser, path+"&redirect_uri="+url.QueryEscape(redirect)).page(t, "77: both", 400)
	w.browse(browser, path+"&client_id=x").page(t, "58: twice", 400)
	w.browse(browser, pathAuthorize).page(t, "nothing", 400)
	for _, method := range []string{"PUT", "DELETE", "OPTIONS"} {
		r := httptest.NewRequest(method, issuer+path, nil)
		w.do(r).page(t, method, 405)
	}
}

func TestMatrix78NoOpenRedirect(t *testing.T) {
	w := newWorld(t)
	w.public()
	evil := url.QueryEscape("https://evil.example/cb")
	for _, query := range []string{
		"client_id=https%3A%2F%2Funknown.example.net%2Fc.json&redirect_uri=" + evil,
		"client_id=" + url.QueryEscape(clientID) + "&redirect_uri=" + evil + "&response_type=code",
		"redirect_uri=" + evil,
		"client_id=" + url.QueryEscape(clientID) + "&request_uri=" + evil,
		"client_id=" + url.QueryEscape(clientID) + "&request_uri=" + url.QueryEscape(requestURIPrefix+"unknown"),
		"client_id=" + url.QueryEscape(clientID) + "&request_uri=" + url.QueryEscape(requestURIPrefix+"unknown") + "&redirect_uri=" + evil,
		"client_id=" + url.QueryEscape(clientID) + "&request=x&redirect_uri=" + evil,
	} {
		w.browse(browser, pathAuthorize+"?"+query).page(t, query, 400)
	}
}

func TestMatrix79_80_81_82Foreign(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	path := a.push(nil)
	w.browse(browser, strings.Replace(path, url.QueryEscape(clientID), url.QueryEscape(confidentialID), 1)).page(t, "79", 400)
	w.browse("another browser", strings.Replace(path, "app.example.net", "x.example.net", 1)).page(t, "79", 400)
	w.browse(browser, path).asks(t, "79: it survives", AskConsent)
	form := w.consentForm(alice, nil)
	w.signIn("another browser", alice)
	w.browse("another browser", path).page(t, "80", 403)
	w.submit("another browser", form).page(t, "80: its form", 400)
	w.browse(browser, path).asks(t, "80: it survives", AskConsent)

	// Each look at the page gives five minutes more, up to an hour.
	for range 11 {
		w.wait(4 * time.Minute)
		w.browse(browser, path).asks(t, "81", AskConsent)
	}
	w.wait(requestLife)
	q := w.browse(browser, path).back(t)
	if q.Get("error") != codeAccessDenied || q.Get("state") != "the state" || q.Get("iss") != issuer {
		t.Errorf("81: %v", q)
	}
	if q := w.submit(browser, form).back(t); q.Get("error") != codeAccessDenied {
		t.Errorf("81: the form: %v", q)
	}
	w.wait(2 * requestKept)
	w.browse(browser, path).page(t, "81: much later", 400)

	path = a.push(nil)
	w.browse(browser, path)
	for range 14 {
		w.wait(4*time.Minute + 50*time.Second)
		w.browse(browser, path)
	}
	if q := w.browse(browser, path).back(t); q.Get("error") != codeAccessDenied {
		t.Errorf("81: after an hour: %v", q)
	}

	path = a.push(nil)
	w.browse(browser, path).asks(t, "82", AskConsent)
	if q := w.consent(browser, alice, nil).back(t); q.Get("code") == "" {
		t.Errorf("82: %v", q)
	}
	w.browse(browser, path).page(t, "82", 400)
}

func TestMatrix83Prompts(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	none := "a browser where nobody is signed in"
	w.signIn(browser, alice)
	w.browse(none, a.push(nil)).asks(t, "nobody", AskSignIn)
	w.browse(browser, a.push(nil)).asks(t, "one", AskConsent)
	w.browse(browser, a.push(map[string]string{"prompt": "consent"})).asks(t, "consent", AskConsent)
	w.browse(browser, a.push(map[string]string{"prompt": "create"})).asks(t, "create", AskSignUp)
	w.browse(browser, a.push(map[string]string{"prompt": "select_account"})).asks(t, "select_account", AskAccount)
	if q := w.browse(none, a.push(map[string]string{"prompt": "select_account"})).back(t); q.Get("error") != codeSelectAccount {
		t.Errorf("select_account without accounts: %v", q)
	}
	w.wait(time.Second)
	path := a.push(map[string]string{"prompt": "login"})
	w.browse(browser, path).asks(t, "login", AskSignIn)
	w.wait(time.Second)
	w.signIn(browser, alice)
	w.browse(browser, path).asks(t, "login, after the sign-in", AskConsent)
	if q := w.consent(browser, alice, nil).back(t); q.Get("code") == "" {
		t.Errorf("login: %v", q)
	}
	w.wait(signInLife)
	w.browse(browser, a.push(nil)).asks(t, "a week later", AskSignIn)
	// After a choice, the page goes on where it was told.
	w.signIn(browser, alice)
	w.signIn(browser, bob)
	path = a.push(nil)
	w.browse(browser, path).asks(t, "85", AskAccount)
	if len(w.pages.last.Accounts) != 2 || w.pages.last.Return != path {
		t.Errorf("85: %+v", w.pages.last)
	}
	w.browse(browser, w.pages.last.Return+"&account="+string(bob)).asks(t, "85: the choice", AskConsent)
	if w.pages.last.Account != bob {
		t.Errorf("85: %s", w.pages.last.Account)
	}
	w.browse(browser, path+"&account=did:plc:cccccccccccccccccccccccc").asks(t, "85: one that is not there", AskAccount)
}

// 84: prompt=login is not only a page.
func TestMatrix84LoginIsEnforced(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	w.wait(time.Second)
	w.browse(browser, a.push(map[string]string{"prompt": "login"})).asks(t, "84", AskSignIn)
	w.consent(browser, alice, nil).page(t, "84", 401)
}

// 84: so is max_age, at the consent too.
func TestMaxAgeIsEnforced(t *testing.T) {
	w := newWorld(t)
	a := w.confidential()
	a.login()
	w.signIn(browser, alice)
	w.wait(10 * time.Minute)
	hint := func(age string) map[string]string {
		return map[string]string{"login_hint": string(alice), "max_age": age}
	}
	w.browse(browser, a.push(hint("600"))).back(t)
	w.browse(browser, a.push(hint("2147483647"))).back(t)
	for _, age := range []string{"599", "0"} {
		path := a.push(hint(age))
		w.browse(browser, path).asks(t, age, AskSignIn)
		w.consent(browser, alice, nil).page(t, age+": consent with the old sign-in", 401)
		w.signIn(browser, alice)
		w.browse(browser, path).back(t)
		w.wait(10 * time.Minute)
	}
	// Whoever reads for long need not sign in again.
	path := a.push(map[string]string{"max_age": "60", "prompt": "consent"})
	w.signIn(browser, alice)
	w.wait(4 * time.Minute)
	w.browse(browser, path).asks(t, "later", AskConsent)
	if q := w.browse(browser, a.push(map[string]string{"prompt": "none", "login_hint": string(alice), "max_age": "60"})).back(t); q.Get("error") != codeLoginRequired {
		t.Errorf("%v", q)
	}
	for _, age := range []string{"-1", "x", "1.5", "99999999999999999999", " 1"} {
		if out := a.par(hint(age)); !out.is(400, codeInvalidRequest) {
			t.Errorf("%q: %d %s", age, out.status, out.text)
		}
	}
}

// 86: nor is login_hint.
func TestMatrix86HintIsEnforced(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	for _, hint := range []string{string(bob), "bob.test", "nobody.test"} {
		w.browse(browser, a.push(map[string]string{"login_hint": hint})).asks(t, "86", AskSignIn)
		w.consent(browser, alice, nil).page(t, "86", 403)
	}
	w.signIn(browser, bob)
	w.browse(browser, a.push(map[string]string{"login_hint": "BOB.test"})).asks(t, "86", AskConsent)
	if w.pages.last.Account != bob || len(w.pages.last.Accounts) != 1 {
		t.Errorf("86: %+v", w.pages.last)
	}
}

func TestMatrix87_88Silent(t *testing.T) {
	w := newWorld(t)
	hint := map[string]string{"login_hint": string(alice)}
	none := map[string]string{"login_hint": string(alice), "prompt": "none"}
	a := w.confidential()
	w.signIn(browser, alice)
	if q := w.browse(browser, a.push(none)).back(t); q.Get("error") != codeConsentRequired || q.Get("state") != "the state" {
		t.Errorf("87: before consent: %v", q)
	}
	a.login()
	for _, change := range []map[string]string{hint, none} {
		q := w.browse(browser, a.push(change)).back(t)
		if q.Get("code") == "" || q.Get("iss") != issuer {
			t.Errorf("87: %v", q)
		}
		a.exchange(q.Get("code"), nil).tokens(t)
	}
	a.scope = "atproto repo:com.example.note account:email"
	w.browse(browser, a.push(hint)).asks(t, "87: a new scope", AskConsent)
	if len(w.pages.last.Known) != 2 {
		t.Errorf("87: known are %v", w.pages.last.Known)
	}
	if q := w.browse(browser, a.push(none)).back(t); q.Get("error") != codeConsentRequired {
		t.Errorf("87: a new scope: %v", q)
	}
	a.scope = "atproto"
	if q := w.browse(browser, a.push(map[string]string{"prompt": "none"})).back(t); q.Get("error") != codeLoginRequired {
		t.Errorf("87: none without a hint: %v", q)
	}
	if q := w.browse("another browser", a.push(none)).back(t); q.Get("error") != codeLoginRequired {
		t.Errorf("87: nobody is signed in: %v", q)
	}
	w.browse(browser, a.push(map[string]string{"login_hint": string(alice), "prompt": "consent"})).asks(t, "87: prompt consent", AskConsent)
	w.wait(signInLife)
	if q := w.browse(browser, a.push(none)).back(t); q.Get("error") != codeLoginRequired {
		t.Errorf("87: an old sign-in: %v", q)
	}
	w.signIn(browser, alice)

	p := w.public()
	p.login()
	w.browse(browser, p.push(hint)).asks(t, "88", AskConsent)
	if len(w.pages.last.Known) != 0 {
		t.Error("88: something is known of a public client")
	}
	// What was granted is forgotten with the credentials.
	w.signIn(browser, alice)
	w.raise()
	w.signIn(browser, alice)
	if q := w.browse(browser, a.push(none)).back(t); q.Get("error") != codeConsentRequired {
		t.Errorf("after a new password: %v", q)
	}
}

// A client that the operator trusts has its name shown, and is silent.
func TestTrustedClient(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Trusted = []string{clientID} })
	a := w.public()
	a.login()
	w.signIn(browser, alice)
	if q := w.browse(browser, a.push(map[string]string{"login_hint": string(alice)})).back(t); q.Get("code") == "" {
		t.Errorf("%v", q)
	}
	w.browse(browser, a.push(nil)).asks(t, "no hint", AskConsent)
	if c := w.pages.last.Client; c.Name != "The App" || c.String() != "The App" || !c.Trusted {
		t.Errorf("%+v", c)
	}
	other := w.confidential()
	w.browse(browser, other.push(nil))
	if c := w.pages.last.Client; c.Name != "" || c.String() != "web.example.org/client.json" || c.Trusted || !c.Confidential {
		t.Errorf("%+v", c)
	}
}

// What an account is shown of the apps that it has let in.
func TestDescribe(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Trusted, c.Locales = []string{clientID}, []string{"en", "de"} })
	w.public()
	if c, err := w.p.Describe(t.Context(), clientID); err != nil || c.Name != "The App" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := w.p.Describe(t.Context(), "http://localhost"); err != nil || !c.Loopback || c.String() != "An application on your device" {
		t.Errorf("%+v, %v", c, err)
	}
	_, err := w.p.Describe(t.Context(), "https://app.example.net/a%2Fb")
	if err == nil || !strings.Contains(err.Error(), "a%2Fb: the answer has status 404") {
		t.Errorf("%v", err)
	}
	if out := w.get(pathServer); !strings.Contains(out.text, `"ui_locales_supported":["en","de"]`) {
		t.Error(out.text)
	}
}

// raise changes the credentials of alice, as a new password does.
func (w *world) raise() {
	ctx := context.Background()
	_, err := w.accounts.Update(ctx, account.Trusted(alice), func(a *account.Account, step *repo.Step) error {
		return w.accounts.Raise(ctx, a, step, account.Kept{})
	})
	if err != nil {
		w.t.Fatal(err)
	}
}
