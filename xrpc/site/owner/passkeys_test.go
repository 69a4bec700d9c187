package owner_test

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/passkey/passkeytest"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/site"
	"github.com/pdskit/pdskit/xrpc/site/sitetest"
)

var (
	passkeyTag = regexp.MustCompile(`<form [^>]*id="passkey"[^>]*>`)
	attribute  = regexp.MustCompile(`([a-z-]+)="([^"]*)"`)
)

// passkeyForm are the attributes and the fields of the form for passkeys of the last page.
func (b *tab) passkeyForm() (attrs map[string]string, in url.Values) {
	b.T.Helper()
	tag := passkeyTag.FindString(b.Last.Text)
	if !strings.Contains(tag, " hidden ") {
		b.T.Fatalf("no form for passkeys that is hidden without scripts: %d %s", b.Last.Status, b.Last.Text)
	}
	attrs = make(map[string]string)
	for _, m := range attribute.FindAllStringSubmatch(tag, -1) {
		attrs[m[1]] = html.UnescapeString(m[2])
	}
	_, rest, _ := strings.Cut(b.Last.Text, tag)
	return attrs, sitetest.Answer{Text: `action="x">` + rest}.Fields("x")
}

// options asks for options as the script of the last page does.
func (b *tab) options(change url.Values, header ...string) sitetest.Answer {
	b.T.Helper()
	shown := b.Last
	attrs, form := b.passkeyForm()
	in := url.Values{"token": {attrs["data-token"]}}
	if form.Has("flow") {
		in.Set("flow", form.Get("flow"))
	}
	for name, v := range change {
		in[name] = v
	}
	out := b.Post(attrs["data-options"], in, append([]string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, header...)...)
	b.Last = shown
	return out
}

// send sends the form for passkeys with an answer, and follows.
func (b *tab) send(answer []byte, change url.Values) sitetest.Answer {
	b.T.Helper()
	attrs, in := b.passkeyForm()
	in.Set("response", string(answer))
	for name, v := range change {
		in[name] = v
	}
	b.Post(attrs["action"], in)
	if to := b.Last.Header.Get("Location"); to != "" {
		b.Get(to)
	}
	return b.Last
}

// add adds a passkey to an account in which somebody has just signed in.
func (b *tab) add(a *pdstest.Account, key *passkeytest.Authenticator, name string) sitetest.Answer {
	b.T.Helper()
	b.Get(at(a, "passkeys"))
	o := b.options(nil)
	if o.Status != 200 {
		b.T.Fatalf("%d %s", o.Status, o.Text)
	}
	return b.send(key.Create([]byte(o.Text)), url.Values{"name": {name}})
}

func (w *world) authenticator() *passkeytest.Authenticator {
	return passkeytest.New(w.t, "https://"+w.pds.Name)
}

// stored are the names of an account's passkeys.
func (w *world) stored(a *pdstest.Account) (names []string) {
	w.t.Helper()
	set, err := w.credentials().Factors(w.t.Context(), account.Trusted(a.DID))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, x := range set.Factors {
		if x.Kind == credential.PasskeyKind {
			names = append(names, x.Name)
		}
	}
	slices.Sort(names)
	return names
}

// id is the ID of the factor of a name.
func (w *world) id(a *pdstest.Account, name string) string {
	w.t.Helper()
	set, err := w.credentials().Factors(w.t.Context(), account.Trusted(a.DID))
	if err != nil {
		w.t.Fatal(err)
	}
	i := slices.IndexFunc(set.Factors, func(x credential.Factor) bool { return x.Name == name })
	if i < 0 {
		w.t.Fatalf("there is no %q in %+v", name, set)
	}
	return set.Factors[i].ID
}

// change sends one of the forms of the list.
func (b *tab) change(a *pdstest.Account, in url.Values) sitetest.Answer {
	b.T.Helper()
	b.Get(at(a, "passkeys"))
	_, form := b.passkeyForm() // all forms of the page have one token
	in.Set("token", form.Get("token"))
	b.Post(at(a, "passkeys"), in)
	if to := b.Last.Header.Get("Location"); to != "" {
		b.Get(to)
	}
	return b.Last
}

