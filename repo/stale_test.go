package repo_test

import (
	"errors"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// Another process has written since a host has read the tree: what the host finds in memory, such as
// that there is no record to be deleted, is no answer.
func TestTreeInMemoryIsOld(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		a := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		b := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		create(t, a, alice)
		want := map[string]string{}
		apply(t, a, alice, want, named(t, repo.Create, "kept"))
		for i, c := range []struct {
			name   string
			before repo.Batch // by the other process
			batch  repo.Batch
			fail   error
		}{
			{"delete of a new record", named(t, repo.Create, "new"), one(repo.Delete, "new", nil, nil), nil},
			{"update of a new record", named(t, repo.Create, "new2"), one(repo.Update, "new2", note(t, "updated"), nil), nil},
			{"create of a record that is gone", one(repo.Delete, "kept", nil, nil), named(t, repo.Create, "kept"), nil},
			{"put of what the record was before", one(repo.Update, "kept", note(t, "other"), nil), one(repo.Put, "kept", note(t, "kept"), nil), nil},
			{"create of a record that is there now", named(t, repo.Create, "there"), named(t, repo.Create, "there"), repo.ErrRecordExists},
			{"delete of a record that is gone", one(repo.Delete, "there", nil, nil), one(repo.Delete, "there", nil, nil), repo.ErrRecordNotFound},
		} {
			hosts := []*repo.Host{a, b}
			if i%2 == 1 {
				hosts[0], hosts[1] = b, a
			}
			// Both have the tree in memory.
			apply(t, hosts[1], alice, want, one(repo.Put, "touched", note(t, c.name), nil))
			apply(t, hosts[0], alice, want, c.before)
			if c.fail == nil {
				apply(t, hosts[1], alice, want, c.batch)
			} else if _, err := hosts[1].Apply(ctx, alice, c.batch); !errors.Is(err, c.fail) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		head, err := a.Head(ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		apply(t, b, alice, want, one(repo.Put, "touched", note(t, "again"), nil))
		if _, err := a.Apply(ctx, alice, repo.Batch{SwapCommit: head.Commit, Writes: named(t, repo.Create, "swap").Writes}); err == nil {
			t.Error("a swap of a commit that was the last one only in memory")
		}
		if head, err = b.Head(ctx, alice); err != nil {
			t.Fatal(err)
		}
		swap := named(t, repo.Create, "swap")
		swap.SwapCommit = head.Commit
		apply(t, a, alice, want, swap)
		check(t, store, k, map[syntax.DID]map[string]string{alice: want})

		// The account is gone, and nothing is to be changed.
		if err := b.Delete(ctx, alice); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Apply(ctx, alice, one(repo.Put, "swap", note(t, "swap"), nil)); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("a write of nothing new to an account that is gone: %v", err)
		}
	})
}

// named writes a record whose text is its key.
func named(t *testing.T, action repo.Action, key string) repo.Batch {
	return one(action, syntax.RecordKey(key), note(t, key), nil)
}
