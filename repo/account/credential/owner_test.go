package credential

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
)

// by is the caller of a session.
func by(s *Store, x Session) account.Caller {
	return s.Caller(Token{DID: owner, Session: x.Name(), Credentials: x.Credentials})
}

// A change of the password keeps the session that made it, and what else it is told to keep.
func TestChangePassword(t *testing.T) {
	for _, keep := range []bool{false, true} {
		s, _ := newStore(t)
		ctx := t.Context()
		_, app, err := s.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
		if err != nil {
			t.Fatal(err)
		}
		mine, other, ofApp := login(t, s, nil), login(t, s, nil), login(t, s, &app)
		a, err := s.ChangePassword(ctx, by(s, mine), "another password", account.Kept{AppPasswords: keep, Apps: keep})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CheckPassword(ctx, a, "another password", false); err != nil {
			t.Error(err)
		}
		for name, x := range map[string]struct {
			session Session
			good    bool
		}{"of the caller": {mine, true}, "another one": {other, false}, "of an app": {ofApp, keep}} {
			if _, err := s.accounts.Authenticate(ctx, by(s, x.session)); (err == nil) != x.good {
				t.Errorf("keep %v: the session %s: %v", keep, name, err)
			}
			if _, err := rotate(t, s, x.session.ID); (err == nil) != x.good {
				t.Errorf("keep %v: the session %s is renewed: %v", keep, name, err)
			}
		}
		if _, err := s.ChangePassword(ctx, by(s, other), "x", account.Kept{}); !errors.Is(err, account.ErrTokenRevoked) {
			t.Errorf("by a session that has ended: %v", err)
		}
	}
}

// An app password that was revoked keeps no session, whatever is kept.
func TestKeptAppNeedsItsPassword(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	_, app, err := s.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
	if err != nil {
		t.Fatal(err)
	}
	x := login(t, s, &app)
	if _, err := s.ChangePassword(ctx, by(s, login(t, s, nil)), "another password", account.Kept{Apps: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := rotate(t, s, x.ID); err == nil {
		t.Error("a session goes on whose app password is void")
	}
}

// Sessions are listed with where they were renewed. What ends all others may leave apps alone.
func TestOtherSessions(t *testing.T) {
	s, now := newStore(t)
	ctx := t.Context()
	at := "192.0.2.1"
	s.from = func(context.Context) string { return at }
	_, app, err := s.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
	if err != nil {
		t.Fatal(err)
	}
	one, two, other := login(t, s, nil), login(t, s, &app), login(t, s, nil)
	*now = now.Add(time.Hour)
	at = "192.0.2.2"
	if one, err = rotate(t, s, one.ID); err != nil {
		t.Fatal(err)
	}
	list, err := s.Sessions(ctx, by(s, one))
	if err != nil || len(list) != 3 || list[0].Name != one.Name() || list[0].From != at || list[1].From != "192.0.2.1" {
		t.Fatalf("%+v %v", list, err)
	}
	if err := s.EndOtherSessions(ctx, by(s, one)); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		session Session
		good    bool
	}{"of the caller": {one, true}, "of an app": {two, true}, "another one": {other, false}} {
		if _, err := rotate(t, s, x.session.ID); (err == nil) != x.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The owner hears of what changes, once it has.
func TestOwnerIsTold(t *testing.T) {
	s, _ := newStore(t)
	ctx, who := t.Context(), account.Trusted(owner)
	var told []Change
	s.onChange = func(_ context.Context, c Change) { told = append(told, c) }
	if _, _, err := s.CreateAppPassword(ctx, who, "phone", false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.CreateAppPassword(ctx, who, "phone", false); !errors.Is(err, ErrDuplicateName) {
		t.Fatal(err)
	}
	if err := s.ChangeEmail(ctx, who, "new@example.com", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetPassword(ctx, who, "another password"); err != nil {
		t.Fatal(err)
	}
	want := []ChangeEvent{AppPasswordMade, EmailChanged, PasswordChanged}
	if !slices.EqualFunc(told, want, func(c Change, e ChangeEvent) bool { return c.Event == e && c.Account.DID == owner && !c.At.IsZero() }) {
		t.Errorf("%+v", told)
	}
	if told[0].AppPassword != "phone" || told[1].Email != "alice@example.com" || told[1].Account.Email != "new@example.com" {
		t.Errorf("%+v", told)
	}
}

// Check 122: an account is only closed with a code, by a caller who is good.
func TestCloseAccount(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	x, ended := login(t, s, nil), login(t, s, nil)
	token, _, err := s.NewMailToken(ctx, by(s, x), ForDeletion)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.EndOpenSession(ctx, by(s, x), ended.Name()); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseAccount(ctx, by(s, x), "AAAAA-AAAAA"); !errors.Is(err, ErrMailToken) {
		t.Errorf("with a wrong code: %v", err)
	}
	if err := s.CloseAccount(ctx, by(s, ended), token); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("by a session that has ended: %v", err)
	}
	if err := s.CloseAccount(ctx, by(s, x), token); err != nil {
		t.Error(err)
	}
	if _, err := s.accounts.ByDID(ctx, owner); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