// An owner adds passkeys, signs in by them, gives them other names, and removes them; and is told of
// what matters by mail.
func TestPasskeys(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.Get(at(w.alice, "security"))
	b.Expect(200, "Sign-in and security", "Passkeys", "You have none.")
	one, two := w.authenticator(), w.authenticator()
	b.add(w.alice, one, "phone")
	b.Expect(200, "Passkeys", "The passkey is added.", "<h2><bdi>phone</bdi></h2>", "Not used yet.")
	w.told(w.alice.Email, server.FactorChanged, `passkey ("phone")`)
	if o := b.options(nil); !strings.Contains(o.Text, `"excludeCredentials":[{"type":"public-key","id":"`) || !strings.Contains(o.Text, `"userVerification":"required"`) || !strings.Contains(o.Text, `"residentKey":"required"`) {
		t.Error(o.Text)
	}
	b.add(w.alice, one, "again")
	b.Expect(422, "Passkeys", "There is a passkey of your account on this device already.")
	b.add(w.alice, two, "")
	b.Expect(200, "Passkeys", "The passkey is added.", "<h2><bdi>Passkey</bdi></h2>")
	w.told(w.alice.Email, server.FactorChanged, `passkey ("Passkey")`)
	b.change(w.alice, url.Values{"action": {"rename"}, "id": {w.id(w.alice, "Passkey")}, "name": {" key ring "}})
	b.Expect(200, "Passkeys", "It has the new name now.", "<h2><bdi>key ring</bdi></h2>")

	// Another browser, hours later: the passkey alone signs in, and is fresh for changes.
	w.Clock.Advance(3 * time.Hour)
	c := w.tab()
	c.Get(at(w.alice, "passkeys"))
	c.Expect(200, "Sign in")
	c.send(two.Get([]byte(c.options(nil).Text)), url.Values{"remember": {"yes"}})
	c.Expect(200, "Passkeys", "<h2><bdi>key ring</bdi></h2>", "Last used "+w.Clock.Now().UTC().Format("2006-01-02 15:04"))
	c.Get(at(w.alice, "security"))
	c.Expect(200, "Sign-in and security", "key ring", "phone")

	c.change(w.alice, url.Values{"action": {"remove"}, "id": {w.id(w.alice, "phone")}})
	c.Expect(200, "Passkeys", "It is removed.")
	w.told(w.alice.Email, server.FactorChanged, `("phone")`)
	if got := w.stored(w.alice); fmt.Sprint(got) != "[key ring]" {
		t.Errorf("%q", got)
	}
	d := w.tab()
	d.Get(at(w.alice, ""))
	d.send(one.Get([]byte(d.options(nil).Text)), nil)
	d.Expect(401, "Sign in", "This passkey was not accepted.")
	d.send(two.Get([]byte(d.options(nil).Text)), nil)
	d.Expect(200, "Your account")
}

// Whoever finds a browser in which somebody has signed in an hour ago adds and removes nothing.
func TestPasskeysNeedFreshSignIn(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.add(w.alice, w.authenticator(), "phone")
	b.Expect(200, "Passkeys")
	page := b.Last
	o := b.options(nil)
	answer := w.authenticator().Create([]byte(o.Text))
	_, form := b.passkeyForm()
	w.Clock.Advance(5*time.Minute - time.Second)
	b.Get(at(w.alice, "passkeys"))
	b.Expect(200, "Passkeys")
	w.Clock.Advance(2 * time.Second)
	b.Get(at(w.alice, "passkeys"))
	b.Expect(200, "Confirm that it is you")
	b.Last = page
	if o := b.options(nil); o.Status != 401 || !strings.HasPrefix(o.Text, `{"message":`) || o.Header.Get("Location") != "" {
		t.Errorf("%d %s", o.Status, o.Text)
	}
	b.send(answer, url.Values{"name": {"thief"}})
	b.Expect(200, "Confirm that it is you")
	for _, action := range []string{"remove", "rename"} {
		b.Post(at(w.alice, "passkeys"), url.Values{"token": {form.Get("token")}, "action": {action}, "id": {w.id(w.alice, "phone")}, "name": {"thief"}})
		if to := b.Last.Header.Get("Location"); !strings.HasPrefix(to, "/oauth/sign-in?") {
			t.Errorf("%s: %d to %q", action, b.Last.Status, to)
		}
	}
	if got := w.stored(w.alice); fmt.Sprint(got) != "[phone]" {
		t.Errorf("%q", got)
	}
}

