package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// stuckKV cannot be written while it is full. It calls wrote, if not nil, after a transaction.
type stuckKV struct {
	storage.KV
	full  atomic.Bool
	wrote func()
}

var errFull = errors.New("the disk is full")

func (k *stuckKV) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if k.full.Load() {
		return errFull
	}
	err := k.KV.Write(ctx, fn)
	if k.wrote != nil {
		k.wrote()
	}
	return err
}

const other = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")

// newStuck returns a store with one account whose key-value store can be full.
func newStuck(t *testing.T) (*Store, *stuckKV, *time.Time) {
	t.Helper()
	clock := time.Now()
	store := memory.New(memory.Config{})
	kv := &stuckKV{KV: store.KV}
	store.KV = kv
	s := Open(repo.Config{Store: store, TempDir: t.TempDir(), Now: func() time.Time { return clock }}, testBox(t))
	newAccount(t, s, Account{DID: owner, Handle: "alice.test", Email: "alice@example.com"})
	return s, kv, &clock
}

func newAccount(t *testing.T, s *Store, a Account) {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err == nil {
		_, err = s.Create(t.Context(), a, key, repo.Batch{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sound(t *testing.T, s *Store) {
	t.Helper()
	if problems, err := s.Check(t.Context()); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// An operation that took effect has succeeded, though it could not be finished. What it leaves is
// put right by whoever wants a name, without a restart and without waiting.
func TestOperationThatCannotBeFinished(t *testing.T) {
	ctx := t.Context()
	s, kv, _ := newStuck(t)
	err := s.ChangeHandle(ctx, Trusted(owner), "ally.test", func(context.Context, syntax.Handle) error { kv.full.Store(true); return nil })
	if err != nil {
		t.Fatal(err)
	}
	sound(t, s)
	kv.full.Store(false)
	newAccount(t, s, Account{DID: other, Handle: "alice.test", Email: "bob@example.com"}) // the name that was given up
	if err := s.Repair(ctx); err != nil {
		t.Fatal(err)
	}
	sound(t, s)
	if n := pendingOperations(t, s); n != 0 {
		t.Errorf("%d operations are pending", n)
	}
	// And Repair does it too.
	err = s.ChangeHandle(ctx, Trusted(owner), "alan.test", func(context.Context, syntax.Handle) error { kv.full.Store(true); return nil })
	if err != nil {
		t.Fatal(err)
	}
	kv.full.Store(false)
	if n := pendingOperations(t, s); n != 1 {
		t.Errorf("%d operations are pending", n)
	}
	if err := s.Repair(ctx); err != nil {
		t.Fatal(err)
	}
	if n := pendingOperations(t, s); n != 0 {
		t.Errorf("%d operations are pending", n)
	}
}

// A process is killed while it makes an account. The one that has the storage for itself after it can
// use the name at once; one that may have others beside it cannot.
func TestRepairAlone(t *testing.T) {
	ctx := t.Context()
	s, _, _ := newStuck(t)
	killed := Account{DID: other, Handle: "bob.test", Email: "bob@example.com"}
	if _, err := s.Reserve(ctx, killed); err != nil { // and nothing after that
		t.Fatal(err)
	}
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	next := Open(repo.Config{Store: s.store, TempDir: t.TempDir(), Now: s.now}, testBox(t))
	again := Account{DID: numbered(1), Handle: killed.Handle, Email: killed.Email}
	if err := next.Repair(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err = next.Create(ctx, again, key, repo.Batch{}); !errors.Is(err, ErrHandleTaken) {
		t.Fatal(err)
	}
	if err := next.RepairAlone(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err = next.Create(ctx, again, key, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	sound(t, next)
	if n := pendingOperations(t, next); n != 0 {
		t.Errorf("%d operations are pending", n)
	}
}

func pendingOperations(t *testing.T, s *Store) (n int) {
	t.Helper()
	err := s.store.KV.Read(t.Context(), func(r storage.KVReader) error {
		for _, err := range r.Keys(t.Context(), storage.Prefix(pendingPrefix)) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// newUncounted is a store as another process sees it that finds the account other, whose creation
// could not be finished: it is there, and is not counted.
func newUncounted(t *testing.T) *Store {
	t.Helper()
	ctx := t.Context()
	s, kv, _ := newStuck(t)
	r, err := s.Reserve(ctx, Account{DID: other, Handle: "bob.test", Email: "bob@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	kv.full.Store(true)
	if _, err := r.Create(ctx, key, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	kv.full.Store(false)
	clear(s.unfinished) // as another process
	return s
}

// A deletion counts an account whose creation could not be finished.
func TestDeletionOfAnAccountThatWasNotCounted(t *testing.T) {
	ctx := t.Context()
	s := newUncounted(t)
	if err := s.Delete(ctx, Trusted(other)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Count(ctx); err != nil || n != 1 {
		t.Errorf("%d accounts were counted (%v)", n, err)
	}
}

// A deletion that is refused counts such an account, and the operation that made it does not count it
// again.
func TestRefusedDeletionOfAnAccountThatWasNotCounted(t *testing.T) {
	ctx := t.Context()
	s := newUncounted(t)
	asked := 0
	err := s.DeleteIf(ctx, Trusted(other), func(Account, storage.KVReader) error {
		if asked++; asked == 2 {
			return errFlaky
		}
		return nil
	})
	if !errors.Is(err, errFlaky) {
		t.Error(err)
	}
	if err := s.RepairAlone(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Count(ctx); err != nil || n != 2 {
		t.Errorf("%d accounts were counted (%v)", n, err)
	}
	sound(t, s)
}

// Between the first step of a deletion and its last, another process deletes the account too, and may
// make one anew with the same names, which may not be counted yet. The deletion takes that one, and
// each is counted once.
func TestDeletionsAtOnce(t *testing.T) {
	for _, anew := range []string{"", "counted", "not counted"} {
		t.Run(anew, func(t *testing.T) { deletionsAtOnce(t, anew) })
	}
}

func deletionsAtOnce(t *testing.T, anew string) {
	ctx := t.Context()
	s, kv, _ := newStuck(t)
	next := Open(repo.Config{Store: s.store, TempDir: t.TempDir(), Now: s.now}, testBox(t))
	newAccount(t, next, Account{DID: other, Handle: "bob.test", Email: "bob@example.com"})
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	kv.wrote = func() { // the deletion has left its note
		kv.wrote = nil
		if err := next.Delete(ctx, Trusted(owner)); err != nil || anew == "" {
			if err != nil {
				t.Error(err)
			}
			return
		}
		r, err := next.Reserve(ctx, Account{DID: owner, Handle: "alice.test", Email: "alice@example.com"})
		if err != nil {
			t.Fatal(err)
		}
		kv.full.Store(anew == "not counted")
		defer kv.full.Store(false)
		if _, err := r.Create(ctx, key, repo.Batch{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(ctx, Trusted(owner)); err != nil && (anew != "" || !errors.Is(err, ErrNotFound)) {
		t.Fatal(err)
	}
	if _, err := s.ByDID(ctx, owner); !errors.Is(err, ErrNotFound) {
		t.Errorf("the account is there: %v", err)
	}
	if n, err := s.Count(ctx); err != nil || n != 1 {
		t.Errorf("%d accounts were counted (%v)", n, err)
	}
}

// A reservation that takes long is renewed before the account is made. If its process was taken for
// dead meanwhile, it gets its names back, or none of them if one is another's now.
func TestReservationThatTakesLong(t *testing.T) {
	ctx := t.Context()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	for _, late := range []string{"", "repaired", "taken"} {
		s, _, now := newStuck(t)
		codes, err := s.CreateInvites(ctx, "pds.test", "admin", "admin", 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CheckInvite(ctx, codes[0]); err != nil {
			t.Error(err)
		}
		r, err := s.Reserve(ctx, Account{DID: other, Handle: "bob.test", Email: "bob@example.com", Invite: codes[0]})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CheckInvite(ctx, codes[0]); !errors.Is(err, ErrInvite) {
			t.Errorf("the code is free: %v", err)
		}
		*now = now.Add(5 * time.Minute)
		if late != "" {
			*now = now.Add(time.Hour)
			if err := s.Repair(ctx); err != nil {
				t.Fatal(err)
			}
			if err := s.CheckInvite(ctx, codes[0]); err != nil {
				t.Errorf("the code is not free: %v", err)
			}
		}
		if late == "taken" {
			newAccount(t, s, Account{DID: "did:plc:cccccccccccccccccccccccc", Handle: "bob.test", Email: "carol@example.com"})
		}
		_, err = r.Create(ctx, key, repo.Batch{})
		if errors.Is(err, ErrHandleTaken) != (late == "taken") || late != "taken" && err != nil {
			t.Errorf("%q: %v", late, err)
		}
		if err := r.Release(ctx); err != nil {
			t.Error(err)
		}
		if err := s.CheckInvite(ctx, codes[0]); errors.Is(err, ErrInvite) != (late != "taken") {
			t.Errorf("%q: the code: %v", late, err)
		}
		sound(t, s)
		if n := pendingOperations(t, s); n != 0 {
			t.Errorf("%q: %d operations are pending", late, n)
		}
	}
}

func TestMisuse(t *testing.T) {
	store := memory.New(memory.Config{})
	box := testBox(t)
	keys := NewKeys(KeysConfig{Store: store, Box: box})
	host := repo.NewHost(repo.Config{Store: store, Signer: keys.Signer, TempDir: t.TempDir()})
	without := store
	without.KV = nil
	for want, fn := range map[string]func(){
		"":            func() { New(Config{Host: host, Keys: keys}) },
		"Config.Host": func() { New(Config{Keys: keys}) },
		"Config.Keys": func() { New(Config{Host: host}) },
		"has no KV": func() {
			New(Config{Host: repo.NewHost(repo.Config{Store: without, Signer: keys.Signer, TempDir: t.TempDir()}), Keys: keys})
		},
		"KeysConfig.Store":    func() { NewKeys(KeysConfig{Box: box}) },
		"needs Repos and KV":  func() { NewKeys(KeysConfig{Store: without, Box: box}) },
		"KeysConfig.Box":      func() { NewKeys(KeysConfig{Store: store}) },
		"needs an Admission":  func() { NewCaller(owner, "", nil) },
		"Config.Store.Blobs ": func() { Open(repo.Config{Store: storage.Store{Repos: store.Repos, KV: store.KV}}, box) },
	} {
		got := func() (got string) {
			defer func() {
				if r := recover(); r != nil {
					got = fmt.Sprint(r)
				}
			}()
			fn()
			return ""
		}()
		if !strings.Contains(got, strings.TrimSpace(want)) || (got == "") != (want == "") {
			t.Errorf("%s: %q", want, got)
		}
	}
	s, _ := newStore(t)
	if _, err := s.Authenticate(t.Context(), Caller{DID: owner}); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("nobody: %v", err)
	}
}

// The directory is told of what the account has in the end, however often that changes meanwhile.
func TestRenameTakenBackMeanwhile(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	elsewhere := Open(repo.Config{Store: s.store, TempDir: t.TempDir()}, testBox(t))
	broken := errors.New("refused")
	var told []syntax.Handle
	err := s.ChangeHandle(ctx, NewCaller(owner, "", func(context.Context, storage.KVReader, Account) ([]storage.KVCheck, error) {
		if len(told) > 0 {
			return nil, broken
		}
		return nil, nil
	}), "ally.test", func(_ context.Context, h syntax.Handle) error {
		if told = append(told, h); len(told) == 2 { // another process renames while it is taken back
			return elsewhere.ChangeHandle(ctx, Trusted(owner), "alan.test", nil)
		}
		return nil
	})
	if !errors.Is(err, broken) || fmt.Sprint(told) != "[ally.test alice.test alan.test]" {
		t.Errorf("the directory was told %v: %v", told, err)
	}
	sound(t, s)
}
