package session_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/pdskit/pdskit/internal/testpds"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/session"
)

// guesses counts them, and has enough at some point.
type guesses struct {
	tries  []string
	rights int
	admins int
	fail   error
}

func (g *guesses) Password(_ *xrpc.Request, account string) (func(bool), error) {
	g.tries = append(g.tries, account)
	return func(right bool) {
		if right {
			g.rights++
		}
	}, g.fail
}

func (g *guesses) Admin(_ *xrpc.Request, right bool) error {
	if !right {
		g.admins++
	}
	return g.fail
}

func TestGuessesAreCounted(t *testing.T) {
	g := &guesses{}
	b := testpds.New(t, func(c *session.Config) { c.Guesses = g })
	alice := b.Register("alice")
	b.Login("alice.test", "wrong")
	b.Login("alice@example.com", "password of alice")
	b.Login("Nobody.test ", "wrong")
	b.Send("POST", "com.atproto.server.deleteAccount", "", map[string]any{"did": alice.DID, "password": "wrong", "token": "x"}, nil)
	did := string(alice.DID)
	if got, want := fmt.Sprint(g.tries), fmt.Sprint([]string{did, did, "unknown nobody.test", did}); got != want || g.rights != 1 {
		t.Errorf("%s, %d right", got, g.rights)
	}
	b.Send("GET", "com.atproto.admin.getInviteCodes", testpds.Admin("wrong"), nil, nil)
	b.Send("GET", "com.atproto.admin.getInviteCodes", testpds.Admin("hunter2"), nil, nil)
	b.Send("GET", "com.atproto.admin.getInviteCodes", "", nil, nil)
	if g.admins != 1 {
		t.Errorf("%d guesses of the administrator's password", g.admins)
	}
	g.fail = &xrpc.Error{Status: http.StatusTooManyRequests, Name: "Enough"}
	if _, a := b.Login("alice.test", "password of alice"); a.Name != "Enough" {
		t.Errorf("too many guesses: %d %s", a.Status, a.Body)
	}
	if a := b.Send("GET", "com.atproto.admin.getInviteCodes", testpds.Admin("hunter2"), nil, nil); a.Name != "Enough" {
		t.Errorf("too many guesses of the administrator's: %d %s", a.Status, a.Body)
	}
}

// Without a password, nobody is administrator: not even who gives none.
func TestNoAdministrator(t *testing.T) {
	b := testpds.New(t, func(c *session.Config) { c.AdminPassword = "" })
	for _, password := range []string{"", "hunter2"} {
		if a := b.Send("GET", "com.atproto.admin.getInviteCodes", testpds.Admin(password), nil, nil); a.Status != http.StatusUnauthorized {
			t.Errorf("%q: %d %s", password, a.Status, a.Body)
		}
	}
}

// A host that says nothing of guesses has bounds.
func TestGuessesAreBounded(t *testing.T) {
	for _, limited := range []bool{true, false} {
		b := testpds.New(t, func(c *session.Config) {
			if !limited {
				c.Guesses = session.Unlimited{}
			}
		})
		b.Register("alice")
		for range 30 {
			if _, a := b.Login("alice.test", "wrong"); a.Status != http.StatusUnauthorized {
				t.Fatal(a.Body)
			}
		}
		if _, a := b.Login("alice.test", "wrong"); (a.Status == http.StatusTooManyRequests) != limited {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
}
