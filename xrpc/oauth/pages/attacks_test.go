package pages_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/site"
)

// signInForm opens a request and returns the form to sign in, filled in right.
func (b *tab) signInForm(t *testing.T) url.Values {
	t.Helper()
	path, _ := b.push(nil)
	b.Open(path)
	in := b.Last.Fields("/oauth/sign-in")
	in.Set("identifier", string(b.alice.Handle))
	in.Set("password", b.alice.Password)
	in.Set("remember", "yes")
	return in
}

// 95: nothing is done on the word of another site.
func TestMatrix95ForgedForms(t *testing.T) {
	w := newWorld(t)
	other := w.tab().signInForm(t)
	for name, x := range map[string]struct {
		change func(in url.Values)
		header []string
	}{
		"no token":                  {func(in url.Values) { in.Del("token") }, nil},
		"wrong token":               {func(in url.Values) { in.Set("token", "x") }, nil},
		"token of another browser":  {func(in url.Values) { in.Set("token", other.Get("token")) }, nil},
		"form of another browser":   {func(in url.Values) { in.Set("token", other.Get("token")); in.Set("flow", other.Get("flow")) }, nil},
		"flow of another browser":   {func(in url.Values) { in.Set("flow", other.Get("flow")) }, nil},
		"no flow":                   {func(in url.Values) { in.Del("flow") }, nil},
		"changed flow":              {func(in url.Values) { in.Set("flow", "x"+in.Get("flow")) }, nil},
		"no Origin":                 {nil, []string{"Origin", ""}},
		"Origin null":               {nil, []string{"Origin", "null"}},
		"foreign Origin":            {nil, []string{"Origin", "https://evil.example.net"}},
		"Origin of a subdomain":     {nil, []string{"Origin", "https://alice." + w.pds.Name}},
		"Origin without encryption": {nil, []string{"Origin", "http://" + w.pds.Name}},
		"sent by another site":      {nil, []string{"Sec-Fetch-Site", "cross-site"}},
		"sent by a subdomain":       {nil, []string{"Sec-Fetch-Site", "same-site"}},
		"sent by a script":          {nil, []string{"Sec-Fetch-Mode", "cors"}},
		"into a frame":              {nil, []string{"Sec-Fetch-Dest", "iframe"}},
		"as text":                   {nil, []string{"Content-Type", "text/plain"}},
		"as JSON":                   {nil, []string{"Content-Type", "application/json"}},
		"a field twice":             {func(in url.Values) { in.Add("identifier", "bob") }, nil},
	} {
		b := w.tab()
		in := b.signInForm(t)
		if x.change != nil {
			x.change(in)
		}
		if p := b.Post("/oauth/sign-in", in, x.header...); p.Status < 400 || p.Status >= 500 || b.signedIn(w.alice) {
			t.Errorf("%s: %d", name, p.Status)
		}
	}
	b := w.tab()
	in := b.signInForm(t)
	for _, path := range []string{"/oauth/sign-up", "/oauth/password", "/oauth/sign-out", "/oauth/activate", "/oauth/password/reset"} {
		if p := b.Post(path, in); p.Status != 403 {
			t.Errorf("the token of the sign-in at %s: %d", path, p.Status)
		}
	}
	if p := b.Post("/oauth/sign-in", in); p.Status != 303 || !b.signedIn(w.alice) {
		t.Errorf("the right form: %d %s", p.Status, p.Text)
	}
}

func TestOversizedForms(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	in := b.signInForm(t)
	in.Set("more", strings.Repeat("x", 64<<10))
	if p := b.Post("/oauth/sign-in", in); p.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d", p.Status)
	}
	in.Del("more")
	in.Set("password", strings.Repeat("x", 60<<10))
	if p := b.Post("/oauth/sign-in", in); p.Status != 401 {
		t.Errorf("a long password: %d", p.Status)
	}
	in.Set("password", "x")
	in.Set("identifier", strings.Repeat("x", 20<<10))
	if p := b.Post("/oauth/sign-in", in); p.Status != 401 || len(p.Text) > 20_000 {
		t.Errorf("a long name: %d, %d bytes", p.Status, len(p.Text))
	}
	if p := b.PostBody("/oauth/sign-in", strings.NewReader("%zz=1")); p.Status != 400 {
		t.Errorf("malformed: %d", p.Status)
	}
}

