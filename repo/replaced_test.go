package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// TestReplacedHoweverWritten: whatever wrote the earlier record of a subject, a new one takes its
// place, whatever writes that.
func TestReplacedHoweverWritten(t *testing.T) {
	first := map[string]func(t *testing.T, h *repo.Host, store storage.Store, k *keys){
		"create": func(t *testing.T, h *repo.Host, _ storage.Store, _ *keys) {
			must(t, h, batch(write(repo.Create, "old", like(t, "x", 1))))
		},
		"put": func(t *testing.T, h *repo.Host, _ storage.Store, _ *keys) {
			must(t, h, batch(write(repo.Put, "old", like(t, "x", 1))))
		},
		"a batch": func(t *testing.T, h *repo.Host, _ storage.Store, _ *keys) {
			must(t, h, batch(write(repo.Create, "y", like(t, "y", 1)), write(repo.Create, "old", like(t, "x", 1)), write(repo.Create, "z", like(t, "z", 1))))
		},
		"an update": func(t *testing.T, h *repo.Host, _ storage.Store, _ *keys) {
			must(t, h, batch(write(repo.Create, "old", like(t, "other", 1))))
			must(t, h, batch(write(repo.Update, "old", like(t, "x", 1))))
		},
		"deleted and made again": func(t *testing.T, h *repo.Host, _ storage.Store, _ *keys) {
			must(t, h, batch(write(repo.Create, "old", like(t, "x", 1))))
			must(t, h, batch(write(repo.Delete, "old", nil)))
			must(t, h, batch(write(repo.Create, "old", like(t, "x", 2))))
		},
		"duplicates kept": func(t *testing.T, h *repo.Host, _ storage.Store, _ *keys) {
			must(t, h, batch(write(repo.Create, "old", like(t, "x", 1))))
			b := batch(write(repo.Create, "old2", like(t, "x", 2)))
			b.KeepDuplicates = true
			must(t, h, b)
		},
		"import": func(t *testing.T, h *repo.Host, _ storage.Store, k *keys) {
			must(t, h, batch(write(repo.Create, "here", like(t, "x", 0)))) // its rows are those of another repository soon
			importLikes(t, h, k, map[string][]byte{"old": like(t, "x", 1), "old2": like(t, "x", 2), "y": like(t, "y", 1)})
		},
		"a program without indexes": func(t *testing.T, h *repo.Host, store storage.Store, k *keys) {
			must(t, h, batch(write(repo.Create, "a", like(t, "a", 0))))
			older := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
			must(t, older, batch(write(repo.Create, "old", like(t, "x", 1))))
		},
		"the same, which also deletes": func(t *testing.T, h *repo.Host, store storage.Store, k *keys) {
			must(t, h, batch(write(repo.Create, "gone", like(t, "x", 0)), write(repo.Create, "moved", like(t, "x2", 0))))
			older := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
			must(t, older, batch(write(repo.Create, "old", like(t, "x", 1)), write(repo.Update, "moved", like(t, "x3", 0)), write(repo.Delete, "gone", nil)))
		},
	}
	second := map[string]func(t *testing.T, h *repo.Host) repo.Result{
		"create": func(t *testing.T, h *repo.Host) repo.Result {
			return must(t, h, batch(write(repo.Create, "new", like(t, "x", 9))))
		},
		"put": func(t *testing.T, h *repo.Host) repo.Result {
			return must(t, h, batch(write(repo.Put, "new", like(t, "x", 9))))
		},
		"a batch": func(t *testing.T, h *repo.Host) repo.Result {
			return must(t, h, batch(write(repo.Create, "new", like(t, "x", 9)), write(repo.Create, "more", like(t, "more", 9))))
		},
	}
	for _, one := range slices.Sorted(maps.Keys(first)) {
		for _, two := range slices.Sorted(maps.Keys(second)) {
			t.Run(one+", then "+two, func(t *testing.T) {
				stores(t, func(t *testing.T, store storage.Store) {
					k := &keys{}
					h := indexedHost(store, k)
					create(t, h, alice)
					first[one](t, h, store, k)
					before := len(keysIn(t, h, likes))
					res := second[two](t, h)
					got := keysIn(t, h, likes)
					if !slices.Contains(got, "new") || slices.Contains(got, "old") || slices.Contains(got, "old2") {
						t.Errorf("likes %v", got)
					}
					if len(res.Replaced) == 0 || before+len(res.Records)-len(res.Replaced) != len(got) {
						t.Errorf("%d likes, replaced %v, now %v", before, res.Replaced, got)
					}
					checkIndexes(t, h, "subject:com.example.like other")
					model := map[string]string{}
					for _, rec := range all(t, h, alice) {
						model[rec.Path] = rec.CID.String()
					}
					check(t, store, k, map[syntax.DID]map[string]string{alice: model})
				})
			})
		}
	}
}

