package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// overtaken is another process, before whose first call of a method fn is called.
func (w *flakyWorld) overtaken(t *testing.T, method string, fn func()) *Store {
	f := storagetest.Faults{Before: func(m string) error {
		if do := fn; do != nil && m == method {
			fn = nil
			do()
		}
		return nil
	}}
	return Open(repo.Config{Store: f.Wrap(w.flaky.Store), TempDir: t.TempDir(), Now: func() time.Time { return w.clock }}, testBox(t))
}

// What two processes change at the same time is not lost.
func TestChangesAtOnce(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	prefer := func(name string) func(list []Preference) ([]Preference, error) {
		return func(list []Preference) ([]Preference, error) {
			return append(list, Preference{"$type": []byte(`"` + name + `"`)}), nil
		}
	}
	s := w.overtaken(t, "Repos.Apply", func() {
		if err := w.SetPreferences(ctx, Trusted(owner), prefer("b")); err != nil {
			t.Error(err)
		}
	})
	if err := s.SetPreferences(ctx, Trusted(owner), prefer("c")); err != nil {
		t.Fatal(err)
	}
	if list, err := w.Preferences(ctx, owner); err != nil || len(list) != 3 || list[1].Type() != "b" || list[2].Type() != "c" {
		t.Errorf("%v, %v", list, err)
	}
	var told []string
	register := func(_ context.Context, key *crypto.PublicKey) error {
		if told = append(told, key.DIDKey()); len(told) == 1 {
			return errFlaky
		}
		return nil
	}
	s = w.overtaken(t, "Repos.Apply", func() {
		if err := w.RotateKey(ctx, Trusted(owner), register); !errors.Is(err, errFlaky) {
			t.Error(err)
		}
	})
	if err := s.RotateKey(ctx, Trusted(owner), register); err != nil || len(told) != 2 || told[0] != told[1] {
		t.Errorf("two keys were registered: %v, %v", told, err)
	}
}

// What is in memory of a key is never one that the store has not, whichever call of a rotation fails.
func TestKeyInMemoryOfARotationThatFails(t *testing.T) {
	ctx := t.Context()
	for failAt := int64(1); ; failAt++ {
		w := newFlakyWorld(t)
		w.flaky.arm(failAt)
		err := w.RotateKey(ctx, Trusted(owner), nil)
		done := w.flaky.calls.Load() < failAt
		w.flaky.arm(0)
		if (err == nil) != done {
			t.Errorf("call %d: %v", failAt, err)
		}
		stored, err := w.Checker().Key(ctx, owner)
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := w.keys.open.Get(owner); ok && !key.PublicKey().Equal(stored) {
			t.Errorf("call %d: another key is in memory", failAt)
		}
		if done {
			break
		}
	}
}

