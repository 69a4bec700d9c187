package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// The bounds of lists hold, whatever a caller asks for, and the keys of a prefix are seen, however many.
func TestListsOfManyKeys(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	const n = 2100
	err := s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		for i := range n {
			if err := tx.Set(ctx, fmt.Sprintf("handle/a%05d.test", i), []byte(owner), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]int{-1: searchLimit, 0: searchLimit, 7: 7, maxSearchLimit: maxSearchLimit, maxSearchLimit + 1: maxSearchLimit} {
		if list, _, err := s.Search(ctx, Search{Text: "a", Limit: limit}); err != nil || len(list) != want || searchLimit != 50 || maxSearchLimit != 100 {
			t.Errorf("limit %d: %d accounts, %v", limit, len(list), err)
		}
	}
	seen := map[string]bool{}
	if err := s.eachKey(ctx, handlePrefix, func(key string) error { seen[key] = true; return nil }); err != nil || len(seen) != n+1 {
		t.Errorf("%d keys, %v", len(seen), err)
	}
	calls := 0
	if err := s.eachKey(ctx, handlePrefix, func(string) error { calls++; return errFlaky }); !errors.Is(err, errFlaky) || calls != 1 {
		t.Errorf("%d keys after an error, %v", calls, err)
	}
	if keys := slices.Sorted(maps.Keys(seen)); keys[0] != "handle/a00000.test" || keys[n] != "handle/alice.test" {
		t.Errorf("%s to %s", keys[0], keys[n])
	}
}

// The times of an operation have bounds: when its claims are made sure of again, and when it is over.
func TestTimesOfOperations(t *testing.T) {
	ctx := t.Context()
	s, kv, now := newStuck(t)
	begun := *now
	r, err := s.Reserve(ctx, Account{DID: other, Handle: "bob.test"})
	if err != nil {
		t.Fatal(err)
	}
	kv.full.Store(true) // whatever is written fails
	for age, writes := range map[time.Duration]bool{0: false, pendingLife/4 - 1: false, pendingLife / 4: true, -1: true} {
		*now = begun.Add(age)
		r.op.renewed = begun
		if err := r.op.renew(ctx); errors.Is(err, errFull) != writes {
			t.Errorf("after %v: %v", age, err)
		}
	}
	kv.full.Store(false)
	for age, over := range map[time.Duration]bool{0: false, pendingLife: false, pendingLife + 1: true, -time.Minute: false, -time.Minute - 1: true} {
		*now = begun.Add(age)
		if got := s.abandoned("pending/x", note{At: begun}); got != over {
			t.Errorf("a note of %v ago is abandoned: %v", age, got)
		}
	}
	s.unfinished["pending/x"] = true
	if *now = begun; !s.abandoned("pending/x", note{At: begun}) {
		t.Error("an operation that could not be finished is not over")
	}
	// So have keys that are reserved.
	k := s.Keys()
	day := begun.Add(time.Hour)
	k.day, k.reserved = day, manyReserved-1
	for _, x := range []struct {
		at   time.Duration
		want time.Duration
	}{{0, reservedLife}, {0, floodedLife}, {24*time.Hour - 1, floodedLife}, {24 * time.Hour, reservedLife}} {
		if got := k.lifeOfReserved(day.Add(x.at)); got != x.want {
			t.Errorf("after %v: %v", x.at, got)
		}
	}
	k.reserved = manyReserved
	if got := k.lifeOfReserved(day.Add(24*time.Hour - 1)); got != reservedLife {
		t.Errorf("after the clock was put back: %v", got)
	}
}

// An operation covers what it has claimed, and what it gives up.
func TestWhatAnOperationCovers(t *testing.T) {
	op := &operation{claims: []claim{{key: "new"}}, note: note{Keys: []string{"old", "new"}}}
	for _, x := range []struct {
		op       *operation
		old, now []string
		want     bool
	}{
		{op, []string{"old"}, []string{"new"}, true}, {op, []string{"old", "kept"}, []string{"kept", "new"}, true}, {op, []string{"old"}, nil, true}, {op, nil, nil, true},
		{op, []string{"old"}, []string{"else"}, false}, {op, []string{"else"}, []string{"new"}, false}, {op, nil, []string{"old"}, false}, {nil, nil, []string{"new"}, false},
	} {
		if got := x.op.covers(x.old, x.now); got != x.want {
			t.Errorf("%v to %v: %v", x.old, x.now, got)
		}
	}
}

// What ended with a takedown is told so, and what ended before or since is not.
func TestWhatTheTakedownEnded(t *testing.T) {
	down := Account{TakedownRef: "x", Credentials: 5, TakedownCredentials: 5}
	for _, x := range []struct {
		name   string
		change func(*Account)
		under  int64
		want   error
	}{
		{"until the takedown", func(*Account) {}, 4, ErrTakenDown}, {"before", func(*Account) {}, 3, ErrTokenRevoked}, {"since", func(*Account) {}, 5, ErrTokenRevoked},
		{"raised since", func(a *Account) { a.Credentials = 6 }, 5, ErrTokenRevoked}, {"up again", func(a *Account) { a.TakedownRef = "" }, 4, ErrTokenRevoked},
	} {
		a := down
		x.change(&a)
		if err := a.Ended(x.under); !errors.Is(err, x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

// A key that was read while another process has put a new one is used once, and not remembered.
func TestKeyThatIsReplacedWhileItIsRead(t *testing.T) {
	w := newFlakyWorld(t)
	w.anew(t)
	if _, err := w.keys.Signer(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.keys.open.Get(owner); !ok {
		t.Error("one that nobody has replaced is not remembered")
	}
	next, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	replace := w.keys.Forget
	f := storagetest.Faults{Before: func(method string) error {
		if method == "Repos.View" {
			replace(owner)
		}
		return nil
	}}
	w.keys.store = f.Wrap(w.keys.store)
	w.keys.Forget(owner)
	if _, err := w.keys.Signer(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.keys.open.Get(owner); ok {
		t.Error("it is remembered")
	}
	replace = func(did syntax.DID) { w.keys.put(did, next, []byte("sealed")) }
	if _, err := w.keys.Signer(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if key, ok := w.keys.open.Get(owner); !ok || !key.PublicKey().Equal(next.PublicKey()) {
		t.Error("it is remembered instead of the new one")
	}
}

// secondBox has another first key than testBox, and that one too.
func secondBox(t *testing.T) *sealed.Box {
	t.Helper()
	box, err := sealed.New(bytes.Repeat([]byte{1}, sealed.KeySize), make([]byte, sealed.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// Names that another process has changed meanwhile are looked at again, a few times.
func TestNamesThatMoveMeanwhile(t *testing.T) {
	ctx := t.Context()
	agreed := func(context.Context, syntax.Handle) error { return nil }
	for most, want := range map[int]int{1: 2, 100: 9} {
		w := newFlakyWorld(t)
		another := Open(repo.Config{Store: w.flaky.Store, TempDir: t.TempDir(), Now: func() time.Time { return w.clock }}, testBox(t))
		calls := 0
		err := w.ChangeHandle(ctx, Trusted(owner), "ally.test", func(ctx context.Context, name syntax.Handle) error {
			if name != "ally.test" { // the account is as it was
				return nil
			}
			if calls++; calls > most {
				return nil
			}
			return another.ChangeHandle(ctx, Trusted(owner), syntax.Handle(fmt.Sprintf("between%d.test", calls)), agreed)
		})
		if calls != want || (err == nil) != (most == 1) || err != nil && !errors.Is(err, storage.ErrConflict) {
			t.Errorf("%d moves: %v after %d attempts", most, err, calls)
		}
		if a, findErr := w.Find(ctx, "ally.test"); (findErr == nil) != (err == nil) || findErr == nil && a.DID != owner {
			t.Errorf("%d moves: %+v, %v", most, a, findErr)
		}
	}
}

// A name that is kept for an account under another name finds nobody.
func TestNameOfAnAccountThatHasAnother(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	err := w.store.KV.Write(ctx, func(tx storage.KVTx) error {
		return errors.Join(tx.Set(ctx, "handle/another.test", []byte(owner), time.Time{}), tx.Set(ctx, "email/another@example.com", []byte(owner), time.Time{}))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"another.test", "another@example.com"} {
		if a, err := w.Find(ctx, name); !errors.Is(err, ErrNotFound) || a.DID != "" {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if problems, doubtful, err := w.checkAll(ctx); err != nil || len(problems)+len(doubtful) == 0 {
		t.Errorf("nothing is wrong: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	if problems, err := w.Check(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a check that was cut short: %v, %v", problems, err)
	}
}

// A key that is missing by which deactivated accounts are found is a problem.
func TestMissingTimeOfDeletion(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	gone := 0
	err := w.eachKey(ctx, deleteAfterPrefix, func(key string) error {
		gone++
		return w.store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, key) })
	})
	if err != nil || gone != 1 {
		t.Fatal(gone, err)
	}
	if problems, doubtful, err := w.checkAll(ctx); err != nil || len(problems)+len(doubtful) == 0 {
		t.Errorf("nothing is wrong: %v", err)
	}
}

// The key of an account that was deleted is not kept in memory.
func TestKeyOfADeletedAccount(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	if _, err := w.Signer(ctx, owner); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.keys.open.Get(owner); !ok {
		t.Fatal("it is not in memory before")
	}
	if err := w.Delete(ctx, Trusted(owner)); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.keys.open.Get(owner); ok {
		t.Error("it is in memory")
	}
}

// What changes nothing writes nothing. What waits for its turn ends with its caller.
func TestChangesOfNothing(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	applied := 0
	faults := storagetest.Faults{Before: func(method string) error {
		if method == "Repos.Apply" {
			applied++
		}
		return nil
	}}
	counted := Open(repo.Config{Store: faults.Wrap(w.flaky.Store), TempDir: t.TempDir(), Now: func() time.Time { return w.clock }}, testBox(t))
	for want, fn := range []func(a *Account, step *repo.Step) error{
		func(*Account, *repo.Step) error { return nil },
		func(a *Account, _ *repo.Step) error { a.InvitesDisabled = true; return nil },
	} {
		if _, err := counted.Update(ctx, Trusted(owner), fn); err != nil || applied != want {
			t.Errorf("%d writes, want %d: %v", applied, want, err)
		}
	}
	done, err := counted.host.Turn(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	left, cancel := context.WithCancel(ctx)
	cancel()
	for name, err := range map[string]error{
		"RotateKey":    counted.RotateKey(left, Trusted(owner), nil),
		"ChangeHandle": counted.ChangeHandle(left, Trusted(owner), "ally.test", func(context.Context, syntax.Handle) error { return nil }),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s out of turn: %v", name, err)
		}
	}
	w.clock = w.clock.Add(10 * time.Hour)
	list, err := w.AccountInvites(ctx, "pds.test", Trusted(owner), Earning{Interval: time.Hour})
	if err != nil || len(list) < 3 {
		t.Fatal(list, err)
	}
	for _, inv := range list {
		if inv.Code != w.code && inv.Account == string(owner) && inv.CreatedBy == string(owner) && inv.Created.Equal(w.clock) && inv.Available != 1 {
			t.Errorf("an earned code is good for %d accounts", inv.Available)
		}
	}
	for in, want := range map[string][2]string{"x": {"x", ""}, "/x": {"", "x"}, "a/b/c": {"a/b", "c"}, "a/": {"a", ""}, "": {"", ""}} {
		if before, after, ok := cutLast(in); before != want[0] || after != want[1] || ok != (in != "" && in != "x") {
			t.Errorf("%q: %q, %q, %v", in, before, after, ok)
		}
	}
}

// A deletion that is refused, when it is asked for or at the last moment, deletes nothing and leaves no
// operation behind.
func TestDeletionThatIsRefused(t *testing.T) {
	for refusedAt := 1; refusedAt <= 2; refusedAt++ {
		w, ctx := newFlakyWorld(t), t.Context()
		asked := 0
		err := w.DeleteIf(ctx, Trusted(owner), func(a Account, _ storage.KVReader) error {
			if asked++; asked == refusedAt {
				return errFlaky
			}
			return nil
		})
		if !errors.Is(err, errFlaky) || asked != refusedAt {
			t.Errorf("refused at %d: %v, asked %d times", refusedAt, err, asked)
		}
		if a, err := w.Find(ctx, "alice.test"); err != nil || a.DID != owner {
			t.Errorf("refused at %d: %+v, %v", refusedAt, a, err)
		}
		if n := pendingOperations(t, w.Store); n != 0 {
			t.Errorf("refused at %d: %d operations are pending", refusedAt, n)
		}
	}
}
