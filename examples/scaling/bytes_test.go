package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"context"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// TestBytes measures how many bytes a post takes, in the event stream and in the database, and
// holds the model's figures against it.
func TestBytes(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "store.sqlite")
	db, err := sqlite.Open(ctx, path, sqlite.Config{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { db.Close() }()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	signer := func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }
	host := repo.NewHost(repo.Config{Store: db.Store(), Signer: signer})
	const collection = "app.bsky.feed.post"
	dids := []syntax.DID{"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "did:plc:cccccccccccccccccccccccc", "did:plc:dddddddddddddddddddddddd"}
	// Times, and so trees, are the same in each run.
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(did syntax.DID, n int, silent bool) {
		t.Helper()
		b := repo.Batch{Silent: silent}
		for i := range n {
			at = at.Add(1234567 * time.Microsecond)
			record, err := data.Encode(map[string]any{
				"$type": collection, "createdAt": string(syntax.NewDatetime(at)), "langs": []any{"en"},
				"text": fmt.Sprintf("Post number %d, of about the length that people write on an ordinary day, or longer than that: a hundred bytes", i),
			})
			if err != nil {
				t.Fatal(err)
			}
			b.Writes = append(b.Writes, repo.Write{Action: repo.Create, Collection: collection, RKey: syntax.RecordKey(syntax.NewTID(at, 7)), Record: record})
		}
		if _, err := host.Apply(ctx, did, b); err != nil {
			t.Fatal(err)
		}
	}
	bytes := func() int64 { // what the file has when all is in it
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if db, err = sqlite.Open(ctx, path, sqlite.Config{Relaxed: true}); err != nil {
			t.Fatal(err)
		}
		host = repo.NewHost(repo.Config{Store: db.Store(), Signer: signer})
		return info.Size()
	}
	for _, did := range dids {
		if _, err := host.Create(ctx, did, repo.Batch{Silent: true}); err != nil {
			t.Fatal(err)
		}
	}
	before := bytes()
	for _, did := range dids {
		for range 10 {
			write(did, 100, true)
		}
	}
	record := float64(bytes()-before) / 4000
	const n = 200
	for i := range n {
		write(dids[i%len(dids)], 1, false)
	}
	var event float64
	events := 0
	for e, err := range db.Store().Events.Since(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		event += float64(len(e.Payload))
		events++
	}
	if events < n {
		t.Fatalf("%d events of %d commits", events, n)
	}
	event /= float64(events)
	t.Logf("event %.0f bytes, record %.0f bytes", event, record)
	v := defaults()
	for name, got := range map[string]float64{"event-bytes": event, "record-bytes": record} {
		if math.Abs(got/v[name]-1) > 0.15 {
			t.Errorf("-%s: the model has %v, measured %.0f", name, v[name], got)
		}
	}
}
