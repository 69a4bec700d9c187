package repo_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// TestHistories runs random batches on several accounts, through a host whose cache
// is too small for all of them.
func TestHistories(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, CacheBytes: 8 << 10})
		rng := rand.New(rand.NewPCG(3, 4))
		want := map[syntax.DID]map[string]string{alice: {}, bob: {}}
		for did := range want {
			create(t, h, did)
		}
		for step := range 150 {
			did := []syntax.DID{alice, bob}[rng.IntN(2)]
			var b repo.Batch
			model := clone(want[did])
			for i := range rng.IntN(6) {
				key := keyN(rng.IntN(40))
				path := string(notes) + "/" + string(key)
				w := repo.Write{Collection: notes, RKey: key, Record: note(t, fmt.Sprint(step, i))}
				switch _, exists := model[path]; {
				case exists && rng.IntN(2) == 0:
					w.Action, w.Record = repo.Delete, nil
					delete(model, path)
				case exists:
					w.Action = repo.Update
				default:
					w.Action = repo.Create
					model[path] = ""
				}
				b.Writes = append(b.Writes, w)
			}
			res := apply(t, h, did, want[did], b)
			if len(b.Writes) == 0 && res.Changed {
				t.Error("a batch without writes made a commit")
			}
		}
		check(t, store, k, want)
	})
}

// TestNetEffect: a path that a batch writes several times has one operation in the
// event, and none if it ends as it began.
func TestNetEffect(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		create(t, h, alice)
		want := map[string]string{}
		first := note(t, "first")
		apply(t, h, alice, want, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: notes, RKey: "a", Record: first}}})
		before, _ := h.Head(ctx, alice)

		res := apply(t, h, alice, want, repo.Batch{Writes: []repo.Write{
			{Action: repo.Delete, Collection: notes, RKey: "a"},
			{Action: repo.Create, Collection: notes, RKey: "b", Record: first},
			{Action: repo.Delete, Collection: notes, RKey: "b"},
			{Action: repo.Create, Collection: notes, RKey: "a", Record: first},
		}})
		if head, _ := h.Head(ctx, alice); res.Changed || head != before || res.Seq != 0 {
			t.Errorf("a batch without net effect made commit %s (%+v)", head.Commit, res)
		}
		res = apply(t, h, alice, want, repo.Batch{Writes: []repo.Write{
			{Action: repo.Delete, Collection: notes, RKey: "a"},
			{Action: repo.Put, Collection: notes, RKey: "a", Record: note(t, "second")},
			{Action: repo.Update, Collection: notes, RKey: "a", Record: note(t, "third")},
		}})
		if len(res.Records) != 3 || !res.Changed {
			t.Errorf("result %+v", res)
		}
		check(t, store, k, map[syntax.DID]map[string]string{alice: want})
	})
}

