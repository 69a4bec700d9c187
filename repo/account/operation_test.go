package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
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

// A deletion counts an account whose creation could not be finished.
func TestDeletionOfAnAccountThatWasNotCounted(t *testing.T) {
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
	clear(s.over) // as another process
	if err := s.Delete(ctx, Trusted(other)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Count(ctx); err != nil || n != 1 {
		t.Errorf("%d accounts were counted (%v)", n, err)
	}
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

// What names do not say is wrong is found, about whom it is.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	kv := func(key, value string) func(ctx context.Context, s *Store) error {
		return func(ctx context.Context, s *Store) error {
			return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
				if value == "" {
					return tx.Delete(ctx, key)
				}
				return tx.Set(ctx, key, []byte(value), time.Time{})
			})
		}
	}
	row := func(doc string) func(ctx context.Context, s *Store) error {
		return func(ctx context.Context, s *Store) error {
			_, err := s.host.Step(ctx, owner, func(step *repo.Step) error {
				step.KV = []storage.KVWrite{{Key: accountKey}}
				if doc != "" {
					step.KV[0].Value = []byte(doc)
				}
				return nil
			})
			return err
		}
	}
	for want, damage := range map[string]func(ctx context.Context, s *Store) error{
		"handle/alice.test is not kept":            kv("handle/alice.test", ""),
		"handle/alice.test belongs to did:plc:x":   kv("handle/alice.test", "did:plc:x"),
		"handle/more.test is kept for it":          kv("handle/more.test", owner),
		"there is a repository, but no account":    row(""),
		"the account cannot be read":               row("{"),
		"the account says that it is did:plc:else": row(`{"did":"did:plc:else","handle":"alice.test"}`),
		"1 repositories, but 7 accounts":           kv("accounts", `{"version":1,"count":7}`),
	} {
		synctest.Test(t, func(t *testing.T) { // Check looks again after a while
			ctx := t.Context()
			s, _ := newStore(t)
			if err := damage(ctx, s); err != nil {
				t.Fatal(err)
			}
			problems, err := s.Check(ctx)
			found := false
			for _, p := range problems {
				found = found || strings.Contains(p.What, want)
			}
			if err != nil || !found {
				t.Errorf("%s: %v %v", want, problems, err)
			}
			gone, cancel := context.WithCancel(ctx)
			cancel()
			if _, err := s.Check(gone); !errors.Is(err, context.Canceled) {
				t.Errorf("a check that is given up: %v", err)
			}
		})
	}
}

func TestCheckerOfAccounts(t *testing.T) { synctest.Test(t, checkerOfAccounts) }

func checkerOfAccounts(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	c := s.Checker()
	key, err := c.Key(ctx, owner)
	signer, signerErr := s.Signer(ctx, owner)
	if err != nil || signerErr != nil || !key.Equal(signer.PublicKey()) {
		t.Errorf("%v %v", err, signerErr)
	}
	if _, err := c.Key(ctx, other); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's key: %v", err)
	}
	if is, err := c.Incomplete(ctx, owner); is || err != nil {
		t.Errorf("%v %v", is, err)
	}
	if err := s.Deactivate(ctx, Trusted(owner), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if is, err := c.Incomplete(ctx, owner); !is || err != nil {
		t.Errorf("deactivated: %v %v", is, err)
	}
	if is, err := c.Incomplete(ctx, other); is || err != nil {
		t.Errorf("nobody: %v %v", is, err)
	}
	if err := s.store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, "handle/alice.test") }); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := c.Others(ctx, func(did syntax.DID, what string) { n++ }); err != nil || n != 1 {
		t.Errorf("%d problems, %v", n, err)
	}
}

