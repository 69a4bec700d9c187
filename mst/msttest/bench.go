package msttest

import (
	"crypto/sha256"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/mst"
)

// Benchmark measures a library on trees of 1,000 to 1,000,000 keys (10,000 with -short):
//
//	build    a tree from sorted entries, and its root
//	load     all nodes of a tree from a Source
//	memory   what a loaded tree keeps alive, once
//	get      a key that is there
//	change   one new key, and the root
//	diff     the differences of two trees that are ten changes apart
//	walk     all entries
//
// Beside Go's own figures it reports ns/key and B/key, and, as floor-ns/key or floor-ns, what
// hashing alone costs on the same machine: of all keys and nodes for build and load, of the nodes
// of one path for a change.
func Benchmark(b *testing.B, lib Library) {
	for _, n := range []int{1000, 10_000, 100_000, 1_000_000} {
		if testing.Short() && n > 10_000 {
			break
		}
		made := sync.OnceValue(func() *workload { return newWorkload(n) })
		run := func(name string, bench func(w *workload, b *testing.B, lib Library)) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { bench(made(), b, lib) })
		}
		run("build", (*workload).build)
		if lib.Load != nil {
			run("load", (*workload).load)
			run("memory", (*workload).memory)
		}
		run("get", (*workload).get)
		run("change", (*workload).change)
		if lib.Diff != nil {
			run("diff", (*workload).diff)
		}
		run("walk", (*workload).walk)
	}
}

// workload is a tree of realistic keys.
type workload struct {
	n       int
	entries []mst.Entry
	tree    *mst.Tree
	blocks  mst.BlockMap
}

func newWorkload(n int) *workload {
	w := &workload{n: n, blocks: make(mst.BlockMap)}
	for i, k := range RealisticKeys(n) {
		w.entries = append(w.entries, mst.Entry{Key: k, Value: Value(i)})
	}
	var err error
	if w.tree, err = mst.BuildSorted(w.entries); err != nil {
		panic(err) // the keys are sorted
	}
	for block := range w.tree.Nodes() {
		w.blocks[block.CID] = block.Data
	}
	return w
}

// make makes the tree with the library.
func (w *workload) make(lib Library) (Tree, error) {
	if lib.Build != nil {
		return lib.Build(w.entries)
	}
	t, err := lib.Empty()
	for list := range slices.Chunk(w.entries, 1000) {
		var ops []mst.Op
		for _, e := range list {
			ops = append(ops, mst.Op(e))
		}
		if err == nil {
			t, err = t.Apply(ops)
		}
	}
	return t, err
}

func (w *workload) mustMake(b *testing.B, lib Library) Tree {
	b.Helper()
	t, err := w.make(lib)
	if err != nil {
		b.Fatal(err)
	}
	if err := sameRoot(t, w.tree.Root()); err != nil {
		b.Fatal(err)
	}
	return t
}

// perKey reports a benchmark that handles all keys.
func (w *workload) perKey(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(w.n), "ns/key")
}

// hashing is how long it takes to hash some byte strings: the least of three times.
func hashing(list [][]byte) time.Duration {
	least := time.Duration(math.MaxInt64)
	for range 3 {
		start := time.Now()
		for _, data := range list {
			sha256.Sum256(data)
		}
		least = min(least, time.Since(start))
	}
	return least
}

// floorOfAll reports the hashing of all keys and nodes.
func (w *workload) floorOfAll(b *testing.B) {
	var list [][]byte
	for _, e := range w.entries {
		list = append(list, []byte(e.Key))
	}
	for _, data := range w.blocks {
		list = append(list, data)
	}
	b.ReportMetric(float64(hashing(list).Nanoseconds())/float64(w.n), "floor-ns/key")
}

// floorOfPath reports the hashing of the nodes of one path, on an average.
func (w *workload) floorOfPath(b *testing.B) {
	const paths = 500
	var list [][]byte
	for i := range paths {
		path, err := w.tree.Proof(w.entries[i*7919%w.n].Key)
		if err != nil {
			b.Fatal(err)
		}
		for _, node := range path {
			list = append(list, node.Data)
		}
	}
	b.ReportMetric(float64(hashing(list).Nanoseconds())/paths, "floor-ns")
}

func (w *workload) build(b *testing.B, lib Library) {
	b.ReportAllocs()
	for b.Loop() {
		w.mustMake(b, lib)
	}
	w.perKey(b)
	w.floorOfAll(b)
}

func (w *workload) load(b *testing.B, lib Library) {
	b.ReportAllocs()
	for b.Loop() {
		t, err := lib.Load(w.blocks, w.tree.Root())
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range t.Nodes() { // in case they are not loaded yet
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	w.perKey(b)
	w.floorOfAll(b)
}

func (w *workload) memory(b *testing.B, lib Library) {
	for b.Loop() {
		copies := make(mst.BlockMap, len(w.blocks)) // a tree that keeps blocks is charged for them
		for c, data := range w.blocks {
			copies[c] = slices.Clone(data)
		}
		t, err := lib.Load(copies, w.tree.Root())
		if err != nil {
			b.Fatal(err)
		}
		for range t.Nodes() {
		}
		clear(copies) // a Source that the tree keeps, if it is lazy, is not charged
		kept := heap()
		runtime.KeepAlive(t)
		t = nil
		b.ReportMetric(float64(kept-heap())/float64(w.n), "B/key")
	}
}

// heap is the number of bytes that are alive.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (w *workload) get(b *testing.B, lib Library) {
	t := w.mustMake(b, lib)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7919) % w.n
		if v, err := t.Get(w.entries[i].Key); err != nil || v != w.entries[i].Value {
			b.Fatal(v, err)
		}
	}
}

func (w *workload) change(b *testing.B, lib Library) {
	t := w.mustMake(b, lib)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7919) % w.n
		next, err := t.Apply([]mst.Op{{Key: w.entries[i].Key + "x", Value: Value(1)}})
		if err == nil {
			_, err = next.Root()
		}
		if err == nil && lib.InPlace {
			_, err = t.Apply([]mst.Op{{Key: w.entries[i].Key + "x"}})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	w.floorOfPath(b)
}

func (w *workload) diff(b *testing.B, lib Library) {
	old := w.mustMake(b, lib)
	m := make(Model)
	for i := range 10 {
		m[w.entries[i*w.n/10].Key+"x"] = Value(i)
	}
	new, err := old.Apply(puts(m))
	if lib.InPlace && err == nil {
		old, err = w.make(lib)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for d, err := range lib.Diff(old, new) {
			if n++; err != nil || d.New != m[d.Key] {
				b.Fatal(d, err)
			}
		}
		if n != len(m) {
			b.Fatal(n, "differences")
		}
	}
}

func (w *workload) walk(b *testing.B, lib Library) {
	t := w.mustMake(b, lib)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range t.Entries() {
			if n++; err != nil {
				b.Fatal(err)
			}
		}
		if n != w.n {
			b.Fatal(n, "entries")
		}
	}
	w.perKey(b)
}