// importLikes imports a repository of likes.
func importLikes(t testing.TB, h *repo.Host, k *keys, list map[string][]byte) {
	t.Helper()
	store := memoryStore()
	other := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
	create(t, other, alice)
	rkeys := slices.Sorted(maps.Keys(list))
	for chunk := range slices.Chunk(rkeys, commit.MaxOps) {
		var b repo.Batch
		for _, rkey := range chunk {
			b.Writes = append(b.Writes, write(repo.Create, syntax.RecordKey(rkey), list[rkey]))
		}
		must(t, other, b)
	}
	var file bytes.Buffer
	if err := other.Export(ctx, alice, "", &file); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Import(ctx, alice, &file, repo.Import{Unverified: true, Sync: true}); err != nil {
		t.Fatal(err)
	}
}

// TestReplacedWithinTheLimitOfAnEvent: a batch that an event has room for does not fail for the
// proofs of what it would replace.
func TestReplacedWithinTheLimitOfAnEvent(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := indexedHost(store, k, subjects())
		create(t, h, alice)
		list := map[string][]byte{}
		for i := range 300 {
			list[string(keyN(i))] = like(t, fmt.Sprint(i%2), i)
		}
		importLikes(t, h, k, list)
		large := func(size int) repo.Write {
			rec := record(t, map[string]any{"$type": string(likes), "subject": map[string]any{"uri": "0"}, "text": strings.Repeat("x", size)})
			return write(repo.Create, keyN(1000), rec)
		}
		other := write(repo.Create, keyN(1001), record(t, map[string]any{"$type": string(likes), "subject": map[string]any{"uri": "lone"}, "text": strings.Repeat("x", 996_000)}))
		res := must(t, h, batch(large(996_000), other))
		if n := len(all(t, h, alice)); len(res.Replaced) == 0 || len(res.Replaced) >= 150 || n != 302-len(res.Replaced) {
			t.Errorf("%d records after %d were replaced", n, len(res.Replaced))
		}
		model := map[string]string{}
		for _, rec := range all(t, h, alice) {
			model[rec.Path] = rec.CID.String()
		}
		check(t, store, k, map[syntax.DID]map[string]string{alice: model})
		checkIndexes(t, h)
		// What is left goes with the next one.
		for range 3 {
			must(t, h, batch(write(repo.Delete, keyN(1000), nil)))
			must(t, h, batch(write(repo.Create, keyN(1000), like(t, "0", 1))))
		}
		if paths, err := h.Find(ctx, alice, "subject", string(likes)+" 0", 10); err != nil || len(paths) != 1 {
			t.Errorf("%v, %v", paths, err)
		}
	})
}

// TestLegacyRecordIsReplaced: a record that only an import can bring has its subject like others.
// One without a subject is left alone.
func TestLegacyRecordIsReplaced(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := indexedHost(store, k, subjects())
		legacy := func(subject, rest string) car.Block {
			return block([]byte("\xa2\x67subject\xa1\x63uri" + subject + "\x61n" + rest))
		}
		root, blocks := madeRepo(t, alice, k.key(alice), aTime, map[string]car.Block{
			string(likes) + "/float":  legacy("\x61x", "\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
			string(likes) + "/great":  legacy("\x61x", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
			string(likes) + "/chunks": legacy("\x7f\x61x\xff", "\xf7"),
			string(likes) + "/number": legacy("\x07", "\xf9\x7e\x00"),
			string(likes) + "/list":   block([]byte("\xa1\x67subject\x82\x61x\xf9\x3e\x00")),
			string(likes) + "/empty":  block([]byte("\xbf\xff")),
			string(likes) + "/today":  block(like(t, "x", 1)),
		})
		if _, err := h.Import(ctx, alice, bytes.NewReader(file(root, blocks)), repo.Import{Unverified: true, Sync: true}); err != nil {
			t.Fatal(err)
		}
		res := must(t, h, batch(write(repo.Create, "new", like(t, "x", 2)), write(repo.Create, "long", like(t, strings.Repeat("x", 1e5), 2))))
		if got := keysIn(t, h, likes); len(res.Replaced) != 4 || !slices.Equal(got, []string{"empty", "list", "long", "new", "number"}) {
			t.Errorf("likes %v, replaced %v", got, res.Replaced)
		}
		if res := must(t, h, batch(write(repo.Put, "long2", like(t, strings.Repeat("x", 1e5), 3)), write(repo.Put, "number", like(t, "x", 4)))); len(res.Replaced) != 1 {
			t.Errorf("replaced %v", res.Replaced) // what was there already replaces nothing
		}
	})
}

