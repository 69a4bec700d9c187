package repo_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// interloper calls a function before the next step.
type interloper struct {
	storage.Repos
	mu   sync.Mutex
	next func()
}

func (i *interloper) call() {
	i.mu.Lock()
	fn := i.next
	i.next = nil
	i.mu.Unlock()
	if fn != nil {
		fn()
	}
}

func (i *interloper) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	i.call()
	return i.Repos.Apply(ctx, did, c)
}

// What a guard has read is still so when the batch is committed, or it is asked again.
func TestGuard(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		between := &interloper{Repos: store.Repos}
		raw := store.Repos
		store.Repos = between
		h := repo.NewHost(repo.Config{Store: store, Signer: new(keys).signer, TempDir: t.TempDir()})
		set := func(value string) {
			t.Helper()
			head, err := raw.Head(ctx, alice)
			if err == nil {
				_, err = raw.Apply(ctx, alice, &storage.Change{Prev: head, Head: head, KV: []storage.KVWrite{{Key: "gate", Value: []byte(value)}}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Create(ctx, alice, repo.Batch{Guard: func(context.Context, storage.Reader) ([]storage.KVCheck, error) {
			t.Error("a guard is asked about a repository that is not there")
			return nil, nil
		}}); err != nil {
			t.Fatal(err)
		}
		set("open")
		shut := errors.New("the gate is shut")
		asked := 0
		guard := func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error) {
			asked++
			gate, err := r.Get(ctx, "gate")
			if err != nil {
				return nil, err
			}
			if string(gate) == "shut" {
				return nil, shut
			}
			return []storage.KVCheck{{Key: "gate", Value: gate}}, nil
		}
		write := func(rkey syntax.RecordKey) error {
			_, err := h.Apply(ctx, alice, repo.Batch{Guard: guard, Writes: []repo.Write{{Action: repo.Create, Collection: notes, RKey: rkey, Record: note(t, "x")}}})
			return err
		}
		if err := write("one"); err != nil || asked != 1 {
			t.Errorf("%v, asked %d times", err, asked)
		}
		between.next = func() { set("wide open") }
		if err := write("two"); err != nil || asked != 3 {
			t.Errorf("%v, asked %d times", err, asked)
		}
		between.next = func() { set("shut") }
		if err := write("three"); !errors.Is(err, shut) {
			t.Errorf("a gate that shuts meanwhile: %v", err)
		}
		if _, err := h.Record(ctx, alice, notes, "three"); !errors.Is(err, repo.ErrRecordNotFound) {
			t.Errorf("the record: %v", err)
		}
		// A batch that changes nothing is refused all the same.
		if _, err := h.Apply(ctx, alice, repo.Batch{Guard: guard}); !errors.Is(err, shut) {
			t.Errorf("an empty batch: %v", err)
		}
		// A check of the batch's own that does not hold is no reason to ask without end.
		set("open")
		asked = 0
		_, err := h.Apply(ctx, alice, repo.Batch{Guard: guard, KV: []storage.KVWrite{{Key: "x", Value: []byte("y")}}, Checks: []storage.KVCheck{{Key: "gate", Value: []byte("other")}}})
		if !errors.Is(err, storage.ErrConflict) || asked > 10 {
			t.Errorf("%v, asked %d times", err, asked)
		}
	})
}