// TestRefusals: what is refused changes nothing, and says why.
func TestRefusals(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		create(t, h, alice)
		want := map[string]string{}
		res := apply(t, h, alice, want, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: notes, RKey: "a", Record: note(t, "x")}}})
		head := res.Head
		current, other := res.Records[0].CID, head.Commit
		none := cid.Undef
		many := make([]repo.Write, commit.MaxOps+1)
		for i := range many {
			many[i] = repo.Write{Action: repo.Create, Collection: notes, RKey: keyN(i), Record: note(t, "x")}
		}
		encoded := func(e *data.Encoded) repo.Batch {
			return repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: notes, RKey: "b", Encoded: e}}}
		}
		must := func(e *data.Encoded, err error) *data.Encoded {
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		float := []byte{0xa1, 0x61, 'n', 0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0}
		tests := []struct {
			name  string
			batch repo.Batch
			want  error
		}{
			{"create of what exists", one(repo.Create, "a", note(t, "y"), nil), repo.ErrRecordExists},
			{"update of what does not", one(repo.Update, "b", note(t, "y"), nil), repo.ErrRecordNotFound},
			{"delete of what does not", one(repo.Delete, "b", nil, nil), repo.ErrRecordNotFound},
			{"swap of another value", one(repo.Update, "a", note(t, "y"), &other), repo.ErrInvalidSwap},
			{"swap of no value", one(repo.Put, "a", note(t, "y"), &none), repo.ErrInvalidSwap},
			{"swap of what is not there", one(repo.Put, "b", note(t, "y"), &current), repo.ErrInvalidSwap},
			{"swap of another commit", repo.Batch{SwapCommit: current, Writes: one(repo.Create, "b", note(t, "y"), nil).Writes}, repo.ErrInvalidSwap},
			{"a record that is no object", one(repo.Create, "b", []byte{0x01}, nil), repo.ErrInvalidRecord},
			{"a record with a float", one(repo.Create, "b", float, nil), repo.ErrInvalidRecord},
			{"a record with bytes after it", one(repo.Create, "b", append(note(t, "y"), 0), nil), repo.ErrInvalidRecord},
			{"no record", one(repo.Create, "b", nil, nil), repo.ErrInvalidRecord},
			{"a record twice", repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: notes, RKey: "b", Record: note(t, "y"), Encoded: data.DecodeLazily(note(t, "y"))}}}, repo.ErrInvalidWrite},
			{"an encoded record with a float", encoded(data.DecodeLazily(float)), repo.ErrInvalidRecord},
			{"an encoded record with bytes after it", encoded(data.DecodeLazily(append(note(t, "y"), 0))), repo.ErrInvalidRecord},
			{"an encoded record that is no object", encoded(must(data.EncodeValue([]any{}))), repo.ErrInvalidRecord},
			{"an encoded record that is too large", encoded(data.DecodeLazily(note(t, strings.Repeat("x", commit.MaxRecord)))), repo.ErrInvalidRecord},
			{"an encoded record of another type", encoded(must(data.EncodeValue(map[string]any{"$type": "com.example.other"}))), repo.ErrInvalidRecord},
			{"a record that is too large", one(repo.Create, "b", note(t, strings.Repeat("x", commit.MaxRecord)), nil), repo.ErrInvalidRecord},
			{"a record key that is none", one(repo.Create, "..", note(t, "y"), nil), repo.ErrInvalidRecord},
			{"too many writes", repo.Batch{Writes: many}, repo.ErrTooManyWrites},
			{"a blob that was not uploaded", one(repo.Create, "b", record(t, map[string]any{"b": blobValue("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "image/png", 5)}), nil), repo.ErrBlobNotFound},
			{"a key check that does not hold", repo.Batch{Checks: []storage.KVCheck{{Key: "k", Value: []byte("v")}}, Writes: one(repo.Create, "b", note(t, "y"), nil).Writes}, storage.ErrConflict},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				if _, err := h.Apply(ctx, alice, tt.batch); !errors.Is(err, tt.want) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				if now, err := h.Head(ctx, alice); err != nil || now != head {
					t.Errorf("the head moved to %v (%v)", now, err)
				}
			})
		}
		if _, err := h.Apply(ctx, bob, one(repo.Create, "a", note(t, "x"), nil)); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("write to nobody's repository: %v", err)
		}
		if _, err := h.Create(ctx, alice, repo.Batch{}); !errors.Is(err, repo.ErrRepoExists) {
			t.Errorf("second create: %v", err)
		}
		var swap *repo.SwapError
		_, err := h.Apply(ctx, alice, one(repo.Update, "a", note(t, "y"), &other))
		if !errors.As(err, &swap) || swap.Current != current {
			t.Errorf("swap error %+v", err)
		}
		apply(t, h, alice, want, one(repo.Update, "a", note(t, "y"), &current))
		apply(t, h, alice, want, one(repo.Put, "c", note(t, "y"), &none))
		check(t, store, k, map[syntax.DID]map[string]string{alice: want})
	})
}

func one(a repo.Action, key syntax.RecordKey, rec []byte, swap *cid.Cid) repo.Batch {
	return repo.Batch{Writes: []repo.Write{{Action: a, Collection: notes, RKey: key, Record: rec, Swap: swap}}}
}

// TestMemoryNeverAhead: a store that fails, before or after it has applied, leaves the
// host able to go on from what is stored.
func TestMemoryNeverAhead(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		f := &faulty{Repos: store.Repos}
		broken := store
		broken.Repos = f
		h := repo.NewHost(repo.Config{Store: broken, Signer: k.signer})
		create(t, h, alice)
		want := map[string]string{}
		for i := range 30 {
			b := one(repo.Create, keyN(i), note(t, fmt.Sprint(i)), nil)
			path := string(notes) + "/" + string(keyN(i))
			switch i % 3 {
			case 0:
				apply(t, h, alice, want, b)
			case 1:
				f.set(true, false)
				if _, err := h.Apply(ctx, alice, b); !errors.Is(err, errInjected) {
					t.Fatal(err)
				}
			case 2:
				f.set(false, true)
				if _, err := h.Apply(ctx, alice, b); !errors.Is(err, errInjected) {
					t.Fatal(err)
				}
				rec, err := h.Record(ctx, alice, notes, keyN(i))
				if err != nil {
					t.Fatal(err)
				}
				want[path] = rec.CID.String()
			}
			f.set(false, false)
		}
		check(t, store, k, map[syntax.DID]map[string]string{alice: want})
	})
}

