package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// lookedAt counts the references that are read.
type lookedAt struct {
	storage.Repos
	refs *int
}

func (l lookedAt) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	return l.Repos.View(ctx, did, func(r storage.Reader) error { return fn(refReader{r, l.refs}) })
}

type refReader struct {
	storage.Reader
	refs *int
}

func (r refReader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	return func(yield func(storage.BlobRef, error) bool) {
		for ref, err := range r.Reader.BlobRefs(ctx, after, since) {
			if *r.refs++; !yield(ref, err) {
				return
			}
		}
	}
}

// An account whose unused blobs are bounded may have as many as that, and any number that records
// refer to.
func TestUnusedBlobsAreBounded(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k, most := &keys{}, 2
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, UnusedBlobs: func(context.Context, syntax.DID) (int, error) { return most, nil }})
		create(t, h, alice)
		create(t, h, bob)
		upload := func(did syntax.DID, text string, want error) cid.Cid {
			t.Helper()
			info, err := h.UploadBlob(ctx, did, "text/plain", strings.NewReader(text), 0)
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", text, err, want)
			}
			return info.CID
		}
		one := upload(alice, "one", nil)
		upload(alice, "two", nil)
		upload(alice, "two", nil) // is there already
		three := upload(alice, "three", repo.ErrUnusedBlobs)
		if _, _, err := store.Blobs.Stat(ctx, alice, three); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("what was refused is there: %v", err)
		}
		upload(bob, "three", nil)
		if !errors.Is(repo.ErrUnusedBlobs, storage.ErrQuota) {
			t.Error("it is no quota")
		}
		// What was imported refers to them.
		refers := func(c cid.Cid, size int64) []byte {
			return record(t, map[string]any{"$type": string(notes), "b": data.Blob{Ref: c, MIME: "text/plain", Size: size}.Value()})
		}
		four := dag.Sum(dag.Raw, []byte("four"))
		export := file(madeRepo(t, alice, k.key(alice), aTime, map[string]car.Block{
			string(notes) + "/a": block(refers(one, 3)), string(notes) + "/b": block(refers(four, 4)),
		}))
		if _, err := h.Import(ctx, alice, bytes.NewReader(export), repo.Import{Unverified: true}); err != nil {
			t.Fatal(err)
		}
		upload(alice, "four", nil)
		upload(alice, "three", nil)
		upload(alice, "five", repo.ErrUnusedBlobs)
		most = 0
		upload(alice, "five", nil)
	})
}

// A page of blobs is the same work whatever an account's records refer to: one blob from all
// records, very many blobs of which none is missing, or none that is new.
func TestPagesOfBlobsAreBounded(t *testing.T) {
	const most = 21_000
	blobs := make([]cid.Cid, 30_000)
	for i := range blobs {
		blobs[i] = dag.Sum(dag.Raw, fmt.Append(nil, i))
	}
	slices.SortFunc(blobs, func(a, b cid.Cid) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	for _, test := range []struct {
		name string
		ref  func(i int) cid.Cid
		old  int // those of very many records, which are taken for new
	}{
		{"one blob of all records", func(i int) cid.Cid { return blobs[i/29_999] }, 1},
		{"three blobs of many records", func(i int) cid.Cid { return blobs[i/10_000] }, 3},
		{"a blob of each record", func(i int) cid.Cid { return blobs[i] }, 0},
	} {
		if testing.Short() && test.old != 3 {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			k := &keys{}
			records := make(map[string]car.Block, len(blobs))
			want := make(map[cid.Cid]bool)
			for i := range blobs {
				c := test.ref(i)
				want[c] = true
				records[fmt.Sprintf("%s/%05d", notes, i)] = block(record(t, map[string]any{"$type": string(notes), "n": int64(i), "b": data.Blob{Ref: c, MIME: "text/plain", Size: 5}.Value()}))
			}
			store := memoryStore()
			refs := 0
			store.Repos = lookedAt{store.Repos, &refs}
			h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
			res, err := h.Import(ctx, alice, bytes.NewReader(file(madeRepo(t, alice, k.key(alice), aTime, records))), repo.Import{Unverified: true})
			if err != nil {
				t.Fatal(err)
			}
			walk := func(what string, n int, page func(after cid.Cid) (int, cid.Cid, error)) {
				total, after := 0, cid.Undef
				for {
					refs = 0
					got, next, err := page(after)
					if err != nil || refs > most {
						t.Fatalf("%s: %d references were looked at (%v)", what, refs, err)
					}
					if total += got; !next.Defined() {
						break
					}
					if after.Defined() && next.KeyString() <= after.KeyString() {
						t.Fatalf("%s: a page ends where it began", what)
					}
					after = next
				}
				if total != n {
					t.Errorf("%s: %d of %d", what, total, n)
				}
			}
			all := func(limit int, since syntax.TID) func(cid.Cid) (int, cid.Cid, error) {
				return func(after cid.Cid) (int, cid.Cid, error) {
					got, next, err := h.Blobs(ctx, alice, after, since, limit)
					return len(got), next, err
				}
			}
			missing := func(after cid.Cid) (int, cid.Cid, error) {
				got, next, err := h.MissingBlobs(ctx, alice, after, 1000)
				return len(got), next, err
			}
			walk("all", len(want), all(1000, ""))
			walk("two at a time", min(len(want), 2), func(after cid.Cid) (int, cid.Cid, error) {
				got, next, err := h.Blobs(ctx, alice, after, "", 2)
				if len(want) > 2 && len(got) == 2 && next != got[1] {
					t.Errorf("the next page is after %v, not %v", next, got[1])
				}
				return len(got), cid.Undef, err
			})
			walk("missing", len(want), missing)
			walk("new", test.old, all(1000, res.Head.Rev))
		})
	}
}

// A blob is new while a record that refers to it is; one of many records is taken for new, and its
// other references are not looked at.
func TestBlobsOfNewRecords(t *testing.T) {
	blob := dag.Sum(dag.Raw, []byte("x"))
	for n, want := range map[int]int{1: 0, 255: 0, 256: 1, 300: 1} {
		k, store, refs := &keys{}, memoryStore(), 0
		store.Repos = lookedAt{store.Repos, &refs}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
		records := make(map[string]car.Block, n)
		for i := range n {
			records[fmt.Sprintf("%s/%05d", notes, i)] = block(record(t, map[string]any{"$type": string(notes), "n": int64(i), "b": data.Blob{Ref: blob, MIME: "text/plain", Size: 5}.Value()}))
		}
		res, err := h.Import(ctx, alice, bytes.NewReader(file(madeRepo(t, alice, k.key(alice), aTime, records))), repo.Import{Unverified: true})
		if err != nil {
			t.Fatal(err)
		}
		refs = 0
		list, next, err := h.Blobs(ctx, alice, cid.Undef, res.Head.Rev, 10)
		if err != nil || len(list) != want || next.Defined() || refs != min(n, 256) {
			t.Errorf("%d records: %d new blobs after %d references, %v", n, len(list), refs, err)
		}
		if list, _, err := h.Blobs(ctx, alice, cid.Undef, aTime, 10); err != nil || len(list) != 1 {
			t.Errorf("%d records: %d blobs since before, %v", n, len(list), err)
		}
	}
}
