package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// Trees of any size are those of mst.Build, and an error, wherever it comes, ends it.
func TestBuild(t *testing.T) {
	value := dag.Sum(dag.CBOR, []byte("value"))
	path := func(i int) string { return fmt.Sprintf("com.example.note/%06d", i) }
	mine := errors.New("mine")
	records := func(n int, spoil func(i int, rec *storage.Record) error) iter.Seq2[storage.Record, error] {
		return func(yield func(storage.Record, error) bool) {
			for i := range n {
				rec := storage.Record{Path: path(i), CID: value}
				var err error
				if spoil != nil {
					err = spoil(i, &rec)
				}
				if !yield(rec, err) {
					return
				}
			}
		}
	}
	for _, n := range []int{0, 1, buildBatch - 1, buildBatch, buildBatch + 1, 3 * buildBatch, 5*buildBatch + 7} {
		tree, size, err := build(records(n, nil))
		if err != nil || size != int64(n)*recordBytes {
			t.Fatalf("%d records: %d bytes, %v", n, size, err)
		}
		var entries []mst.Entry
		for i := range n {
			entries = append(entries, mst.Entry{Key: path(i), Value: value})
		}
		if want, err := mst.BuildSorted(entries); err != nil || tree.Root() != want.Root() {
			t.Errorf("%d records: root %s, want %s (%v)", n, tree.Root(), want.Root(), err)
		}
		for _, at := range []int{0, n / 2, n - 1} {
			if at < 0 || at >= n {
				continue
			}
			if _, _, err := build(records(n, func(i int, _ *storage.Record) error {
				if i == at {
					return mine
				}
				return nil
			})); !errors.Is(err, mine) {
				t.Errorf("%d records, error at %d: %v", n, at, err)
			}
			if _, _, err := build(records(n, func(i int, rec *storage.Record) error {
				if i == at {
					rec.CID = cid.Undef
				}
				return nil
			})); err == nil {
				t.Errorf("%d records, no CID at %d: no error", n, at)
			}
		}
	}
}

// TestLongPathsCount: what long paths take counts towards the memory of cached trees, as records
// come and go, and as much after a restart.
func TestLongPathsCount(t *testing.T) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	h := NewHost(Config{Store: memory.New(memory.Config{}), Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	const did = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	if _, err := h.Create(t.Context(), did, Batch{}); err != nil {
		t.Fatal(err)
	}
	block, err := data.Encode(map[string]any{"$type": "com.example.note"})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(action Action, key string) {
		t.Helper()
		w := Write{Action: action, Collection: "com.example.note", RKey: syntax.RecordKey(key)}
		if action == Create {
			w.Record = block
		}
		if _, err := h.Apply(t.Context(), did, Batch{Writes: []Write{w}}); err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 {
		t.Helper()
		st, ok := h.cache.get(did)
		if !ok {
			t.Fatal("the tree is not in memory")
		}
		return st.size
	}
	long := strings.Repeat("x", 500)
	apply(Create, "short")
	apply(Create, long)
	want := int64(recordBytes + recordBytes + len("com.example.note/") + 500 - usualPath)
	if got := size(); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	h.cache.drop(did)
	if st, err := h.load(t.Context(), did); err != nil || st.size != want {
		t.Errorf("%d bytes after a restart, want %d (%v)", st.size, want, err)
	}
	apply(Delete, long)
	if got := size(); got != recordBytes {
		t.Errorf("%d bytes in the end, want %d", got, recordBytes)
	}
}
