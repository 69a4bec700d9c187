package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

const (
	likes   = syntax.NSID("com.example.like")
	follows = syntax.NSID("com.example.follow")
)

// subjects is the index that these tests keep.
func subjects() repo.Index {
	return repo.SubjectIndex("subject", map[syntax.NSID]string{likes: "subject.uri", follows: "subject"})
}

// tags is an index that is not unique: a note has any number of tags, and shares them with others.
func tags() repo.Index {
	return repo.Index{Name: "tags", Collections: []syntax.NSID{notes}, Keys: func(_ syntax.NSID, _ syntax.RecordKey, record *data.Encoded) (keys []string) {
		v, err := record.Value()
		if err != nil {
			return nil
		}
		m, _ := v.(map[string]any)
		list, _ := m["tags"].([]any)
		for _, tag := range list {
			if s, ok := tag.(string); ok {
				keys = append(keys, s)
			}
		}
		return keys
	}}
}

func indexedHost(store storage.Store, k *keys, indexes ...repo.Index) *repo.Host {
	if len(indexes) == 0 {
		indexes = []repo.Index{subjects(), tags()}
	}
	return repo.NewHost(repo.Config{Store: store, Signer: k.signer, Indexes: indexes})
}

func like(t testing.TB, subject string, n int) []byte {
	return record(t, map[string]any{"$type": string(likes), "subject": map[string]any{"uri": subject}, "n": int64(n)})
}

func write(a repo.Action, rkey syntax.RecordKey, rec []byte) repo.Write {
	return repo.Write{Action: a, Collection: likes, RKey: rkey, Record: rec}
}

func batch(writes ...repo.Write) repo.Batch { return repo.Batch{Writes: writes} }

