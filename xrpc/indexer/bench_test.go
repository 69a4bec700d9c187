package indexer_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/indexer/sqlindex"
)

// benchSink is a sink with a small table of the application.
func benchSink(b *testing.B, dir string) (*sqlindex.Sink, *sql.DB) {
	db := openDB(b, dir)
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS note (uri TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID"); err != nil {
		b.Fatal(err)
	}
	set, err := db.Prepare("INSERT OR REPLACE INTO note VALUES (?, ?)")
	if err != nil {
		b.Fatal(err)
	}
	sink := &sqlindex.Sink{DB: db, OnRecord: func(ctx context.Context, tx *sql.Tx, op *indexer.Op) error {
		if op.Action == commit.Delete {
			_, err := tx.ExecContext(ctx, "DELETE FROM note WHERE uri = ?", op.URI())
			return err
		}
		var note struct {
			Text string `cbor:"text"`
		}
		if err := op.Decode(&note); err != nil {
			return err
		}
		_, err := tx.StmtContext(ctx, set).ExecContext(ctx, op.URI(), note.Text)
		return err
	}}
	if err := sink.Create(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { set.Close(); sink.Close(); db.Close() })
	return sink, db
}

// benchRun runs an indexer until done.
func benchRun(b *testing.B, w *world, sink indexer.Sink, done func(ix *indexer.Indexer) bool, sources ...indexer.Source) {
	ctx, stop := context.WithCancel(b.Context())
	ix := &indexer.Indexer{Sink: sink, Scope: all, Sources: sources, Identity: w, HTTP: w.client(), Hosts: w.client()}
	ended := make(chan struct{})
	go func() { defer close(ended); ix.Run(ctx) }()
	for !done(ix) {
		time.Sleep(2 * time.Millisecond)
	}
	stop()
	<-ended
}

func settled(ix *indexer.Indexer) bool {
	ok, _ := ix.Settled(context.Background())
	return ok
}

// BenchmarkBackfill reads repositories of records of some 300 bytes into SQLite. Two cores, quiet:
//
//	1x100000    56,627 records/s
//	200x500     63,893 records/s
func BenchmarkBackfill(b *testing.B) {
	for _, size := range []struct{ repos, records int }{{1, 100_000}, {200, 500}} {
		b.Run(fmt.Sprintf("%dx%d", size.repos, size.records), func(b *testing.B) {
			w := newLoopback(b)
			h := w.host("one")
			repos := make(map[string]*largeRepo)
			list := `{"repos":[`
			for i := range size.repos {
				did := syntax.DID(fmt.Sprintf("did:web:a%d.example", i))
				key := newKey(b)
				w.setDocument(did, h.url, key)
				l := newLargeRepo(b, did, key, size.records, 200)
				repos[string(did)] = l
				if i > 0 {
					list += ","
				}
				list += fmt.Sprintf(`{"did":%q,"head":%q,"rev":%q,"active":true}`, did, l.commit.CID, l.rev)
			}
			h.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
				if l := repos[r.URL.Query().Get("did")]; l != nil {
					return l.serve(rw, r)
				}
				if r.URL.Path == "/xrpc/com.atproto.sync.listRepos" {
					fmt.Fprint(rw, list+"]}")
					return true
				}
				return false
			})
			n := 0
			for b.Loop() {
				b.StopTimer()
				sink, db := benchSink(b, b.TempDir())
				b.StartTimer()
				benchRun(b, w, sink, settled, indexer.Source{Host: h.url})
				b.StopTimer()
				if err := db.QueryRow("SELECT count(*) FROM note").Scan(&n); err != nil || n != size.repos*size.records {
					b.Fatal(n, err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkLive applies commits of 100 accounts to SQLite, as they come from the stream of a host.
// Two cores, quiet: 8,710 commits/s.
func BenchmarkLive(b *testing.B) {
	w := newLoopback(b)
	h := w.host("one")
	dir := b.TempDir()
	sink, db := benchSink(b, dir)
	var dids []syntax.DID
	for i := range 100 {
		dids = append(dids, h.account(fmt.Sprint("a", i), 200))
	}
	h.write(dids[0], create(notes, "first", "x"))
	seen := func(ix *indexer.Indexer) bool {
		p := ix.Progress()
		_, newest, _ := h.store.Events.Bounds(ctx)
		return len(p.Sources) > 0 && p.Sources[0].Done >= newest
	}
	started := make(chan bool, 1)
	benchRun(b, w, sink, func(ix *indexer.Indexer) bool {
		if !settled(ix) {
			return false
		}
		if len(started) == 0 {
			started <- true
			h.write(dids[0], create(notes, "second", "x"))
		}
		return seen(ix)
	}, indexer.Source{Host: h.url})
	n := 0
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		const commits = 10_000
		for range commits {
			h.write(dids[n%100], create(notes, fmt.Sprint("b", n), "live"))
			n++
		}
		b.StartTimer()
		benchRun(b, w, sink, seen, indexer.Source{Host: h.url})
	}
	b.StopTimer()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "commits/s")
	var rows int
	if err := db.QueryRow("SELECT count(*) FROM note").Scan(&rows); err != nil || rows != n+2+200*100 {
		b.Fatal(rows, n, err)
	}
}
