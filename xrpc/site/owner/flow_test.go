package owner_test

import (
	"bytes"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// Nobody is signed in: the pages lead to the sign-in, and from there to where somebody wanted to go.
func TestSignInLeadsBack(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	b.Get("/account")
	if b.Last.Path != "/oauth/sign-in" {
		t.Fatalf("at %s", b.Last.Path)
	}
	b.signIn(w.alice, "devices")
	b.Expect(200, "Devices and sessions", "Firefox · Linux", "192.0.2.7")
	b.Get("/account/")
	b.Expect(200, "Your account", "@"+string(w.alice.Handle), string(w.alice.DID))
	b.Get("/.well-known/change-password")
	b.Expect(200, "Change the password")
	b.Get("/account/" + string(w.alice.DID) + "/nothing")
	if b.Last.Status != 404 {
		t.Errorf("%d", b.Last.Status)
	}
	b.Get("/account/alice/devices")
	if b.Last.Status != 404 {
		t.Errorf("a page of no DID: %d", b.Last.Status)
	}
	// A second account: now there is a choice.
	b.signIn(w.bob, "")
	b.Get("/account")
	b.Expect(200, "Choose an account", "@"+string(w.alice.Handle), "@"+string(w.bob.Handle))
	b.Get("/account/-/email")
	b.Expect(200, "Choose an account")
	b.Get(at(w.bob, ""))
	b.Submit(at(w.bob, "sign-out"), nil)
	b.Expect(200, "Your account", "@"+string(w.alice.Handle))
	b.Get(at(w.bob, ""))
	if b.Last.Path != "/oauth/sign-in" {
		t.Errorf("at %s", b.Last.Path)
	}
	// Passwords of apps open nothing.
	password, _, err := w.credentials().CreateAppPassword(t.Context(), account.Trusted(w.bob.DID), "phone", true)
	if err != nil {
		t.Fatal(err)
	}
	b.Submit("/oauth/sign-in", url.Values{"identifier": {string(w.bob.Handle)}, "password": {password}})
	b.Expect(401, "Sign in")
}

func TestDevices(t *testing.T) {
	w := newWorld(t)
	here, other := w.signedIn(w.alice), w.signedIn(w.alice)
	session, err := w.alice.Login(w.alice.Password)
	if err != nil {
		t.Fatal(err)
	}
	app := w.App("atproto repo:com.example.note").Login(w.alice)
	good := func() (list [3]bool) {
		_, err := api.ServerGetSession(t.Context(), session)
		list[0] = err == nil
		list[1] = other.Copy().Get(at(w.alice, "")).Path != "/oauth/sign-in"
		list[2] = app.Renew(t.Context()) == nil
		return list
	}
	here.Get(at(w.alice, "devices"))
	here.Expect(200, "Devices and sessions", "this one", "With your password")
	sessions, err := w.credentials().Sessions(t.Context(), account.Trusted(w.alice.DID))
	if err != nil || len(sessions) == 0 {
		t.Fatal(sessions, err)
	}
	for _, x := range sessions {
		here.Submit(at(w.alice, "devices"), url.Values{"action": {"session"}, "id": {x.Name}})
	}
	here.Expect(200, "Devices and sessions", "It is signed out.", "There are none.")
	if got := good(); got != [3]bool{false, true, true} {
		t.Errorf("after the session was ended: %v", got)
	}
	if session, err = w.alice.Login(w.alice.Password); err != nil {
		t.Fatal(err)
	}
	here.Submit(at(w.alice, "devices"), url.Values{"action": {"others"}})
	here.Expect(200, "Devices and sessions", "All other devices are signed out.")
	if got := good(); got != [3]bool{false, false, true} {
		t.Errorf("after all others were ended: %v", got)
	}
	other = w.signedIn(w.alice)
	ids := regexp.MustCompile(`name="action" value="browser"><input type="hidden" name="id" value="([^"]*)"`).FindAllStringSubmatch(here.Get(at(w.alice, "devices")).Text, -1)
	if len(ids) != 3 { // the one in which the app was allowed, too
		t.Logf("%d browsers", len(ids))
	}
	here.Submit(at(w.alice, "devices"), url.Values{"action": {"everywhere"}})
	if here.Last.Path != "/oauth/sign-in" {
		t.Errorf("still signed in here: %s", here.Last.Path)
	}
	if got := good(); got != [3]bool{} {
		t.Errorf("after all were ended: %v", got)
	}
}

// Whoever hears the buttons and does not see what stands beside them can tell them apart.
func TestButtonsOfDevicesDiffer(t *testing.T) {
	w := newWorld(t)
	w.signedIn(w.alice)
	w.Clock.Advance(time.Minute)
	if _, err := w.alice.Login(w.alice.Password); err != nil {
		t.Fatal(err)
	}
	b := w.signedIn(w.alice)
	b.Get(at(w.alice, "devices"))
	labels := regexp.MustCompile(`<button aria-label="([^"]*)">Sign out<`).FindAllStringSubmatch(b.Last.Text, -1)
	seen := make(map[string]bool)
	for _, l := range labels {
		if seen[l[1]] || !strings.HasPrefix(l[1], "Sign out: ") || !strings.Contains(l[1], ", signed in since ") {
			t.Errorf("%q", l[1])
		}
		seen[l[1]] = true
	}
	if len(labels) < 4 || strings.Count(b.Last.Text, ">Sign out<") != len(labels) {
		t.Errorf("%q", labels)
	}
}

// The address of a page names the account: who is asked to sign in need not.
func TestSignInNamesTheAccount(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{at(w.alice, ""), at(w.alice, "devices"), strings.Replace(at(w.alice, "devices"), ":", "%3A", -1)} {
		b := w.tab()
		b.Get(path)
		if b.Last.Path != "/oauth/sign-in" || b.Last.Fields("/oauth/sign-in").Get("identifier") != string(w.alice.Handle) {
			t.Errorf("%s: at %s: %v", path, b.Last.Path, b.Last.Fields("/oauth/sign-in"))
		}
	}
}

func TestEndOneBrowser(t *testing.T) {
	w := newWorld(t)
	here, other := w.signedIn(w.alice), w.signedIn(w.alice)
	here.Get(at(w.alice, "devices"))
	ids := regexp.MustCompile(`name="id" value="([^"]*)"`).FindAllStringSubmatch(here.Last.Text, -1)
	if len(ids) < 2 {
		t.Fatal(here.Last.Text)
	}
	here.Submit(at(w.alice, "devices"), url.Values{"action": {"browser"}, "id": {ids[1][1]}})
	here.Expect(200, "Devices and sessions", "It is signed out.")
	if other.Get(at(w.alice, "")); other.Last.Path != "/oauth/sign-in" {
		t.Errorf("at %s", other.Last.Path)
	}
	here.Submit(at(w.alice, "devices"), url.Values{"action": {"browser"}, "id": {ids[0][1]}})
	if here.Last.Path != "/oauth/sign-in" {
		t.Errorf("at %s", here.Last.Path)
	}
}

func TestConnectedApps(t *testing.T) {
	w := newWorld(t)
	x := w.App("atproto repo:com.example.note?action=create identity:handle")
	app := x.Login(w.alice)
	b := w.signedIn(w.alice)
	b.Get(at(w.alice, "apps"))
	b.Expect(200, "Connected apps", "app1.example.net", "Change your public data of these kinds (only: add): com.example.note", "Know who you are")
	b.Submit(at(w.alice, "apps"), nil)
	b.Expect(200, "Connected apps", "The app has no access any more.", "No app is connected.")
	if app.Renew(t.Context()) == nil {
		t.Error("the app goes on")
	}
}

func TestAppPasswords(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.open(w.alice, "app-passwords/new", url.Values{"name": {"phone"}, "privileged": {"yes"}})
	b.Expect(200, "Make an app password", "The app password “phone” is:")
	password := regexp.MustCompile(`[a-z2-7]{4}(?:-[a-z2-7]{4}){3}`).FindString(b.Last.Text)
	if _, err := w.alice.Login(password); err != nil {
		t.Fatal(err)
	}
	w.told(w.alice.Email, server.AppPasswordMade, `"phone"`)
	b.open(w.alice, "app-passwords/new", url.Values{"name": {"phone"}})
	b.Expect(422, "Make an app password", "You have an app password of this name.")
	b.Submit(at(w.alice, "app-passwords/new"), url.Values{"name": {" "}})
	b.Expect(422, "Make an app password")
	b.Get(at(w.alice, "app-passwords"))
	b.Expect(200, "App passwords", "phone", "direct messages")
	if strings.Contains(b.Last.Text, password) {
		t.Error("the password is shown again")
	}
	b.Submit(at(w.alice, "app-passwords"), nil)
	b.Expect(200, "App passwords", "The app password is revoked.", "You have no app passwords.")
	if _, err := w.alice.Login(password); err == nil {
		t.Error("it is still good")
	}
}

func TestChangePassword(t *testing.T) {
	for _, end := range []bool{true, false} {
		w := newWorld(t)
		b, other := w.signedIn(w.alice), w.signedIn(w.alice)
		app := w.App("atproto repo:com.example.note").Login(w.alice)
		password, _, err := w.credentials().CreateAppPassword(t.Context(), account.Trusted(w.alice.DID), "phone", false)
		if err != nil {
			t.Fatal(err)
		}
		b.open(w.alice, "password", url.Values{"password": {"short"}, "again": {"short"}})
		b.Expect(422, "Change the password", "at least 8 characters")
		b.Submit(at(w.alice, "password"), url.Values{"password": {"another password"}, "again": {"an other password"}})
		b.Expect(422, "Change the password", "The two passwords are not the same.")
		in := url.Values{"password": {"another password"}, "again": {"another password"}}
		if !end {
			in["apps"] = nil
		}
		b.Submit(at(w.alice, "password"), in)
		b.Expect(200, "Sign-in and security", "Your password is changed.")
		w.told(w.alice.Email, server.PasswordChanged, "password was changed")
		if other.Get(at(w.alice, "")); other.Last.Path != "/oauth/sign-in" {
			t.Error("another browser is still signed in")
		}
		if _, err := w.alice.Login(w.alice.Password); err == nil {
			t.Error("the old password is good")
		}
		if _, err := w.alice.Login("another password"); err != nil {
			t.Error(err)
		}
		if _, err := w.alice.Login(password); (err == nil) == end {
			t.Errorf("end apps %v: the app password: %v", end, err)
		}
		if err := app.Renew(t.Context()); (err == nil) == end {
			t.Errorf("end apps %v: the app: %v", end, err)
		}
	}
}

func TestAuthenticator(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.Get(at(w.alice, "recovery-codes"))
	b.Expect(200, "Recovery codes", "Add an authenticator app or codes by e-mail first.")
	b.open(w.alice, "authenticator", url.Values{"action": {"begin"}})
	b.Expect(200, "Authenticator app", "Scan this code", "<svg ")
	b.Submit(at(w.alice, "authenticator"), url.Values{"code": {"000000"}})
	b.Expect(422, "Authenticator app", "The code is wrong.")
	secret := b.setApp(w.alice)
	b.Expect(200, "Recovery codes", "The authenticator app is added.")
	codes := regexp.MustCompile(`<li><code>([^<]*)</code>`).FindAllStringSubmatch(b.Last.Text, -1)
	if len(codes) < 8 {
		t.Fatalf("%d codes", len(codes))
	}
	w.told(w.alice.Email, server.FactorChanged, "authenticator app")
	b.Get(at(w.alice, "security"))
	b.Expect(200, "Sign-in and security", "“phone”", "codes are left")
	// The password alone signs nobody in now; a recovery code does, for once.
	c := w.tab()
	c.signIn(w.alice, "")
	c.Expect(200, "Confirm that it is you")
	c.Submit("/oauth/factor", url.Values{"code": {codes[0][1]}})
	c.Expect(200, "Your account")
	// New codes void the earlier ones.
	b.open(w.alice, "recovery-codes", nil)
	b.Expect(200, "Recovery codes", "These are your recovery codes.")
	c = w.tab()
	c.signIn(w.alice, "")
	c.Submit("/oauth/factor", url.Values{"code": {codes[1][1]}})
	c.Expect(401, "Confirm that it is you")
	w.Clock.Advance(time.Minute)
	code, _ := credential.AppCode(secret, w.Clock.Now())
	c.Submit("/oauth/factor", url.Values{"code": {code}})
	c.Expect(200, "Your account")
	b.open(w.alice, "authenticator", url.Values{"action": {"remove"}})
	b.Expect(200, "Sign-in and security", "It is removed.")
	w.signedIn(w.alice)
}

func TestLateEnrolment(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.open(w.alice, "authenticator", url.Values{"action": {"confirm"}, "code": {"123456"}})
	b.Expect(200, "Authenticator app", "This took too long. Start again.")
}

func TestEmail(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.Get(at(w.alice, "email-codes"))
	b.Expect(200, "Codes by e-mail", "Confirm your e-mail address first.")
	b.open(w.alice, "email", url.Values{"action": {"send"}})
	b.Expect(200, "E-mail address", "A code is on its way to "+w.alice.Email)
	b.Submit(at(w.alice, "email"), url.Values{"action": {"confirm"}, "code": {"AAAAA-AAAAA"}})
	b.Expect(422, "E-mail address", "The code is wrong")
	b.Submit(at(w.alice, "email"), url.Values{"action": {"confirm"}, "code": {w.code(w.alice, server.ConfirmEmail)}})
	b.Expect(200, "E-mail address", "Your e-mail address is confirmed.")
	// Codes by mail as a second factor, and no longer.
	b.open(w.alice, "email-codes", url.Values{"action": {"on"}})
	b.Expect(200, "Recovery codes", "Codes are sent by e-mail from now on.")
	b.open(w.alice, "email-codes", url.Values{"action": {"off"}, "code": {""}})
	b.Expect(422, "Codes by e-mail", "Enter the code from the e-mail.")
	b.Submit(at(w.alice, "email-codes"), url.Values{"action": {"send"}})
	b.Submit(at(w.alice, "email-codes"), url.Values{"action": {"off"}, "code": {w.code(w.alice, server.UpdateEmail)}})
	b.Expect(200, "Sign-in and security", "It is removed.")
	// Another address, by a code that goes to the one before.
	b.Get(at(w.alice, "email/change"))
	b.Submit(at(w.alice, "email/change"), url.Values{"action": {"send"}})
	code := w.code(w.alice, server.UpdateEmail)
	change := url.Values{"action": {"change"}, "email": {"new@example.com"}, "code": {""}}
	b.Submit(at(w.alice, "email/change"), change)
	b.Expect(422, "Change the e-mail address", "Enter the code from the e-mail.")
	change.Set("code", code)
	change.Set("email", w.bob.Email)
	b.Submit(at(w.alice, "email/change"), change)
	b.Expect(422, "Change the e-mail address", "There is an account with this e-mail address already.")
	change.Set("email", "nonsense")
	b.Submit(at(w.alice, "email/change"), change)
	b.Expect(422, "Change the e-mail address", "Enter an e-mail address")
	change.Set("email", "new@example.com")
	b.Submit(at(w.alice, "email/change"), change)
	b.Expect(200, "E-mail address", "Your e-mail address is changed.", "not confirmed")
	w.told(w.alice.Email, server.EmailChanged, "new@example.com")
}

func TestHandle(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.open(w.alice, "handle", url.Values{"action": {"check"}, "label": {"bob"}})
	b.Expect(422, "Handle", "is not available")
	b.Submit(at(w.alice, "handle"), url.Values{"action": {"check"}, "label": {"carol"}})
	b.Expect(200, "Handle", "is free.")
	for _, bad := range []string{"", "x", "a.b", "admin", "-carol"} {
		b.Submit(at(w.alice, "handle"), url.Values{"action": {"change"}, "label": {bad}})
		if b.Last.Status != 422 {
			t.Errorf("%q: %d", bad, b.Last.Status)
		}
	}
	b.Submit(at(w.alice, "handle"), url.Values{"action": {"change"}, "label": {"carol"}})
	b.Expect(200, "Handle", "Your handle is changed.", "Your handle is @carol")
	// A domain of her own.
	b.Submit(at(w.alice, "handle"), url.Values{"action": {"own-check"}, "own": {"carol.example.org"}})
	b.Expect(422, "Handle", "does not point at your account yet", "Nothing was found.", "_atproto.carol.example.org")
	b.Submit(at(w.alice, "handle"), url.Values{"action": {"own"}, "own": {"carol.example.org"}})
	b.Expect(422, "Handle", "does not point at your account yet")
	w.TXT("_atproto.carol.example.org", "did="+string(w.bob.DID))
	b.Submit(at(w.alice, "handle"), url.Values{"action": {"own-check"}, "own": {"carol.example.org"}})
	b.Expect(422, "Handle", "points at another account: "+string(w.bob.DID))
	w.Handle("alice.example.org", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte(w.alice.DID)) }))
	b.Submit(at(w.alice, "handle"), url.Values{"action": {"own-check"}, "own": {"@Alice.example.org"}})
	b.Expect(200, "Handle", "We see that alice.example.org points at your account.")
	b.Submit(at(w.alice, "handle"), url.Values{"action": {"own"}, "own": {"alice.example.org"}})
	b.Expect(200, "Handle", "Your handle is @alice.example.org")
	if a, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err != nil || a.Handle != "alice.example.org" {
		t.Errorf("%+v %v", a, err)
	}
}

