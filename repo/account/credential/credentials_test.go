package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

var _ = testenv.CheapPasswords()

// changes are all that raises the counter.
var changes = map[string]func(w *town){
	"a reset of the password": func(w *town) {
		token, _, err := w.NewMailToken(w.t.Context(), account.Trusted(owner), ForPasswordReset)
		w.ok(err)
		w.ok(w.ResetPassword(w.t.Context(), token, "another"))
	},
	"a change of the password": func(w *town) {
		_, err := w.SetPassword(w.t.Context(), account.Trusted(owner), "another")
		w.ok(err)
	},
	"a takedown": func(w *town) {
		w.ok(w.accounts.TakeDown(w.t.Context(), owner, account.Takedown{Applied: true, Ref: "x"}))
	},
	"a takedown that was taken back": func(w *town) {
		for _, applied := range []bool{true, false} {
			w.ok(w.accounts.TakeDown(w.t.Context(), owner, account.Takedown{Applied: applied, Ref: "x"}))
		}
	},
	"a deactivation": func(w *town) {
		w.ok(w.accounts.Deactivate(w.t.Context(), account.Trusted(owner), time.Time{}))
	},
	"the deletion": func(w *town) {
		w.ok(w.accounts.Delete(w.t.Context(), account.Trusted(owner)))
	},
}

// Whatever is under way when the credentials change comes to nothing: each action is stopped
// between its look at the account and its step, and the change comes between.
func TestCredentialsChangeUnderWay(t *testing.T) {
	by := func(fn func(w *town, who account.Caller) error) func(w *town) func() error {
		return func(w *town) func() error {
			_, who := w.session(Proof{Account: w.account()})
			return func() error { return fn(w, who) }
		}
	}
	ctx := t.Context()
	for name, prepare := range map[string]func(w *town) func() error{
		"a login": func(w *town) func() error {
			p := Proof{Account: w.account()}
			return func() error { _, _, err := w.StartSession(ctx, p, true); return err }
		},
		"a login with an app password": func(w *town) func() error {
			text, _, err := w.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
			w.ok(err)
			p := w.prove(text)
			return func() error { _, _, err := w.StartSession(ctx, p, true); return err }
		},
		"a refresh": func(w *town) func() error {
			x, _ := w.session(Proof{Account: w.account()})
			return func() error { _, _, err := w.RotateSession(ctx, owner, x.ID); return err }
		},
		"a new app password": by(func(w *town, who account.Caller) error {
			_, _, err := w.CreateAppPassword(ctx, who, "phone", true)
			return err
		}),
		"the end of an app password": by(func(w *town, who account.Caller) error {
			return w.RevokeAppPassword(ctx, who, "phone")
		}),
		"a mail token": by(func(w *town, who account.Caller) error {
			_, _, err := w.NewMailToken(ctx, who, ForPLCOperation)
			return err
		}),
		"a new handle": by(func(w *town, who account.Caller) error {
			return w.accounts.ChangeHandle(ctx, who, "other.test", nothing)
		}),
		"a new address":  by(func(w *town, who account.Caller) error { return w.ChangeEmail(ctx, who, "other@example.com", "") }),
		"preferences":    by(func(w *town, who account.Caller) error { return w.accounts.SetPreferences(ctx, who, samePreferences) }),
		"a deactivation": by(func(w *town, who account.Caller) error { return w.accounts.Deactivate(ctx, who, time.Time{}) }),
		"an event":       by(func(w *town, who account.Caller) error { return w.accounts.AnnounceStatus(ctx, who) }),
		"a record": by(func(w *town, who account.Caller) error {
			_, err := w.accounts.Host().Apply(ctx, owner, repo.Batch{Guard: w.accounts.Guard(who), Writes: []repo.Write{
				{Action: repo.Create, Collection: "com.example.note", RKey: "one", Record: note}}})
			if errors.Is(err, repo.ErrRepoNotFound) {
				err = account.ErrNotFound
			}
			return err
		}),
	} {
		for what, change := range changes {
			t.Run(name+" and "+what, func(t *testing.T) {
				w := newTown(t)
				do := prepare(w)
				w.hook.before(func() { change(w.elsewhere()) })
				err := do()
				if !errors.Is(err, account.ErrTokenRevoked) && !errors.Is(err, ErrWrongPassword) && !errors.Is(err, account.ErrTakenDown) && !errors.Is(err, account.ErrNotFound) {
					t.Fatalf("it went on: %v", err)
				}
				if what == "the deletion" {
					return
				}
				w.checkNames()
				if a := w.account(); a.Handle != "alice.test" || a.Email != "alice@example.com" {
					t.Errorf("the account became %+v", a)
				}
				if head, err := w.accounts.Host().Head(ctx, owner); err != nil {
					t.Error(err)
				} else if list, err := w.accounts.Host().Collections(ctx, owner); err != nil || len(list) > 0 {
					t.Errorf("%v has %v, %v", head, list, err)
				}
			})
		}
	}
}

