package repo

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// The cache counts about as much memory as trees of any size take, whether they were built or grew.
func TestTreesTakeWhatIsCounted(t *testing.T) {
	if testenv.Race || runtime.GOARCH == "wasm" {
		t.Skip("memory is another one here")
	}
	for _, n := range []int{1, 10, 50, 200, 1000, 5000} {
		for _, grown := range []int{0, min(n, 200)} {
			trees := max(4, 10_000/max(n, 10))
			kept := make([]state, 0, trees)
			before := heap()
			counted := int64(0)
			for i := range trees {
				st := stateWith(t, i, n-grown, n)
				counted += st.bytes()
				kept = append(kept, st)
			}
			taken := heap() - before
			runtime.KeepAlive(kept)
			t.Logf("%d records, %d of which were added one by one: %d bytes, counted as %d", n, grown, taken/int64(trees), counted/int64(trees))
			if taken > counted*5/4 || n >= 50 && taken < counted/3 {
				t.Errorf("%d records, %d of which were added one by one: %d bytes, counted as %d", n, grown, taken/int64(trees), counted/int64(trees))
			}
		}
	}
}

// stateWith is the state of an account of n records, of which the first ones are there when it is
// read, and the others come one by one.
func stateWith(t *testing.T, account, first, n int) state {
	t.Helper()
	record := func(i int) storage.Record {
		path := fmt.Sprintf("app.bsky.feed.post/3k%04x%07d", account, i)
		return storage.Record{Path: path, CID: dag.Sum(dag.CBOR, []byte(path))}
	}
	tree, size, err := build(func(yield func(storage.Record, error) bool) {
		for i := range first {
			if !yield(record(i), nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := first; i < n; i++ {
		rec := record(i)
		change, err := tree.Apply([]mst.Op{{Key: rec.Path, Value: rec.CID}})
		if err != nil {
			t.Fatal(err)
		}
		tree, size = change.Tree, size+treeBytes(rec.Path)
	}
	return state{tree: tree, size: size}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
