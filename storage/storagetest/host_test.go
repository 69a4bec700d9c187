package storagetest_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

var errFault = errors.New("fault")

func key(did syntax.DID) *crypto.PrivateKey {
	seed := sha256.Sum256([]byte(did))
	k, err := crypto.ParsePrivateKey(crypto.K256, seed[:])
	if err != nil {
		panic(err)
	}
	return k
}

// A host on a store whose calls fail now and then, before or after they took
// effect: what it acknowledged is there, what it did not is there as a whole or not at all,
// and it never builds on what is not there.
func TestHostOnFaultyStore(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 3))
		store := memory.New(memory.Config{})
		faults := 0
		fault := func(string) error {
			if rng.IntN(25) == 0 {
				faults++
				return errFault
			}
			return nil
		}
		signer := func(_ context.Context, did syntax.DID) (crypto.Signer, error) { return key(did), nil }
		host := repo.NewHost(repo.Config{Store: storagetest.Faults{Before: fault, After: fault}.Wrap(store), Signer: signer})
		dids := []syntax.DID{"did:web:a.example", "did:web:b.example"}
		want := map[syntax.DID]map[string]cid.Cid{}
		for range 400 {
			did := dids[rng.IntN(len(dids))]
			before, _ := store.Repos.Head(ctx, did)
			if before == (storage.Head{}) {
				want[did] = map[string]cid.Cid{}
			}
			batch, effect := randomBatch(ctx, t, rng, host, did, want[did])
			var err error
			switch {
			case before == (storage.Head{}):
				_, err = host.Create(ctx, did, batch)
			case rng.IntN(60) == 0:
				err = host.Delete(ctx, did)
				effect = nil
			default:
				_, err = host.Apply(ctx, did, batch)
			}
			after, headErr := store.Repos.Head(ctx, did)
			gone := errors.Is(headErr, storage.ErrNotFound)
			switch {
			case err != nil && !errors.Is(err, errFault):
				t.Fatalf("seed %d: %v", seed, err)
			case gone:
				delete(want, did)
			case after != before:
				maps.Copy(want[did], effect)
				maps.DeleteFunc(want[did], func(_ string, c cid.Cid) bool { return !c.Defined() })
			case err == nil && len(effect) > 0 && changes(want[did], effect):
				t.Fatalf("seed %d: an acknowledged batch is lost", seed)
			}
			if gone {
				continue
			}
			got := map[string]cid.Cid{}
			if err := store.Repos.View(ctx, did, func(r storage.Reader) error {
				for rec, err := range r.Records(ctx, storage.Range{}) {
					if err != nil {
						return err
					}
					got[rec.Path] = rec.CID
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got, want[did]) {
				t.Fatalf("seed %d: records %v, want %v (error %v)", seed, got, want[did], err)
			}
		}
		if faults < 50 {
			t.Errorf("only %d faults", faults)
		}
		err := storagetest.CheckStore(ctx, store, storagetest.Options{Key: func(did syntax.DID) *crypto.PublicKey { return key(did).PublicKey() }})
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// changes reports whether an effect makes a difference.
func changes(have, effect map[string]cid.Cid) bool {
	for p, c := range effect {
		if have[p] != c {
			return true
		}
	}
	return false
}

// randomBatch makes writes and says what they do to the records.
func randomBatch(ctx context.Context, t *testing.T, rng *rand.Rand, host *repo.Host, did syntax.DID, have map[string]cid.Cid) (b repo.Batch, effect map[string]cid.Cid) {
	effect = map[string]cid.Cid{}
	for range 1 + rng.IntN(3) {
		w := repo.Write{Action: repo.Put, Collection: "com.example.note", RKey: syntax.RecordKey(fmt.Sprint(rng.IntN(8)))}
		path := string(w.Collection) + "/" + string(w.RKey)
		if effect[path].Defined() {
			continue
		}
		paths := slices.Sorted(maps.Keys(have))
		if len(paths) > 0 && rng.IntN(4) == 0 {
			path = paths[rng.IntN(len(paths))]
			if _, twice := effect[path]; twice {
				continue
			}
			_, rkey, _ := strings.Cut(path, "/")
			w.Action, w.RKey = repo.Delete, syntax.RecordKey(rkey)
			effect[path] = cid.Undef
			b.Writes = append(b.Writes, w)
			continue
		}
		if _, twice := effect[path]; twice {
			continue
		}
		v := map[string]any{"$type": "com.example.note", "text": fmt.Sprint(rng.IntN(5))}
		if rng.IntN(3) == 0 {
			info, err := host.UploadBlob(ctx, did, "text/plain", strings.NewReader(fmt.Sprint("blob ", rng.IntN(3))), 0)
			if err == nil {
				v["blob"] = data.Blob{Ref: info.CID, MIME: info.MIME, Size: info.Size}.Value()
			}
		}
		rec, err := data.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		w.Record = rec
		effect[path] = data.CID(rec)
		b.Writes = append(b.Writes, w)
	}
	return b, effect
}

func Example() {
	// A test of a backend:
	_ = func(t *testing.T) {
		storagetest.Run(t, storagetest.Backend{
			Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
				return memory.New(memory.Config{}), func() error { return nil }
			},
			Volatile:  true,
			Exclusive: true,
		})
	}

	// A look at the data of a host:
	err := storagetest.CheckStore(context.Background(), memory.New(memory.Config{}), storagetest.Options{})
	fmt.Println(err)
	// Output: <nil>
}