// Lists have their order, their pages and their bounds.
func TestLists(t *testing.T) {
	ctx := t.Context()
	s, now := newStore(t)
	for i := range 25 {
		a := Account{DID: numbered(i), Handle: syntax.Handle(fmt.Sprintf("user%02d.test", i)), Email: fmt.Sprintf("user%02d@example.com", i), Created: now.Add(time.Duration(i%5) * time.Second)}
		newAccount(t, s, a)
		if i%2 == 0 {
			if err := s.Deactivate(ctx, Trusted(a.DID), now.Add(-time.Duration(i)*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		if i%4 == 0 {
			if err := s.TakeDown(ctx, a.DID, Takedown{Applied: true, Ref: "x"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var after time.Time
	var last syntax.DID
	seen := 0
	for {
		page, err := s.ListAccounts(ctx, after, last, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page {
			if seen++; a.Created.Before(after) {
				t.Errorf("%s comes too late", a.DID)
			}
			after, last = a.Created, a.DID
		}
		if len(page) < 10 {
			break
		}
	}
	if seen != 26 {
		t.Errorf("%d accounts are listed", seen)
	}
	all := 0
	for a, err := range s.All(ctx) {
		if err != nil || a.DID == "" {
			t.Error(err)
		}
		all++
	}
	for range s.All(ctx) {
		break
	}
	if all != 26 {
		t.Errorf("there are %d accounts", all)
	}
	for limit, want := range map[int]int{3: 3, 6: 6, 100: 6} {
		due, err := s.DeletionsDue(ctx, limit)
		if err != nil || len(due) != want {
			t.Errorf("%d are due (%v), want %d", len(due), err, want)
		}
	}
	if _, err := s.Account(ctx, "alice@example.com"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an address is no identifier: %v", err)
	}
	if a, err := s.Account(ctx, "ALICE.test"); err != nil || a.DID != owner {
		t.Errorf("%s %v", a.DID, err)
	}
	if _, err := s.Update(ctx, Trusted(owner), func(a *Account, _ *repo.Step) error { a.Handle = "x.test"; return nil }); !errors.Is(err, ErrNameChange) {
		t.Errorf("a name changed by Update: %v", err)
	}
	if err := s.AnnounceStatus(ctx, Trusted(owner)); err != nil {
		t.Error(err)
	}
}

func TestTakedownsOfParts(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	blob := cid.NewCidV1(cid.Raw, dag.Sum(dag.Raw, []byte("x")).Hash())
	if err := s.SetBlobTakedown(ctx, owner, blob, Takedown{Applied: true, Ref: "r"}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRecordTakedown(ctx, owner, "a.b.c/one", Takedown{Applied: true, Ref: "s"}); err != nil {
		t.Fatal(err)
	}
	if d, err := s.BlobTakedown(ctx, owner, blob); err != nil || d != (Takedown{true, "r"}) {
		t.Errorf("%+v %v", d, err)
	}
	if hidden, err := s.HiddenBlob(ctx, owner, blob); err != nil || !hidden {
		t.Errorf("%v %v", hidden, err)
	}
	if hidden, err := s.HiddenRecords(ctx, owner, []string{"a.b.c/one", "a.b.c/two"}); err != nil || len(hidden) != 1 || !hidden["a.b.c/one"] {
		t.Errorf("%v %v", hidden, err)
	}
	if a, err := s.ByDID(ctx, owner); err != nil || !a.Moderated {
		t.Errorf("%+v %v", a, err)
	}
	if _, err := s.BlobTakedown(ctx, other, blob); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's blob: %v", err)
	}
	if err := s.TakeDown(ctx, owner, Takedown{Applied: true}); err == nil {
		t.Error("a takedown without a reference")
	}
	if p := (Preference{"$type": []byte(`"a.b.c"`)}); p.Type() != "a.b.c" {
		t.Error(p.Type())
	}
	broken := errors.New("no")
	if err := s.SetPreferences(ctx, Trusted(owner), func([]Preference) ([]Preference, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestReservedKeys(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	k := s.Keys()
	first, err := k.Reserve(ctx, other)
	again, errAgain := k.Reserve(ctx, other)
	if err != nil || errAgain != nil || first != again {
		t.Errorf("%s %v, then %s %v", first, err, again, errAgain)
	}
	if unbound, err := k.Reserve(ctx, ""); err != nil || unbound == first {
		t.Errorf("%s %v", unbound, err)
	}
	if key, err := k.Reserved(ctx, other); err != nil || key.PublicKey().DIDKey() != first {
		t.Errorf("%v", err)
	}
	for range 2 {
		if err := k.Release(ctx, other); err != nil {
			t.Error(err)
		}
	}
	if key, err := k.Reserved(ctx, other); err != nil || key != nil {
		t.Errorf("after its release: %v %v", key, err)
	}
}

// The first commit of a new account reads no key.
func TestNewKeyIsInMemory(t *testing.T) {
	s, _ := newStore(t)
	if _, ok := s.keys.open.Get(owner); !ok {
		t.Error("the key of a new account is not in memory")
	}
}

// A key that cannot be unsealed is an error that says whose it is.
func TestDamagedKey(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	_, err := s.host.Step(ctx, owner, func(step *repo.Step) error {
		step.Set(signingKey, []byte("rubbish"), time.Time{})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.keys.Forget(owner)
	if _, err := s.Signer(ctx, owner); err == nil || !strings.Contains(err.Error(), owner) {
		t.Errorf("%v", err)
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

// A key that is rotated while the directory does not answer is the same at the next attempt, and
// commits are signed with the old one until then.
func TestRotateKeyInTwoAttempts(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	before, err := s.Signer(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("no answer")
	var told []string
	register := func(fails bool) func(context.Context, *crypto.PublicKey) error {
		return func(_ context.Context, key *crypto.PublicKey) error {
			told = append(told, key.DIDKey())
			if fails {
				return down
			}
			return nil
		}
	}
	if err := s.RotateKey(ctx, Trusted(owner), register(true)); !errors.Is(err, down) {
		t.Errorf("%v", err)
	}
	if now, err := s.Signer(ctx, owner); err != nil || !now.PublicKey().Equal(before.PublicKey()) {
		t.Errorf("the key changed: %v", err)
	}
	if err := s.RotateKey(ctx, Trusted(owner), register(false)); err != nil {
		t.Fatal(err)
	}
	now, err := s.Signer(ctx, owner)
	if err != nil || len(told) != 2 || told[0] != told[1] || now.PublicKey().DIDKey() != told[1] {
		t.Errorf("%v: %v", told, err)
	}
	s.keys.Forget(owner)
	if stored, err := s.Signer(ctx, owner); err != nil || !stored.PublicKey().Equal(now.PublicKey()) {
		t.Errorf("another one is stored: %v", err)
	}
	if err := s.RotateKey(ctx, Trusted(other), nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's: %v", err)
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
