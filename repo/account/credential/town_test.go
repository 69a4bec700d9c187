package credential

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

// hooked is a store with a place to put what happens between a look at an account and the step
// that relies on it.
type hooked struct {
	storage.Repos
	mu    sync.Mutex
	apply func() // called once, before the next step of an account that is there
}

func (h *hooked) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	h.mu.Lock()
	f := h.apply
	h.apply = nil
	h.mu.Unlock()
	if f != nil {
		f()
	}
	return h.Repos.Apply(ctx, did, c)
}

// before has fn called once, before the next step.
func (h *hooked) before(fn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.apply = fn
}

const password = "correct horse"

// note is a record: {"$type": "com.example.note"}.
var note = append([]byte{0xa1, 0x65}, "$type\x70com.example.note"...)

var passwordHash = sync.OnceValue(func() string {
	s := &Store{enter: places(1)}
	hash, err := s.HashPassword(context.Background(), password)
	if err != nil {
		panic(err)
	}
	return hash
})

// town is a store with one account, its host, and a hook.
type town struct {
	*Store
	t    *testing.T
	hook *hooked
	// other is another process over the same store, past the hook.
	other *Store
}

func newTown(t *testing.T) *town {
	t.Helper()
	store := memory.New(memory.Config{})
	w := &town{t: t, hook: &hooked{Repos: store.Repos}}
	w.other = open(t, store)
	store.Repos = w.hook
	w.Store = open(t, store)
	w.create(owner, "alice.test", "alice@example.com")
	return w
}

func open(t *testing.T, store storage.Store) *Store {
	t.Helper()
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Accounts: account.Open(repo.Config{Store: store, TempDir: t.TempDir()}, box)})
}

// elsewhere is the town as another process has it.
func (w *town) elsewhere() *town { return &town{Store: w.other, t: w.t, hook: w.hook, other: w.other} }

func (w *town) create(did syntax.DID, handle syntax.Handle, email string) {
	w.t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	w.ok(err)
	a := account.Account{DID: did, Handle: handle, Email: email, Created: time.Now().UTC(), Password: passwordHash()}
	_, err = w.accounts.Create(w.t.Context(), a, key, repo.Batch{})
	w.ok(err)
}

func (w *town) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// account is the owner's account.
func (w *town) account() account.Account {
	w.t.Helper()
	a, err := w.accounts.ByDID(w.t.Context(), owner)
	w.ok(err)
	return a
}

// prove checks a password of the owner.
func (w *town) prove(password string) Proof {
	w.t.Helper()
	p, err := w.CheckPassword(w.t.Context(), w.account(), password, true)
	w.ok(err)
	return p
}

// session opens a session of the owner and returns the caller of its access token.
func (w *town) session(p Proof) (Session, account.Caller) {
	w.t.Helper()
	_, x, err := w.StartSession(w.t.Context(), p, false)
	w.ok(err)
	return x, w.Caller(Token{DID: owner, Credentials: x.Credentials, Session: x.Name()})
}

// step writes keys in the owner's namespace.
func (w *town) step(writes ...storage.KVWrite) {
	w.t.Helper()
	_, err := w.accounts.Host().Step(w.t.Context(), owner, func(s *repo.Step) error { s.KV = writes; return nil })
	w.ok(err)
}

// checkNames looks for names that are not where they should be.
func (w *town) checkNames() {
	w.t.Helper()
	if problems, err := w.accounts.Check(w.t.Context()); err != nil || len(problems) > 0 {
		w.t.Errorf("names: %v %v", problems, err)
	}
}