func TestData(t *testing.T) {
	w := newWorld(t)
	w.alice.Create("com.example.note", map[string]any{"text": "x"})
	b := w.signedIn(w.alice)
	b.Get(at(w.alice, "data"))
	b.Expect(200, "Your data", "Your account lives on this server", "All files that your records mention are here.")
	b.Get(at(w.alice, "data/repository.car"))
	if b.Last.Status != 200 || b.Last.Header.Get("Content-Type") != "application/vnd.ipld.car" || !strings.Contains(b.Last.Header.Get("Content-Disposition"), `attachment; filename="alice.`) {
		t.Fatalf("%d %v", b.Last.Status, b.Last.Header)
	}
	if _, err := car.NewReader(bytes.NewReader([]byte(b.Last.Text)), car.Limits{}); err != nil {
		t.Error(err)
	}
	if c := w.tab(); c.Get(at(w.alice, "data/repository.car")).Path != "/oauth/sign-in" {
		t.Error("anybody gets it here")
	}
}

// An account whose identity names another server is told so.
func TestMovedAway(t *testing.T) {
	var keys []crypto.Signer
	w := newWorld(t, func(c *pds.Config) { keys = c.Secrets.RotationKeys })
	b := w.signedIn(w.alice)
	_, err := identity.Rotate(t.Context(), w.PLC(), w.alice.DID, func(op *identity.PLCOperation) error {
		op.Services[identity.PDSID] = identity.PLCService{Type: identity.PDSType, Endpoint: "https://other.example.net"}
		return nil
	}, keys...)
	if err != nil {
		t.Fatal(err)
	}
	b.Get(at(w.alice, "data"))
	b.Expect(200, "Your data", "Your identity names another server: https://other.example.net.", "service endpoint does not match")
	if err := w.pds.Server().Accounts.Deactivate(t.Context(), account.Trusted(w.alice.DID), time.Time{}); err != nil {
		t.Fatal(err)
	}
	b.signIn(w.alice, "close")
	b.Submit(at(w.alice, "close"), url.Values{"action": {"activate"}})
	if b.Last.Status != 400 || b.Last.Title() != "This did not work" {
		t.Errorf("it is active here: %d %s", b.Last.Status, b.Last.Text)
	}
}

