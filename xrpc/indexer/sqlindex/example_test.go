package sqlindex_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/indexer/sqlindex"
)

// An app that keeps a table of everybody's statuses. With the source {Relay:
// "https://relay.example.net"} it would be everybody's in the network.
func Example() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	host := exampleHost(ctx) // a PDS in the process, with a status of Alice

	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "index.sqlite")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS status (uri TEXT PRIMARY KEY, did TEXT, status TEXT)"); err != nil {
		panic(err)
	}
	sink := &sqlindex.Sink{DB: db, OnRecord: func(ctx context.Context, tx *sql.Tx, op *indexer.Op) error {
		var record struct {
			Status string `cbor:"status"`
		}
		if op.Action == commit.Delete || op.Decode(&record) != nil {
			_, err := tx.ExecContext(ctx, "DELETE FROM status WHERE uri = ?", op.URI())
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO status VALUES (?, ?, ?)", op.URI(), op.DID, record.Status)
		return err
	}}
	if err := sink.Create(ctx); err != nil {
		panic(err)
	}
	ix := &indexer.Indexer{
		Sources: []indexer.Source{{Local: &host, Trusted: true}},
		Scope:   indexer.Scope{Signal: []string{"xyz.statusphere.status"}, Collections: []string{"xyz.statusphere.status"}},
		Sink:    sink,
	}
	go ix.Run(ctx)

	for settled := false; !settled; settled, _ = ix.Settled(ctx) {
		time.Sleep(10 * time.Millisecond)
	}
	var did, status string
	fmt.Println(db.QueryRow("SELECT did, status FROM status").Scan(&did, &status), did, status)
	// Output: <nil> did:web:alice.example 👍
}

// exampleHost is a host with one account that has a status.
func exampleHost(ctx context.Context) storage.Store {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	store := memory.New(memory.Config{})
	host := repo.NewHost(repo.Config{Store: store, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	record, err := data.Encode(map[string]any{"$type": "xyz.statusphere.status", "status": "👍", "createdAt": "2026-08-01T00:00:00.000Z"})
	if err != nil {
		panic(err)
	}
	if _, err := host.Create(ctx, "did:web:alice.example", repo.Batch{Writes: []repo.Write{
		{Action: repo.Create, Collection: "xyz.statusphere.status", RKey: "3k2la4bsk2c2x", Record: record},
	}}); err != nil {
		panic(err)
	}
	return store
}
