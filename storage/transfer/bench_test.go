package transfer_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/storage/transfer"
)

// fill makes an account of n records of some 250 bytes, and keys.
func fill(tb testing.TB, s storage.Store, did syntax.DID, n int) {
	tb.Helper()
	records := func(yield func(storage.RecordChange, error) bool) {
		for i := range n {
			b := note(fmt.Sprintf("record %d of %s %0180d", i, did, i))
			if !yield(storage.RecordChange{Path: fmt.Sprintf("com.example.note/%08d", i), CID: dag.Sum(dag.CBOR, b), Data: b}, nil) {
				return
			}
		}
	}
	root, err := mst.RootOf(func(yield func(mst.Entry, error) bool) {
		for r, err := range records {
			if !yield(mst.Entry{Key: r.Path, Value: r.CID}, err) {
				return
			}
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	c, block, err := commit.Sign(tb.Context(), did, syntax.NewTID(time.Now(), 1), root, key(did))
	if err != nil {
		tb.Fatal(err)
	}
	change := &storage.Change{Head: storage.Head{Commit: block.CID, Data: root, Rev: c.Rev}, Commit: block.Data}
	for i := range 10 {
		change.KV = append(change.KV, storage.KVWrite{Key: fmt.Sprint("session/", i), Value: make([]byte, 200), Expires: time.Now().Add(time.Hour)})
		change.Events = append(change.Events, storage.Event{DID: did, Kind: "#identity", Time: time.Now(), Payload: make([]byte, 300)})
	}
	if _, err := s.Repos.Replace(tb.Context(), did, records, func() (*storage.Change, error) { return change, nil }); err != nil {
		tb.Fatal(err)
	}
}

// heap is how much memory is in use that is not free.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// measured moves a store and reports what it took.
func measured(b *testing.B, from, to storage.Store) {
	b.Helper()
	most, done := uint64(0), make(chan struct{})
	ctx, cancel := context.WithCancel(b.Context())
	before := heap()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			most = max(most, heap())
			time.Sleep(5 * time.Millisecond)
		}
	}()
	began := time.Now()
	m, err := transfer.New(transfer.Config{From: from, To: to})
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Copy(b.Context()); err != nil {
		b.Fatal(err)
	}
	copied := time.Since(began)
	r, err := m.Finish(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	cancel()
	<-done
	seconds := copied.Seconds()
	b.ReportMetric(float64(r.Accounts)/seconds, "accounts/s")
	b.ReportMetric(float64(r.Records)/seconds, "records/s")
	b.ReportMetric(float64(r.Bytes)/1e6/seconds, "MB/s")
	b.ReportMetric(float64(r.Elapsed-copied)/1e6, "verify-ms")
	b.ReportMetric(float64(r.Pause)/1e6, "pause-ms")
	b.ReportMetric(float64(most-min(most, before))/(1<<20), "MiB")
}

// BenchmarkMove moves many small accounts, and a large one.
//
//	go test -run '^$' -bench Move -benchtime 1x ./storage/transfer
func BenchmarkMove(b *testing.B) {
	for name, accounts := range map[string][]int{"1000 accounts of 100": make([]int, 1000), "1 account of 300000": {300_000}} {
		for target, open := range map[string]func(testing.TB) storage.Store{"sqlite to sqlite": inSQLite, "sqlite to postgres": inPostgres} {
			b.Run(target+"/"+name, func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					from, to := inSQLite(b), open(b)
					for i, n := range accounts {
						if n == 0 {
							n = 100
						}
						fill(b, from, syntax.DID(fmt.Sprintf("did:web:b%05d.example", i)), n)
					}
					b.StartTimer()
					measured(b, from, to)
				}
			})
		}
	}
}

// A large account takes no large memory.
func TestMemoryOfALargeAccount(t *testing.T) {
	if os.Getenv("PDSKIT_LONG") == "" {
		t.Skip("PDSKIT_LONG is not set")
	}
	dir := t.TempDir()
	from, err := sqlite.Open(t.Context(), filepath.Join(dir, "from"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	fill(t, from.Store(), "did:web:large.example", 300_000)
	before, most := heap(), uint64(0)
	to := inSQLite(t)
	cfg := transfer.Config{From: from.Store(), To: to, Progress: func(transfer.Progress) { most = max(most, heap()) }}
	finish(t, cfg)
	if grown := int64(most) - int64(before); grown > 128<<20 {
		t.Errorf("%d MiB", grown>>20)
	}
}

// BenchmarkMoveLog moves a log: its length is no matter for the memory.
//
//	go test -run '^$' -bench MoveLog -benchtime 1x ./storage/transfer
func BenchmarkMoveLog(b *testing.B) {
	for _, n := range []int64{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				from, to := inSQLite(b), inSQLite(b)
				payload := bytes.Repeat([]byte("p"), 300)
				for seq := int64(0); seq < n; {
					var l storage.LoadEvents
					for range 2000 {
						seq++
						l.Events = append(l.Events, storage.Event{Seq: seq, DID: "did:web:log.example", Kind: "#commit", Time: time.UnixMilli(seq), Payload: payload})
					}
					if err := from.Repos.(storage.Loader).LoadEvents(b.Context(), &l); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				measured(b, from, to)
			}
		})
	}
}
