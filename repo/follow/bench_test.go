package follow_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// Two cores of a virtual machine, commits of one record in a repository of 2000:
//
//	go test -run '^$' -bench . -benchtime 20x ./repo/follow
//
//	BenchmarkEvents/log      84,000 events/s   the log alone
//	BenchmarkEvents/events   43,000 events/s   decoded, with their records
//	BenchmarkEvents/steps    27,000 events/s   as steps
func BenchmarkEvents(b *testing.B) {
	const commits = 2000
	db, err := sqlite.Open(ctx, filepath.Join(b.TempDir(), "bench.sqlite"), sqlite.Config{Relaxed: true})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		b.Fatal(err)
	}
	store := db.Store()
	host := repo.NewHost(repo.Config{Store: store, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	if _, err := host.Create(ctx, did(1), repo.Batch{}); err != nil {
		b.Fatal(err)
	}
	for i := range commits {
		record, err := data.Encode(map[string]any{"$type": string(notes), "text": fmt.Sprintf("%0300d", i)})
		if err != nil {
			b.Fatal(err)
		}
		w := repo.Write{Action: repo.Create, Collection: notes, RKey: host.NextRecordKey(), Record: record}
		if _, err := host.Apply(ctx, did(1), repo.Batch{Writes: []repo.Write{w}}); err != nil {
			b.Fatal(err)
		}
	}
	run := func(name string, fn func() (n int)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n := fn(); n != commits+1 {
					b.Fatalf("%d events", n)
				}
			}
			b.ReportMetric(float64(b.N)*(commits+1)/b.Elapsed().Seconds(), "events/s")
		})
	}
	run("log", func() (n int) {
		for _, err := range store.Events.Since(ctx, 0) {
			if err == nil {
				n++
			}
		}
		return n
	})
	store.Events = drained{store.Events}
	run("events", func() (n int) {
		for _, err := range follow.Events(ctx, store.Events, 0) {
			if errors.Is(err, errIdle) {
				break
			}
			n++
		}
		return n
	})
	run("steps", func() (n int) {
		rev := syntax.TID("")
		feed := follow.Feed{
			Store:    store,
			Position: func(context.Context) (string, error) { return "0", nil },
			Revision: func(context.Context, syntax.DID) (syntax.TID, error) { return rev, nil },
		}
		for s, err := range feed.Steps(ctx) {
			if errors.Is(err, errIdle) {
				break
			}
			n++
			rev = s.Rev
		}
		return n
	})
}
