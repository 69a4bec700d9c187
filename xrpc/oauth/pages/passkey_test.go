package pages_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/passkey"
	"github.com/pdskit/pdskit/xrpc/passkey/passkeytest"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/site"
)

// newPasskeyWorld is a world with passkeys, of which Alice and Bob have one each.
func newPasskeyWorld(t *testing.T, change ...func(*pages.Config, *pds.Config)) (w *world, alice, bob *passkeytest.Authenticator) {
	var keys *passkey.Passkeys
	w = newWorld(t, append(change, func(c *pages.Config, p *pds.Config) {
		if c.Site != nil {
			keys = passkey.New(passkey.Config{Credentials: c.Site.Credentials(), URL: p.URL, Now: p.Now})
			c.Passkeys = keys
		}
	})...)
	register := func(of *pdstest.Account) *passkeytest.Authenticator {
		a := passkeytest.New(t, w.origin())
		options, err := keys.BeginRegistration(t.Context(), account.Trusted(of.DID), "test")
		if err == nil {
			_, err = keys.FinishRegistration(t.Context(), account.Trusted(of.DID), "test", "key of "+string(of.Handle), a.Create(options))
		}
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	return w, register(w.alice), register(w.bob)
}

// passkeyData are the data attributes of the form for passkeys.
func passkeyData(t *testing.T, p page) map[string]string {
	t.Helper()
	tag := regexp.MustCompile(`<form [^>]*id="passkey"[^>]*>`).FindString(p.Text)
	if tag == "" || !strings.Contains(tag, " hidden ") {
		t.Fatalf("no form for passkeys that is hidden without scripts: %d %s", p.Status, p.Text)
	}
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`data-([a-z]+)="([^"]*)"`).FindAllStringSubmatch(tag, -1) {
		out[m[1]] = m[2]
	}
	return out
}

// passkeyForm are the fields of the form for passkeys.
func passkeyForm(t *testing.T, p page) url.Values {
	t.Helper()
	passkeyData(t, p)
	_, rest, _ := strings.Cut(p.Text, `action="/oauth/passkey"`)
	_, rest, _ = strings.Cut(rest, ">")
	p.Text = `action="/oauth/passkey">` + rest
	return p.Fields("/oauth/passkey")
}

// options asks for options as the script of the last page does.
func (b *tab) options(change url.Values, header ...string) page {
	b.t.Helper()
	shown := b.Last
	data, form := passkeyData(b.t, shown), passkeyForm(b.t, shown)
	in := url.Values{"token": {data["token"]}}
	if form.Has("flow") {
		in.Set("flow", form.Get("flow"))
	}
	for name, v := range change {
		in[name] = v
	}
	out := b.Post(data["options"], in, append([]string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, header...)...)
	b.Last = shown
	return out
}

// assert answers options as the script does, and follows.
func (b *tab) assert(a *passkeytest.Authenticator, options string, change url.Values) page {
	b.t.Helper()
	in := passkeyForm(b.t, b.Last)
	in.Set("response", string(a.Get([]byte(options))))
	for name, v := range change {
		in[name] = v
	}
	b.Post("/oauth/passkey", in)
	return b.Follow()
}

// byPasskey signs in by a passkey.
func (b *tab) byPasskey(a *passkeytest.Authenticator, remember bool) page {
	b.t.Helper()
	options := b.options(nil)
	if options.Status != 200 || options.Header.Get("Content-Type") != "application/json" {
		b.t.Fatalf("%d %s", options.Status, options.Text)
	}
	change := url.Values{}
	if remember {
		change.Set("remember", "yes")
	}
	return b.assert(a, options.Text, change)
}

