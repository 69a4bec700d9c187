package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// get reads a key of alice's namespace; empty if it is not there.
func get(t *testing.T, store storage.Store, key string) (value string) {
	t.Helper()
	err := store.Repos.View(ctx, alice, func(r storage.Reader) error {
		v, err := r.Get(ctx, key)
		value = string(v)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// count adds one to a counter in alice's namespace.
func count(h *repo.Host) error {
	_, err := h.Step(ctx, alice, func(s *repo.Step) error {
		v, err := s.Get(ctx, "n")
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(v))
		s.Expect("n", v)
		s.Set("n", strconv.AppendInt(nil, int64(n+1), 10), time.Time{})
		return nil
	})
	return err
}

func TestStep(t *testing.T) {
	allStores(t, func(t *testing.T, store storage.Store) {
		between := &interloper{Repos: store.Repos}
		store.Repos = between
		k := new(keys)
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
		other := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
		if err := count(h); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("no repository: %v", err)
		}
		created, err := h.Create(ctx, alice, repo.Batch{})
		if err != nil {
			t.Fatal(err)
		}
		if err := count(h); err != nil || get(t, store, "n") != "1" {
			t.Errorf("%v, n is %q", err, get(t, store, "n"))
		}
		// Another process is faster: the step is made anew from what that has left.
		between.next = func() {
			if err := count(other); err != nil {
				t.Error(err)
			}
		}
		if err := count(h); err != nil || get(t, store, "n") != "3" {
			t.Errorf("after another process: %v, n is %q", err, get(t, store, "n"))
		}
		calls := 0
		between.next = func() {
			if _, err := other.Apply(ctx, alice, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: notes, RKey: "one", Record: note(t, "x")}}}); err != nil {
				t.Error(err)
			}
		}
		seq, err := h.Step(ctx, alice, func(s *repo.Step) error {
			calls++
			s.Events = append(s.Events, h.AccountEvent(alice, "deactivated"))
			s.Sync = true
			s.Remove("n")
			return nil
		})
		if err != nil || calls != 2 || get(t, store, "n") != "" {
			t.Errorf("after a commit of another process: %v, %d calls", err, calls)
		}
		var last []storage.Event
		for ev, err := range store.Events.Since(ctx, created.Seq) {
			if err != nil {
				t.Fatal(err)
			}
			last = append(last, ev)
		}
		head, err := h.Head(ctx, alice)
		if err != nil || len(last) != 3 || last[1].Kind != commit.KindAccount || last[2].Kind != commit.KindSync || last[2].Seq != seq {
			t.Fatalf("the events are %v (%v)", last, err)
		}
		sync, err := commit.DecodeSync(last[2].Payload)
		if err != nil || sync.Commit.CID != head.Commit || sync.Rev != head.Rev {
			t.Errorf("%+v is not of %+v (%v)", sync, head, err)
		}

		refused := errors.New("refused")
		if _, err := h.Step(ctx, alice, func(s *repo.Step) error { s.Set("n", []byte("9"), time.Time{}); return refused }); !errors.Is(err, refused) {
			t.Errorf("refused: %v", err)
		}
		if seq, err := h.Step(ctx, alice, func(s *repo.Step) error { s.Expect("n", []byte("no")); return nil }); err != nil || seq != 0 {
			t.Errorf("nothing to do: %d, %v", seq, err)
		}
		for name, fn := range map[string]func(*repo.Step) error{
			"a key of the host": func(s *repo.Step) error { s.Set("index/x", []byte("x"), time.Time{}); return nil },
			"no key":            func(s *repo.Step) error { s.Remove(""); return nil },
			"another's event": func(s *repo.Step) error {
				ev := h.AccountEvent(bob, "")
				ev.DID = alice
				s.Events = append(s.Events, ev)
				return nil
			},
		} {
			if _, err := h.Step(ctx, alice, fn); !errors.Is(err, repo.ErrInvalidBatch) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// A check that never holds does not go on for ever.
		calls = 0
		if _, err := h.Step(ctx, alice, func(s *repo.Step) error {
			calls++
			s.Expect("n", []byte("no"))
			s.Set("n", []byte("9"), time.Time{})
			return nil
		}); !errors.Is(err, storage.ErrConflict) || calls != 21 {
			t.Errorf("%d calls: %v", calls, err)
		}
		if v := get(t, store, "n"); v != "" {
			t.Errorf("n is %q", v)
		}
	})
}

// Steps and commits of one account in one process do not disturb each other.
func TestStepsAndCommitsAtOnce(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		h := repo.NewHost(repo.Config{Store: store, Signer: new(keys).signer, TempDir: t.TempDir()})
		if _, err := h.Create(ctx, alice, repo.Batch{}); err != nil {
			t.Fatal(err)
		}
		const n = 20
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if err := count(h); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				_, err := h.Apply(ctx, alice, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: notes, RKey: syntax.RecordKey(fmt.Sprint("n", i)), Record: note(t, "x")}}})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if v := get(t, store, "n"); v != strconv.Itoa(n) {
			t.Errorf("n is %s", v)
		}
	})
}

