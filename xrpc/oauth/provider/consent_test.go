package provider

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
)

// 89, for the page that this package writes by itself. 90 to 92: what comes back to the client.
func TestMatrix89_90_91_92Answers(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	state := `"><script>alert(1)</script> &=+%#?/äöü 💡 ` + strings.Repeat("x", 2000)
	for _, mode := range []string{"", "query", "fragment", "form_post"} {
		w.browse(browser, a.push(map[string]string{"state": state, "response_mode": mode}))
		out := w.consent(browser, alice, nil)
		var q url.Values
		switch mode {
		case "form_post":
			if out.status != 200 || strings.Contains(out.text, "<script>alert") || !strings.Contains(out.text, `action="`+redirect+`"`) ||
				!strings.Contains(out.text, "<button>") || !strings.Contains(out.header.Get("Content-Security-Policy"), "script-src 'sha256-") {
				t.Errorf("89, 92: %d %v %s", out.status, out.header, out.text)
			}
			q = hiddenFields(out.text)
		default:
			q = out.back(t)
			if at := out.header.Get("Location"); strings.HasPrefix(at, redirect+"#") != (mode == "fragment") {
				t.Errorf("92: %s: %s", mode, at)
			}
		}
		if q.Get("state") != state || q.Get("iss") != issuer || q.Get("code") == "" {
			t.Errorf("90, 91: %s: %v", mode, q)
		}
		a.exchange(q.Get("code"), nil).tokens(t)
	}
	w.browse(browser, a.push(map[string]string{"response_mode": "fragment"}))
	if q := w.consent(browser, alice, url.Values{"decision": {"deny"}}).back(t); q.Get("error") != codeAccessDenied || q.Get("iss") != issuer || q.Get("state") != "the state" {
		t.Errorf("91, 93: %v", q)
	}
}

// hiddenFields reads the form of a page.
func hiddenFields(text string) url.Values {
	q := make(url.Values)
	unescape := strings.NewReplacer("&#34;", `"`, "&lt;", "<", "&gt;", ">", "&#43;", "+", "&amp;", "&", "&#39;", "'")
	for _, part := range strings.Split(text, `<input type="hidden" name="`)[1:] {
		name, rest, _ := strings.Cut(part, `" value="`)
		value, _, _ := strings.Cut(rest, `">`)
		q.Set(name, unescape.Replace(value))
	}
	return q
}

// The host hears of what somebody grants to an app that the app did not have: not of renewals, nor of
// silent sign-ins, nor of forms that are sent twice.
func TestAllowed(t *testing.T) {
	var isError []string
	w := newWorld(t, func(c *Config) {
		c.Allowed = func(_ *http.Request, a account.Account, x Allowance) {
			isError = append(isError, fmt.Sprint(a.Handle, " ", x.Client.ID, " ", x.Granted, " ", x.New))
		}
	})
	expect := func(what string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, isError); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
		isError = nil
	}
	w.signIn(browser, alice)
	a := w.confidential()
	a.login()
	expect("the first time", "alice.test "+confidentialID+" atproto repo:com.example.note [atproto repo:com.example.note]")
	a.login()
	expect("again")
	w.browse(browser, a.push(map[string]string{"login_hint": string(alice)})).back(t)
	expect("in silence")

	b := w.public()
	path := b.push(nil)
	w.browse(browser, path)
	form := w.consentForm(alice, nil)
	w.submit(browser, form).back(t)
	w.submit(browser, form).back(t)
	expect("a form that is sent twice", "alice.test "+clientID+" atproto repo:com.example.note [atproto repo:com.example.note]")
	b.login()
	expect("a public client again")
	w.browse(browser, b.push(nil)).asks(t, "and it is asked all the same", AskConsent)
	if known := w.pages.last.Known; known != nil {
		t.Errorf("a public client is known: %v", known)
	}
	b.scope = "atproto repo:com.example.note account:email"
	b.login()
	expect("more", "alice.test "+clientID+" account:email atproto repo:com.example.note [account:email]")
	b.scope = "atproto"
	b.login()
	expect("less")
	if err := w.p.EndClient(t.Context(), account.Trusted(alice), b.id); err != nil {
		t.Fatal(err)
	}
	b.login()
	expect("after it was thrown out", "alice.test "+clientID+" atproto [atproto]")

	local := w.public()
	local.id = "http://localhost/?redirect_uri=" + url.QueryEscape("http://127.0.0.1/cb")
	local.redirect, local.scope = "http://127.0.0.1/cb", "atproto"
	local.login()
	local.login()
	one := "alice.test " + local.id + " atproto [atproto]"
	expect("some program here, each time", one, one)
}