// Checks 75 and 76: pages are not framed, fetched or kept.
func TestPagesAreNotFramed(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, _ := w.push(nil)
	for _, at := range []string{path, "/oauth/sign-in", "/oauth/sign-up", "/oauth/password", "/oauth/password/reset", "/oauth/sign-out"} {
		h := b.Open(at).Header
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: no %q in %q", at, want, csp)
			}
		}
		if strings.Contains(csp, "script-src") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %q", at, csp)
		}
		for name, want := range map[string]string{
			"X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff",
			"Cross-Origin-Opener-Policy": "same-origin",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s: %q", at, name, h.Get(name))
			}
		}
		if b.Last.Status != 200 {
			t.Errorf("%s: %d", at, b.Last.Status)
		}
		for _, bad := range [][]string{{"Sec-Fetch-Dest", "iframe"}, {"Sec-Fetch-Mode", "cors"}} {
			if p := b.Open(at, bad...); p.Status != 400 {
				t.Errorf("%s %v: %d", at, bad, p.Status)
			}
		}
	}
}

// 162: a password of an app does not sign in to pages.
func TestMatrix162AppPasswordsOpenNoPages(t *testing.T) {
	w := newWorld(t)
	password, _, err := w.credentials().CreateAppPassword(t.Context(), account.Trusted(w.alice.DID), "app", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.alice.Login(password); err != nil {
		t.Fatal("the app password is not one: ", err)
	}
	b := w.tab()
	in := b.signInForm(t)
	in.Set("password", password)
	if p := b.Post("/oauth/sign-in", in); p.Status != 401 || b.signedIn(w.alice) {
		t.Errorf("%d", p.Status)
	}
}

// 170, but for the time: an unknown account looks like a wrong password.
func TestMatrix170UnknownAccountsLookAlike(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	in := b.signInForm(t)
	text := func(who string) string {
		in.Set("identifier", who)
		in.Set("password", "wrong")
		p := b.Post("/oauth/sign-in", in)
		if p.Status != 401 {
			t.Errorf("%s: %d", who, p.Status)
		}
		return strings.ReplaceAll(p.Text, who, "WHO")
	}
	if text("alice."+w.pds.Name) != text("nobody."+w.pds.Name) || text("alice@example.com") != text("nobody@example.com") {
		t.Error("the page tells who has an account")
	}
}

// Guesses are counted by what the host counts them with.
func TestGuessesAreCounted(t *testing.T) {
	w := newWorld(t, func(_ *pages.Config, c *pds.Config) { c.Rates = rate.New(rate.Config{Now: c.Now}) })
	b := w.tab()
	in := b.signInForm(t)
	in.Set("password", "wrong")
	for i := range 60 {
		if p := b.Post("/oauth/sign-in", in); p.Status == http.StatusTooManyRequests {
			in.Set("password", w.alice.Password)
			if p := b.Post("/oauth/sign-in", in); p.Status != http.StatusTooManyRequests || b.signedIn(w.alice) {
				t.Errorf("the right password after %d wrong ones: %d", i, p.Status)
			}
			return
		}
	}
	t.Error("guesses are not counted")
}

// 101: a cookie that somebody has planted is worth nothing after the sign-in.
func TestMatrix101CookieFixation(t *testing.T) {
	w := newWorld(t)
	victim := w.tab()
	in := victim.signInForm(t)
	attacker := victim.copy()
	if p := victim.Post("/oauth/sign-in", in); p.Status != 303 {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	if attacker.Cookies["__Host-device"] == victim.Cookies["__Host-device"] {
		t.Fatal("the cookie stays the same")
	}
	if attacker.signedIn(w.alice) || !victim.signedIn(w.alice) {
		t.Error("the cookie from before the sign-in knows the account")
	}
	// The attacker signs in as somebody else with it, and gets nothing of Alice's.
	if p := attacker.Open(victim.Last.Header.Get("Location")); strings.Contains(p.Text, string(w.alice.DID)) {
		t.Error("the earlier cookie gets at the consent of the account")
	}
	attacker.Open("/oauth/sign-in")
	attacker.signIn(w.bob, true)
	if attacker.signedIn(w.alice) || !attacker.signedIn(w.bob) {
		t.Error("a sign-in with the earlier cookie gets at the account")
	}
}

// 102: an earlier secret that comes back much later ends what the browser has.
func TestMatrix102StolenEarlierCookie(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	in := b.signInForm(t)
	thief := b.copy()
	b.Post("/oauth/sign-in", in)
	w.Clock.Advance(9 * minute)
	if thief.signedIn(w.alice) || !b.signedIn(w.alice) {
		t.Fatal("within ten minutes an earlier secret must do nothing")
	}
	w.Clock.Advance(2 * minute)
	if thief.signedIn(w.alice) {
		t.Error("an earlier secret shows accounts")
	}
	if b.signedIn(w.alice) {
		t.Error("the browser's sign-ins go on")
	}
	who := account.Trusted(w.alice.DID)
	if list, err := w.site.SignIns(t.Context(), who); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
}

// A form that is sent twice at once signs in all the same.
func TestFormSentTwice(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	in := b.signInForm(t)
	again := b.copy()
	b.Post("/oauth/sign-in", in)
	if again.Post("/oauth/sign-in", in); again.Follow().Title() != "Let this app in?" {
		t.Errorf("%d %s", again.Last.Status, again.Last.Text)
	}
	if !again.signedIn(w.alice) {
		t.Error("nobody is signed in")
	}
}

func TestMadeUpCookies(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	in := b.signInForm(t)
	b.Post("/oauth/sign-in", in)
	good := b.Cookies["__Host-device"]
	name, secret, _ := strings.Cut(good, ".")
	for _, v := range []string{"", ".", name, name + ".", name + "." + secret + "x", "." + secret, "x." + secret, strings.Repeat("x", 5000), name + ".." + secret} {
		c := b.copy()
		c.Cookies["__Host-device"] = v
		if c.Open("/oauth/sign-out"); strings.Contains(c.Last.Text, string(w.alice.DID)) || c.Last.Status != 200 {
			t.Errorf("%.40q: %d", v, c.Last.Status)
		}
		if c.Cookies["__Host-device"] == v {
			t.Errorf("%.40q stays", v)
		}
	}
	if !b.signedIn(w.alice) {
		t.Error("made up cookies end the sign-in")
	}
}

func TestCookieAttributes(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	in := b.signInForm(t)
	check := func(remembered bool) {
		t.Helper()
		line := b.Last.Header.Get("Set-Cookie")
		for _, want := range []string{"__Host-device=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
			if !strings.Contains(line, want) {
				t.Errorf("no %s in %q", want, line)
			}
		}
		if strings.Contains(line, "Domain") || strings.Contains(line, "Max-Age=7776000") != remembered {
			t.Errorf("%q", line)
		}
	}
	check(false)
	b.Post("/oauth/sign-in", in)
	check(true)
}

// 99: a sign-in that is not remembered is good for one request, and for 15 minutes.
func TestMatrix99SignInForOneRequest(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, _ := w.push(nil)
	b.Open(path)
	b.signIn(w.alice, false)
	b.Expect(200, "Let this app in?")
	other, _ := w.push(nil)
	b.Open(other)
	b.Expect(200, "Sign in")
	b.Open(path)
	b.Expect(200, "Let this app in?")
	if _, _, err := b.caller(w.alice.DID); err == nil {
		t.Error("the account pages are open")
	}
	for range 4 { // so that the request lives on
		w.Clock.Advance(4 * minute)
		b.Open(path)
	}
	b.Expect(200, "Sign in")
}

func (b *tab) request(path string) *http.Request {
	r, _ := http.NewRequest("GET", b.origin()+path, nil)
	for name, v := range b.Cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: v})
	}
	return r
}

