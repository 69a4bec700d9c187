package storagetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Benchmark measures a backend, so that every backend publishes the same table. Data has realistic
// sizes (records of 300 bytes, events of 5 KB), but is not signed: the figures are those of the
// store alone. Parts of the store that are nil are left out.
func Benchmark(b *testing.B, backend Backend) {
	const large = 100_000
	ctx := context.Background()
	s, closeIt := backend.Open(b, b.TempDir())
	b.Cleanup(func() {
		if err := closeIt(); err != nil {
			b.Error(err)
		}
	})
	if s.Repos != nil {
		benchRepos(ctx, b, s, large)
	}
	if s.KV != nil {
		b.Run("KV/Write", func(b *testing.B) {
			for i := range b.N {
				must(b, s.KV.Write(ctx, func(tx storage.KVTx) error {
					return tx.Set(ctx, fmt.Sprint("key ", i%1000), make([]byte, 100), time.Time{})
				}))
			}
		})
		b.Run("KV/Read", func(b *testing.B) {
			for i := range b.N {
				must(b, s.KV.Read(ctx, func(r storage.KVReader) error {
					_, err := r.Get(ctx, fmt.Sprint("key ", i%1000))
					if errors.Is(err, storage.ErrNotFound) {
						return nil
					}
					return err
				}))
			}
		})
	}
	if s.Blobs != nil {
		b.Run("Blobs/StageAndPromote/64KiB", func(b *testing.B) {
			content := strings.Repeat("x", 64<<10-8)
			b.SetBytes(64 << 10)
			for i := range b.N {
				info, err := s.Blobs.Stage(ctx, alice, "text/plain", strings.NewReader(fmt.Sprintf("%08d", i)+content), storage.BlobLimits{})
				must(b, err)
				must(b, s.Blobs.Promote(ctx, alice, info.CID))
			}
		})
	}
}

func must(b *testing.B, err error) {
	if err != nil {
		b.Helper()
		b.Fatal(err)
	}
}

// benchAccount makes steps that look like a host's.
type benchAccount struct {
	did     syntax.DID
	head    storage.Head
	n       uint64
	payload []byte
	rng     *rand.Rand
}

func newBenchAccount(i int) *benchAccount {
	a := &benchAccount{did: syntax.DID(fmt.Sprintf("did:web:bench%d.example", i)), rng: rand.New(rand.NewPCG(uint64(i), 1)), payload: make([]byte, 5000)}
	for i := range a.payload {
		a.payload[i] = byte(a.rng.Uint32())
	}
	return a
}

func (a *benchAccount) record(i int) storage.RecordChange {
	data := make([]byte, 300)
	for j := range 37 {
		binary.BigEndian.PutUint64(data[8*j:], a.rng.Uint64())
	}
	return storage.RecordChange{Path: benchPath(i), Data: data, CID: dag.Sum(dag.CBOR, data)}
}

func benchPath(i int) string {
	return collection + "/" + string(syntax.NewTID(time.UnixMicro(1_700_000_000_000_000+int64(i)*1_000_003), 0))
}

// step makes the step that writes records.
func (a *benchAccount) step(records ...storage.RecordChange) *storage.Change {
	a.n++
	block := binary.BigEndian.AppendUint64(make([]byte, 210), a.n)
	block = append(block, a.did...)
	return &storage.Change{
		Prev: a.head,
		Head: storage.Head{
			Commit: dag.Sum(dag.CBOR, block), Data: dag.Sum(dag.CBOR, block[1:]),
			Rev: syntax.NewTID(time.UnixMicro(1_800_000_000_000_000+int64(a.n)), 0),
		},
		Commit:  block,
		Records: records,
		Events:  []storage.Event{{DID: a.did, Kind: "#commit", Time: start, Payload: a.payload}},
	}
}

func (a *benchAccount) apply(ctx context.Context, s storage.Store, c *storage.Change) error {
	if _, err := s.Repos.Apply(ctx, a.did, c); err != nil {
		return err
	}
	a.head = c.Head
	return nil
}

