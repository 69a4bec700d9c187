package pages_test

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/repo/account"
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