// An app is let in by a passkey: it stands for the password and the second factor that the account
// has besides.
func TestPasskeyLetsIn(t *testing.T) {
	w, alice, _ := newPasskeyWorld(t)
	who := account.Trusted(w.alice.DID)
	e, err := w.credentials().BeginApp(t.Context(), who, "test")
	if err != nil {
		t.Fatal(err)
	}
	code, err := credential.AppCode(e.Secret, w.Clock.Now())
	if err == nil {
		_, err = w.credentials().ConfirmApp(t.Context(), who, "phone", code)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := w.tab()
	path, login := w.push(nil)
	b.Open(path)
	b.Expect(200, "Sign in")
	cookie := b.Cookies["__Host-device"]
	b.byPasskey(alice, false)
	b.Expect(200, "Let this app in?")
	if b.Cookies["__Host-device"] == cookie {
		t.Error("101: the cookie did not change")
	}
	b.Submit("/oauth/authorize", url.Values{"decision": {"allow"}})
	to, _ := url.Parse(b.Last.Header.Get("Location"))
	s, err := login.Finish(t.Context(), to)
	if err != nil || s.Tokens().DID != w.alice.DID {
		t.Fatalf("%v %v", s, err)
	}
	if mail, err := w.Mail.Take(t.Context(), w.alice.Email, server.NewSignIn); err != nil || mail.DID != w.alice.DID {
		t.Errorf("%v %+v", err, mail)
	}
	// It was not to be remembered, so it is good for that request only.
	path, _ = w.push(nil)
	b.Open(path)
	b.Expect(200, "Sign in")
	b.byPasskey(alice, true)
	b.Expect(200, "Let this app in?")
	path, _ = w.push(nil)
	b.Open(path)
	b.Expect(200, "Let this app in?")
	set, err := w.credentials().Factors(t.Context(), who)
	if err != nil || !slices.ContainsFunc(set.Factors, func(f credential.Factor) bool { return f.Kind == credential.PasskeyKind && !f.LastUsed.IsZero() }) {
		t.Errorf("%+v %v", set, err)
	}
	// And without an app, for the account's own pages.
	c := w.tab()
	c.Open("/oauth/sign-in?return=/account/passkeys")
	in := passkeyForm(t, c.Last)
	in.Set("response", string(alice.Get([]byte(c.options(nil).Text))))
	if c.Post("/oauth/passkey", in); c.Last.Header.Get("Location") != "/account/passkeys" || !c.signedIn(w.alice) {
		t.Errorf("%d %v %s", c.Last.Status, c.Last.Header, c.Last.Text)
	}
}

// The page to sign in may run one file and nothing else; other pages, and a server without passkeys,
// have no script at all.
func TestOneScript(t *testing.T) {
	w, alice, _ := newPasskeyWorld(t)
	b := w.tab()
	path, _ := w.push(nil)
	b.Open(path)
	src := site.PasskeyScript()
	if n := strings.Count(b.Last.Text, "<script"); n != 1 || !strings.Contains(b.Last.Text, `<script src="`+src+`" defer></script>`) || !strings.Contains(b.Last.Text, `autocomplete="username webauthn"`) {
		t.Errorf("%d scripts in %s", n, b.Last.Text)
	}
	csp := b.Last.Header.Get("Content-Security-Policy")
	if want := "default-src 'none'; script-src " + w.origin() + src + "; connect-src 'self'; style-src 'self';"; !strings.HasPrefix(csp, want) || strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
		t.Errorf("%q", csp)
	}
	for _, where := range []string{"/oauth/sign-up?flow=", "/oauth/password?flow="} {
		c := b.copy()
		c.Open(where + url.QueryEscape(passkeyForm(t, b.Last).Get("flow")))
		if c.Last.Status != 200 || strings.Contains(c.Last.Text, "<script") || strings.Contains(c.Last.Header.Get("Content-Security-Policy"), "script-src") {
			t.Errorf("%s: %d %q", where, c.Last.Status, c.Last.Header.Get("Content-Security-Policy"))
		}
	}
	b.byPasskey(alice, false)
	b.Expect(200, "Let this app in?")
	if csp := b.Last.Header.Get("Content-Security-Policy"); strings.Contains(csp, "script-src") || strings.Contains(csp, "connect-src") || strings.Contains(b.Last.Text, "<script") {
		t.Errorf("the consent may run scripts: %q", csp)
	}
	b.Open(src)
	h := b.Last.Header
	if b.Last.Status != 200 || h.Get("Content-Type") != "text/javascript; charset=utf-8" || !strings.Contains(h.Get("Cache-Control"), "immutable") || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v", b.Last.Status, h)
	}
	if text := b.Last.Text; strings.Contains(text, "innerHTML") || strings.Contains(text, "eval(") || len(text) > 8<<10 {
		t.Errorf("%d bytes of script", len(text))
	}
	plain := newWorld(t)
	c := plain.tab()
	path, _ = plain.push(nil)
	c.Open(path)
	if strings.Contains(c.Last.Text, "<script") || strings.Contains(c.Last.Text, "passkey") || strings.Contains(c.Last.Text, "webauthn") {
		t.Errorf("without passkeys: %s", c.Last.Text)
	}
	for _, path := range []string{"/oauth/passkey", "/oauth/passkey/options"} {
		if p := c.Post(path, url.Values{}); p.Status != 404 {
			t.Errorf("%s without passkeys: %d", path, p.Status)
		}
	}
}

