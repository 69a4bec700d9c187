package files_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
)

// BenchmarkHibernation writes to random accounts of 10,000 (or as many as the environment
// variable PDSKIT_ACCOUNTS says), of which 64 stay open, from 64 goroutines: nearly every write
// opens an object and closes another. MiB-before is the heap when all accounts have been made,
// with 64 objects open and the others idle; MiB-after that after the writes.
//
//	go test -run '^$' -bench Hibernation -benchtime 20000x ./storage/durable/files
//	PDSKIT_ACCOUNTS=100000 go test -run '^$' -bench Hibernation -benchtime 20000x ./storage/durable/files
func BenchmarkHibernation(b *testing.B) {
	const open = 64
	accounts := 10_000
	if v := os.Getenv("PDSKIT_ACCOUNTS"); v != "" {
		var err error
		if accounts, err = strconv.Atoi(v); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	db, err := files.Open(ctx, b.TempDir(), durable.Config{MaxOpen: open})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	s := db.Store()
	heads := make([]storage.Head, accounts)
	locks := make([]sync.Mutex, accounts)
	payload := make([]byte, 5000)
	var n atomic.Int64
	write := func(i int) error {
		locks[i].Lock()
		defer locks[i].Unlock()
		did := syntax.DID(fmt.Sprintf("did:web:a%d.example", i))
		block := binary.BigEndian.AppendUint64(make([]byte, 210), uint64(n.Add(1)))
		record := binary.BigEndian.AppendUint64(make([]byte, 300), rand.Uint64())
		c := storage.Change{
			Prev:    heads[i],
			Head:    storage.Head{Commit: dag.Sum(dag.CBOR, block), Data: dag.Sum(dag.CBOR, record), Rev: syntax.NewTID(time.UnixMicro(n.Load()), 0)},
			Commit:  block,
			Records: []storage.RecordChange{{Path: fmt.Sprintf("com.example.note/%d", rand.IntN(100)), CID: dag.Sum(dag.CBOR, record), Data: record}},
			Events:  []storage.Event{{DID: did, Kind: "#commit", Time: time.Now(), Payload: payload}},
		}
		if _, err := s.Repos.Apply(ctx, did, &c); err != nil {
			return err
		}
		heads[i] = c.Head
		return nil
	}
	parallel := func(n int, pick func(int) int) {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range open {
			wg.Go(func() {
				for {
					i := int(next.Add(1)) - 1
					if i >= n {
						return
					}
					if err := write(pick(i)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	parallel(accounts, func(i int) int { return i })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	parallel(b.N, func(int) int { return rand.IntN(accounts) })
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(before.HeapAlloc)/(1<<20), "MiB-before")
	b.ReportMetric(float64(after.HeapAlloc)/(1<<20), "MiB-after")
	if st := db.Stats(); st.Open > open {
		b.Errorf("%d objects are open", st.Open)
	}
}
