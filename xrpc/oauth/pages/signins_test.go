package pages_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/site"
)

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