// TestTwoHosts: two hosts over one store, as two processes during a deployment, write
// the same repository at once. Nothing is lost, and every event follows the one before.
func TestTwoHosts(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		hosts := []*repo.Host{
			repo.NewHost(repo.Config{Store: store, Signer: k.signer}),
			repo.NewHost(repo.Config{Store: store, Signer: k.signer}),
		}
		create(t, hosts[0], alice)
		var mu sync.Mutex
		want := map[string]string{}
		var wg sync.WaitGroup
		for n, h := range hosts {
			for w := range 2 {
				wg.Go(func() {
					for i := range 20 {
						b := one(repo.Create, syntax.RecordKey(fmt.Sprintf("k%d-%d-%d", n, w, i)), note(t, fmt.Sprint(n, w, i)), nil)
						res, err := h.Apply(ctx, alice, b)
						for errors.Is(err, storage.ErrConflict) { // more losses in a row than Apply takes
							res, err = h.Apply(ctx, alice, b)
						}
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						keep(want, res)
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
		if len(want) != 80 {
			t.Errorf("%d records", len(want))
		}
		check(t, store, k, map[syntax.DID]map[string]string{alice: want})
	})
}

// TestTooManyBytes: a batch within the number of operations but beyond the bytes of an event.
func TestTooManyBytes(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		create(t, h, alice)
		var b repo.Batch
		for i := range 3 {
			b.Writes = append(b.Writes, one(repo.Create, keyN(i), note(t, fmt.Sprint(i)+strings.Repeat("x", 900_000)), nil).Writes...)
		}
		if _, err := h.Apply(ctx, alice, b); !errors.Is(err, repo.ErrTooManyWrites) {
			t.Errorf("2.7 MB in one commit: %v", err)
		}
		b.Writes = b.Writes[:2]
		want := map[string]string{}
		apply(t, h, alice, want, b)
		check(t, store, k, map[syntax.DID]map[string]string{alice: want})
	})
}

// TestDelete: nothing of a deleted repository remains but the event that says so.
func TestDelete(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		create(t, h, alice)
		create(t, h, bob)
		apply(t, h, alice, map[string]string{}, one(repo.Create, "a", note(t, "x"), nil))
		gone := commit.Account{DID: alice, Status: "deleted"}
		if err := h.Delete(ctx, alice, storage.Event{DID: alice, Kind: commit.KindAccount, Payload: gone.Payload()}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Head(ctx, alice); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("head: %v", err)
		}
		var kinds []string
		for ev, err := range store.Events.Since(ctx, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.DID == alice {
				kinds = append(kinds, ev.Kind)
			}
		}
		if len(kinds) != 1 || kinds[0] != commit.KindAccount {
			t.Errorf("events of the deleted account: %v", kinds)
		}
		if err := h.Delete(ctx, alice); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("second delete: %v", err)
		}
		create(t, h, alice)
		check(t, store, k, map[syntax.DID]map[string]string{alice: {}, bob: {}})
	})
}

// remade calls a function after each deletion, as another process may do something then.
type remade struct {
	storage.Repos
	after func()
}

func (r remade) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	seq, err := r.Repos.Delete(ctx, did, events)
	if err == nil {
		r.after()
	}
	return seq, err
}

// TestDeleteBesideCreate: an account that another process makes again keeps the blobs that it has
// then.
func TestDeleteBesideCreate(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		other := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		var blob storage.BlobInfo
		upload := func(text string) {
			t.Helper()
			info, err := other.UploadBlob(ctx, alice, "text/plain", strings.NewReader(text), 0)
			if err != nil {
				t.Fatal(err)
			}
			rec := record(t, map[string]any{"$type": string(notes), "b": data.Blob{Ref: info.CID, MIME: info.MIME, Size: info.Size}.Value()})
			apply(t, other, alice, map[string]string{}, one(repo.Create, "blob", rec, nil))
			blob = info
		}
		deleting := store
		deleting.Repos = remade{store.Repos, func() {
			create(t, other, alice)
			upload("new")
		}}
		create(t, other, alice)
		upload("old")
		if err := repo.NewHost(repo.Config{Store: deleting, Signer: k.signer}).Delete(ctx, alice); err != nil {
			t.Fatal(err)
		}
		r, _, err := other.OpenBlob(ctx, alice, blob.CID)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		// What the first account has left goes with a sweep.
		if n, err := other.SweepBlobs(ctx, alice, time.Now().Add(time.Hour)); n != 1 || err != nil {
			t.Errorf("swept %d blobs, %v", n, err)
		}
		if err := other.Delete(ctx, alice); err != nil {
			t.Fatal(err)
		}
		if _, _, err := store.Blobs.Stat(ctx, alice, blob.CID); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a blob of a deleted account: %v", err)
		}
	})
}