// caller is who a browser acts as on pages of the account.
func (b *tab) caller(did syntax.DID) (account.Caller, site.SignIn, error) {
	x, err := b.site.Browser(nil, b.request("/account"))
	if err != nil {
		return account.Caller{}, site.SignIn{}, err
	}
	_, in, err := b.site.SignIn(b.t.Context(), x, did)
	return b.site.Caller(x, did, site.As{}), in, err
}

// 103: an account ends its own sign-ins, and nobody else's.
func TestMatrix103SignInsAreListedAndEnded(t *testing.T) {
	w := newWorld(t)
	a, b := w.tab(), w.tab()
	a.Post("/oauth/sign-in", a.signInForm(t))
	b.Post("/oauth/sign-in", b.signInForm(t))
	who, here, err := a.caller(w.alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.caller(w.bob.DID); err == nil {
		t.Error("an account that is not signed in is the caller")
	}
	list, err := w.site.SignIns(t.Context(), who)
	if err != nil || len(list) != 2 || !list[0].Remembered || list[0].Address != "192.0.2.7" {
		t.Fatalf("%+v %v", list, err)
	}
	for _, x := range list {
		if x.ID == here.ID {
			continue
		}
		if err := w.site.EndSignIn(t.Context(), account.Trusted(w.bob.DID), x.ID); err != nil || !b.signedIn(w.alice) {
			t.Errorf("by another account: %v", err)
		}
		if err := w.site.EndSignIn(t.Context(), who, x.ID); err != nil || b.signedIn(w.alice) || !a.signedIn(w.alice) {
			t.Errorf("by its own: %v", err)
		}
	}
	if err := w.site.EndSignIn(t.Context(), who, here.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.site.EndSignIn(t.Context(), who, here.ID); err == nil {
		t.Error("a sign-in that has ended is still a caller")
	}
}

// What lets an app in acts by the sign-in of the browser, as long as that lasts: not on the account's
// word alone.
func TestEndedSignInLetsNoAppIn(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	b.Post("/oauth/sign-in", b.signInForm(t))
	d, err := w.web.Device(nil, b.request("/oauth/authorize"))
	if err != nil || len(d.Accounts) != 1 {
		t.Fatalf("%+v %v", d, err)
	}
	who := d.Accounts[0].Caller
	accounts := w.pds.Server().Accounts
	if a, err := accounts.Authenticate(t.Context(), who); err != nil || a.DID != w.alice.DID {
		t.Errorf("%+v %v", a, err)
	}
	_, here, err := b.caller(w.alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.site.EndSignIn(t.Context(), account.Trusted(w.alice.DID), here.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.Authenticate(t.Context(), who); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("after its end: %v", err)
	}
}

// 86: an app that asks for one account gets no other.
func TestMatrix86HintCannotBeChanged(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	path, _ := w.push(url.Values{"login_hint": {string(w.bob.Handle)}})
	b.Open(path)
	if !strings.Contains(b.Last.Text, "readonly") {
		t.Error("the field can be changed")
	}
	b.signIn(w.alice, true)
	b.Expect(401, "Sign in")
	if b.signedIn(w.alice) || b.signedIn(w.bob) {
		t.Error("somebody is signed in")
	}
}

// Nothing that a page is given leads to another site.
func TestOpenRedirects(t *testing.T) {
	w := newWorld(t)
	for _, to := range []string{
		"https://evil.example.net/", "//evil.example.net/", "/\\evil.example.net", "/account\\..\\x", "javascript:alert(1)", "/account/../oauth", "https:/evil.example.net",
		"/account\r\nX: y", "http://user@evil.example.net/account", "\\\\evil.example.net/account", "/%2f/evil.example.net", "/account//evil.example.net/%2e%2e/",
	} {
		b := w.tab()
		b.Open("/oauth/sign-in?return=" + url.QueryEscape(to))
		in := b.Last.Fields("/oauth/sign-in")
		in.Set("identifier", string(w.alice.Handle))
		in.Set("password", w.alice.Password)
		p := b.Post("/oauth/sign-in", in)
		if at := p.Header.Get("Location"); p.Status != 303 || !strings.HasPrefix(at, "/account") || strings.Contains(at, "\\") {
			t.Errorf("%q leads to %d %q", to, p.Status, at)
		}
	}
	b := w.tab()
	b.Open("/oauth/sign-in?return=/account/devices")
	b.signIn(w.alice, true)
	if b.Last.Path != "/account/devices" {
		t.Errorf("at %s", b.Last.Path)
	}
}

// Whoever is led to a page of an account signs in as that account, and proves once more to be it in
// a browser that knows it; the browser goes on to remember it.
func TestSignInForPageOfAccount(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	page := "/oauth/sign-in?return=/account/" + string(w.alice.DID) + "/data"
	b.Open(page)
	b.Expect(200, "Sign in")
	b.signIn(w.bob, true)
	b.Expect(401, "Sign in")
	led := func() {
		t.Helper()
		if want := "/account/" + string(w.alice.DID) + "/data"; b.Last.Path != want { // there are no such pages in this test
			t.Errorf("at %s: %s", b.Last.Path, b.Last.Text)
		}
	}
	b.signIn(w.alice, true)
	led()
	b.Open(page)
	b.Expect(200, "Confirm that it is you")
	b.Submit("/oauth/sign-in", url.Values{"password": {w.alice.Password}})
	led()
	if _, in, err := b.caller(w.alice.DID); err != nil || !in.Remembered {
		t.Errorf("%+v %v", in, err)
	}
	for _, name := range []string{"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "x", "%zz", "", "-"} {
		if b.Open("/oauth/sign-in?return=" + url.QueryEscape("/account/"+name)); b.Last.Status != 200 || strings.Contains(b.Last.Text, "readonly") {
			t.Errorf("%q: %d", name, b.Last.Status)
		}
	}
}

// 89: nothing that strangers write is HTML.
func TestMatrix89StrangersWriteNoHTML(t *testing.T) {
	const evil = `"><script>alert(1)</script>`
	w := newWorld(t)
	b := w.tab()
	// The provider's prompt, with everything that can be a stranger's.
	r := b.request("/oauth/authorize")
	show := func(q provider.Prompt) {
		t.Helper()
		rec := newRecorder()
		w.web.Prompt(rec, r, q)
		text := rec.Body.String()
		if strings.Contains(text, "<script") || regexp.MustCompile(`href="(javascript|data):`).MatchString(text) {
			t.Errorf("%s: %s", q.Ask, text)
		}
		if csp := rec.Header().Get("Content-Security-Policy"); strings.Contains(csp, "script") || strings.Contains(csp, "*") {
			t.Errorf("%q", csp)
		}
	}
	a := account.Account{DID: w.alice.DID, Handle: evil}
	for _, ask := range []provider.Ask{provider.AskSignIn, provider.AskSignUp, provider.AskAccount, provider.AskConsent} {
		show(provider.Prompt{
			Ask: ask, Request: evil, Form: evil, Action: "/oauth/authorize", Return: "/oauth/authorize?client_id=" + url.QueryEscape(evil), Hint: evil, Account: w.alice.DID,
			Accounts: []provider.Choice{{Account: a}}, Locales: evil, Expires: w.Clock.Now().Add(minute),
			Client: provider.Client{
				ID: "https://app.example.net/" + evil, Name: evil, Logo: "https://x; script-src *" + evil, URI: "javascript:alert(1)", Terms: "data:text/html," + evil,
				Policy: "https://app.example.net/" + evil, Trusted: true,
			},
		})
	}
	rec := newRecorder()
	w.web.Error(rec, r, 400, &provider.Error{Code: evil, Description: evil})
	if strings.Contains(rec.Body.String(), "<script") {
		t.Error(rec.Body.String())
	}
	for _, field := range []string{"identifier", "flow", "token"} {
		in := b.signInForm(t)
		in.Set(field, evil)
		if p := b.Post("/oauth/sign-in", in); strings.Contains(p.Text, "<script") {
			t.Errorf("%s: %s", field, p.Text)
		}
	}
	b.Open("/oauth/sign-up?invite=" + url.QueryEscape(evil))
	b.Submit("/oauth/sign-up", url.Values{"label": {evil}, "email": {evil}, "domain": {evil}, "password": {evil}})
	if strings.Contains(b.Last.Text, "<script") {
		t.Error(b.Last.Text)
	}
}

// A name that only a trusted app may show.
func TestTrustedAppHasItsName(t *testing.T) {
	w := newWorld(t, func(_ *pages.Config, c *pds.Config) {
		c.OAuth.Trusted = []string{"https://app1.example.net/oauth-client-metadata.json"}
	})
	w.app.Change(func(d map[string]any) { d["logo_uri"] = "https://cdn.example.net/logo.png" })
	b := w.tab()
	path, _ := w.push(nil)
	b.Open(path)
	b.signIn(w.alice, true)
	if !strings.Contains(b.Last.Text, "App app1.example.net") || !strings.Contains(b.Last.Header.Get("Content-Security-Policy"), "img-src 'self' https://cdn.example.net;") {
		t.Errorf("%s %v", b.Last.Text, b.Last.Header)
	}
}

// forms bounds how often forms of pages are sent.
type forms func(action string) error

func (f forms) Endpoint(_ *http.Request, name, client string) error {
	switch name {
	case "par", "authorize", "token", "revoke":
		return nil
	}
	return f(name)
}
func (forms) Admit(http.ResponseWriter, *xrpc.Request) error           { return nil }
func (forms) Limit(http.ResponseWriter, *xrpc.Request) error           { return nil }
func (forms) Writes(*xrpc.Request, int, int, int) error                { return nil }
func (forms) Password(*xrpc.Request, string) (func(right bool), error) { return func(bool) {}, nil }
func (forms) Admin(*xrpc.Request, bool) error                          { return nil }

// A limit of the host's is asked for each form.
func TestLimit(t *testing.T) {
	var asked []string
	w := newWorld(t, func(_ *pages.Config, c *pds.Config) {
		c.Rates = forms(func(action string) error {
			asked = append(asked, action)
			return &xrpc.Error{Status: 429, Message: "too much"}
		})
	})
	b := w.tab()
	if p := b.Post("/oauth/sign-in", b.signInForm(t)); p.Status != 429 || len(asked) != 1 || asked[0] != "sign-in" {
		t.Errorf("%d %q", p.Status, asked)
	}
}

// What is stored has no secret in the clear.
func TestSecretsAreStoredHashed(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	b.Post("/oauth/sign-in", b.signInForm(t))
	name, secret, _ := strings.Cut(b.Cookies["__Host-device"], ".")
	n := 0
	for key, v := range w.everything(context.Background()) {
		if strings.Contains(key, "oauth/device/") {
			n++
		}
		if strings.Contains(key+v, name) || strings.Contains(key+v, secret) {
			t.Errorf("%s has the cookie: %s", key, v)
		}
	}
	if n != 2 {
		t.Errorf("%d keys", n)
	}
}

// Many sign-ins at once, in one browser and in several, leave the browser that answered last signed
// in, and nobody else.
func TestSignInsAtOnce(t *testing.T) {
	w := newWorld(t)
	one := w.tab()
	form := one.signInForm(t)
	var all sync.WaitGroup
	tabs := make([]*tab, 6)
	for i := range tabs {
		b, in := one.copy(), form
		if i%2 == 1 {
			b = w.tab()
			in = b.signInForm(t)
		}
		tabs[i] = b
		all.Go(func() {
			if p := b.Post("/oauth/sign-in", in); p.Status != 303 {
				t.Errorf("%d %s", p.Status, p.Text)
			}
		})
	}
	all.Wait()
	n := 0
	for i, b := range tabs {
		switch in := b.signedIn(w.alice); {
		case i%2 == 1 && !in:
			t.Error("a browser of its own is not signed in")
		case i%2 == 0 && in:
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d copies of one browser are signed in", n)
	}
}

// TestMisuse checks that a wrong configuration says what to do.
func TestMisuse(t *testing.T) {
	w := newWorld(t)
	for want, change := range map[string]func(*pages.Config){
		"Config.Site":      func(c *pages.Config) { c.Site = nil },
		"Config.Passwords": func(c *pages.Config) { c.Passwords = nil },
	} {
		cfg := pages.Config{Site: w.site, Passwords: w.pds.Server().Sessions}
		change(&cfg)
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, want) {
					t.Errorf("%s: %q", want, text)
				}
			}()
			pages.New(cfg)
		}()
	}
}

// In development, over plain HTTP, cookies have a plain name.
func TestDevelopment(t *testing.T) {
	w := newWorld(t)
	s := w.pds.Server()
	web := pages.New(pages.Config{
		Site: site.New(site.Config{Credentials: s.Credentials, Origin: "http://localhost:2583", Secret: secret}), Passwords: s.Sessions,
	})
	mux := http.NewServeMux()
	web.Mount(mux)
	rec := newRecorder()
	mux.ServeHTTP(rec, w.tab().request("/oauth/sign-in"))
	c, err := http.ParseSetCookie(rec.Header().Get("Set-Cookie"))
	if err != nil || c.Name != "device" || c.Secure || !c.HttpOnly || rec.Header().Get("Strict-Transport-Security") != "" {
		t.Errorf("%+v %v", c, err)
	}
	// Without a Service there is neither sign-up nor reset.
	for _, path := range []string{"/oauth/sign-up", "/oauth/password", "/oauth/password/reset"} {
		rec := newRecorder()
		mux.ServeHTTP(rec, w.tab().request(path))
		if rec.Code != 404 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	if strings.Contains(rec.Body.String(), "/oauth/sign-up") {
		t.Error("a sign-up is offered that is not there")
	}
}
