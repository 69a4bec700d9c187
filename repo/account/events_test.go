package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// Followers are told of each change what concerns them, and of accounts that are not active only that.
func TestWhatFollowersAreTold(t *testing.T) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	carol := Account{DID: third, Handle: "carol.test"}
	away := carol
	away.DeactivatedAt = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	create := func(a Account) func(context.Context, *flakyWorld) error {
		return func(ctx context.Context, w *flakyWorld) error {
			_, err := w.Create(ctx, a, key, repo.Batch{})
			return err
		}
	}
	back := func(ctx context.Context, w *flakyWorld, handle syntax.Handle) error {
		a, err := w.ByDID(ctx, other)
		if err != nil {
			return err
		}
		return w.ChangeHandle(ctx, Returning(a), handle, nil)
	}
	for _, c := range []struct {
		name string
		do   func(ctx context.Context, w *flakyWorld) error
		want string
	}{
		{"create", create(carol), "identity carol.test, account true , commit, sync"},
		{"create a deactivated account", create(away), ""},
		{"rename", func(ctx context.Context, w *flakyWorld) error {
			return w.ChangeHandle(ctx, Trusted(owner), "ally.test", nil)
		}, "identity ally.test"},
		{"rename by who returns", func(ctx context.Context, w *flakyWorld) error { return back(ctx, w, "robert.test") }, ""},
		{"deactivate", func(ctx context.Context, w *flakyWorld) error {
			return w.Deactivate(ctx, Trusted(owner), time.Time{})
		}, "account false deactivated"},
		{"activate", func(ctx context.Context, w *flakyWorld) error { return w.Activate(ctx, Trusted(other)) }, "account true , identity bob.test, sync"},
		{"take down", func(ctx context.Context, w *flakyWorld) error {
			return w.TakeDown(ctx, owner, Takedown{Applied: true, Ref: "x"})
		}, "account false takendown"},
		{"announce the status", func(ctx context.Context, w *flakyWorld) error { return w.AnnounceStatus(ctx, Trusted(other)) }, "account false deactivated"},
		{"announce the identity", func(ctx context.Context, w *flakyWorld) error { return w.AnnounceIdentity(ctx, Trusted(owner)) }, "identity alice.test"},
		{"rotate", func(ctx context.Context, w *flakyWorld) error { return w.RotateKey(ctx, Trusted(owner), nil) }, "identity alice.test, sync"},
		{"rotate a deactivated account's", func(ctx context.Context, w *flakyWorld) error { return w.RotateKey(ctx, Trusted(other), nil) }, ""},
		{"delete", func(ctx context.Context, w *flakyWorld) error { return w.Delete(ctx, Trusted(owner)) }, "account false deleted"},
		{"prefer", func(ctx context.Context, w *flakyWorld) error {
			return w.SetPreferences(ctx, Trusted(owner), func([]Preference) ([]Preference, error) { return nil, nil })
		}, ""},
	} {
		w, ctx := newFlakyWorld(t), t.Context()
		_, before, err := w.store.Events.Bounds(ctx)
		if err == nil {
			err = c.do(ctx, w)
		}
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var told []string
		for ev, err := range w.store.Events.Since(ctx, before) {
			if err != nil {
				t.Fatal(err)
			}
			m, err := commit.Decode(ev.Kind, ev.Payload)
			if err != nil || m.About() != ev.DID {
				t.Fatalf("%s: %s: %v", c.name, ev.Kind, err)
			}
			switch m := m.(type) {
			case *commit.Account:
				told = append(told, fmt.Sprint("account ", m.Active, " ", m.Status))
			case *commit.Identity:
				told = append(told, fmt.Sprint("identity ", m.Handle))
			default:
				told = append(told, strings.TrimPrefix(ev.Kind, "#"))
			}
		}
		if got := strings.Join(told, ", "); got != c.want {
			t.Errorf("%s: told %s, want %s", c.name, got, c.want)
		}
	}
}

// What a package does when a counter is raised is part of the change: its error refuses it. A takedown
// raises the counter once, and says to which value.
func TestRaisedCounters(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	var kept []Kept
	var refuse error
	w.OnRaise(func(_ context.Context, a Account, step *repo.Step, keep Kept) error {
		kept = append(kept, keep)
		return refuse
	})
	down := Takedown{Applied: true, Ref: "x"}
	before, err := w.ByDID(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	refuse = errFlaky
	for name, err := range map[string]error{"deactivate": w.Deactivate(ctx, Trusted(owner), time.Time{}), "take down": w.TakeDown(ctx, owner, down)} {
		if err == nil {
			t.Errorf("%s: it was not refused", name)
		}
	}
	if a, err := w.ByDID(ctx, owner); err != nil || a != before {
		t.Errorf("%+v, %v", a, err)
	}
	kept, refuse = nil, nil
	for range 2 {
		if err := w.TakeDown(ctx, owner, down); err != nil {
			t.Fatal(err)
		}
	}
	a, err := w.ByDID(ctx, owner)
	if err != nil || a.Credentials != before.Credentials+1 || a.TakedownCredentials != a.Credentials || !slices.Equal(kept, []Kept{{AppPasswords: true, Traces: true}}) {
		t.Errorf("%+v, %+v, %v", a, kept, err)
	}
	if err := w.TakeDown(ctx, owner, Takedown{}); err != nil || len(kept) != 1 {
		t.Errorf("restored: %+v, %v", kept, err)
	}
}

// A guard lets in whom the account lets in, and says why it does not.
func TestGuards(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	bob, err := w.ByDID(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	outdated := bob
	outdated.Credentials--
	for _, x := range []struct {
		name string
		who  Caller
		want error
	}{
		{"trusted", Trusted(owner), nil}, {"nobody", Caller{DID: owner}, ErrTokenRevoked}, {"returning", Returning(bob), nil},
		{"returning, but raised", Returning(outdated), ErrTokenRevoked}, {"returning to an active account", Returning(Account{DID: owner}), ErrTokenRevoked},
		{"refused", NewCaller(owner, "", func(context.Context, storage.KVReader, Account) ([]storage.KVCheck, error) { return nil, errFlaky }), errFlaky},
	} {
		var checks []storage.KVCheck
		err := w.store.Repos.View(ctx, x.who.DID, func(r storage.Reader) (err error) {
			checks, err = w.Guard(x.who)(ctx, r)
			return err
		})
		if !errors.Is(err, x.want) || (err == nil) != (x.want == nil) || (err == nil) != (len(checks) == 1 && checks[0].Key == accountKey) {
			t.Errorf("%s: %v %v, want %v", x.name, checks, err, x.want)
		}
	}
	if err := w.TakeDown(ctx, other, Takedown{Applied: true, Ref: "x"}); err != nil {
		t.Fatal(err)
	}
	down, err := w.ByDID(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		a    Account
		want error
	}{"before a takedown": {bob, ErrTakenDown}, "since": {down, ErrTakenDown}} {
		if _, err := w.Authenticate(ctx, Returning(x.a)); !errors.Is(err, x.want) {
			t.Errorf("returning, %s: %v", name, err)
		}
	}
	_, err = w.host.Step(ctx, owner, func(step *repo.Step) error { step.Remove(accountKey); return nil })
	if err == nil {
		err = w.store.Repos.View(ctx, owner, func(r storage.Reader) error {
			_, err := w.Guard(Trusted(owner))(ctx, r)
			return err
		})
	}
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("without an account: %v", err)
	}
}
