package repo_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// big is the number of records of the repositories that are measured.
const big = 100_000

// export is the CAR file of a repository of big records, of some 200 bytes each.
var export = sync.OnceValue(func() []byte {
	k := &keys{}
	h := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer})
	if _, err := h.Create(ctx, alice, repo.Batch{}); err != nil {
		panic(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	at := syntax.TID("3jzfcijpj2z2a").Time()
	for i := 0; i < big; {
		var b repo.Batch
		for range 200 {
			at = at.Add(time.Duration(rng.IntN(1000)) * time.Second)
			rec, err := data.Encode(map[string]any{
				"$type": "app.bsky.feed.post", "createdAt": string(syntax.NewDatetime(at)), "langs": []any{"en"},
				"text": fmt.Sprintf("Post number %d, of about the length that people write on an ordinary day, %x", i, rng.Uint64()),
			})
			if err != nil {
				panic(err)
			}
			b.Writes = append(b.Writes, repo.Write{Action: repo.Create, Collection: "app.bsky.feed.post", RKey: h.NextRecordKey(), Record: rec})
			i++
		}
		b.Silent = true
		if _, err := h.Apply(ctx, alice, b); err != nil {
			panic(err)
		}
	}
	var file bytes.Buffer
	if err := h.Export(ctx, alice, "", &file); err != nil {
		panic(err)
	}
	return file.Bytes()
})

