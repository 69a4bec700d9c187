package account

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

const third = syntax.DID("did:plc:cccccccccccccccccccccccc")

// flakyWorld is some accounts over such a store, and what there is of them.
type flakyWorld struct {
	*Store
	flaky *flaky
	clock time.Time
	code  string // an invite code of alice's
	blob  cid.Cid
}

func newFlakyWorld(t *testing.T) *flakyWorld {
	t.Helper()
	w := &flakyWorld{clock: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	now := func() time.Time { return w.clock }
	w.flaky = newFlaky(t, memory.New(memory.Config{Now: now}))
	w.Store = Open(repo.Config{Store: w.flaky.Store, TempDir: t.TempDir(), Now: now}, testBox(t))
	w.blob = cid.NewCidV1(cid.Raw, dag.Sum(dag.Raw, []byte("x")).Hash())
	ctx := t.Context()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	newAccount(t, w.Store, Account{DID: owner, Handle: "alice.test", Email: "alice@example.com"})
	newAccount(t, w.Store, Account{DID: other, Handle: "bob.test", Email: "bob@example.com"})
	codes, err := w.CreateInvites(ctx, "pds.test", owner, owner, 2, 1)
	ok(err)
	w.code = codes[0]
	ok(w.Deactivate(ctx, Trusted(other), w.clock.Add(-time.Hour)))
	ok(w.SetRecordTakedown(ctx, owner, "a.b.c/1", Takedown{Applied: true, Ref: "r"}))
	ok(w.SetBlobTakedown(ctx, owner, w.blob, Takedown{Applied: true, Ref: "r"}))
	ok(w.SetPreferences(ctx, Trusted(owner), func([]Preference) ([]Preference, error) { return []Preference{{"$type": []byte(`"a"`)}}, nil }))
	_, err = w.UserHandle(ctx, Trusted(owner))
	ok(err)
	_, err = w.Keys().Reserve(ctx, third)
	ok(err)
	return w
}

// anew is what another process has: nothing is in its memory.
func (w *flakyWorld) anew(t *testing.T) {
	w.Store = Open(repo.Config{Store: w.flaky.Store, TempDir: t.TempDir(), Now: func() time.Time { return w.clock }}, testBox(t))
}

// A call of the store that fails alone, before others that do not, is the error of whatever needed it. No
// answer is made up of what could be read.
func TestReadsOfWhichOneCallFails(t *testing.T) {
	w := newFlakyWorld(t)
	a, err := w.ByDID(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	list := func(accounts []Account, err error) (any, error) {
		var out []string
		for _, a := range accounts {
			out = append(out, string(a.Handle))
		}
		return out, err
	}
	one := func(a Account, err error) (any, error) { return a.Handle, err }
	for name, read := range map[string]func(ctx context.Context) (any, error){
		"ByDID":        func(ctx context.Context) (any, error) { return one(w.ByDID(ctx, owner)) },
		"Find handle":  func(ctx context.Context) (any, error) { return one(w.Find(ctx, "alice.test")) },
		"Find address": func(ctx context.Context) (any, error) { return one(w.Find(ctx, "alice@example.com")) },
		"ByUserHandle": func(ctx context.Context) (any, error) { return one(w.ByUserHandle(ctx, a.UserHandle)) },
		"Authenticate": func(ctx context.Context) (any, error) { return one(w.Authenticate(ctx, Trusted(owner))) },
		"View": func(ctx context.Context) (any, error) {
			return nil, w.View(ctx, Trusted(owner), func(Account, storage.KVReader) error { return nil })
		},
		"Search": func(ctx context.Context) (any, error) {
			accounts, next, err := w.Search(ctx, Search{Limit: 1})
			out, err := list(accounts, err)
			return fmt.Sprint(out, next), err
		},
		"Search DID": func(ctx context.Context) (any, error) {
			accounts, _, err := w.Search(ctx, Search{Text: owner})
			return list(accounts, err)
		},
		"Search moderated": func(ctx context.Context) (any, error) {
			accounts, _, err := w.Search(ctx, Search{Moderated: true})
			return list(accounts, err)
		},
		"ListAccounts": func(ctx context.Context) (any, error) { return list(w.ListAccounts(ctx, time.Time{}, "", 10)) },
		"DeletionsDue": func(ctx context.Context) (any, error) { return list(w.DeletionsDue(ctx, 10)) },
		"All": func(ctx context.Context) (out any, err error) {
			n := 0
			for _, err := range w.All(ctx) {
				if err != nil {
					return nil, err
				}
				n++
			}
			return n, nil
		},
		"Count": func(ctx context.Context) (any, error) { return w.Count(ctx) },
		"CountStatuses": func(ctx context.Context) (any, error) {
			into := Statuses{}
			_, err := w.CountStatuses(ctx, into, "", 10)
			return into, err
		},
		"Takedowns": func(ctx context.Context) (any, error) {
			list, _, err := w.Takedowns(ctx, owner, "", 10)
			return list, err
		},
		"RecordTakedown": func(ctx context.Context) (any, error) { return w.RecordTakedown(ctx, owner, "a.b.c/1") },
		"BlobTakedown":   func(ctx context.Context) (any, error) { return w.BlobTakedown(ctx, owner, w.blob) },
		"HiddenBlob":     func(ctx context.Context) (any, error) { return w.HiddenBlob(ctx, owner, w.blob) },
		"HiddenRecords": func(ctx context.Context) (any, error) {
			return w.HiddenRecords(ctx, owner, []string{"a.b.c/1", "a.b.c/2"})
		},
		"Preferences": func(ctx context.Context) (any, error) { return w.Preferences(ctx, owner) },
		"Invite":      func(ctx context.Context) (any, error) { return w.Invite(ctx, w.code) },
		"InvitesOf":   func(ctx context.Context) (any, error) { return w.InvitesOf(ctx, owner) },
		"CheckInvite": func(ctx context.Context) (any, error) { return nil, w.CheckInvite(ctx, w.code) },
		"InvitesAfter": func(ctx context.Context) (any, error) {
			n := 0
			for _, err := range w.InvitesAfter(ctx, InvitesByTime, 0, "") {
				if err != nil {
					return nil, err
				}
				n++
			}
			return n, nil
		},
		"AccountInvites": func(ctx context.Context) (any, error) {
			return w.AccountInvites(ctx, "pds.test", Trusted(owner), Earning{})
		},
		"Signer": func(ctx context.Context) (any, error) {
			w.keys.Forget(owner)
			key, err := w.Signer(ctx, owner)
			if err != nil {
				return nil, err
			}
			return key.PublicKey().DIDKey(), nil
		},
		"Reserved": func(ctx context.Context) (any, error) {
			key, err := w.Keys().Reserved(ctx, third)
			if err != nil || key == nil {
				return nil, err
			}
			return key.PublicKey().DIDKey(), nil
		},
		"Checker.Key": func(ctx context.Context) (any, error) {
			key, err := w.Checker().Key(ctx, owner)
			if err != nil {
				return nil, err
			}
			return key.DIDKey(), nil
		},
		"Checker.Incomplete": func(ctx context.Context) (any, error) { return w.Checker().Incomplete(ctx, other) },
		"Check":              func(ctx context.Context) (any, error) { return w.Check(ctx) }, // it looks again at what it could not read
		"checkAll": func(ctx context.Context) (any, error) {
			problems, doubtful, err := w.checkAll(ctx)
			if method, _ := w.flaky.method.Load().(string); len(problems) > 0 || method == "Repos.View" || method == "Reader.Get" {
				return nil, errFlaky // what could not be read of an account is a problem, or one that is known
			}
			return doubtful, err
		},
		"Checker.Others": func(ctx context.Context) (any, error) {
			return nil, w.Checker().Others(ctx, func(syntax.DID, string) {})
		},
	} {
		ctx := t.Context()
		w.flaky.arm(0)
		w.flaky.method.Store("")
		want, err := read(ctx)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		calls := w.flaky.calls.Load()
		if calls == 0 {
			t.Errorf("%s calls nothing", name)
		}
		for n := range calls {
			w.flaky.arm(n + 1)
			got, err := read(ctx)
			w.flaky.arm(0)
			if err == nil && fmt.Sprint(got) != fmt.Sprint(want) || err != nil && !errors.Is(err, errFlaky) {
				t.Errorf("%s, call %d of %d failed: %v, %v; want %v", name, n+1, calls, got, err, want)
			}
			if err == nil && name != "Check" && name != "Checker.Others" {
				t.Errorf("%s, call %d of %d failed: no error", name, n+1, calls)
			}
		}
	}
}

// A change of which one call fails is refused with that call's error, or has been made. Either way, names
// and counts are right when what it left is repaired.
func TestChangesOfWhichOneCallFails(t *testing.T) {
	account := func(did syntax.DID) func(w *flakyWorld) string {
		return func(w *flakyWorld) string {
			a, err := w.ByDID(context.Background(), did)
			n, countErr := w.Count(context.Background())
			return fmt.Sprint(a.Handle, a.Email, a.Status(), a.Moderated, a.UserHandle != "", a.InvitesDisabled, n, err, countErr)
		}
	}
	invites := func(w *flakyWorld) string {
		list, err := w.InvitesOf(context.Background(), owner)
		disabled := 0
		for _, inv := range list {
			if inv.Disabled {
				disabled++
			}
		}
		return fmt.Sprint(len(list), disabled, err)
	}
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	type change struct {
		prepare func(ctx context.Context, w *flakyWorld) error // may be nil
		do      func(ctx context.Context, w *flakyWorld) error
		after   func(w *flakyWorld) string
	}
	down := Takedown{Applied: true, Ref: "x"}
	for name, c := range map[string]change{
		"Create": {nil, func(ctx context.Context, w *flakyWorld) error {
			_, err := w.Create(ctx, Account{DID: third, Handle: "carol.test", Email: "carol@example.com", Invite: w.code}, key, repo.Batch{})
			return err
		}, account(third)},
		"ChangeHandle": {nil, func(ctx context.Context, w *flakyWorld) error {
			return w.ChangeHandle(ctx, Trusted(owner), "ally.test", func(context.Context, syntax.Handle) error { return nil })
		}, account(owner)},
		"ChangeEmail": {nil, func(ctx context.Context, w *flakyWorld) error {
			return w.ChangeEmail(ctx, Trusted(owner), "ally@example.com", nil)
		}, account(owner)},
		"Deactivate": {nil, func(ctx context.Context, w *flakyWorld) error {
			return w.Deactivate(ctx, Trusted(owner), w.clock)
		}, account(owner)},
		"Activate": {nil, func(ctx context.Context, w *flakyWorld) error { return w.Activate(ctx, Trusted(other)) }, account(other)},
		"TakeDown": {nil, func(ctx context.Context, w *flakyWorld) error { return w.TakeDown(ctx, owner, down) }, account(owner)},
		"SetRecordTakedown": {nil, func(ctx context.Context, w *flakyWorld) error {
			return w.SetRecordTakedown(ctx, other, "a.b.c/1", down)
		}, account(other)},
		"Delete": {nil, func(ctx context.Context, w *flakyWorld) error { return w.Delete(ctx, Trusted(owner)) }, account(owner)},
		"UserHandle": {nil, func(ctx context.Context, w *flakyWorld) error {
			_, err := w.UserHandle(ctx, Trusted(other))
			return err
		}, account(other)},
		"SetPreferences": {nil, func(ctx context.Context, w *flakyWorld) error {
			return w.SetPreferences(ctx, Trusted(owner), func(list []Preference) ([]Preference, error) { return append(list, list...), nil })
		}, func(w *flakyWorld) string {
			list, err := w.Preferences(context.Background(), owner)
			return fmt.Sprint(len(list), err)
		}},
		"CreateInvites": {nil, func(ctx context.Context, w *flakyWorld) error {
			_, err := w.CreateInvites(ctx, "pds.test", owner, owner, 3, 1)
			return err
		}, invites},
		"DisableInvites": {nil, func(ctx context.Context, w *flakyWorld) error {
			return w.DisableInvites(ctx, []string{w.code}, []string{owner}, nil)
		}, invites},
		"AccountInvites": {nil, func(ctx context.Context, w *flakyWorld) error {
			w.clock = w.clock.Add(10 * time.Hour)
			_, err := w.AccountInvites(ctx, "pds.test", Trusted(owner), Earning{Interval: time.Hour})
			return err
		}, invites},
		"Keys.Reserve": {nil, func(ctx context.Context, w *flakyWorld) error {
			_, err := w.Keys().Reserve(ctx, "did:plc:dddddddddddddddddddddddd")
			return err
		}, func(w *flakyWorld) string {
			key, err := w.Keys().Reserved(context.Background(), "did:plc:dddddddddddddddddddddddd")
			return fmt.Sprint(key != nil, err)
		}},
		"Keys.Release": {nil, func(ctx context.Context, w *flakyWorld) error { return w.Keys().Release(ctx, third) }, func(w *flakyWorld) string {
			key, err := w.Keys().Reserved(context.Background(), third)
			return fmt.Sprint(key != nil, err)
		}},
		"RotateKey": {nil, func(ctx context.Context, w *flakyWorld) error { return w.RotateKey(ctx, Trusted(owner), nil) }, func(w *flakyWorld) string {
			var left []byte
			err := w.View(context.Background(), Trusted(owner), func(_ Account, r storage.KVReader) error {
				left, _ = r.Get(context.Background(), nextKey)
				return nil
			})
			return fmt.Sprint(len(left), err)
		}},
		"Release": {nil, func(ctx context.Context, w *flakyWorld) error {
			r, err := w.Reserve(ctx, Account{DID: third, Handle: "carol.test", Invite: w.code})
			if err != nil {
				return err
			}
			return r.Release(ctx)
		}, func(w *flakyWorld) string {
			_, err := w.Find(context.Background(), "carol.test")
			return fmt.Sprint(err, w.CheckInvite(context.Background(), w.code))
		}},
		"Repair": {func(ctx context.Context, w *flakyWorld) error {
			if _, err := w.Reserve(ctx, Account{DID: third, Handle: "carol.test", Invite: w.code}); err != nil {
				return err
			}
			w.clock = w.clock.Add(2 * pendingLife)
			return w.store.KV.Write(ctx, func(tx storage.KVTx) error {
				return errors.Join(tx.Delete(ctx, invitesIndexed), putLayout(ctx, tx, layout{Version: 1, Count: 2}))
			})
		}, func(ctx context.Context, w *flakyWorld) error { return w.Repair(ctx) }, func(w *flakyWorld) string {
			var l layout
			err := w.store.KV.Read(context.Background(), func(r storage.KVReader) (err error) {
				l, err = readLayout(context.Background(), r)
				return err
			})
			return fmt.Sprint(l, err, w.CheckInvite(context.Background(), w.code))
		}},
	} {
		ctx := t.Context()
		twice := false
		run := func(failAt int64) (w *flakyWorld, calls int64, err error) {
			w = newFlakyWorld(t)
			if c.prepare != nil {
				if err := c.prepare(ctx, w); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			w.anew(t)
			w.flaky.arm(failAt)
			w.flaky.twice.Store(twice)
			err = c.do(ctx, w)
			w.flaky.twice.Store(false)
			calls = w.flaky.calls.Load()
			w.flaky.arm(0)
			return w, calls, err
		}
		good, calls, err := run(0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := c.after(good)
		twice = true
		if again, _, err := run(0); err != nil || c.after(again) != want {
			t.Errorf("%s, each transaction made twice: %s, want %s: %v", name, c.after(again), want, err)
		}
		twice = false
		for n := range calls {
			w, _, err := run(n + 1)
			if err != nil && !errors.Is(err, errFlaky) || err == nil && name == "Repair" {
				t.Errorf("%s, call %d of %d failed: %v", name, n+1, calls, err)
			}
			if err := w.Repair(ctx); err != nil { // nobody has died: it knows what is left
				t.Fatalf("%s, call %d of %d failed: %v", name, n+1, calls, err)
			}
			if got := c.after(w); err == nil && got != want {
				t.Errorf("%s, call %d of %d failed, and no error: %s, want %s", name, n+1, calls, got, want)
			}
			problems, doubtful, err := w.checkAll(ctx)
			if err != nil || len(problems)+len(doubtful) > 0 {
				t.Errorf("%s, call %d of %d failed: %v %v", name, n+1, calls, problems, err)
			}
			if n := pendingOperations(t, w.Store); n != 0 {
				t.Errorf("%s: %d operations are pending", name, n)
			}
		}
	}
}

// Resealing that fails at one call has sealed some secrets, and says so; the next one seals the rest.
func TestResealOfWhichOneCallFails(t *testing.T) {
	for failAt := int64(1); ; failAt++ {
		w := newFlakyWorld(t)
		next := Open(repo.Config{Store: w.flaky.Store, TempDir: t.TempDir(), Now: func() time.Time { return w.clock }}, secondBox(t))
		w.flaky.arm(failAt)
		first, err := next.Reseal(t.Context(), nil)
		failed := w.flaky.calls.Load() >= failAt
		w.flaky.arm(0)
		if failed != errors.Is(err, errFlaky) {
			t.Errorf("call %d: %v", failAt, err)
		}
		second, err := next.Reseal(t.Context(), nil)
		if err != nil || first+second != 3 {
			t.Errorf("call %d: %d and %d secrets, %v", failAt, first, second, err)
		}
		if !failed {
			break
		}
	}
}
