package pdstest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// chromium is the browser of all tests whose names begin with TestBrowser.
var chromium browser.Chromium

func TestMain(m *testing.M) { chromium.Main(m) }

// person is somebody with a browser, and a test that looks on.
type person struct {
	*browser.Tab
	t   *testing.T
	net *pdstest.Network
}

// newPerson returns somebody who has a browser in the network.
func newPerson(t *testing.T, net *pdstest.Network, o browser.Options) *person {
	t.Helper()
	o.Dial = net.DialFrom("192.0.2.3")
	return &person{chromium.Tab(t, o), t, net}
}

// begin has an app ask the person, who is at the first page then.
func (p *person) begin(app *pdstest.App, pds *pdstest.PDS, change url.Values) *pdstest.AppLogin {
	p.t.Helper()
	l, err := app.Push(p.t.Context(), pds, change)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Goto(l.URL)
	return l
}

// signIn fills in the page that asks for a name and a password, and sends it.
func (p *person) signIn(a *pdstest.Account, remember bool) {
	p.t.Helper()
	p.Fill("Handle or e-mail address", string(a.Handle))
	p.showPassword(a, remember)
}

// showPassword signs in for a page of an account, which says already who is to sign in.
func (p *person) showPassword(a *pdstest.Account, remember bool) {
	p.t.Helper()
	p.Fill("Password", a.Password)
	p.Check("Keep me signed in on this device", remember)
	p.Submit("Sign in")
}

// finish is what the app does when the person is back in it.
func (p *person) finish(l *pdstest.AppLogin) (*pdstest.AppSession, error) {
	p.t.Helper()
	back, err := url.Parse(p.URL())
	if err != nil {
		p.t.Fatal(err)
	}
	return l.Finish(p.t.Context(), back)
}

// letIn is finish, and must work.
func (p *person) letIn(l *pdstest.AppLogin) *pdstest.AppSession {
	p.t.Helper()
	s, err := p.finish(l)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// loopback makes an app one on the person's device: without a site of its own, and sent back to at a
// port of this machine.
func loopback(t *testing.T, app *pdstest.App) {
	t.Helper()
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "You are back in the app.")
	}))
	t.Cleanup(back.Close)
	app.Redirect = back.URL + "/callback"
	app.ID = "http://localhost/?" + url.Values{"redirect_uri": {"http://127.0.0.1/callback"}, "scope": {app.Scope}}.Encode()
}

// codes gives an account an authenticator app and recovery codes. The function returns a code of the app
// that was not used yet.
func codes(t *testing.T, net *pdstest.Network, pds *pdstest.PDS, a *pdstest.Account) (code func() string, recovery []string) {
	t.Helper()
	who := account.Trusted(a.DID)
	e, err := pds.Server().Credentials.BeginApp(t.Context(), who, pds.Name)
	if err != nil {
		t.Fatal(err)
	}
	code = func() string {
		net.Clock.Advance(time.Minute)
		code, err := credential.AppCode(e.Secret, net.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if _, err := pds.Server().Credentials.ConfirmApp(t.Context(), who, "phone", code()); err != nil {
		t.Fatal(err)
	}
	if recovery, err = pds.Server().Credentials.NewRecoveryCodes(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	return code, recovery
}