// fill replaces all records of an account by n new ones.
func (a *benchAccount) fill(ctx context.Context, s storage.Store, n int) error {
	c := a.step()
	_, err := s.Repos.Replace(ctx, a.did, iter.Seq2[storage.RecordChange, error](func(yield func(storage.RecordChange, error) bool) {
		for i := range n {
			if !yield(a.record(i), nil) {
				return
			}
		}
	}), func() (*storage.Change, error) { return c, nil })
	if err == nil {
		a.head = c.Head
	}
	return err
}

func benchRepos(ctx context.Context, b *testing.B, s storage.Store, large int) {
	big, small := newBenchAccount(0), newBenchAccount(1)
	must(b, small.fill(ctx, s, 100))
	b.Run("Replace/100k", func(b *testing.B) {
		for range b.N {
			must(b, big.fill(ctx, s, large))
		}
		b.ReportMetric(float64(b.N)*float64(large)/b.Elapsed().Seconds(), "records/s")
	})
	must(b, big.fill(ctx, s, large)) // if the one above was not asked for
	for _, a := range []*benchAccount{small, big} {
		size := map[*benchAccount]string{small: "100", big: "100k"}[a]
		n := map[*benchAccount]int{small: 100, big: large}[a]
		b.Run("Apply/"+size, func(b *testing.B) {
			for range b.N {
				must(b, a.apply(ctx, s, a.step(a.record(a.rng.IntN(n)))))
			}
		})
		b.Run("Record/"+size, func(b *testing.B) {
			for range b.N {
				must(b, s.Repos.View(ctx, a.did, func(r storage.Reader) error {
					_, err := r.Record(ctx, benchPath(a.rng.IntN(n)))
					return err
				}))
			}
		})
	}
	b.Run("Apply/64accounts", func(b *testing.B) { benchParallel(ctx, b, s, 64) })
	b.Run("Scan/keys/100k", func(b *testing.B) { benchScan(ctx, b, s, big, storage.Range{KeysOnly: true}) })
	b.Run("Scan/records/100k", func(b *testing.B) { benchScan(ctx, b, s, big, storage.Range{}) })
	b.Run("List/page", func(b *testing.B) {
		for range b.N {
			n := 0
			must(b, s.Repos.View(ctx, big.did, func(r storage.Reader) error {
				for _, err := range r.Records(ctx, storage.Range{From: collection + "/", To: collection + "0", Reverse: true}) {
					if n++; n == 50 || err != nil {
						return err
					}
				}
				return nil
			}))
		}
	})
	b.Run("Events/Since", func(b *testing.B) {
		n := 0
		for range b.N {
			for _, err := range s.Events.Since(ctx, 0) {
				must(b, err)
				if n++; n%1000 == 0 {
					break
				}
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
	})
}

// benchParallel applies steps of many accounts at once.
func benchParallel(ctx context.Context, b *testing.B, s storage.Store, accounts int) {
	list := make(chan *benchAccount, accounts)
	for i := range accounts {
		a := newBenchAccount(100 + i)
		if head, err := s.Repos.Head(ctx, a.did); err == nil {
			a.head, a.n = head, a.rng.Uint64()>>16
		}
		must(b, a.apply(ctx, s, a.step(a.record(0))))
		list <- a
	}
	b.ResetTimer()
	left := atomic.Int64{}
	left.Store(int64(b.N))
	errs := make(chan error, accounts)
	for range accounts {
		go func() {
			a := <-list
			for left.Add(-1) >= 0 {
				if err := a.apply(ctx, s, a.step(a.record(a.rng.IntN(1000)))); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range accounts {
		must(b, <-errs)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

func benchScan(ctx context.Context, b *testing.B, s storage.Store, a *benchAccount, rng storage.Range) {
	n, size := 0, int64(0)
	for range b.N {
		must(b, s.Repos.View(ctx, a.did, func(r storage.Reader) error {
			for rec, err := range r.Records(ctx, rng) {
				if err != nil {
					return err
				}
				n++
				size += int64(len(rec.Data))
			}
			return nil
		}))
	}
	b.SetBytes(size / int64(b.N))
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