// 166, of registrations: what was made for another browser, account, site or purpose adds nothing.
func TestMatrix166Registrations(t *testing.T) {
	said := func(key string, v any) func(*passkeytest.Authenticator) {
		return func(a *passkeytest.Authenticator) { a.Said = func(m map[string]any) { m[key] = v } }
	}
	w := newWorld(t)
	b := w.signedIn(w.alice)
	for name, change := range map[string]func(*passkeytest.Authenticator){
		"a page of another site":  func(a *passkeytest.Authenticator) { a.Origin = "https://evil.example.net" },
		"a page of a handle":      func(a *passkeytest.Authenticator) { a.Origin = "https://alice." + w.pds.Name },
		"another relying party":   func(a *passkeytest.Authenticator) { a.RPID = "evil.example.net" },
		"a user not verified":     func(a *passkeytest.Authenticator) { a.Flags = passkeytest.Present },
		"a user not there":        func(a *passkeytest.Authenticator) { a.Flags = passkeytest.Verified },
		"a sign-in":               said("type", "webauthn.get"),
		"a frame":                 said("crossOrigin", true),
		"a challenge of its own":  said("challenge", strings.Repeat("A", 43)),
		"no ID":                   func(a *passkeytest.Authenticator) { a.ID = nil },
		"an ID that is too long":  func(a *passkeytest.Authenticator) { a.ID = make([]byte, 2000) },
		"backed up, not eligible": func(a *passkeytest.Authenticator) { a.Flags |= passkeytest.BackedUp },
	} {
		a := w.authenticator()
		change(a)
		b.add(w.alice, a, name)
		if b.Last.Status != 422 || len(w.stored(w.alice)) != 0 {
			t.Fatalf("%s: %d %v %s", name, b.Last.Status, w.stored(w.alice), b.Last.Text)
		}
	}
	late := func(what string) {
		t.Helper()
		if b.Last.Status != 422 || !strings.Contains(b.Last.Text, "This took too long") || len(w.stored(w.alice)) != 0 || len(w.stored(w.bob)) != 0 {
			t.Errorf("%s: %d %s", what, b.Last.Status, b.Last.Text)
		}
	}
	key := w.authenticator()
	other := w.signedIn(w.alice)
	other.Get(at(w.alice, "passkeys"))
	b.Get(at(w.alice, "passkeys"))
	b.send(key.Create([]byte(other.options(nil).Text)), nil)
	late("a challenge of another browser")

	// Both accounts in one browser.
	b.signIn(w.bob, "passkeys")
	b.Expect(200, "Passkeys")
	bobs := b.options(nil).Text
	b.Get(at(w.alice, "passkeys"))
	b.send(key.Create([]byte(bobs)), nil)
	late("a challenge of another account")

	b.Get("/oauth/sign-in")
	login := key.Get([]byte(b.options(nil).Text))
	b.Get(at(w.alice, "passkeys"))
	b.send(login, nil)
	if b.Last.Status != 422 || len(w.stored(w.alice)) != 0 {
		t.Errorf("an answer of a sign-in: %d", b.Last.Status)
	}

	b.Get(at(w.alice, "passkeys"))
	answer := key.Create([]byte(b.options(nil).Text))
	w.Clock.Advance(5 * time.Minute)
	b.Get("/oauth/sign-in?return=" + url.QueryEscape(at(w.alice, "passkeys")))
	b.Submit("/oauth/sign-in", url.Values{"identifier": {string(w.alice.Handle)}, "password": {w.alice.Password}, "remember": {"yes"}})
	b.Expect(200, "Passkeys")
	b.send(answer, nil)
	late("an old challenge")

	// A password that is changed meanwhile: whoever has asked for the challenge may be somebody else.
	b.Get(at(w.alice, "passkeys"))
	answer = key.Create([]byte(b.options(nil).Text))
	page := b.Last
	if err := w.credentials().EndSessions(t.Context(), account.Trusted(w.alice.DID)); err != nil {
		t.Fatal(err)
	}
	b.Last = page
	b.send(answer, nil)
	if len(w.stored(w.alice)) != 0 {
		t.Error("a passkey was added after all sessions were ended")
	}

	// An answer is good for once, and a key cannot be one of two accounts.
	c := w.signedIn(w.alice)
	c.Get(at(w.alice, "passkeys"))
	answer = key.Create([]byte(c.options(nil).Text))
	page = c.Last
	c.send(answer, url.Values{"name": {"once"}})
	c.Expect(200, "Passkeys", "The passkey is added.")
	c.Last = page
	c.send(answer, url.Values{"name": {"twice"}})
	if c.Last.Status != 422 || fmt.Sprint(w.stored(w.alice)) != "[once]" {
		t.Errorf("an answer twice: %d %v", c.Last.Status, w.stored(w.alice))
	}
}