// A caller that hangs up does not wait for the account's lock, whatever it wanted.
func TestNothingWaitsLongerThanItsCaller(t *testing.T) {
	k, store := new(keys), memoryStore()
	h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir(), Indexes: []repo.Index{subjects()}})
	create(t, repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()}), alice)
	export := file(madeRepo(t, alice, k.key(alice), aTime, nil))
	_, err := h.Step(ctx, alice, func(*repo.Step) error {
		for name, do := range map[string]func(ctx context.Context) error{
			"Create": func(ctx context.Context) error { _, err := h.Create(ctx, alice, repo.Batch{}); return err },
			"Apply":  func(ctx context.Context) error { _, err := h.Apply(ctx, alice, repo.Batch{}); return err },
			"Step": func(ctx context.Context) error {
				_, err := h.Step(ctx, alice, func(*repo.Step) error { return nil })
				return err
			},
			"Delete": func(ctx context.Context) error { return h.Delete(ctx, alice) },
			"DeleteStep": func(ctx context.Context) error {
				return h.DeleteStep(ctx, alice, func(*repo.Step) error { return nil })
			},
			"SweepBlobs": func(ctx context.Context) error { _, err := h.SweepBlobs(ctx, alice, time.Now()); return err },
			"Find":       func(ctx context.Context) error { _, err := h.Find(ctx, alice, "subject", "x", 1); return err },
			"UploadBlob": func(ctx context.Context) error {
				_, err := h.UploadBlob(ctx, alice, "text/plain", strings.NewReader("hello"), 0)
				return err
			},
			"Import": func(ctx context.Context) error {
				_, err := h.Import(ctx, alice, bytes.NewReader(export), repo.Import{Unverified: true})
				return err
			},
		} {
			gone, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			if err := do(gone); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestResign(t *testing.T) {
	allStores(t, func(t *testing.T, store storage.Store) {
		k := new(keys)
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir(), Indexes: []repo.Index{tags()}})
		if _, err := h.Resign(ctx, alice, repo.Resign{}); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("no repository: %v", err)
		}
		_, err := h.Create(ctx, alice, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: notes, RKey: "one", Record: note(t, "x")}}})
		if err != nil {
			t.Fatal(err)
		}
		before, err := h.Head(ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		next, err := crypto.GenerateKey(crypto.P256)
		if err != nil {
			t.Fatal(err)
		}
		refused := errors.New("refused")
		_, err = h.Resign(ctx, alice, repo.Resign{Signer: next, Guard: func(context.Context, storage.Reader) ([]storage.KVCheck, error) { return nil, refused }})
		if now, _ := h.Head(ctx, alice); !errors.Is(err, refused) || now != before {
			t.Errorf("refused: %v, the head is %v", err, now)
		}
		res, err := h.Resign(ctx, alice, repo.Resign{
			Signer: next, Events: []storage.Event{h.IdentityEvent(alice, "")}, KV: []storage.KVWrite{{Key: "key", Value: []byte("next")}},
		})
		if err != nil || !res.Changed || res.Head.Data != before.Data || res.Head.Rev <= before.Rev || get(t, store, "key") != "next" {
			t.Fatalf("%+v after %+v: %v", res, before, err)
		}
		verify := func(key *crypto.PublicKey, want bool) {
			t.Helper()
			err := h.View(ctx, alice, func(r storage.Reader) error {
				block, err := r.Commit(ctx)
				if err != nil {
					return err
				}
				c, err := commit.Parse(block)
				if err != nil {
					return err
				}
				if good := c.Verify(key) == nil; good != want {
					return fmt.Errorf("the signature is good: %v", good)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		verify(next.PublicKey(), true)
		verify(k.key(alice).PublicKey(), false)
		var kinds []string
		for ev, err := range store.Events.Since(ctx, 0) {
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, ev.Kind)
		}
		if got := fmt.Sprint(kinds); got != "[#commit #identity #sync]" {
			t.Errorf("the events are %s", got)
		}
		// Nobody is told of an account that is not active, and what follows is as ever.
		res, err = h.Resign(ctx, alice, repo.Resign{Silent: true})
		if err != nil || res.Seq != 0 {
			t.Errorf("silent: %+v, %v", res, err)
		}
		verify(k.key(alice).PublicKey(), true)
		if paths, err := h.Find(ctx, alice, "tags", "none", 1); err != nil || len(paths) != 0 {
			t.Errorf("the index: %v %v", paths, err)
		}
		if _, err := h.Apply(ctx, alice, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: notes, RKey: "two", Record: note(t, "y")}}}); err != nil {
			t.Error(err)
		}
	})
}

// A deletion that is refused deletes nothing, and one that is allowed has its events.
func TestDeleteStep(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		h := repo.NewHost(repo.Config{Store: store, Signer: new(keys).signer, TempDir: t.TempDir()})
		gone := func(s *repo.Step) error {
			s.Events = append(s.Events, h.AccountEvent(alice, commit.Deleted))
			return nil
		}
		if err := h.DeleteStep(ctx, alice, gone); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("no repository: %v", err)
		}
		if _, err := h.Create(ctx, alice, repo.Batch{}); err != nil {
			t.Fatal(err)
		}
		refused := errors.New("refused")
		if err := h.DeleteStep(ctx, alice, func(*repo.Step) error { return refused }); !errors.Is(err, refused) {
			t.Errorf("refused: %v", err)
		}
		if _, err := h.Head(ctx, alice); err != nil {
			t.Error(err)
		}
		if err := h.DeleteStep(ctx, alice, gone); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Head(ctx, alice); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("it is still there: %v", err)
		}
		n := 0
		for ev, err := range store.Events.Since(ctx, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; ev.Kind != commit.KindAccount {
				t.Errorf("event %v", ev)
			}
		}
		if n != 1 {
			t.Errorf("%d events", n)
		}
	})
}