// What was granted to a client that anybody could pretend to be is not granted again in silence when
// the client has a key of its own.
func TestPublicGrantsCoverNothing(t *testing.T) {
	w := newWorld(t)
	c := w.confidential()
	key := c.authKey
	w.publishJSON(c.id, clientDocument(c.id, map[string]any{"redirect_uris": []string{c.redirect}}))
	c.authKey = nil
	c.login()
	c.authKey = key
	c.publishKeys(map[string]*crypto.PrivateKey{c.kid: key})
	w.wait(documentLife)
	w.signIn(browser, alice)
	silent := map[string]string{"prompt": "none", "login_hint": string(alice)}
	if q := w.browse(browser, c.push(silent)).back(t); q.Get("error") != codeConsentRequired {
		t.Errorf("%v", q)
	}
	w.browse(browser, c.push(nil)).asks(t, "the consent", AskConsent)
	if known := w.pages.last.Known; known != nil {
		t.Errorf("known: %v", known)
	}
	w.consent(browser, alice, nil).back(t)
	if q := w.browse(browser, c.push(silent)).back(t); q.Get("code") == "" {
		t.Errorf("%v", q)
	}
}

func TestMatrix93Deny(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	path := a.push(nil)
	w.browse(browser, path).asks(t, "93", AskSignIn) // also by somebody who is not signed in
	form := w.consentForm("", url.Values{"decision": {"deny"}})
	for range 2 {
		if q := w.submit(browser, form).back(t); q.Get("error") != codeAccessDenied || q.Get("state") != "the state" || q.Get("iss") != issuer || q.Get("code") != "" {
			t.Errorf("%v", q)
		}
	}
	w.signIn(browser, alice)
	w.consent(browser, alice, nil).page(t, "allowed after it was denied", 400)
}

func TestMatrix95Forgery(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	w.browse(browser, a.push(nil)).asks(t, "95", AskConsent)
	form := w.consentForm(alice, nil)
	w.submit(browser, form, "Origin", "https://evil.example").page(t, "95: another origin", 400)
	w.submit(browser, form, "Origin", "null").page(t, "95: origin null", 400)
	w.submit(browser, form, "Sec-Fetch-Site", "cross-site").page(t, "95: cross-site", 400)
	w.submit(browser, form, "Sec-Fetch-Site", "same-site").page(t, "95: same-site", 400)
	w.submit(browser, form, "Sec-Fetch-Mode", "cors").page(t, "95: a script", 400)
	w.submit(browser, form, "Content-Type", "application/json").page(t, "95: JSON", 415)
	w.submit(browser, form, "Content-Type", "text/plain").page(t, "95: text", 415)
	w.submit(browser, w.consentForm(alice, url.Values{"form": nil})).page(t, "95: no token", 400)
	w.submit(browser, w.consentForm(alice, url.Values{"form": {"x"}})).page(t, "95: a wrong token", 400)
	w.submit(browser, w.consentForm(alice, url.Values{"request": {"x"}})).page(t, "95: another request", 400)
	w.submit(browser, w.consentForm(alice, url.Values{"decision": nil})).page(t, "95: no decision", 400)
	w.submit(browser, w.consentForm(alice, url.Values{"did": {string(alice), string(bob)}})).page(t, "95: twice", 400)
	w.submit("another browser", form).page(t, "95: another browser", 400)
	if q := w.submit(browser, form, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document").back(t); q.Get("code") == "" {
		t.Errorf("95: the right form: %v", q)
	}
}

func TestMatrix96Tampering(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	w.browse(browser, a.push(nil))
	q := w.consent(browser, alice, url.Values{"scope": {"atproto", "repo:com.example.note", "transition:generic", "repo:*"}}).back(t)
	if out := a.exchange(q.Get("code"), nil); out.str("scope") != "atproto repo:com.example.note" {
		t.Errorf("96: added: %s", out.text)
	}
	w.browse(browser, a.push(nil))
	if q := w.consent(browser, alice, url.Values{"scope": {"repo:com.example.note"}}).back(t); q.Get("error") != codeAccessDenied {
		t.Errorf("96: without atproto: %v", q)
	}
}

