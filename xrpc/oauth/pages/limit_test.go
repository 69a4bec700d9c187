package pages_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/pds"
)

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

// forms bounds how often forms of pages are sent.
type forms func(action string) error

func (f forms) Endpoint(_ *http.Request, name, client string) error {
	switch name {
	case "par", "authorize", "token", "revoke":
		return nil
	}
	return f(name)
}

func (forms) Admit(http.ResponseWriter, *xrpc.Request) error { return nil }

func (forms) Limit(http.ResponseWriter, *xrpc.Request) error { return nil }

func (forms) Writes(*xrpc.Request, int, int, int) error { return nil }

func (forms) Password(*xrpc.Request, string) (func(right bool), error) { return func(bool) {}, nil }

func (forms) Admin(*xrpc.Request, bool) error { return nil }

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
