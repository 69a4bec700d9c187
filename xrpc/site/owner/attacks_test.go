package owner_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// forms are the forms of the pages, with what they would do.
var forms = map[string]url.Values{
	"sign-out":          {},
	"devices":           {"action": {"everywhere"}},
	"apps":              {"client": {"https://app1.example.net/oauth-client-metadata.json"}},
	"app-passwords":     {"name": {"phone"}},
	"app-passwords/new": {"name": {"evil"}},
	"password":          {"password": {"another password"}, "again": {"another password"}, "apps": {"end"}},
	"authenticator":     {"action": {"begin"}},
	"recovery-codes":    {},
	"email-codes":       {"action": {"on"}},
	"email":             {"action": {"send"}},
	"email/change":      {"action": {"change"}, "email": {"evil@example.com"}},
	"handle":            {"action": {"change"}, "label": {"evil"}},
	"close":             {"action": {"deactivate"}},
}

// sensitive are those of them that need a sign-in of the last five minutes.
var sensitive = []string{"app-passwords/new", "password", "authenticator", "recovery-codes", "email-codes", "email/change", "handle", "close"}

// everything is all that is stored with an account.
func (w *world) everything() (all map[string]string) {
	w.t.Helper()
	testenv.Until(w.t, "mail is sent", func() bool { // besides the answers
		all = w.read()
		return !slices.ContainsFunc(slices.Collect(maps.Keys(all)), func(key string) bool { return strings.HasPrefix(key, "outbox/mail/") })
	})
	return all
}