// 166: what a passkey has signed for another challenge, site, browser or request lets nobody in.
func TestMatrix166Assertions(t *testing.T) {
	said := func(key string, v any) func(*passkeytest.Authenticator) {
		return func(a *passkeytest.Authenticator) { a.Said = func(m map[string]any) { m[key] = v } }
	}
	for name, change := range map[string]func(*passkeytest.Authenticator){
		"a page of another site": func(a *passkeytest.Authenticator) { a.Origin = "https://evil.example.net" },
		"a page of a handle": func(a *passkeytest.Authenticator) {
			a.Origin = strings.Replace(a.Origin, "https://", "https://alice.", 1)
		},
		"another port":                    func(a *passkeytest.Authenticator) { a.Origin += ":8443" },
		"no TLS":                          func(a *passkeytest.Authenticator) { a.Origin = strings.Replace(a.Origin, "https:", "http:", 1) },
		"another relying party":           func(a *passkeytest.Authenticator) { a.RPID = "evil.example.net" },
		"the parent domain":               func(a *passkeytest.Authenticator) { a.RPID = "example.com" },
		"a user who was not verified":     func(a *passkeytest.Authenticator) { a.Flags = passkeytest.Present },
		"a user who was not there":        func(a *passkeytest.Authenticator) { a.Flags = passkeytest.Verified },
		"a registration":                  said("type", "webauthn.create"),
		"a frame":                         said("crossOrigin", true),
		"no challenge":                    said("challenge", ""),
		"a challenge of its own":          said("challenge", base64.RawURLEncoding.EncodeToString(make([]byte, 32))),
		"another key":                     func(a *passkeytest.Authenticator) { a.Key = passkeytest.New(a.T, a.Origin).Key },
		"a passkey that is not known":     func(a *passkeytest.Authenticator) { a.ID = []byte("not known") },
		"the user handle of nobody":       func(a *passkeytest.Authenticator) { a.Handle = []byte("nobody") },
		"no user handle":                  func(a *passkeytest.Authenticator) { a.Handle = nil },
		"the DID in place of user handle": func(a *passkeytest.Authenticator) { a.Handle = []byte("did:plc:alice") },
	} {
		t.Run(name, func(t *testing.T) {
			w, alice, _ := newPasskeyWorld(t)
			b := w.tab()
			path, _ := w.push(nil)
			b.Open(path)
			change(alice)
			b.byPasskey(alice, true)
			b.Expect(401, "Sign in")
			if b.signedIn(w.alice) {
				t.Fatal("signed in")
			}
			b.signIn(w.alice, true) // the form goes on to work
			b.Expect(200, "Let this app in?")
		})
	}
}

