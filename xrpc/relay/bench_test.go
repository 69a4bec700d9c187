package relay_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc/relay"
)

// traffic is what hosts say: the commits of accounts with some records.
type traffic struct {
	dir   *directory
	hosts []string
	logs  map[string]storage.Store
	all   []commit.Commit
}

// newTraffic makes the traffic of some hosts.
func newTraffic(tb testing.TB, hosts, accounts, commits int) *traffic {
	tr := &traffic{dir: newDirectory(), logs: make(map[string]storage.Store)}
	for i := range hosts {
		name := fmt.Sprintf("pds%d.test", i)
		tr.hosts = append(tr.hosts, name)
		tr.logs[name] = memory.New(memory.Config{})
	}
	var list []*account
	for i := range accounts {
		a := newAccount(tb, syntax.DID(fmt.Sprintf("did:web:a%d.example", i)), tr.hosts[i%hosts])
		tr.dir.set(a)
		list = append(list, a)
		tr.say(tb, a, a.write(tb, somePosts(0, 150)))
	}
	for n := range commits {
		for _, a := range list {
			tr.say(tb, a, a.write(tb, somePosts(150+n, 1)))
		}
	}
	return tr
}

func somePosts(from, n int) map[string]string {
	texts := make(map[string]string)
	for i := range n {
		texts[fmt.Sprintf("app.bsky.feed.post/%013d", from+i)] = fmt.Sprint("A post of some length, as people write them: ", from+i)
	}
	return texts
}

func (tr *traffic) say(tb testing.TB, a *account, e *commit.Event) {
	tr.all = append(tr.all, a.commit)
	ev := storage.Event{DID: a.did, Kind: e.Kind(), Time: e.Time, Payload: e.Payload()}
	if _, err := tr.logs[a.home].Repos.Apply(context.Background(), a.did, &storage.Change{Events: []storage.Event{ev}}); err != nil {
		tb.Fatal(err)
	}
}

// floor is how many signatures a second can be checked, and nothing else.
func (tr *traffic) floor() float64 {
	keys := make(map[syntax.DID]*crypto.PublicKey)
	for did, doc := range tr.dir.docs {
		keys[did], _ = doc.SigningKey()
	}
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(tr.all) {
					return
				}
				if err := tr.all[i].Verify(keys[tr.all[i].DID]); err != nil {
					panic(err)
				}
			}
		})
	}
	wg.Wait()
	return float64(len(tr.all)) / time.Since(start).Seconds()
}

// through is how many commits a second a relay verifies and stores.
func (tr *traffic) through(tb testing.TB, store storage.Store) float64 {
	var passed atomic.Int64
	done := make(chan struct{})
	r := &relay.Relay{Store: store, Identity: tr.dir, Limits: relay.Limits{Accounts: -1, Rate: -1}, HostMemory: 16 << 20, Observe: func(o relay.Observation) {
		if o.Result != relay.Passed {
			panic(fmt.Sprint(o))
		}
		if passed.Add(1) == int64(len(tr.all)) {
			close(done)
		}
	}}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	for _, name := range tr.hosts {
		if err := r.AddLocal(ctx, name, tr.logs[name]); err != nil {
			tb.Fatal(err)
		}
	}
	start := time.Now()
	go func() { ended <- r.Run(ctx) }()
	<-done
	took := time.Since(start)
	cancel()
	<-ended
	return float64(len(tr.all)) / took.Seconds()
}

// BenchmarkCommits is how many commits a second a relay verifies, stores and passes on.
//
//	go test -run=- -bench=Commits -benchtime=1x ./xrpc/relay
//
// Two cores, quiet; of-floor is the part of what the same cores verify of bare signatures:
//
//	memory            7822 commits/s   0.79 of-floor   9916 signatures/s
//	sqlite            6281 commits/s   0.70 of-floor   8983 signatures/s
//	sqlite_relaxed    6074 commits/s   0.68 of-floor   8940 signatures/s
func BenchmarkCommits(b *testing.B) {
	for _, store := range []string{"memory", "sqlite", "sqlite relaxed"} {
		b.Run(store, func(b *testing.B) {
			tr := newTraffic(b, 8, 256, 60)
			for b.Loop() {
				s := memory.New(memory.Config{})
				if store != "memory" {
					db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "relay.sqlite"), sqlite.Config{Relaxed: store == "sqlite relaxed"})
					if err != nil {
						b.Fatal(err)
					}
					defer db.Close()
					s = db.Store()
				}
				before := tr.floor()
				rate := tr.through(b, s)
				after := tr.floor()
				b.ReportMetric(rate, "commits/s")
				b.ReportMetric((before+after)/2, "signatures/s")
				b.ReportMetric(2*rate/(before+after), "of-floor")
			}
		})
	}
}
