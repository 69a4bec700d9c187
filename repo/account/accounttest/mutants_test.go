package accounttest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// recorder is a test that notes whether it fails.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed bool
	first  string
}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed = true; r.first == "" {
		r.first = text
	}
}

func (r *recorder) Helper()                   {}
func (r *recorder) Errorf(f string, a ...any) { r.note(fmt.Sprintf(f, a...)) }
func (r *recorder) Error(a ...any)            { r.note(fmt.Sprint(a...)) }
func (r *recorder) Fatalf(f string, a ...any) { r.note(fmt.Sprintf(f, a...)); runtime.Goexit() }
func (r *recorder) Fatal(a ...any)            { r.note(fmt.Sprint(a...)); runtime.Goexit() }
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// fails runs a part of the suite and returns what it found; empty: nothing.
func fails(t *testing.T, part func(tb testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		part(r)
	}()
	<-done
	return r.first
}

func openMemory(_ testing.TB, now func() time.Time) storage.Store {
	return memory.New(memory.Config{Now: now})
}

// set writes keys of the host's namespace; a nil value deletes one.
func (w *world) set(key string, value []byte) {
	w.ok(w.store.KV.Write(w.ctx, func(tx storage.KVTx) error {
		if value == nil {
			return tx.Delete(w.ctx, key)
		}
		return tx.Set(w.ctx, key, value, time.Time{})
	}))
}

