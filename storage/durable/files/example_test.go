package files_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "durable")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	db, err := files.Open(ctx, dir, durable.Config{
		MaxOpen: 64,
		Alarms: durable.Alarms{Call: func(ctx context.Context, did syntax.DID) error {
			fmt.Println("alarm of", did)
			return nil
		}},
	})
	if err != nil {
		panic(err)
	}
	defer db.Close()

	// A host on it:
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	host := repo.NewHost(repo.Config{
		Store:  db.Store(),
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	// The alarm is set by the step that makes the repository.
	_, err = host.Create(ctx, "did:web:alice.example", repo.Batch{KV: []storage.KVWrite{durable.SetAlarm(time.Now())}})
	if err != nil {
		panic(err)
	}
	for ev, err := range db.Store().Events.Since(ctx, 0) {
		fmt.Println(ev.Kind == commit.KindCommit, ev.DID, err)
	}
	// A server does this in a goroutine, with Run.
	if _, err := db.FireAlarms(ctx); err != nil {
		panic(err)
	}
	// Output:
	// true did:web:alice.example <nil>
	// alarm of did:web:alice.example
}
