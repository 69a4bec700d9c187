package credential

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

// Strangers have each try compared with all app passwords of an account, so nobody has any number.
func TestAppPasswordsAreBounded(t *testing.T) {
	s, _ := newStore(t)
	make := func(name string) error {
		_, _, err := s.CreateAppPassword(t.Context(), account.Trusted(owner), name, false)
		return err
	}
	for i := range MaxAppPasswords {
		if err := make(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := make("one more"); !errors.Is(err, ErrTooManyAppPasswords) {
		t.Errorf("one more: %v", err)
	}
	if err := make("7"); !errors.Is(err, ErrDuplicateName) {
		t.Errorf("one that is there: %v", err)
	}
	if err := s.RevokeAppPassword(t.Context(), account.Trusted(owner), "7"); err != nil {
		t.Fatal(err)
	}
	if err := make("one more"); err != nil {
		t.Errorf("one for another: %v", err)
	}
}

// Whoever logs in for ever ends their own sessions, and none that is used.
func TestSessionsAreBounded(t *testing.T) {
	s, now := newStore(t)
	_, app, err := s.CreateAppPassword(t.Context(), account.Trusted(owner), "phone", true)
	if err != nil {
		t.Fatal(err)
	}
	used, idle := login(t, s, nil), login(t, s, nil)
	*now = now.Add(time.Hour)
	if used, err = rotate(t, s, used.ID); err != nil {
		t.Fatal(err)
	}
	var last Session
	_, err = s.accounts.Update(t.Context(), account.Trusted(owner), func(a *account.Account, step *repo.Step) error {
		for range maxSessions - 5 {
			*now = now.Add(time.Second)
			_, write, err := s.NewSession(*a, &app)
			if err != nil {
				return err
			}
			step.KV = append(step.KV, write)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		*now = now.Add(time.Second)
		last = login(t, s, &app)
	}
	if n, _, err := s.Counts(t.Context(), owner); n != maxSessions || err != nil {
		t.Errorf("%d sessions, %v", n, err)
	}
	for what, x := range map[string]Session{"used": used, "the last": last} {
		if _, err := rotate(t, s, x.ID); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := rotate(t, s, idle.ID); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("the oldest that was never used: %v", err)
	}
}