func nothing(context.Context, syntax.Handle) error { return nil }

func samePreferences(list []account.Preference) ([]account.Preference, error) { return list, nil }

// What was given before the credentials changed is void afterwards.
func TestCredentialsVoid(t *testing.T) {
	ctx := t.Context()
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			w := newTown(t)
			text, _, err := w.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
			w.ok(err)
			x, who := w.session(w.prove(password))
			y, byApp := w.session(w.prove(text))
			legacy := w.Caller(Token{DID: owner, Credentials: w.account().Credentials})
			for _, c := range []account.Caller{who, byApp, legacy} {
				_, err := w.accounts.Authenticate(ctx, c)
				w.ok(err)
			}
			change(w)
			want := account.ErrTokenRevoked
			switch what {
			case "a takedown":
				want = account.ErrTakenDown
			case "the deletion":
				want = account.ErrNotFound
			}
			for i, c := range []account.Caller{who, byApp, legacy} {
				if _, err := w.accounts.Authenticate(ctx, c); !errors.Is(err, want) {
					t.Errorf("token %d: %v, want %v", i, err, want)
				}
			}
			for _, x := range []Session{x, y} {
				if _, _, err := w.RotateSession(ctx, owner, x.ID); !errors.Is(err, want) {
					t.Errorf("session %+v: %v, want %v", x, err, want)
				}
			}
			if what == "the deletion" {
				// Not even if the DID comes back.
				w.create(owner, "alice.test", "alice@example.com")
				for _, c := range []account.Caller{who, byApp} {
					if _, err := w.accounts.Authenticate(ctx, c); !errors.Is(err, account.ErrTokenRevoked) {
						t.Errorf("a token of the account that was deleted: %v", err)
					}
				}
				return
			}
			// App passwords outlast all but a change of the password, and open no session of
			// an account that is taken down.
			p, err := w.CheckPassword(ctx, w.account(), text, true)
			if strings.Contains(what, "of the password") {
				if !errors.Is(err, ErrWrongPassword) {
					t.Errorf("the app password: %v", err)
				}
				return
			}
			w.ok(err)
			_, _, err = w.StartSession(ctx, p, true)
			if down := what == "a takedown"; down != errors.Is(err, account.ErrTakenDown) || !down && err != nil {
				t.Errorf("a login with the app password: %v", err)
			}
		})
	}
}