// rows are the keys of an account's namespace with a prefix.
func (w *world) rows(did syntax.DID, prefix string) (list []storage.KVWrite) {
	err := w.store.Repos.View(w.ctx, did, func(r storage.Reader) error {
		for pair, err := range r.Keys(w.ctx, storage.Prefix(prefix)) {
			if err != nil {
				return err
			}
			list = append(list, storage.KVWrite(pair))
		}
		return nil
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		w.tb.Fatal(err)
	}
	return list
}

func (w *world) put(did syntax.DID, rows ...storage.KVWrite) {
	_, err := w.accounts.Host().Step(w.ctx, did, func(s *repo.Step) error { s.KV = rows; return nil })
	w.ok(err)
}

// lower takes back the raising of a counter.
func (w *world) lower(did syntax.DID) {
	_, err := w.accounts.Update(w.ctx, account.Trusted(did), func(a *account.Account, _ *repo.Step) error { a.Credentials--; return nil })
	w.ok(err)
}

// after makes a mutant that does something wrong after an operation that has succeeded.
func after(operation string, wrong func(w *world, did syntax.DID)) mutation {
	return func(w *world, op string, did syntax.DID, do func() error) error {
		err := do()
		if err == nil && op == operation {
			wrong(w, did)
		}
		return err
	}
}

// instead makes a mutant that does nothing, and says that it has.
func instead(operation string) mutation {
	return func(_ *world, op string, _ syntax.DID, do func() error) error {
		if op == operation {
			return nil
		}
		return do()
	}
}

// keeping makes a mutant that keeps keys of the account's namespace that an operation deletes.
func keeping(operation, prefix string) mutation {
	return func(w *world, op string, did syntax.DID, do func() error) error {
		before := w.rows(did, prefix)
		err := do()
		if err == nil && op == operation {
			w.put(did, before...)
		}
		return err
	}
}

// TestBrokenOperations breaks operations in one way each: the histories find every one.
func TestBrokenOperations(t *testing.T) {
	mutants := map[string]mutation{
		"a password does not raise the counter":     after("password", (*world).lower),
		"a takedown does not raise the counter":     after("take down", (*world).lower),
		"a deactivation does not raise the counter": after("deactivate", (*world).lower),
		"signing out everywhere does not raise it":  after("logout everywhere", (*world).lower),
		"a password leaves app passwords":           keeping("password", "apppassword/"),
		"a password leaves sessions":                keeping("password", "session/"),
		"a reset leaves tokens":                     keeping("reset", "mailtoken/"),
		"a reset leaves sessions":                   keeping("reset", "session/"),
		"a new address leaves tokens":               keeping("address", "mailtoken/"),
		"a confirmation leaves its token":           keeping("confirm", "mailtoken/"),
		"revoking leaves the app password":          keeping("revoke", "apppassword/"),
		"revoking leaves sessions":                  keeping("revoke", "session/"),
		"logging out leaves the session":            keeping("logout", "session/"),
		"an app password is not made":               instead("app"),
		"a handle is not changed":                   instead("rename"),
		"an address is not changed":                 instead("address"),
		"preferences are not stored":                instead("preferences"),
		"a record is not taken down":                instead("record"),
		"a code is not disabled":                    instead("disable"),
		"the right to invite is not taken":          instead("forbid"),
		"an account is not activated":               instead("activate"),
		"an account is not deleted":                 instead("delete"),
		"a deletion leaves the handle":              after("delete", func(w *world, did syntax.DID) { w.set("handle/name0.test", []byte(did)) }),
		"a creation is not counted":                 after("create", func(w *world, _ syntax.DID) { w.set("accounts", []byte(`{"version":2,"count":0}`)) }),
		"a creation leaves its note": after("create", func(w *world, did syntax.DID) {
			w.set("pending/"+string(did)+"/x", []byte(`{"keys":null,"at":"2026-01-01T00:00:00Z"}`))
		}),
		"a creation does not list the account":        after("create", func(w *world, did syntax.DID) { w.set("handle/"+string(w.account(did).Handle), nil) }),
		"a new handle is given to another":            after("rename", func(w *world, did syntax.DID) { w.set("handle/"+string(w.account(did).Handle), []byte("did:plc:x")) }),
		"the time of deletion is not listed":          after("deactivate", func(w *world, did syntax.DID) { w.drop("deleteafter/") }),
		"codes are not listed by account":             after("invite", func(w *world, did syntax.DID) { w.drop("invitesof/" + string(did)) }),
		"a takedown is not listed":                    after("take down", func(w *world, did syntax.DID) { w.drop("moderated/") }),
		"the session that deactivates is ended":       after("deactivate", func(w *world, did syntax.DID) { w.end(did) }),
		"a refresh gives a session other credentials": after("refresh", func(w *world, did syntax.DID) { w.end(did) }),
		"a takedown is not seen":                      after("take down", func(w *world, did syntax.DID) { w.restore(did) }),
		"a confirmation is of no address":             after("confirm", func(w *world, did syntax.DID) { w.unconfirm(did) }),
		"a login is not stored":                       after("login", func(w *world, did syntax.DID) { w.end(did) }),
		"app passwords do not outlast signing out":    after("logout everywhere", func(w *world, did syntax.DID) { w.forget(did, "apppassword/") }),
		"a new key loses the account's preferences":   after("rotate", func(w *world, did syntax.DID) { w.forget(did, "preferences") }),
	}
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if found := fails(t, func(tb testing.TB) { histories(tb, openMemory, 40, 120, m) }); found == "" {
				t.Error("nothing was found")
			} else {
				t.Log(strings.SplitN(found, "\n", 2)[0])
			}
		})
	}
	if found := fails(t, func(tb testing.TB) {
		histories(tb, openMemory, 2, 50, func(_ *world, _ string, _ syntax.DID, do func() error) error { return do() })
	}); found != "" {
		t.Errorf("of what is not broken: %s", found)
	}
}

// drop deletes the keys of the host's namespace that have a prefix.
func (w *world) drop(prefix string) {
	var keys []string
	w.ok(w.store.KV.Read(w.ctx, func(r storage.KVReader) error {
		for pair, err := range r.Keys(w.ctx, storage.Prefix(prefix)) {
			if err != nil {
				return err
			}
			keys = append(keys, pair.Key)
		}
		return nil
	}))
	for _, key := range keys {
		w.set(key, nil)
	}
}

// forget deletes the keys of an account's namespace that have a prefix.
func (w *world) forget(did syntax.DID, prefix string) {
	rows := w.rows(did, prefix)
	for i := range rows {
		rows[i] = storage.KVWrite{Key: rows[i].Key}
	}
	w.put(did, rows...)
}