func (w *world) read() map[string]string {
	w.t.Helper()
	out := make(map[string]string)
	err := w.pds.Store().Repos.View(w.t.Context(), w.alice.DID, func(r storage.Reader) error {
		for pair, err := range r.Keys(w.t.Context(), storage.Range{}) {
			if err != nil {
				return err
			}
			out[pair.Key] = string(pair.Value)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// prepare gives an account something of everything, so that all forms are offered to the browser, and
// returns their tokens, which stay good.
func (b *tab) prepare(a *pdstest.Account) map[string]string {
	b.T.Helper()
	w, who, ctx := b.w, account.Trusted(a.DID), b.T.Context()
	ok := func(err error) {
		b.T.Helper()
		if err != nil {
			b.T.Fatal(err)
		}
	}
	tokens := map[string]string{"email": b.token(at(a, "email"))}
	code, _, err := w.credentials().NewMailToken(ctx, who, credential.ForEmailConfirmation)
	ok(err)
	ok(w.credentials().ConfirmEmail(ctx, who, a.Email, code))
	w.App("atproto repo:com.example.note").Login(a)
	_, _, err = w.credentials().CreateAppPassword(ctx, who, "phone", false)
	ok(err)
	e, err := w.credentials().BeginApp(ctx, who, "test")
	ok(err)
	code, err = credential.AppCode(e.Secret, w.Clock.Now())
	ok(err)
	_, err = w.credentials().ConfirmApp(ctx, who, "phone", code)
	ok(err)
	for name := range forms {
		if name != "email" {
			tokens[name] = b.token(at(a, name))
		}
	}
	return tokens
}

// token is that of a form.
func (b *tab) token(path string) string {
	b.T.Helper()
	b.Get(strings.TrimSuffix(path, "/sign-out"))
	in := b.Last.Fields(path)
	if in == nil {
		b.T.Fatalf("%s: no form for %s: %s", b.Last.Path, path, b.Last.Text)
	}
	return in.Get("token")
}

// 95: nothing is done on the word of another site.
func TestMatrix95ForgedForms(t *testing.T) {
	w := newWorld(t)
	b, other, bob := w.signedIn(w.alice), w.signedIn(w.alice), w.signedIn(w.bob)
	good, ofBob := b.prepare(w.alice), bob.prepare(w.bob)
	before := w.everything()
	for name, in := range forms {
		path := at(w.alice, name)
		in = maps.Clone(in)
		in.Set("token", good[name])
		for attack, x := range map[string]struct {
			change func(url.Values)
			header []string
		}{
			"no token":                 {func(in url.Values) { in.Del("token") }, nil},
			"wrong token":              {func(in url.Values) { in.Set("token", "x") }, nil},
			"token of another browser": {func(in url.Values) { in.Set("token", other.token(at(w.alice, "password"))) }, nil},
			"token of another form": {func(in url.Values) {
				in.Set("token", good[map[bool]string{true: "handle", false: "close"}[name == "close"]])
			}, nil},
			"token of another account":  {func(in url.Values) { in.Set("token", ofBob[name]) }, nil},
			"a flow":                    {func(in url.Values) { in.Set("flow", "x") }, nil},
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
			"a field twice":             {func(in url.Values) { in.Add("token", in.Get("token")) }, nil},
			"too long":                  {func(in url.Values) { in.Set("more", strings.Repeat("x", 64<<10)) }, nil},
		} {
			bad := maps.Clone(in)
			if x.change != nil {
				x.change(bad)
			}
			if p := b.Post(path, bad, x.header...); p.Status < 400 || p.Status >= 500 {
				t.Errorf("%s, %s: %d", name, attack, p.Status)
			}
		}
		if now := w.everything(); !maps.Equal(before, now) {
			t.Errorf("%s: something has changed", name)
		}
	}
}

// What matters is not shown, and not done, with a sign-in that is more than five minutes old: not by
// the form of a page that was open all the time either.
func TestStaleSignIn(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	tokens := b.prepare(w.alice)
	w.Clock.Advance(5*time.Minute + time.Second)
	before := w.everything()
	for _, name := range sensitive {
		if p := b.Get(at(w.alice, name)); p.Title() != "Confirm that it is you" {
			t.Errorf("%s is shown: %d %s", name, p.Status, p.Title())
		}
		in := maps.Clone(forms[name])
		in.Set("token", tokens[name])
		if p := b.Post(at(w.alice, name), in); p.Status != 303 || !strings.HasPrefix(p.Header.Get("Location"), "/oauth/sign-in?return=") {
			t.Errorf("%s is done: %d %s", name, p.Status, p.Header.Get("Location"))
		}
	}
	if now := w.everything(); !maps.Equal(before, now) {
		t.Error("something has changed")
	}
	for _, name := range []string{"", "devices", "apps", "app-passwords", "security", "email", "data"} {
		if p := b.Get(at(w.alice, name)); p.Status != 200 || p.Path != at(w.alice, name) {
			t.Errorf("%s asks for a proof: %d %s", name, p.Status, p.Path)
		}
	}
	// The password alone is no proof for an account with a second factor.
	w, b = newWorldSignedIn(t)
	secret := b.setApp(w.alice)
	w.Clock.Advance(6 * time.Minute)
	b.Get(at(w.alice, "authenticator"))
	b.Submit("/oauth/sign-in", url.Values{"password": {w.alice.Password}})
	b.Expect(200, "Confirm that it is you", "authenticator app")
	if p := b.Copy().Get(at(w.alice, "authenticator")); p.Title() != "Confirm that it is you" {
		t.Errorf("the password alone opens it: %s", p.Title())
	}
	code, _ := credential.AppCode(secret, w.Clock.Now())
	b.Submit("/oauth/factor", url.Values{"code": {code}})
	b.Expect(200, "Authenticator app")
	// Nor is an app password.
	password, _, err := w.credentials().CreateAppPassword(t.Context(), account.Trusted(w.alice.DID), "x", true)
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(6 * time.Minute)
	b.Get(at(w.alice, "password"))
	b.Submit("/oauth/sign-in", url.Values{"password": {password}})
	b.Expect(401, "Confirm that it is you")
}

func newWorldSignedIn(t *testing.T) (*world, *tab) {
	w := newWorld(t)
	return w, w.signedIn(w.alice)
}

// 103: nobody gets at another account, or at what belongs to it, by its DID or by names.
func TestMatrix103OtherAccounts(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.signedIn(w.alice), w.signedIn(w.bob)
	ctx := t.Context()
	app := w.App("atproto repo:com.example.note").Login(w.alice)
	alice.prepare(w.alice)
	tokens := bob.prepare(w.bob)
	session, err := w.credentials().Sessions(ctx, account.Trusted(w.alice.DID))
	if err != nil || len(session) == 0 {
		t.Fatal(err)
	}
	signIns, err := w.pds.Server().Site.SignIns(ctx, account.Trusted(w.alice.DID))
	if err != nil {
		t.Fatal(err)
	}
	before := w.everything()
	for _, name := range []string{
		"", "devices", "apps", "app-passwords", "app-passwords/new", "security", "password", "authenticator", "recovery-codes", "email-codes", "email", "email/change", "handle", "data", "data/repository.car", "close",
	} {
		if p := bob.Get(at(w.alice, name)); p.Path != "/oauth/sign-in" || strings.Contains(p.Text, w.alice.Email) {
			t.Errorf("%s: %s", name, p.Path)
		}
	}
	for name, in := range forms {
		in = maps.Clone(in)
		in.Set("token", tokens[name])
		if p := bob.Post(at(w.alice, name), in); p.Status != 403 {
			t.Errorf("%s: %d", name, p.Status)
		}
	}
	try := func(name string, in url.Values) {
		t.Helper()
		in.Set("token", tokens[name])
		if p := bob.Post(at(w.bob, name), in); p.Status >= 500 {
			t.Errorf("%s: %d", name, p.Status)
		}
	}
	for _, x := range signIns {
		try("devices", url.Values{"action": {"browser"}, "id": {x.ID}})
	}
	for _, id := range []string{session[0].Name, "../account", "", "/", string(w.alice.DID), strings.Repeat("x", 60<<10)} {
		try("devices", url.Values{"action": {"session"}, "id": {id}})
		try("devices", url.Values{"action": {"browser"}, "id": {id}})
	}
	try("apps", url.Values{"client": {"https://app1.example.net/oauth-client-metadata.json"}})
	try("app-passwords", url.Values{"name": {"phone"}})
	if now := w.everything(); !maps.Equal(before, now) {
		t.Error("something of the other account has changed")
	}
	if err := app.Renew(ctx); err != nil {
		t.Error(err)
	}
}

// A browser whose sign-in has ended does nothing more, though its forms are open.
func TestEndedSignIn(t *testing.T) {
	var w *world
	for _, end := range []func(b *tab){
		func(*tab) {
			if _, err := w.credentials().SetPassword(t.Context(), account.Trusted(w.alice.DID), w.alice.Password); err != nil {
				t.Fatal(err)
			}
		},
		func(b *tab) { b.Copy().Submit(at(w.alice, "sign-out"), nil) },
		func(*tab) { w.Clock.Advance(91 * 24 * time.Hour) },
	} {
		var b *tab
		w, b = newWorldSignedIn(t)
		tokens := b.prepare(w.alice)
		b.Get(at(w.alice, ""))
		end(b)
		before := w.everything()
		for name, in := range forms {
			in = maps.Clone(in)
			in.Set("token", tokens[name])
			if p := b.Copy().Post(at(w.alice, name), in); p.Status != 303 && p.Status != 403 || p.Status == 303 && !strings.HasPrefix(p.Header.Get("Location"), "/oauth/sign-in") {
				t.Errorf("%s: %d %s", name, p.Status, p.Header.Get("Location"))
			}
		}
		if now := w.everything(); !maps.Equal(before, now) {
			t.Error("something has changed")
		}
	}
}

// An account that was taken down has no pages; a sign-in for the request of an app opens none.
func TestNoPages(t *testing.T) {
	w := newWorld(t)
	x := w.App("atproto")
	login, err := x.Push(t.Context(), w.pds, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := w.tab()
	b.Get(strings.TrimPrefix(login.URL, b.Origin))
	b.Submit("/oauth/sign-in", url.Values{"identifier": {string(w.alice.Handle)}, "password": {w.alice.Password}, "remember": nil})
	b.Expect(200, "Let this app in?")
	if b.Get(at(w.alice, "")); b.Last.Path != "/oauth/sign-in" {
		t.Errorf("a sign-in for an app opens %s", b.Last.Path)
	}
	if b.Get("/account"); b.Last.Path != "/oauth/sign-in" {
		t.Errorf("a sign-in for an app opens %s", b.Last.Path)
	}
	c := w.signedIn(w.alice)
	if err := w.pds.Server().Accounts.TakeDown(t.Context(), w.alice.DID, account.Takedown{Applied: true, Ref: "x"}); err != nil {
		t.Fatal(err)
	}
	if c.Get(at(w.alice, "devices")); c.Last.Status != 403 && c.Last.Path != "/oauth/sign-in" {
		t.Errorf("%d at %s", c.Last.Status, c.Last.Path)
	}
}

// What is shown once is good for once: codes and forms that are sent again do nothing more.
func TestReplays(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.open(w.alice, "email", url.Values{"action": {"send"}})
	in := b.Last.Fields(at(w.alice, "email"))
	in.Set("action", "confirm")
	in.Set("code", w.code(w.alice, server.ConfirmEmail))
	if p := b.Post(at(w.alice, "email"), in); p.Status != 303 {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	if p := b.Post(at(w.alice, "email"), in); p.Status != 422 {
		t.Errorf("a code is taken twice: %d", p.Status)
	}
	b.open(w.alice, "authenticator", url.Values{"action": {"begin"}})
	_, rest, _ := strings.Cut(b.Last.Text, `<p class="secret"><code>`)
	secret, _, _ := strings.Cut(rest, "<")
	confirm := b.Last.Fields(at(w.alice, "authenticator"))
	code, _ := credential.AppCode(secret, w.Clock.Now())
	confirm.Set("code", code)
	if p := b.Post(at(w.alice, "authenticator"), confirm); p.Status != 200 || p.Title() != "Recovery codes" {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	if p := b.Post(at(w.alice, "authenticator"), confirm); strings.Contains(p.Text, `class="codes"`) {
		t.Error("an enrolment is confirmed twice")
	}
	// The code that has confirmed the app signs nobody in.
	c := w.tab()
	c.signIn(w.alice, "")
	c.Submit("/oauth/factor", url.Values{"code": {code}})
	c.Expect(401, "Confirm that it is you")
	// A link that says that something was done says it in the browser in which it was.
	b.Get(at(w.alice, "security") + "?done=done.password")
	if strings.Contains(b.Last.Text, "Your password is changed") {
		t.Error("a made up note is shown")
	}
}

// Two forms at once, of which one ends the other's sign-in: one is done, or both are, in some order;
// the password is one of the two, and whoever has lost is signed out.
func TestPasswordChangesAtOnce(t *testing.T) {
	w := newWorld(t)
	tabs := []*tab{w.signedIn(w.alice), w.signedIn(w.alice), w.signedIn(w.alice)}
	forms := make([]url.Values, len(tabs))
	for i, b := range tabs { // all of them before any is sent, which may sign out the others
		b.Get(at(w.alice, "password"))
		forms[i] = b.Last.Fields(at(w.alice, "password"))
		text := strings.Repeat(string(rune('a'+i)), 10)
		forms[i].Set("password", text)
		forms[i].Set("again", text)
	}
	var all sync.WaitGroup
	for i, b := range tabs {
		all.Go(func() { b.Post(at(w.alice, "password"), forms[i]) })
	}
	all.Wait()
	n := 0
	for i, b := range tabs {
		_, err := w.alice.Login(strings.Repeat(string(rune('a'+i)), 10))
		in := b.Copy().Get(at(w.alice, "")).Path != "/oauth/sign-in"
		if (err == nil) != in {
			t.Errorf("%d: the password is good: %v, and the browser is signed in: %v", i, err == nil, in)
		}
		if in {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d browsers are signed in", n)
	}
}

// Nothing that strangers or owners write is HTML, or a line of a header.
func TestStrangersWriteNoHTML(t *testing.T) {
	const evil = `"><script>alert(1)</script>`
	w := newWorld(t)
	b := w.tab()
	b.Agent = evil
	b.signIn(w.alice, "")
	ctx := t.Context()
	if _, _, err := w.credentials().CreateAppPassword(ctx, account.Trusted(w.alice.DID), evil, false); err != nil {
		t.Fatal(err)
	}
	if _, err := w.alice.Login(w.alice.Password); err != nil {
		t.Fatal(err)
	}
	tokens := b.prepare(w.alice)
	for name, in := range map[string]url.Values{
		"app-passwords/new": {"name": {evil + strings.Repeat("x", 100)}}, "handle": {"action": {"own-check"}, "own": {evil}}, "email/change": {"action": {"change"}, "email": {evil}},
		"authenticator": {"action": {"confirm"}, "code": {evil}, "name": {evil + strings.Repeat("x", 100)}}, "email": {"action": {"confirm"}, "code": {evil}},
		"close": {"action": {evil}}, "devices": {"action": {evil}, "id": {evil}}, "apps": {"client": {evil}},
	} {
		in = maps.Clone(in)
		in.Set("token", tokens[name])
		b.Post(at(w.alice, name), in)
		if strings.Contains(b.Last.Text, "<script") || b.Last.Status >= 500 {
			t.Errorf("%s: %d %s", name, b.Last.Status, b.Last.Text)
		}
	}
	b.open(w.alice, "handle", url.Values{"action": {"check"}, "label": {evil}, "domain": {evil}})
	for _, name := range []string{"", "devices", "apps", "app-passwords", "security", "email", "handle", "data", "close"} {
		if b.Get(at(w.alice, name) + "?done=" + url.QueryEscape(evil)); strings.Contains(b.Last.Text, "<script") || strings.Contains(b.Last.Text, "alert(1)<") {
			t.Errorf("%s: %s", name, b.Last.Text)
		}
	}
}

// Pages are not framed, fetched or kept, and have no script.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	for _, name := range []string{"", "devices", "app-passwords/new", "password", "data", "data/repository.car"} {
		h := b.Get(at(w.alice, name)).Header
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %q", name, csp)
		}
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", name, h)
		}
		for _, x := range [][]string{{"Sec-Fetch-Dest", "iframe"}, {"Sec-Fetch-Mode", "cors"}, {"Sec-Fetch-Dest", "image"}} {
			if p := b.Copy().Get(at(w.alice, name), x...); p.Status != 400 {
				t.Errorf("%s, %v: %d", name, x, p.Status)
			}
		}
	}
	r := httptest.NewRequest("OPTIONS", b.Origin+at(w.alice, "devices"), nil)
	r.Header.Set("Origin", "https://evil.example.net")
	rec := httptest.NewRecorder()
	b.Server.ServeHTTP(rec, r)
	if rec.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%v", rec.Header())
	}
}

// limits refuses one action.
type limits struct {
	pds.NoRates
	action string
}

func (l limits) Endpoint(_ *http.Request, name, client string) error {
	if name == l.action {
		return &xrpc.Error{Status: 429, Message: "too much"}
	}
	return nil
}

// Every form is bounded, and those that cost more besides.
func TestLimits(t *testing.T) {
	for action, list := range map[string]map[string]url.Values{
		"account": forms,
		"mail":    {"email": {"action": {"send"}}, "close": {"action": {"send"}}, "email/change": {"action": {"send"}}, "email-codes": {"action": {"send"}}},
		"handle":  {"handle": forms["handle"]},
	} {
		w := newWorld(t, func(c *pds.Config) { c.Rates = limits{action: action} })
		b := w.signedIn(w.alice)
		tokens := b.prepare(w.alice)
		for name, in := range list {
			in = maps.Clone(in)
			in.Set("token", tokens[name])
			if p := b.Post(at(w.alice, name), in); p.Status != 429 {
				t.Errorf("%s, %s: %d", action, name, p.Status)
			}
		}
	}
	w := newWorld(t, func(c *pds.Config) { c.Rates = limits{action: "export"} })
	if p := w.signedIn(w.alice).Get(at(w.alice, "data/repository.car")); p.Status != 429 || p.Header.Get("Content-Type") == "application/vnd.ipld.car" {
		t.Errorf("%d %v", p.Status, p.Header)
	}
}

// An account without mail: nothing is offered that needs it.
func TestWithoutMail(t *testing.T) {
	w := newWorld(t, func(c *pds.Config) { c.Mailer = nil })
	b := w.signedIn(w.alice)
	b.Get(at(w.alice, "close"))
	b.Expect(200, "Leave", "This server sends no mail")
	if p := b.Post(at(w.alice, "close"), url.Values{"token": {b.token(at(w.alice, "close"))}, "action": {"send"}}); p.Status != 404 {
		t.Errorf("%d", p.Status)
	}
	b.open(w.alice, "email/change", url.Values{"action": {"change"}, "email": {"new@example.com"}})
	b.Expect(200, "E-mail address", "new@example.com")
}
