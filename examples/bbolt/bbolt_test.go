package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
	bolt "go.etcd.io/bbolt"
)

var backend = storagetest.Backend{
	Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		db, err := Open(tb.Context(), dir)
		if err != nil {
			tb.Fatal(err)
		}
		return db.Store(), db.Close
	},
	Exclusive: true,
}

func TestConformance(t *testing.T) { storagetest.Run(t, backend) }

// PDSKIT_CRASHES=200 go test -run TestCrash ./examples/bbolt
func TestCrash(t *testing.T) { storagetest.RunCrash(t, backend, 10) }

func BenchmarkStore(b *testing.B) { storagetest.Benchmark(b, backend) }

// A file that is full is an error of that name. The step is not done, what is there can be read,
// and writes succeed once there is room again.
func TestFull(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	db, err := open(ctx, dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	hostOf := func(db *DB) *repo.Host {
		return repo.NewHost(repo.Config{
			Store: db.Store(), TempDir: t.TempDir(),
			Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
		})
	}
	host, did := hostOf(db), syntax.DID("did:web:full.example")
	if _, err := host.Create(ctx, did, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	write := func(host *repo.Host, i int) error {
		record, err := data.Encode(map[string]any{"$type": "com.example.note", "text": strings.Repeat("x", 10_000)})
		if err != nil {
			t.Fatal(err)
		}
		w := repo.Write{Action: repo.Create, Collection: "com.example.note", RKey: syntax.RecordKey(fmt.Sprint(i)), Record: record}
		_, err = host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{w}})
		return err
	}
	n := 0
	for ; ; n++ {
		if err := write(host, n); err != nil {
			if !errors.Is(err, storage.ErrFull) || n < 10 {
				t.Fatalf("write %d: %v", n, err)
			}
			break
		}
		if n > 200 {
			t.Fatal("the file is never full")
		}
	}
	check := func(db *DB, want int) {
		t.Helper()
		page, err := hostOf(db).List(ctx, did, "com.example.note", repo.ListOptions{Limit: 1000, Bytes: -1})
		if err != nil || len(page) != want {
			t.Fatalf("%d records, want %d: %v", len(page), want, err)
		}
		err = storagetest.CheckStore(ctx, db.Store(), storagetest.Options{Key: func(syntax.DID) *crypto.PublicKey { return key.PublicKey() }})
		if err != nil {
			t.Fatal(err)
		}
	}
	check(db, n)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(ctx, dir); err != nil { // with more room
		t.Fatal(err)
	}
	defer db.Close()
	check(db, n)
	if err := write(hostOf(db), n); err != nil {
		t.Fatal(err)
	}
	check(db, n+1)
}

// What a Replace that failed has staged is deleted, and so are keys that have expired.
func TestSweep(t *testing.T) {
	ctx := t.Context()
	db, err := Open(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	count := func(bucket []byte) (n int) {
		if err := db.read(ctx, func(tx *bolt.Tx) error {
			for range scan(tx.Bucket(bucket), storage.Range{}) {
				n++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	broken := errors.New("broken")
	record := []byte(strings.Repeat("record", 100))
	_, err = db.Store().Repos.Replace(ctx, "did:web:a.example", func(yield func(storage.RecordChange, error) bool) {
		for i := range 3 * sweepRows {
			if !yield(storage.RecordChange{Path: fmt.Sprintf("com.example.note/%06d", i), CID: data.CID(record), Data: record}, nil) {
				return
			}
		}
		if count(recordsBucket) == 0 {
			t.Error("nothing is staged")
		}
		// A sweep leaves alone what is being staged.
		before := count(recordsBucket)
		if err := db.sweep(ctx); err != nil || count(recordsBucket) != before {
			t.Errorf("a sweep meanwhile: %d records of %d are left, %v", count(recordsBucket), before, err)
		}
		yield(storage.RecordChange{}, broken)
	}, nil)
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	err = db.Store().KV.Write(ctx, func(tx storage.KVTx) error {
		return errors.Join(tx.Set(ctx, "expired", nil, time.Now().Add(-time.Hour)), tx.Set(ctx, "kept", nil, time.Time{}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Store().Events.Trim(ctx, time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, bucket := range [][]byte{recordsBucket, cidsBucket, deadBucket} {
		if n := count(bucket); n != 0 {
			t.Errorf("%s has %d rows", bucket, n)
		}
	}
	if n := count(kvBucket); n != 1 {
		t.Errorf("%d keys are left", n)
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		var out strings.Builder
		if err := run(t.Context(), dir, &out); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "com.example.note/"); n != i+1 {
			t.Errorf("run %d lists %d records:\n%s", i, n, out.String())
		}
	}
}

// TestPage holds the code in the page "Writing a backend" against this program.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../storage/storagetest/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	if len(blocks) < 10 {
		t.Errorf("the page has %d pieces of code", len(blocks))
	}
	for _, block := range blocks {
		code, _, ok := strings.Cut(block, "```")
		if !ok || !strings.Contains(source.String(), code) {
			t.Errorf("the page has code that is not in the program:\n%s", code)
		}
	}
}
