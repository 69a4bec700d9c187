package repo_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// What a guard has said of an earlier snapshot is only good while that is still so, and the guard
// is asked otherwise; also if there is nothing to commit.
func TestAssumed(t *testing.T) {
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
		// What is assumed of a repository that is not there yet is nothing.
		if _, err := h.Create(ctx, alice, repo.Batch{Assumed: []storage.KVCheck{{Key: "gate", Value: []byte("open")}}}); err != nil {
			t.Fatal(err)
		}
		set("open")
		shut := errors.New("the gate is shut")
		asked := 0
		write := func(action repo.Action, rkey syntax.RecordKey, assumed string) error {
			asked = 0
			b := repo.Batch{
				Assumed: []storage.KVCheck{{Key: "gate", Value: []byte(assumed)}},
				Writes:  []repo.Write{{Action: action, Collection: notes, RKey: rkey, Record: note(t, "x")}},
				Guard: func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error) {
					asked++
					gate, err := r.Get(ctx, "gate")
					if err == nil && string(gate) == "shut" {
						err = shut
					}
					return []storage.KVCheck{{Key: "gate", Value: gate}}, err
				},
			}
			_, err := h.Apply(ctx, alice, b)
			return err
		}
		if err := write(repo.Create, "one", "open"); err != nil || asked != 0 {
			t.Errorf("as assumed: %v, asked %d times", err, asked)
		}
		if err := write(repo.Put, "one", "open"); err != nil || asked != 1 {
			t.Errorf("nothing to commit: %v, asked %d times", err, asked)
		}
		if err := write(repo.Create, "two", "wide open"); err != nil || asked != 1 {
			t.Errorf("otherwise than assumed, and good: %v, asked %d times", err, asked)
		}
		between.next = func() { set("ajar") }
		if err := write(repo.Create, "three", "open"); err != nil || asked != 1 {
			t.Errorf("changed meanwhile: %v, asked %d times", err, asked)
		}
		between.next = func() { set("shut") }
		if err := write(repo.Create, "four", "ajar"); !errors.Is(err, shut) {
			t.Errorf("shut meanwhile: %v", err)
		}
		if err := write(repo.Create, "five", "ajar"); !errors.Is(err, shut) {
			t.Errorf("shut before: %v", err)
		}
		if err := write(repo.Put, "one", "ajar"); !errors.Is(err, shut) {
			t.Errorf("shut, and nothing to commit: %v", err)
		}
		for _, rkey := range []syntax.RecordKey{"four", "five"} {
			if _, err := h.Record(ctx, alice, notes, rkey); !errors.Is(err, repo.ErrRecordNotFound) {
				t.Errorf("record %s: %v", rkey, err)
			}
		}
	})
}