// 97: what was not granted is asked again, and is not in the token.
func TestMatrix97PartialGrant(t *testing.T) {
	w := newWorld(t)
	a := w.confidential()
	hint := map[string]string{"login_hint": string(alice)}
	a.scope = "atproto repo:com.example.note account:email"
	w.signIn(browser, alice)
	w.browse(browser, a.push(hint))
	q := w.consent(browser, alice, url.Values{"scope": {"atproto", "repo:com.example.note"}}).back(t)
	out := a.exchange(q.Get("code"), nil)
	if out.str("scope") != "atproto repo:com.example.note" {
		t.Errorf("%s", out.text)
	}
	if who := a.call(out.str("access_token")); who.str("scope") != "atproto repo:com.example.note" {
		t.Errorf("%s", who.text)
	}
	w.browse(browser, a.push(hint)).asks(t, "97", AskConsent)
	a.scope = "atproto repo:com.example.note"
	if q := w.browse(browser, a.push(hint)).back(t); q.Get("code") == "" {
		t.Errorf("97: what was granted: %v", q)
	}
	// A refusal takes back what was granted before; what was not asked for stays.
	a.scope = "atproto repo:com.example.note"
	w.browse(browser, a.push(map[string]string{"prompt": "consent"}))
	w.consent(browser, alice, url.Values{"scope": {"atproto"}}).back(t)
	w.browse(browser, a.push(hint)).asks(t, "97: taken back", AskConsent)
	a.scope = "atproto"
	if q := w.browse(browser, a.push(hint)).back(t); q.Get("code") == "" {
		t.Errorf("97: atproto alone: %v", q)
	}
}

func TestMatrix98_99SignIns(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, bob)
	w.browse(browser, a.push(nil)).asks(t, "98", AskConsent)
	w.consent(browser, alice, nil).page(t, "98: not signed in here", 401)
	w.consent(browser, "did:plc:cccccccccccccccccccccccc", nil).page(t, "98: nobody", 401)

	path := a.push(nil)
	w.browse("private", path).asks(t, "99", AskSignIn)
	id := w.pages.last.Request
	w.signInAs("private", SignedIn{DID: alice, At: w.now(), Request: "another"})
	w.browse("private", path).asks(t, "99: of another request", AskSignIn)
	w.consent("private", alice, nil).page(t, "99: of another request", 401)
	w.signInAs("private", SignedIn{DID: alice, At: w.now().Add(-16 * time.Minute), Request: id})
	w.browse("private", path).asks(t, "99: 16 minutes old", AskSignIn)
	w.consent("private", alice, nil).page(t, "99: 16 minutes old", 401)
	w.signInAs("private", SignedIn{DID: alice, At: w.now(), Request: id, Credentials: 7})
	w.consent("private", alice, nil).page(t, "99: of other credentials", 401)
	w.signInAs("private", SignedIn{DID: alice, At: w.now(), Request: id})
	w.browse("private", path).asks(t, "99", AskConsent)
	if q := w.consent("private", alice, nil).back(t); q.Get("code") == "" {
		t.Errorf("99: %v", q)
	}
	w.browse("private", a.push(nil)).asks(t, "99: the next request", AskSignIn)
}

// 100: a form that is sent twice, also at the same time, gives one code.
func TestMatrix100DoubleSubmit(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	w.browse(browser, a.push(nil))
	form := w.consentForm(alice, nil)
	var wg sync.WaitGroup
	codes := make(chan string, 8)
	for range 8 {
		wg.Go(func() { codes <- w.submit(browser, form).back(t).Get("code") })
	}
	wg.Wait()
	close(codes)
	first := <-codes
	for code := range codes {
		if code != first || code == "" {
			t.Errorf("%q and %q", first, code)
		}
	}
	form.Set("scope", "atproto")
	w.submit(browser, form).page(t, "another decision", 400)
	form = w.consentForm(alice, nil)
	tok := a.exchange(first, nil).tokens(t)
	w.submit(browser, form).page(t, "after the code was used", 400)
	a.alive(tok.access, true)
}

// An account that is not active lets no app in.
func TestConsentOfInactiveAccounts(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	w.browse(browser, a.push(nil))
	form := w.consentForm(alice, nil)
	w.deactivate()
	w.submit(browser, form).page(t, "the sign-in is of before", 401)
	w.signIn(browser, alice)
	if q := w.submit(browser, form).back(t); q.Get("error") != codeAccessDenied {
		t.Errorf("deactivated: %v", q)
	}
}

func (w *world) deactivate() {
	if err := w.accounts.Deactivate(context.Background(), account.Trusted(alice), time.Time{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) takeDown(did syntax.DID) {
	if err := w.accounts.TakeDown(context.Background(), did, account.Takedown{Applied: true, Ref: "x"}); err != nil {
		w.t.Fatal(err)
	}
}