// must carries out a batch.
func must(t testing.TB, h *repo.Host, b repo.Batch) repo.Result {
	t.Helper()
	res, err := h.Apply(ctx, alice, b)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// keysIn returns the record keys of a collection.
func keysIn(t testing.TB, h *repo.Host, collection syntax.NSID) (list []string) {
	t.Helper()
	page, err := h.List(ctx, alice, collection, repo.ListOptions{Limit: 10_000, Reverse: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range page {
		list = append(list, strings.TrimPrefix(rec.Path, string(collection)+"/"))
	}
	return list
}

// checkIndexes holds both indexes against the records.
func checkIndexes(t *testing.T, h *repo.Host, extra ...string) {
	t.Helper()
	want := map[string][]string{}
	for _, key := range extra {
		want[key] = nil
	}
	for _, rec := range all(t, h, alice) {
		v, err := data.Decode(rec.Data, data.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		m := v.(map[string]any)
		switch collection, _, _ := strings.Cut(rec.Path, "/"); syntax.NSID(collection) {
		case likes:
			if uri, ok := m["subject"].(map[string]any)["uri"].(string); ok {
				want["subject:"+collection+" "+uri] = append(want["subject:"+collection+" "+uri], rec.Path)
			}
		case notes:
			list, _ := m["tags"].([]any)
			for _, tag := range list {
				key := "tags:" + tag.(string)
				if n := len(want[key]); n == 0 || want[key][n-1] != rec.Path {
					want[key] = append(want[key], rec.Path)
				}
			}
		}
	}
	got := map[string][]string{}
	for key := range want {
		name, text, _ := strings.Cut(key, ":")
		paths, err := h.Find(ctx, alice, name, text, 1000)
		if err != nil {
			t.Fatal(err)
		}
		got[key] = paths
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("indexes (-records +index):\n%s", diff)
	}
}

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

// TestIndexHistories runs random batches through hosts with other indexes, or none, and imports.
func TestIndexHistories(t *testing.T) {
	allStores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		rng := rand.New(rand.NewPCG(7, 9))
		newer := tags()
		newer.Version = "2"
		hosts := []*repo.Host{indexedHost(store, k), indexedHost(store, k), indexedHost(store, k, subjects(), newer), repo.NewHost(repo.Config{Store: store, Signer: k.signer})}
		create(t, hosts[0], alice)
		for step := range 120 {
			h := hosts[rng.IntN(len(hosts))]
			if rng.IntN(25) == 0 {
				importLikes(t, h, k, map[string][]byte{"key0001": like(t, "s1", step), "key0030": like(t, "s1", step), "key0031": like(t, "s2", step)})
				continue
			}
			var b repo.Batch
			for range 1 + rng.IntN(5) {
				w := write(repo.Put, keyN(rng.IntN(12)), like(t, fmt.Sprint("s", rng.IntN(5)), step))
				switch rng.IntN(4) {
				case 0:
					if _, err := h.Record(ctx, alice, likes, w.RKey); err != nil || slices.ContainsFunc(b.Writes, func(o repo.Write) bool { return o.RKey == w.RKey }) {
						continue
					}
					w.Action, w.Record = repo.Delete, nil
				case 1:
					list := []any{"even", fmt.Sprint("t", rng.IntN(4)), "even"}[rng.IntN(3):]
					w.Collection, w.Record = notes, record(t, map[string]any{"$type": string(notes), "tags": list, "n": int64(step)})
				}
				b.Writes = append(b.Writes, w)
			}
			// What a host refuses by a tree that another one has made old, it does not refuse
			// again.
			if _, err := h.Apply(ctx, alice, b); errors.Is(err, repo.ErrRecordNotFound) {
				must(t, h, b)
			} else if err != nil {
				t.Fatal(err)
			}
			if h == hosts[2] || h == hosts[3] || step%5 > 0 {
				continue
			}
			checkIndexes(t, hosts[rng.IntN(2)], "subject:com.example.like s1", "tags:even", "tags:t1")
		}
		checkIndexes(t, hosts[0])
		fresh := indexedHost(store, k)
		checkIndexes(t, fresh)
	})
}

// TestIndexKeys: whatever a stranger's record says is a key of bounded length that nobody else has.
func TestIndexKeys(t *testing.T) {
	allStores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := indexedHost(store, k)
		create(t, h, alice)
		odd := []string{"a", "a\x00", "a\x01", "a\x01com.example.like/key0000", "ab", "é", strings.Repeat("long", 1000), strings.Repeat("long", 1000) + "er", "a/b", " ", "\n",
			strings.Repeat("l", 256-len(likes)-1), strings.Repeat("l", 256-len(likes))}
		for round := range 2 {
			for i, subject := range odd {
				must(t, h, batch(write(repo.Create, keyN(100*round+i), like(t, subject, round))))
			}
		}
		if got := keysIn(t, h, likes); len(got) != len(odd) || got[0] != string(keyN(100)) {
			t.Errorf("likes %v", got)
		}
		checkIndexes(t, h)
		err := h.View(ctx, alice, func(r storage.Reader) error {
			for pair, err := range r.Keys(ctx, storage.Range{From: "index/", To: "index0"}) {
				if err != nil {
					return err
				}
				if len(pair.Key) > 512 {
					t.Errorf("a key of %d bytes", len(pair.Key))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// Records that have no subject are left alone.
		for i, rec := range []map[string]any{{}, {"subject": "text"}, {"subject": map[string]any{"uri": int64(1)}}, {"subject": map[string]any{"uri": ""}}, {"subject": []any{}}} {
			rec["$type"] = string(likes)
			for j := range 2 {
				must(t, h, batch(write(repo.Create, keyN(500+10*i+j), record(t, rec))))
			}
		}
		if got := keysIn(t, h, likes); len(got) != len(odd)+10 {
			t.Errorf("%d likes", len(got))
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

// TestFailedCheckIsNoRace: a batch whose own precondition does not hold fails at once.
func TestFailedCheckIsNoRace(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := indexedHost(store, k)
		create(t, h, alice)
		b := batch(write(repo.Create, "a", like(t, "x", 1)))
		b.Checks = []storage.KVCheck{{Key: "no", Value: []byte("such")}}
		if _, err := h.Apply(ctx, alice, b); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("%v", err)
		}
		importLikes(t, h, k, map[string][]byte{"a": like(t, "x", 1)}) // the index is built on the way
		b.Writes[0].RKey = "b"
		if _, err := h.Apply(ctx, alice, b); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("%v", err)
		}
		if got := keysIn(t, h, likes); !slices.Equal(got, []string{"a"}) {
			t.Errorf("likes %v", got)
		}
	})
}

func TestIndexConfig(t *testing.T) {
	fn := func(syntax.NSID, syntax.RecordKey, *data.Encoded) []string { return nil }
	for name, list := range map[string][]repo.Index{
		"no name":         {{Keys: fn}},
		"a slash":         {{Name: "a/b", Keys: fn}},
		"a long name":     {{Name: strings.Repeat("a", 33), Keys: fn}},
		"twice":           {{Name: "a", Keys: fn}, {Name: "a", Keys: fn}},
		"no keys":         {{Name: "a"}},
		"replaces it all": {{Name: "a", Keys: fn, Replaces: []string{""}}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			repo.NewHost(repo.Config{Store: memoryStore(), Signer: (&keys{}).signer, Indexes: list})
		})
	}
	repo.NewHost(repo.Config{Store: memoryStore(), Signer: (&keys{}).signer, Indexes: []repo.Index{{Name: strings.Repeat("a", 32), Keys: fn}}})
	h := indexedHost(memoryStore(), &keys{})
	if _, err := h.Find(ctx, alice, "tags", "x", 1); !errors.Is(err, repo.ErrRepoNotFound) {
		t.Errorf("%v", err)
	}
	create(t, h, alice)
	if _, err := h.Find(ctx, alice, "other", "x", 1); err == nil {
		t.Error("an index that there is not")
	}
}