// A takedown does not bring back what ended before it: the owner may have signed a thief out. Those
// whose sessions it ended itself are told so, and of nothing is more left when it is lifted.
func TestTakedownOfEndedSessions(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	x, out := w.session(w.prove(password))
	_, ended := w.session(w.prove(password))
	_, open := w.session(w.prove(password))
	w.ok(w.EndSession(ctx, owner, x.ID))
	w.ok(w.EndOpenSession(ctx, account.Trusted(owner), ended.Session))
	down := func(ref string) {
		t.Helper()
		w.ok(w.accounts.TakeDown(ctx, owner, account.Takedown{Applied: ref != "", Ref: ref}))
	}
	want := func(when string, want error) {
		t.Helper()
		if _, err := w.accounts.Authenticate(ctx, open); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
		for _, who := range []account.Caller{out, ended} {
			if _, err := w.accounts.Authenticate(ctx, who); !errors.Is(err, account.ErrTokenRevoked) {
				t.Errorf("%s, signed out before: %v", when, err)
			}
		}
		if list, err := w.Sessions(ctx, account.Trusted(owner)); len(list) > 0 || err != nil {
			t.Errorf("%s: %v %v", when, list, err)
		}
	}
	down("x")
	want("taken down", account.ErrTakenDown)
	down("")
	want("back", account.ErrTokenRevoked)
	down("y")
	want("down again", account.ErrTokenRevoked)
	if n, _, err := w.Counts(ctx, owner); n != 0 || err != nil {
		t.Errorf("%d sessions are kept, %v", n, err)
	}
}