// The codes that an account earns while it loses the right to give them away are disabled, and it gets
// none if its session ends meanwhile.
func TestEarnedInvitesMeanwhile(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	w.clock = w.clock.Add(10 * time.Hour)
	e := Earning{Interval: time.Hour}
	made := false
	s := Open(repo.Config{Store: storagetest.Faults{After: func(m string) error {
		if m == "KV.Write" && !made {
			made = true
			_, err := w.Update(ctx, Trusted(owner), func(a *Account, _ *repo.Step) error { a.InvitesDisabled = true; return nil })
			return err
		}
		return nil
	}}.Wrap(w.flaky.Store), TempDir: t.TempDir(), Now: func() time.Time { return w.clock }}, testBox(t))
	list, err := s.AccountInvites(ctx, "pds.test", Trusted(owner), e)
	earned := 0
	for _, inv := range list {
		if inv.Created.Equal(w.clock) {
			earned++
		}
		if inv.Created.Equal(w.clock) != inv.Disabled {
			t.Errorf("%+v", inv)
		}
	}
	if err != nil || earned != 3 || len(list) != 5 {
		t.Errorf("%d codes, %d earned: %v", len(list), earned, err)
	}
	w.clock = w.clock.Add(10 * time.Hour)
	writes := 0
	if _, err := w.Update(ctx, Trusted(owner), func(a *Account, _ *repo.Step) error { a.InvitesDisabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	made = false
	s = Open(repo.Config{Store: storagetest.Faults{Before: func(m string) error {
		if m == "KV.Write" {
			if writes++; writes == 2 {
				return errFlaky
			}
		}
		return nil
	}}.Wrap(s.store), TempDir: t.TempDir(), Now: func() time.Time { return w.clock }}, testBox(t))
	if err := w.DisableInvites(ctx, nil, []string{owner}, nil); err != nil {
		t.Fatal(err)
	}
	if list, err := s.AccountInvites(ctx, "pds.test", Trusted(owner), e); !errors.Is(err, errFlaky) || list != nil {
		t.Errorf("they could not be disabled: %v, %v", list, err)
	}
	asked := 0
	who := NewCaller(owner, "", func(context.Context, storage.KVReader, Account) ([]storage.KVCheck, error) {
		if asked++; asked > 1 {
			return nil, ErrTokenRevoked
		}
		return nil, nil
	})
	w.clock = w.clock.Add(10 * time.Hour)
	if err := w.DisableInvites(ctx, nil, []string{owner}, nil); err != nil {
		t.Fatal(err)
	}
	if list, err := w.AccountInvites(ctx, "pds.test", who, e); !errors.Is(err, ErrTokenRevoked) || list != nil || asked != 2 {
		t.Errorf("%v, %v; asked %d times", list, err, asked)
	}
	for _, inv := range list {
		host, rest, ok := strings.Cut(inv.Code, "pds-test-")
		if first, second, dash := strings.Cut(rest, "-"); host != "" || !ok || !dash || len(first) != 5 || len(second) != 5 || inv.Code != strings.ToLower(inv.Code) {
			t.Errorf("code %s", inv.Code)
		}
	}
}

// The directory that is told of a name that is taken back, of which one call fails, is right or the
// caller has the error. Where names never rest, it ends.
func TestTakingBackOfWhichOneCallFails(t *testing.T) {
	ctx := t.Context()
	refused := errors.New("refused")
	for failAt := int64(0); ; failAt++ {
		w := newFlakyWorld(t)
		var told []syntax.Handle
		who := NewCaller(owner, "", func(context.Context, storage.KVReader, Account) ([]storage.KVCheck, error) {
			if len(told) > 0 {
				return nil, refused
			}
			return nil, nil
		})
		w.flaky.arm(0)
		err := w.ChangeHandle(ctx, who, "ally.test", func(_ context.Context, h syntax.Handle) error {
			if told = append(told, h); len(told) == 1 {
				w.flaky.arm(failAt)
			}
			return nil
		})
		done := failAt > 0 && w.flaky.calls.Load() < failAt
		w.flaky.arm(0)
		right := len(told) > 1 && told[len(told)-1] == "alice.test"
		if !errors.Is(err, refused) && !errors.Is(err, errFlaky) || !right && !errors.Is(err, errFlaky) {
			t.Errorf("call %d: told %v, %v", failAt, told, err)
		}
		if n := pendingOperations(t, w.Store); n > 0 && !errors.Is(err, errFlaky) {
			t.Errorf("call %d: %d operations are pending: %v", failAt, n, err)
		}
		if done {
			break
		}
	}
	w := newFlakyWorld(t)
	told := 0
	err := w.ChangeHandle(ctx, NewCaller(owner, "", func(context.Context, storage.KVReader, Account) ([]storage.KVCheck, error) {
		if told > 0 {
			return nil, refused
		}
		return nil, nil
	}), "ally.test", func(context.Context, syntax.Handle) error {
		if told++; told == 1 {
			return nil
		}
		return w.overtaken(t, "", nil).ChangeHandle(ctx, Trusted(owner), syntax.Handle(fmt.Sprintf("a%d.test", told)), nil)
	})
	if !errors.Is(err, refused) || told != 1+maxMoves {
		t.Errorf("told %d times: %v", told, err)
	}
	told = 0
	err = w.ChangeHandle(ctx, NewCaller(owner, "", func(context.Context, storage.KVReader, Account) ([]storage.KVCheck, error) {
		if told > 0 {
			return nil, refused
		}
		return nil, nil
	}), "ally.test", func(context.Context, syntax.Handle) error {
		if told++; told == 1 {
			return nil
		}
		return errFlaky
	})
	if !errors.Is(err, refused) || !errors.Is(err, errFlaky) || told != 2 {
		t.Errorf("the directory does not answer: told %d times, %v", told, err)
	}
}

// A rename that takes so long that its process is taken for dead gets its name back, or not if it is
// another's by now, even one that is only about to be made.
func TestRenameThatTakesLong(t *testing.T) {
	ctx := t.Context()
	for _, taken := range []bool{false, true} {
		w := newFlakyWorld(t)
		elsewhere := w.overtaken(t, "", nil)
		err := w.ChangeHandle(ctx, Trusted(owner), "ally.test", func(_ context.Context, h syntax.Handle) error {
			if h != "ally.test" {
				return nil
			}
			w.clock = w.clock.Add(time.Hour)
			err := elsewhere.Repair(ctx)
			if err == nil && taken {
				_, err = elsewhere.Reserve(ctx, Account{DID: third, Handle: "ally.test"})
			}
			return err
		})
		if taken && !errors.Is(err, ErrHandleTaken) || !taken && err != nil {
			t.Errorf("taken %v: %v", taken, err)
		}
		if err := w.RepairAlone(ctx); err != nil {
			t.Fatal(err)
		}
		if a, err := w.Find(ctx, "ally.test"); (err == nil) == taken || err == nil && a.DID != owner {
			t.Errorf("taken %v: %s, %v", taken, a.DID, err)
		}
		if problems, doubtful, err := w.checkAll(ctx); err != nil || len(doubtful) > 0 {
			t.Errorf("taken %v: %v, %v", taken, problems, err)
		}
	}
}

// A deletion that could not delete the blobs is ended by whoever repairs, unless there is a repository
// again.
func TestBlobsOfADeletionThatWasInterrupted(t *testing.T) {
	for _, again := range []bool{false, true} {
		w, ctx := newFlakyWorld(t), t.Context()
		info, err := w.host.UploadBlob(ctx, owner, "text/plain", strings.NewReader("x"), 10)
		if err != nil {
			t.Fatal(err)
		}
		fails := errors.New("the bucket does not answer")
		s := Open(repo.Config{Store: storagetest.Faults{Before: func(m string) error {
			if m == "Blobs.DeleteAll" {
				return fails
			}
			return nil
		}}.Wrap(w.flaky.Store), TempDir: t.TempDir(), Now: func() time.Time { return w.clock }}, testBox(t))
		if err := s.Delete(ctx, Trusted(owner)); !errors.Is(err, fails) {
			t.Errorf("%v", err)
		}
		if again { // by a program that knows no accounts
			key, err := crypto.GenerateKey(crypto.K256)
			if err == nil {
				_, err = w.host.Create(ctx, owner, repo.Batch{Signer: key})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.RepairAlone(ctx); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.store.Blobs.Stat(ctx, owner, info.CID); (err == nil) != again {
			t.Errorf("again %v: %v", again, err)
		}
		if _, err := w.store.Repos.Head(ctx, owner); (err == nil) != again {
			t.Errorf("again %v: the repository: %v", again, err)
		}
	}
}

// A change whose caller leaves while the directory is told goes on to its end.
func TestCallersWhoLeave(t *testing.T) {
	w := newFlakyWorld(t)
	for name, change := range map[string]func(ctx context.Context, leave func()) error{
		"rename": func(ctx context.Context, leave func()) error {
			return w.ChangeHandle(ctx, Trusted(owner), "ally.test", func(context.Context, syntax.Handle) error { leave(); return nil })
		},
		"rotate": func(ctx context.Context, leave func()) error {
			return w.RotateKey(ctx, Trusted(owner), func(context.Context, *crypto.PublicKey) error { leave(); return nil })
		},
	} {
		ctx, leave := context.WithCancel(t.Context())
		if err := change(ctx, leave); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A deletion of an account whose names never rest ends.
func TestDeletionsMeanwhile(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	elsewhere := w.overtaken(t, "", nil)
	tries := 0
	s := Open(repo.Config{Store: storagetest.Faults{After: func(m string) error {
		if m == "KV.Write" { // the deletion has left its note, or has ended
			tries++
			return elsewhere.ChangeHandle(ctx, Trusted(other), syntax.Handle(fmt.Sprintf("b%d.test", tries)), nil)
		}
		return nil
	}}.Wrap(w.flaky.Store), TempDir: t.TempDir(), Now: func() time.Time { return w.clock }}, testBox(t))
	s.migrated.Store(true)
	if err := s.Delete(ctx, Trusted(other)); !errors.Is(err, errMoved) || tries != 2*(maxMoves+1) {
		t.Errorf("%d transactions: %v", tries, err)
	}
}

// What cannot be done is refused, with the error of whatever refuses it.
func TestRefusals(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	for name, x := range map[string]struct{ err, want error }{
		"announce nobody's status":   {w.AnnounceStatus(ctx, Trusted(third)), ErrNotFound},
		"announce nobody's identity": {w.AnnounceIdentity(ctx, Trusted(third)), ErrNotFound},
		"refused preferences":        {w.SetPreferences(ctx, Trusted(owner), func([]Preference) ([]Preference, error) { return nil, errFlaky }), errFlaky},
	} {
		if !errors.Is(x.err, x.want) {
			t.Errorf("%s: %v", name, x.err)
		}
	}
	err := w.SetPreferences(ctx, Trusted(owner), func([]Preference) ([]Preference, error) { return []Preference{{"$type": []byte("{")}}, nil })
	if list, readErr := w.Preferences(ctx, owner); err == nil || readErr != nil || len(list) != 1 || list[0].Type() != "a" {
		t.Errorf("preferences that are no JSON: %v, %v, %v", err, list, readErr)
	}
	if _, err := w.Invite(ctx, "nocode"); !errors.Is(err, ErrNoInvite) {
		t.Errorf("a code that does not exist: %v", err)
	}
	err = w.migrateStep(ctx, layout{Version: 1}, layout{Version: 7}, func(storage.KVTx) error { return errFlaky })
	if n, countErr := w.Count(ctx); err != nil || countErr != nil || n != 2 {
		t.Errorf("a step of a migration that another process has made: %v; %d accounts, %v", err, n, countErr)
	}
	s, kv, _ := newStuck(t)
	kv.full.Store(true)
	if _, err := s.UserHandle(ctx, Trusted(owner)); !errors.Is(err, errFull) {
		t.Errorf("a name that cannot be stored: %v", err)
	}
	r, err := w.Reserve(ctx, Account{DID: third, Handle: "carol.test", Invite: w.code})
	if err != nil {
		t.Fatal(err)
	}
	put(t, w.Store, invitePrefix+w.code, "")
	if err := r.Release(ctx); err != nil {
		t.Errorf("a code that is gone: %v", err)
	}
}