func TestLeave(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	app := w.App("atproto repo:com.example.note").Login(w.alice)
	b.open(w.alice, "close", url.Values{"action": {"deactivate"}})
	b.Expect(200, "Leave", "Your account is deactivated.", "Activate the account")
	if app.Renew(t.Context()) == nil {
		t.Error("the app goes on")
	}
	b.Get(at(w.alice, "data/repository.car"))
	if b.Last.Status != 200 {
		t.Errorf("the data of a deactivated account: %d", b.Last.Status)
	}
	b.open(w.alice, "close", url.Values{"action": {"activate"}})
	b.Expect(200, "Leave", "Your account is active.")
	b.Submit(at(w.alice, "close"), url.Values{"action": {"send"}})
	b.Expect(200, "Leave", "A code is on its way")
	code := w.code(w.alice, server.DeleteAccount)
	b.Submit(at(w.alice, "close"), url.Values{"action": {"delete"}, "code": {code}, "sure": nil})
	b.Expect(422, "Leave", "Tick the box")
	b.Submit(at(w.alice, "close"), url.Values{"action": {"delete"}, "code": {"AAAAA-AAAAA"}, "sure": {"yes"}})
	b.Expect(422, "Leave", "The code is wrong")
	b.Submit(at(w.alice, "close"), url.Values{"action": {"delete"}, "code": {code}, "sure": {"yes"}})
	b.Expect(200, "Your account is deleted")
	if _, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err == nil {
		t.Error("it is still there")
	}
	if b.Get("/account"); b.Last.Path != "/oauth/sign-in" {
		t.Errorf("at %s", b.Last.Path)
	}
}