// Other sites, other accounts and other factors.
func TestPasskeyChangesOfOthers(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.setApp(w.alice)
	b.add(w.alice, w.authenticator(), "phone")
	b.Expect(200, "Passkeys")
	set, err := w.credentials().Factors(t.Context(), account.Trusted(w.alice.DID))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range set.Factors {
		if x.Kind == credential.PasskeyKind {
			continue
		}
		for _, action := range []string{"remove", "rename"} {
			b.change(w.alice, url.Values{"action": {action}, "id": {x.ID}, "name": {"thief"}})
		}
	}
	after, err := w.credentials().Factors(t.Context(), account.Trusted(w.alice.DID))
	if err != nil || fmt.Sprint(after) != fmt.Sprint(set) {
		t.Errorf("%+v, was %+v", after, set)
	}
	// Bob, with Alice's ID, and at Alice's address.
	thief := w.signedIn(w.bob)
	thief.change(w.bob, url.Values{"action": {"remove"}, "id": {w.id(w.alice, "phone")}})
	_, form := thief.passkeyForm()
	thief.Post(at(w.alice, "passkeys"), url.Values{"token": {form.Get("token")}, "action": {"remove"}, "id": {w.id(w.alice, "phone")}})
	if thief.Last.Status != 403 {
		t.Errorf("at another account: %d", thief.Last.Status)
	}
	for name, x := range map[string]struct {
		header []string
		status int
	}{
		"another origin": {[]string{"Origin", "https://evil.example.net"}, 403}, "cross-site": {[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		"a navigation": {[]string{"Sec-Fetch-Mode", "navigate"}, 400}, "a frame": {[]string{"Sec-Fetch-Dest", "iframe"}, 400},
	} {
		b.Get(at(w.alice, "passkeys"))
		if o := b.options(nil, x.header...); o.Status != x.status || strings.Contains(o.Text, "challenge") {
			t.Errorf("options by %s: %d %s", name, o.Status, o.Text)
		}
		_, form := b.passkeyForm()
		if name == "a navigation" {
			continue // as forms are sent
		}
		c := &tab{b.Copy(), w}
		c.Post(at(w.alice, "passkeys"), url.Values{"token": {form.Get("token")}, "action": {"remove"}, "id": {w.id(w.alice, "phone")}}, x.header...)
		if c.Last.Status < 400 {
			t.Errorf("removed by %s: %d", name, c.Last.Status)
		}
	}
	b.change(w.alice, url.Values{"id": {w.id(w.alice, "phone")}})
	if b.Last.Status != 400 {
		t.Errorf("no action: %d", b.Last.Status)
	}
	if got := w.stored(w.alice); fmt.Sprint(got) != "[phone]" {
		t.Errorf("%q", got)
	}
}

// Names are what people type, or somebody who wants to write into the page.
func TestPasskeyNames(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	const evil = `"><script>alert(1)</script>{{.}}`
	b.add(w.alice, w.authenticator(), evil)
	b.Expect(200, "Passkeys")
	if n := strings.Count(b.Last.Text, "<script"); n != 1 || !strings.Contains(b.Last.Text, "&lt;script&gt;") {
		t.Errorf("%d scripts in %s", n, b.Last.Text)
	}
	b.Get(at(w.alice, "security"))
	if strings.Contains(b.Last.Text, "<script") || strings.Contains(b.Last.Header.Get("Content-Security-Policy"), "script-src") {
		t.Error(b.Last.Text)
	}
	for _, name := range []string{strings.Repeat("x", 65), "a\x00b", "a\nb"} {
		b.add(w.alice, w.authenticator(), name)
		added := b.Last.Status
		b.change(w.alice, url.Values{"action": {"rename"}, "id": {w.id(w.alice, evil)}, "name": {name}})
		if added != 422 || b.Last.Status != 422 || len(w.stored(w.alice)) != 1 || w.stored(w.alice)[0] != evil {
			t.Errorf("%q: %d %d %q", name, added, b.Last.Status, w.stored(w.alice))
		}
		if b.Last.Status == 422 && !strings.Contains(b.Last.Text, "Enter a name of at most 64 characters.") {
			t.Error(b.Last.Text)
		}
	}
}

// There are at most twenty.
func TestTooManyPasskeys(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.Get(at(w.alice, "passkeys"))
	page := b.Last
	last := w.authenticator().Create([]byte(b.options(nil).Text))
	for i := range credential.MaxPasskeys {
		b.add(w.alice, w.authenticator(), fmt.Sprint("key ", i))
		b.Expect(200, "Passkeys", "The passkey is added.")
	}
	if passkeyTag.MatchString(b.Last.Text) || strings.Contains(b.Last.Text, "<script") || !strings.Contains(b.Last.Text, "Remove one first.") {
		t.Error(b.Last.Text)
	}
	b.Last = page
	if o := b.options(nil); o.Status != 409 || !strings.Contains(o.Text, "Remove one first.") {
		t.Errorf("%d %s", o.Status, o.Text)
	}
	b.send(last, nil)
	if b.Last.Status != 409 || len(w.stored(w.alice)) != credential.MaxPasskeys {
		t.Errorf("%d, %d passkeys", b.Last.Status, len(w.stored(w.alice)))
	}
}

// The page in all languages, with and without problems.
func TestPasskeyPageIsAccessible(t *testing.T) {
	w := newWorld(t)
	for _, lang := range []string{"en", "de", "fr", "es", "ja", "pt"} {
		b := w.signedIn(w.alice)
		b.Language = lang
		for _, show := range []func(){
			func() { b.Get(at(w.alice, "passkeys")) },
			func() { b.add(w.alice, w.authenticator(), "phone "+lang) },
			func() { b.add(w.alice, w.authenticator(), strings.Repeat("x", 65)) },
			func() {
				b.change(w.alice, url.Values{"action": {"rename"}, "id": {w.id(w.alice, "phone "+lang)}, "name": {"\x00"}})
			},
			func() { b.send([]byte("{"), nil) },
		} {
			show()
			if !strings.Contains(b.Last.Text, site.PasskeyScript()) {
				t.Fatalf("%d %s", b.Last.Status, b.Last.Text)
			}
			sitetest.Accessible(t, "passkeys", lang, b.Last.Text)
		}
	}
}

// The host's limits are asked for challenges.
func TestPasskeyLimit(t *testing.T) {
	var asked []string
	w := newWorld(t, func(c *pds.Config) { c.Rates = actions{list: &asked} })
	b := w.signedIn(w.alice)
	asked = nil
	b.add(w.alice, w.authenticator(), "phone")
	if fmt.Sprint(asked) != "[account passkey account]" {
		t.Errorf("%q", asked)
	}
}