// TestFourAtOnceLeaveOne: through one host, and through several, as if each were a process.
func TestFourAtOnceLeaveOne(t *testing.T) {
	allStores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		hosts := []*repo.Host{indexedHost(store, k), indexedHost(store, k), indexedHost(store, k)}
		create(t, hosts[0], alice)
		for round, several := range []bool{false, true, true} {
			subject := fmt.Sprint("round ", round)
			if round == 2 { // none of them has an index
				importLikes(t, hosts[0], k, map[string][]byte{"i1": like(t, subject, 1), "i2": like(t, subject, 2)})
			}
			var wg sync.WaitGroup
			for i := range 4 {
				h := hosts[0]
				if several {
					h = hosts[i%len(hosts)]
				}
				wg.Go(func() {
					action := []repo.Action{repo.Create, repo.Put}[i%2]
					for {
						_, err := h.Apply(ctx, alice, batch(write(action, keyN(10*round+i), like(t, subject, i))))
						if errors.Is(err, storage.ErrConflict) {
							continue // too many lost races: the caller tries again
						}
						if err != nil {
							t.Error(err)
						}
						return
					}
				})
			}
			wg.Wait()
			if paths, err := hosts[0].Find(ctx, alice, "subject", string(likes)+" "+subject, 10); err != nil || len(paths) != 1 {
				t.Errorf("round %d: %v, %v", round, paths, err)
			}
			checkIndexes(t, hosts[1])
		}
	})
}

// TestSeveralInOneBatch: of several new records of a subject, the last one stays.
func TestSeveralInOneBatch(t *testing.T) {
	allStores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := indexedHost(store, k)
		// Also in the batch that makes the repository.
		if _, err := h.Create(ctx, alice, batch(write(repo.Create, "a", like(t, "x", 1)), write(repo.Create, "b", like(t, "x", 2)))); err != nil {
			t.Fatal(err)
		}
		if got := keysIn(t, h, likes); !slices.Equal(got, []string{"b"}) {
			t.Errorf("likes %v", got)
		}
		res := must(t, h, batch(write(repo.Create, "c", like(t, "x", 3)), write(repo.Create, "d", like(t, "y", 3)),
			write(repo.Create, "e", like(t, "x", 4)), write(repo.Put, "f", like(t, "x", 5))))
		if got := keysIn(t, h, likes); !slices.Equal(got, []string{"d", "f"}) || len(res.Records) != 4 || len(res.Replaced) != 3 {
			t.Errorf("likes %v, %+v", got, res)
		}
		// What a batch itself does to the earlier record counts.
		must(t, h, batch(write(repo.Update, "f", like(t, "z", 6)), write(repo.Create, "g", like(t, "x", 6))))
		if got := keysIn(t, h, likes); !slices.Equal(got, []string{"d", "f", "g"}) {
			t.Errorf("likes %v", got)
		}
		must(t, h, batch(write(repo.Delete, "g", nil), write(repo.Create, "h", like(t, "x", 7))))
		if got := keysIn(t, h, likes); !slices.Equal(got, []string{"d", "f", "h"}) {
			t.Errorf("likes %v", got)
		}
		// An update replaces nothing, and what has moved away is not replaced.
		must(t, h, batch(write(repo.Update, "f", like(t, "x", 8))))
		must(t, h, batch(write(repo.Update, "h", like(t, "elsewhere", 8))))
		res = must(t, h, batch(write(repo.Create, "i", like(t, "x", 9))))
		if got := keysIn(t, h, likes); !slices.Equal(got, []string{"d", "h", "i"}) {
			t.Errorf("likes %v, %v", got, res.Replaced)
		}
		checkIndexes(t, h)
	})
}

// TestMoreDuplicatesThanACommitHolds: what an import brought is replaced as far as a commit has
// room; the write does not fail for it.
func TestMoreDuplicatesThanACommitHolds(t *testing.T) {
	k := &keys{}
	h := indexedHost(memoryStore(), k)
	create(t, h, alice)
	list := map[string][]byte{}
	for i := range 2*commit.MaxOps + 50 {
		list[string(keyN(i))] = like(t, "x", i)
	}
	importLikes(t, h, k, list)
	for i, want := range []int{commit.MaxOps - 1, commit.MaxOps - 1, 54, 1} {
		if res := must(t, h, batch(write(repo.Create, syntax.RecordKey(fmt.Sprint("new", i)), like(t, "x", 1000+i)))); len(res.Replaced) != want {
			t.Errorf("create %d replaced %d, want %d", i, len(res.Replaced), want)
		}
	}
	if got := keysIn(t, h, likes); !slices.Equal(got, []string{"new3"}) {
		t.Errorf("likes %v", got)
	}
	var full []repo.Write
	for i := range commit.MaxOps {
		full = append(full, write(repo.Create, syntax.RecordKey(fmt.Sprint("full", i)), like(t, fmt.Sprint("x", i%199), i)))
	}
	must(t, h, batch(full...))
	checkIndexes(t, h)
}