// Twenty logins that have shown the old password when it is reset get nothing that lasts.
func TestLoginsDuringReset(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	token, _, err := w.NewMailToken(ctx, account.Trusted(owner), ForPasswordReset)
	w.ok(err)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	ids := make(chan string, 20)
	for range 20 {
		p := w.prove(password)
		wg.Go(func() {
			<-begin
			if _, x, err := w.StartSession(ctx, p, false); err == nil {
				ids <- x.ID
			} else if !errors.Is(err, ErrWrongPassword) {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		<-begin
		if err := w.ResetPassword(ctx, token, "another"); err != nil {
			t.Error(err)
		}
	})
	close(begin)
	wg.Wait()
	close(ids)
	for id := range ids { // begun before the reset, and ended by it
		if _, _, err := w.RotateSession(ctx, owner, id); !errors.Is(err, account.ErrTokenRevoked) {
			t.Errorf("a session with the old password: %v", err)
		}
	}
}

// An app password that is revoked during its login opens no session, also if another gets its name.
func TestAppPasswordRevokedDuringLogin(t *testing.T) {
	ctx := t.Context()
	for name, revoke := range map[string]func(w *town){
		"revoked": func(w *town) { w.ok(w.RevokeAppPassword(ctx, account.Trusted(owner), "phone")) },
		"another of the name": func(w *town) {
			w.ok(w.RevokeAppPassword(ctx, account.Trusted(owner), "phone"))
			_, _, err := w.CreateAppPassword(ctx, account.Trusted(owner), "phone", true)
			w.ok(err)
		},
	} {
		for _, inside := range []bool{false, true} {
			w := newTown(t)
			text, _, err := w.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
			w.ok(err)
			p := w.prove(text)
			before, _ := w.session(p)
			if inside {
				w.hook.before(func() { revoke(w.elsewhere()) })
			} else {
				revoke(w)
			}
			if _, _, err := w.StartSession(ctx, p, false); !errors.Is(err, ErrWrongPassword) {
				t.Errorf("%s: %v", name, err)
			}
			if _, _, err := w.RotateSession(ctx, owner, before.ID); !errors.Is(err, account.ErrTokenRevoked) {
				t.Errorf("%s: the session before: %v", name, err)
			}
		}
	}
}

// The session by which an account is deactivated goes on: it can be activated again.
func TestDeactivationKeepsItsSession(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	x, who := w.session(w.prove(password))
	_, other := w.session(w.prove(password))
	for range 2 {
		w.ok(w.accounts.Deactivate(ctx, who, time.Time{}))
	}
	if _, err := w.accounts.Authenticate(ctx, who); err != nil {
		t.Errorf("its own: %v", err)
	}
	if _, err := w.accounts.Authenticate(ctx, other); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("another: %v", err)
	}
	_, y, err := w.RotateSession(ctx, owner, x.ID)
	if err != nil || y.Credentials != w.account().Credentials {
		t.Errorf("%+v %v", y, err)
	}
}

// What was stored before there was a counter is good until it is raised for the first time.
func TestStoredBeforeTheCounter(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	expires := time.Now().Add(time.Hour)
	hash := hashAppPassword(owner, "aaaa-bbbb-cccc-dddd")
	for key, doc := range map[string]string{
		"account":           fmt.Sprintf(`{"did":%q,"handle":"alice.test","email":"alice@example.com","created":"2026-01-01T00:00:00Z","password":%q}`, owner, passwordHash()),
		"session/old":       fmt.Sprintf(`{"current":"TOKEN","expires":%q}`, expires.Format(time.RFC3339)),
		"session/app":       fmt.Sprintf(`{"appPassword":"phone","current":"TOKEN","expires":%q}`, expires.Format(time.RFC3339)),
		"apppassword/phone": fmt.Sprintf(`{"name":"phone","createdAt":"2026-01-01T00:00:00Z","privileged":false,"hash":%q}`, hash),
		"mailtoken/confirm_email": fmt.Sprintf(`{"token":"AAAAA-BBBBB","created":%q}`,
			time.Now().UTC().Format(time.RFC3339)),
	} {
		w.step(storage.KVWrite{Key: key, Value: []byte(doc)})
	}
	_, err := w.accounts.Authenticate(ctx, w.Caller(Token{DID: owner}))
	w.ok(err)
	for _, id := range []string{"old.TOKEN", "app.TOKEN"} {
		_, _, err := w.RotateSession(ctx, owner, id)
		w.ok(err)
	}
	_, byApp := w.session(w.prove("aaaa-bbbb-cccc-dddd"))
	_, err = w.accounts.Authenticate(ctx, byApp)
	w.ok(err)
	w.ok(w.ConfirmEmail(ctx, w.Caller(Token{DID: owner}), "Alice@example.com", "aaaaa-bbbbb"))
	_, err = w.SetPassword(ctx, account.Trusted(owner), "another")
	w.ok(err)
	for _, c := range []account.Caller{{DID: owner}, byApp} {
		if _, err := w.accounts.Authenticate(ctx, c); !errors.Is(err, account.ErrTokenRevoked) {
			t.Errorf("after the first change: %v", err)
		}
	}
}

// A session that no list has, as a lost write of an old program might leave it, is void with the
// counter all the same.
func TestUnlistedSession(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	_, write, err := w.NewSession(w.account(), nil)
	w.ok(err)
	_, err = w.SetPassword(ctx, account.Trusted(owner), "another")
	w.ok(err)
	w.step(write)
	var x chain
	w.ok(json.Unmarshal(write.Value, &x))
	name := strings.TrimPrefix(write.Key, sessionPrefix)
	if _, err := w.accounts.Authenticate(ctx, w.Caller(Token{DID: owner, Session: name})); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("its access token: %v", err)
	}
	if _, _, err := w.RotateSession(ctx, owner, name+"."+x.Current); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("its refresh token: %v", err)
	}
}

// A session is remembered by what is stored of it, so it ends at once wherever it is ended.
func TestRememberedSessionsEnd(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	x, who := w.session(w.prove(password))
	for range 3 {
		if _, err := w.accounts.Authenticate(ctx, who); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	w.now = func() time.Time { return now.Add(RefreshLife + time.Minute) }
	if _, err := w.accounts.Authenticate(ctx, who); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("after its time: %v", err)
	}
	w.now = func() time.Time { return now }
	_, next, err := w.RotateSession(ctx, owner, x.ID)
	w.ok(err)
	if _, err := w.accounts.Authenticate(ctx, who); err != nil {
		t.Errorf("after a refresh: %v", err)
	}
	w.ok(w.EndSession(ctx, owner, next.ID))
	if _, err := w.accounts.Authenticate(ctx, who); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("after its end: %v", err)
	}
}
