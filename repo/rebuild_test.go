package repo

import (
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
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
		tree, count, err := build(records(n, nil))
		if err != nil || count != n {
			t.Fatalf("%d records: %d, %v", n, count, err)
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