// bigStore is a database with the repository, and a host over it.
func bigStore(b *testing.B, cfg sqlite.Config) (*repo.Host, storage.Store, *keys) {
	b.Helper()
	db, err := sqlite.Open(ctx, filepath.Join(b.TempDir(), "bench.sqlite"), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	k := &keys{}
	h := repo.NewHost(repo.Config{Store: db.Store(), Signer: k.signer})
	if _, err := h.Import(ctx, alice, bytes.NewReader(export()), repo.Import{Unverified: true}); err != nil {
		b.Fatal(err)
	}
	return h, db.Store(), k
}

// The benchmarks of this file measure a host over SQLite with a repository of 100,000 records.
//
// Last table (2 cores of a virtual machine, `go test -run '^$' -bench . -count 3 ./repo`):
//
//	Apply/normal   127 µs median (159 on a loaded machine)
//	Apply/full     387 µs median (loaded)
//	ApplyMany      8,154 commits/s (loaded)
//	ColdOpen       84 ms
//	Record         12.4 µs
//	List           61 µs
//	Import         91,468 records/s, heap 30 MiB
//	Export         205 MB/s, first byte 1.0 ms, heap 42 MiB

// BenchmarkApply is one commit with one record. The signature is some 40 µs of it.
func BenchmarkApply(b *testing.B) {
	for name, cfg := range map[string]sqlite.Config{"full": {}, "normal": {Relaxed: true}} {
		b.Run(name, func(b *testing.B) {
			h, _, _ := bigStore(b, cfg)
			rec := note(b, "a new record")
			took := make([]time.Duration, 0, 1024)
			for b.Loop() {
				began := time.Now()
				if _, err := h.Apply(ctx, alice, one(repo.Create, h.NextRecordKey(), rec, nil)); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			b.ReportMetric(float64(median(took).Microseconds()), "median-µs")
		})
	}
}

// BenchmarkApplyIndexed is one commit of a host with an index: with a record that the index does
// not concern, with a new subject, and with one that has been liked before. Build is the first
// write that needs the index of 100,000 records.
//
// Last table (as above, loaded; `-bench 'Apply$/normal|ApplyIndexed' -count 2`), beside 123 µs for
// a host without an index:
//
//	none       158 µs median
//	new        224 µs median
//	replace    241 µs median
//	build      2.1 s for 100,000 records with one row each
func BenchmarkApplyIndexed(b *testing.B) {
	cases := map[string]func(i int) (syntax.NSID, []byte){
		"none":    func(i int) (syntax.NSID, []byte) { return notes, note(b, "a new record") },
		"new":     func(i int) (syntax.NSID, []byte) { return likes, like(b, fmt.Sprint("subject ", i), i) },
		"replace": func(i int) (syntax.NSID, []byte) { return likes, like(b, "one subject", i) },
	}
	for name, next := range cases {
		b.Run(name, func(b *testing.B) {
			_, store, k := bigStore(b, sqlite.Config{Relaxed: true})
			h := indexedHost(store, k, subjects())
			if _, err := h.Find(ctx, alice, "subject", "x", 1); err != nil {
				b.Fatal(err)
			}
			took := make([]time.Duration, 0, 1024)
			for i := 0; b.Loop(); i++ {
				collection, rec := next(i)
				began := time.Now()
				w := repo.Write{Action: repo.Create, Collection: collection, RKey: h.NextRecordKey(), Record: rec}
				if _, err := h.Apply(ctx, alice, repo.Batch{Writes: []repo.Write{w}}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			b.ReportMetric(float64(median(took).Microseconds()), "median-µs")
		})
	}
	b.Run("build", func(b *testing.B) {
		_, store, k := bigStore(b, sqlite.Config{Relaxed: true})
		for i := 0; b.Loop(); i++ {
			all := repo.Index{Name: "all", Version: fmt.Sprint(i), Keys: func(c syntax.NSID, rkey syntax.RecordKey, _ *data.Encoded) []string {
				return []string{string(rkey)}
			}}
			if _, err := indexedHost(store, k, all).Find(ctx, alice, "all", "x", 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkApplyMany is single-record commits of 64 accounts at once, each durable.
func BenchmarkApplyMany(b *testing.B) {
	db, err := sqlite.Open(ctx, filepath.Join(b.TempDir(), "bench.sqlite"), sqlite.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	k := &keys{}
	h := repo.NewHost(repo.Config{Store: db.Store(), Signer: k.signer})
	const accounts = 64
	dids := make([]syntax.DID, accounts)
	for i := range dids {
		dids[i] = syntax.DID(fmt.Sprintf("did:web:account%d.example.com", i))
		if _, err := h.Create(ctx, dids[i], repo.Batch{}); err != nil {
			b.Fatal(err)
		}
	}
	rec := note(b, "a new record")
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, did := range dids {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := h.Apply(ctx, did, one(repo.Create, h.NextRecordKey(), rec, nil)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkColdOpen is the first write to a repository: the tree is rebuilt.
func BenchmarkColdOpen(b *testing.B) {
	_, store, k := bigStore(b, sqlite.Config{})
	for b.Loop() {
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		if _, err := h.Apply(ctx, alice, one(repo.Put, "again", note(b, "x"), nil)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecord is a point read.
func BenchmarkRecord(b *testing.B) {
	h, _, _ := bigStore(b, sqlite.Config{})
	var keys []syntax.RecordKey
	page, err := h.List(ctx, alice, "app.bsky.feed.post", repo.ListOptions{Limit: 10_000})
	if err != nil {
		b.Fatal(err)
	}
	for _, rec := range page {
		_, rkey, _ := syntax.ParsePath(rec.Path)
		keys = append(keys, rkey)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := h.Record(ctx, alice, "app.bsky.feed.post", keys[i*7919%len(keys)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList is a page of 50 records.
func BenchmarkList(b *testing.B) {
	h, _, _ := bigStore(b, sqlite.Config{})
	for b.Loop() {
		if _, err := h.List(ctx, alice, "app.bsky.feed.post", repo.ListOptions{Limit: 50}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkImport verifies, signs and stores a whole repository.
func BenchmarkImport(b *testing.B) {
	file := filepath.Join(b.TempDir(), "repo.car")
	if err := os.WriteFile(file, export(), 0o600); err != nil {
		b.Fatal(err)
	}
	k := &keys{}
	dir := b.TempDir()
	heap := watchHeap(b)
	n := 0
	for b.Loop() {
		db, err := sqlite.Open(ctx, filepath.Join(dir, fmt.Sprintf("%d.sqlite", n)), sqlite.Config{})
		if err != nil {
			b.Fatal(err)
		}
		n++
		h := repo.NewHost(repo.Config{Store: db.Store(), Signer: k.signer})
		f, err := os.Open(file)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.Import(ctx, alice, f, repo.Import{Unverified: true}); err != nil {
			b.Fatal(err)
		}
		f.Close()
		db.Close()
	}
	b.ReportMetric(float64(big)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(heap(), "heap-MiB")
}

// BenchmarkExport writes a whole repository as a CAR file, the tree cached.
func BenchmarkExport(b *testing.B) {
	h, _, _ := bigStore(b, sqlite.Config{})
	// A write puts the tree into the cache.
	if _, err := h.Apply(ctx, alice, one(repo.Put, "again", note(b, "x"), nil)); err != nil {
		b.Fatal(err)
	}
	heap := watchHeap(b)
	var first time.Duration
	for b.Loop() {
		w := &firstByte{began: time.Now()}
		if err := h.Export(ctx, alice, "", w); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(w.n)
		first = max(first, w.first)
	}
	b.ReportMetric(float64(first.Microseconds())/1000, "first-byte-ms")
	b.ReportMetric(heap(), "heap-MiB")
}

// BenchmarkExportSince writes what one change made, in a repository of big records, as a CAR file,
// the tree cached: with an event log that finds the events of an account, and with one that does
// not.
func BenchmarkExportSince(b *testing.B) {
	for _, name := range []string{"covered", "all nodes"} {
		b.Run(name, func(b *testing.B) {
			h, store, k := bigStore(b, sqlite.Config{})
			if name != "covered" {
				store.Events = struct{ storage.Events }{store.Events}
				h = repo.NewHost(repo.Config{Store: store, Signer: k.signer})
			}
			head, err := h.Head(ctx, alice)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := h.Apply(ctx, alice, one(repo.Put, "again", note(b, "x"), nil)); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				w := &firstByte{began: time.Now()}
				if err := h.Export(ctx, alice, head.Rev, w); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(w.n), "bytes")
			}
		})
	}
}

// firstByte counts and notes when the first byte came.
type firstByte struct {
	began time.Time
	first time.Duration
	n     int64
}

func (w *firstByte) Write(p []byte) (int, error) {
	if w.n == 0 {
		w.first = time.Since(w.began)
	}
	w.n += int64(len(p))
	return len(p), nil
}

var _ io.Writer = (*firstByte)(nil)

// watchHeap samples the heap until the returned function is called, which gives
// the most it grew, in MiB.
func watchHeap(b *testing.B) func() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, m.HeapAlloc
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
		}
	}()
	return func() float64 {
		close(stop)
		<-stopped
		return float64(most-before) / (1 << 20)
	}
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}
