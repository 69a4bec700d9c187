package repo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// counting notes how much a store is given in one transaction.
type counting struct {
	storage.Repos
	most, steps int
}

func (c *counting) Apply(ctx context.Context, did syntax.DID, ch *storage.Change) (int64, error) {
	c.most, c.steps = max(c.most, len(ch.KV)), c.steps+1
	return c.Repos.Apply(ctx, did, ch)
}

// TestIndexOfLargeImport is built in transactions of bounded size, once.
func TestIndexOfLargeImport(t *testing.T) {
	store := memoryStore()
	k := &keys{}
	count := &counting{Repos: store.Repos}
	store.Repos = count
	h := indexedHost(store, k)
	create(t, h, alice)
	list := map[string][]byte{}
	for i := range 5000 {
		list[string(keyN(i))] = like(t, fmt.Sprint("subject ", i), i)
	}
	importLikes(t, h, k, list)
	count.most, count.steps = 0, 0
	must(t, h, batch(write(repo.Create, "new", like(t, "subject 77", 0))))
	if count.most > 2001 || count.steps < 4 {
		t.Errorf("built in %d transactions of up to %d rows", count.steps, count.most)
	}
	count.steps = 0
	must(t, h, batch(write(repo.Create, "new2", like(t, "subject 78", 0))))
	if count.steps != 1 {
		t.Errorf("a second write took %d transactions", count.steps)
	}
	if got := keysIn(t, h, likes); len(got) != 5000 || slices.Contains(got, "key0077") || slices.Contains(got, "key0078") {
		t.Errorf("%d likes", len(got))
	}
}

// breaking is a store that fails at one of its steps, before or after it has taken effect.
type breaking struct {
	storage.Repos
	left  int // steps until it fails; negative: never
	after bool
}

func (b *breaking) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	if b.left--; b.left == -1 && !b.after {
		return 0, errInjected
	}
	seq, err := b.Repos.Apply(ctx, did, c)
	if b.left == -1 && b.after {
		return 0, errInjected
	}
	return seq, err
}

// TestBuildBrokenOff: a process that dies in the middle of a build, or of a write, leaves an index
// that another one does not trust.
func TestBuildBrokenOff(t *testing.T) {
	allStores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		create(t, indexedHost(store, k), alice)
		for _, after := range []bool{false, true} {
			for at := range 4 {
				importLikes(t, indexedHost(store, k), k, map[string][]byte{"a": like(t, "x", 1), "b": like(t, "y", 2)})
				dying := store
				dying.Repos = &breaking{Repos: store.Repos, left: at, after: after}
				h := indexedHost(dying, k)
				rkey := keyN(at)
				_, err := h.Apply(ctx, alice, batch(write(repo.Create, rkey, like(t, "x", at))))
				if at < 3 && !errors.Is(err, errInjected) {
					t.Fatalf("step %d: %v", at, err)
				}
				next := indexedHost(store, k)
				checkIndexes(t, next)
				must(t, next, batch(write(repo.Put, "last", like(t, "x", 100+at))))
				if got := keysIn(t, next, likes); !slices.Equal(got, []string{"b", "last"}) {
					t.Errorf("step %d: likes %v", at, got)
				}
				checkIndexes(t, h)
			}
		}
	})
}

// TestOldKeysOfAnIndex: what an earlier program kept is not believed, and goes.
func TestOldKeysOfAnIndex(t *testing.T) {
	allStores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		older := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		create(t, older, alice)
		b := batch(write(repo.Create, "a", like(t, "x", 1)), write(repo.Create, "b", like(t, "y", 1)))
		b.KV = []storage.KVWrite{{Key: "link/" + string(likes) + "/x", Value: []byte("b")}, {Key: "linked", Value: []byte("stays")}}
		must(t, older, b)
		index := subjects()
		index.Replaces = []string{"link/"}
		h := indexedHost(store, k, index)
		must(t, h, batch(write(repo.Create, "c", like(t, "x", 2))))
		if got := keysIn(t, h, likes); !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("likes %v", got)
		}
		var left []string
		err := h.View(ctx, alice, func(r storage.Reader) error {
			for pair, err := range r.Keys(ctx, storage.Range{From: "l", To: "m"}) {
				if err != nil {
					return err
				}
				left = append(left, pair.Key)
			}
			return nil
		})
		if err != nil || !slices.Equal(left, []string{"linked"}) {
			t.Errorf("%v, %v", left, err)
		}
	})
}

// TestRowsOfAnotherHead are not used, even if they look right.
func TestRowsOfAnotherHead(t *testing.T) {
	store := memoryStore()
	k := &keys{}
	h := indexedHost(store, k)
	create(t, h, alice)
	must(t, h, batch(write(repo.Create, "a", like(t, "x", 1))))
	// A row that points to a record of another subject, and one that points nowhere.
	row := func(subject, rkey string) storage.KVWrite {
		return storage.KVWrite{Key: "index/subject/" + string(likes) + " " + subject + "\x01" + string(likes) + "/" + rkey, Value: []byte("1")}
	}
	head, err := h.Head(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	rows := []storage.KVWrite{row("y", "a"), row("y", "nothing")}
	if _, err := store.Repos.Apply(ctx, alice, &storage.Change{Prev: head, Head: head, KV: rows}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Apply(ctx, alice, repo.Batch{KV: rows}); !errors.Is(err, repo.ErrInvalidBatch) { // not by the host
		t.Errorf("rows of an index in a batch: %v", err)
	}
	must(t, h, batch(write(repo.Create, "b", like(t, "y", 1))))
	if got := keysIn(t, h, likes); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("likes %v", got)
	}
}

// An index that is not unique is not built before somebody looks something up in it; and those who
// write records that it has nothing to do with never need it.
func TestIndexThatNobodyNeedsYet(t *testing.T) {
	k, store := &keys{}, memoryStore()
	create(t, repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()}), alice)
	h := indexedHost(store, k)
	apply(t, h, alice, map[string]string{}, one(repo.Create, "a", record(t, map[string]any{"$type": string(notes), "tags": []any{"x"}}), nil))
	if v := get(t, store, "index/"); v != "" {
		t.Errorf("it was built: %q", v)
	}
	full := store // nothing can be written
	full.Repos = &faulty{Repos: store.Repos, before: true}
	if paths, err := indexedHost(full, k).Find(ctx, alice, "tags", "x", 10); !errors.Is(err, errInjected) {
		t.Errorf("an index that cannot be built: %v, %v", paths, err)
	}
	if paths, err := h.Find(ctx, alice, "tags", "x", 10); err != nil || len(paths) != 1 {
		t.Error(paths, err)
	}
	if v := get(t, store, "index/"); v == "" {
		t.Error("it was not built")
	}
}
