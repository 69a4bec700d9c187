package repo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