func TestMatrix166Challenges(t *testing.T) {
	w, alice, _ := newPasskeyWorld(t)
	open := func() *tab {
		t.Helper()
		b := w.tab()
		path, _ := w.push(nil)
		b.Open(path)
		return b
	}
	refused := func(b *tab, what, message string) {
		t.Helper()
		if b.Last.Status != 401 || b.Last.Title() != "Sign in" || !strings.Contains(b.Last.Text, message) || b.signedIn(w.alice) {
			t.Errorf("%s: %d %s", what, b.Last.Status, b.Last.Text)
		}
	}
	const late, wrong = "This took too long", "was not accepted"

	victim, thief := open(), open()
	stolen := victim.options(nil).Text
	thief.assert(alice, stolen, nil)
	refused(thief, "a challenge of another browser", late)
	victim.assert(alice, stolen, nil)
	victim.Expect(200, "Let this app in?")

	// An answer that was seen on its way is good for once.
	b := open()
	options := b.options(nil).Text
	in := passkeyForm(t, b.Last)
	in.Set("response", string(alice.Get([]byte(options))))
	page := b.Last
	b.Post("/oauth/passkey", in)
	if b.Follow(); b.Last.Title() != "Let this app in?" {
		t.Fatalf("%d %s", b.Last.Status, b.Last.Text)
	}
	again := w.tab()
	again.Cookies, again.Last = map[string]string{"__Host-device": b.Cookies["__Host-device"]}, page
	if again.Post("/oauth/passkey", in); again.Last.Status != 401 || !strings.Contains(again.Last.Text, late) {
		t.Errorf("an answer twice: %d %s", again.Last.Status, again.Last.Text)
	}

	// One of another request in the same browser.
	b = open()
	options = b.options(nil).Text
	path, _ := w.push(nil)
	b.Open(path)
	b.assert(alice, options, nil)
	refused(b, "a challenge of another request", late)

	// One that is older than five minutes.
	b = open()
	options = b.options(nil).Text
	w.Clock.Advance(5 * minute)
	b.assert(alice, options, nil)
	refused(b, "an old challenge", late)

	// A passkey that was removed while it was used.
	b = open()
	options = b.options(nil).Text
	who := account.Trusted(w.alice.DID)
	set, err := w.credentials().Factors(t.Context(), who)
	if err == nil {
		err = w.credentials().RemoveFactor(t.Context(), who, set.Factors[0].ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.assert(alice, options, nil)
	refused(b, "a passkey that was removed", wrong)
}

// Bytes that are no answer.
func TestPasskeyMalformedAnswers(t *testing.T) {
	w, alice, _ := newPasskeyWorld(t)
	b := w.tab()
	b.Open("/oauth/sign-in")
	form, options := passkeyForm(t, b.Last), b.options(nil).Text
	good := string(alice.Get([]byte(options)))
	for i, text := range []string{
		"", "{", "null", "[]", `{"id":1}`, `{}`, strings.Repeat("[", 10_000), strings.Repeat("x", 63<<10),
		strings.Replace(good, `"id"`, `"ID"`, 1), strings.Replace(good, `"rawId"`, `"rawId":"","rawId"`, 1), strings.Replace(good, `"response"`, `"Response"`, 1), good + good,
	} {
		form.Set("response", text)
		if p := b.Post("/oauth/passkey", form); p.Status != 401 || b.signedIn(w.alice) {
			t.Errorf("%d: %.100q: %d", i, text, p.Status)
		}
	}
	form.Set("response", strings.Repeat("x", 65<<10))
	if p := b.Post("/oauth/passkey", form); p.Status != 413 {
		t.Errorf("a long one: %d", p.Status)
	}
	b.Open("/oauth/sign-in")
	form.Set("response", string(alice.Get([]byte(b.options(nil).Text)))) // some of those above have used their challenge up
	if p := b.Post("/oauth/passkey", form); p.Status != http.StatusSeeOther {
		t.Errorf("the good one: %d %s", p.Status, p.Text)
	}
}

// Another site can neither ask for challenges in somebody's browser, nor sign that browser in to an
// account of its own.
func TestPasskeyForgery(t *testing.T) {
	w, alice, _ := newPasskeyWorld(t)
	b := w.tab()
	b.Open("/oauth/sign-in")
	token := passkeyForm(t, b.Last).Get("token")
	for name, x := range map[string]struct {
		change url.Values
		header []string
		status int
	}{
		"another origin":         {nil, []string{"Origin", "https://evil.example.net"}, 403},
		"no origin":              {nil, []string{"Origin", ""}, 403},
		"cross-site":             {nil, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"a site beside":          {nil, []string{"Sec-Fetch-Site", "same-site"}, 403},
		"a navigation":           {nil, []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 400},
		"a script element":       {nil, []string{"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"}, 400},
		"no token":               {url.Values{"token": {""}}, nil, 403},
		"the token of the form":  {url.Values{"token": {token}}, nil, 403},
		"another flow":           {url.Values{"flow": {"x.y"}}, nil, 403},
		"JSON":                   {nil, []string{"Content-Type", "application/json"}, 415},
		"an old browser is fine": {nil, []string{"Sec-Fetch-Mode", "", "Sec-Fetch-Dest", "", "Sec-Fetch-Site", ""}, 200},
	} {
		p := b.options(x.change, x.header...)
		var told struct{ Message string }
		if err := json.Unmarshal([]byte(p.Text), &told); p.Status != x.status || err != nil || (told.Message == "") != (x.status == 200) || p.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %s %v", name, p.Status, p.Text, err)
		}
	}
	if p := b.copy().Open("/oauth/passkey/options"); p.Status != 405 {
		t.Errorf("GET: %d", p.Status)
	}
	// An attacker who has a passkey of his own account, and gets somebody to send his answer.
	thief := w.tab()
	thief.Open("/oauth/sign-in")
	in := passkeyForm(t, thief.Last)
	in.Set("response", string(alice.Get([]byte(thief.options(nil).Text))))
	if p := b.copy().Post("/oauth/passkey", in); p.Status != 403 {
		t.Errorf("a form of another browser: %d", p.Status)
	}
	for _, header := range [][]string{{"Origin", "https://evil.example.net"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Mode", "cors"}} {
		if p := thief.copy().Post("/oauth/passkey", in, header...); p.Status == http.StatusSeeOther {
			t.Errorf("%v: %d", header, p.Status)
		}
	}
}

// 86: an app that asks for one account does not get another by its passkey.
func TestPasskeyOfAnotherAccount(t *testing.T) {
	w, alice, bob := newPasskeyWorld(t)
	for _, hint := range []string{string(w.alice.DID), string(w.alice.Handle)} {
		b := w.tab()
		path, _ := w.push(url.Values{"login_hint": {hint}})
		b.Open(path)
		b.byPasskey(bob, true)
		if b.Last.Status != 401 || !strings.Contains(b.Last.Text, "one of another account") || b.signedIn(w.bob) || b.signedIn(w.alice) {
			t.Errorf("%s: %d %s", hint, b.Last.Status, b.Last.Text)
		}
		// Bob's handle for Alice's key is no way either.
		thief := *bob
		thief.Handle = alice.Handle
		b.byPasskey(&thief, true)
		b.Expect(401, "Sign in")
		b.byPasskey(alice, true)
		b.Expect(200, "Let this app in?")
	}
}

// 167: a deactivated account is asked whether to be active again, and one that is taken down is told so.
func TestMatrix167PasskeysOfInactiveAccounts(t *testing.T) {
	w, alice, bob := newPasskeyWorld(t)
	accounts := w.pds.Server().Accounts
	if err := accounts.Deactivate(t.Context(), account.Trusted(w.alice.DID), time.Time{}); err != nil {
		t.Fatal(err)
	}
	b := w.tab()
	path, login := w.push(nil)
	b.Open(path)
	b.byPasskey(alice, false)
	b.Expect(200, "Your account is deactivated")
	b.Submit("/oauth/activate", nil)
	b.Expect(200, "Let this app in?")
	b.Submit("/oauth/authorize", url.Values{"decision": {"allow"}})
	to, _ := url.Parse(b.Last.Header.Get("Location"))
	if _, err := login.Finish(t.Context(), to); err != nil {
		t.Error(err)
	}
	if err := accounts.TakeDown(t.Context(), w.bob.DID, account.Takedown{Applied: true, Ref: "ref"}); err != nil {
		t.Fatal(err)
	}
	path, _ = w.push(nil)
	c := w.tab()
	c.Open(path)
	c.byPasskey(bob, true)
	if c.Last.Status != 403 || !strings.Contains(c.Last.Text, "has been taken down") || c.signedIn(w.bob) {
		t.Errorf("%d %s", c.Last.Status, c.Last.Text)
	}
}

// 168: neither a password alone nor a passkey's challenge is a way around the second factor.
func TestMatrix168ConsentNeedsWholeProof(t *testing.T) {
	w, _, _ := newPasskeyWorld(t)
	who := account.Trusted(w.alice.DID)
	e, err := w.credentials().BeginApp(t.Context(), who, "test")
	if err != nil {
		t.Fatal(err)
	}
	code, err := credential.AppCode(e.Secret, w.Clock.Now())
	if err == nil {
		_, err = w.credentials().ConfirmApp(t.Context(), who, "phone", code)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := w.tab()
	path, _ := w.push(nil)
	b.Open(path)
	b.options(nil)
	b.signIn(w.alice, true)
	b.Expect(200, "Confirm that it is you")
	b.Open(path + "&account=" + url.QueryEscape(string(w.alice.DID)))
	b.Expect(200, "Sign in")
	if strings.Contains(b.Last.Text, `action="/oauth/authorize"`) {
		t.Error("the consent is there")
	}
	if b.signedIn(w.alice) {
		t.Error("signed in")
	}
}

// 81: a page that somebody has left alone ends, although its script waits for a passkey.
func TestMatrix81ScriptsExtendNothing(t *testing.T) {
	w, alice, _ := newPasskeyWorld(t)
	b := w.tab()
	path, _ := w.push(nil)
	b.Open(path)
	w.Clock.Advance(4 * minute)
	if o := b.options(nil); o.Status != 200 {
		t.Fatalf("%d %s", o.Status, o.Text)
	}
	w.Clock.Advance(2 * minute)
	b.byPasskey(alice, true)
	if back := b.back(); back.Get("error") != "access_denied" {
		t.Errorf("%v", back)
	}
	if !b.signedIn(w.alice) {
		t.Error("the sign-in is lost")
	}
}

// The host's limits are asked for challenges and for answers.
func TestPasskeyLimits(t *testing.T) {
	var asked []string
	w, alice, _ := newPasskeyWorld(t, func(_ *pages.Config, c *pds.Config) {
		c.Rates = forms(func(action string) error { asked = append(asked, action); return nil })
	})
	b := w.tab()
	b.Open("/oauth/sign-in")
	asked = nil
	b.byPasskey(alice, true)
	if fmt.Sprint(asked) != "[passkey sign-in]" {
		t.Errorf("%q", asked)
	}
}