func (w *world) end(did syntax.DID) { w.forget(did, "session/") }

func (w *world) restore(did syntax.DID) {
	_, err := w.accounts.Update(w.ctx, account.Trusted(did), func(a *account.Account, _ *repo.Step) error { a.TakedownRef = ""; return nil })
	w.ok(err)
}

func (w *world) unconfirm(did syntax.DID) {
	_, err := w.accounts.Update(w.ctx, account.Trusted(did), func(a *account.Account, _ *repo.Step) error {
		a.EmailConfirmedAt = time.Time{}
		return nil
	})
	w.ok(err)
}

// brokenRepos breaks the store of repositories.
type brokenRepos struct {
	storage.Repos
	change func(c *storage.Change)
	events func([]storage.Event) []storage.Event
}

func (b brokenRepos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	if b.change != nil && c.Prev != (storage.Head{}) {
		changed := *c
		b.change(&changed)
		c = &changed
	}
	return b.Repos.Apply(ctx, did, c)
}

func (b brokenRepos) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	if b.events != nil {
		events = b.events(events)
	}
	return b.Repos.Delete(ctx, did, events)
}

// tornKV writes each key at once, whatever becomes of the transaction.
type tornKV struct{ storage.KV }

func (k tornKV) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	return k.KV.Read(ctx, func(r storage.KVReader) error { return fn(tornTx{r, k.KV}) })
}

type tornTx struct {
	storage.KVReader
	kv storage.KV
}

func (x tornTx) Get(ctx context.Context, key string) (v []byte, err error) {
	err = x.kv.Read(ctx, func(r storage.KVReader) (err error) {
		v, err = r.Get(ctx, key)
		return err
	})
	return v, err
}

func (x tornTx) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	return x.kv.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, key, value, expires) })
}

func (x tornTx) Delete(ctx context.Context, key string) error {
	return x.kv.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, key) })
}

// deafKV forgets deletions.
type deafKV struct{ storage.KV }

func (k deafKV) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	return k.KV.Write(ctx, func(tx storage.KVTx) error { return fn(deafTx{tx}) })
}

type deafTx struct{ storage.KVTx }

func (deafTx) Delete(context.Context, string) error { return nil }

// TestBrokenStores breaks the store in one way each: the part that is for it finds it.
func TestBrokenStores(t *testing.T) {
	broken := func(change func(s *storage.Store)) Open {
		return func(tb testing.TB, now func() time.Time) storage.Store {
			s := openMemory(tb, now)
			change(&s)
			return s
		}
	}
	crashes := func(tb testing.TB, open Open) {
		for _, op := range operations() {
			crash(tb, open, op)
		}
	}
	overtaken := func(tb testing.TB, open Open) {
		for _, op := range operations() {
			if op.session {
				meanwhile(tb, open, op)
			}
		}
	}
	for name, m := range map[string]struct {
		part   func(testing.TB, Open)
		change func(s *storage.Store)
	}{
		"checks are not compared": {overtaken, func(s *storage.Store) {
			s.Repos = brokenRepos{Repos: s.Repos, change: func(c *storage.Change) { c.Checks = nil }}
		}},
		"transactions of the host's namespace are torn": {crashes, func(s *storage.Store) { s.KV = tornKV{s.KV} }},
		"deletions in the host's namespace are lost":    {crashes, func(s *storage.Store) { s.KV = deafKV{s.KV} }},
		"an account's deletions of keys are lost": {func(tb testing.TB, open Open) { histories(tb, open, 40, 120, nil) }, func(s *storage.Store) {
			s.Repos = brokenRepos{Repos: s.Repos, change: func(c *storage.Change) {
				var kv []storage.KVWrite
				for _, w := range c.KV {
					if w.Value != nil {
						kv = append(kv, w)
					}
				}
				c.KV = kv
			}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if found := fails(t, func(tb testing.TB) { m.part(tb, broken(m.change)) }); found == "" {
				t.Error("nothing was found")
			} else {
				t.Log(strings.SplitN(found, "\n", 2)[0])
			}
		})
	}
}
