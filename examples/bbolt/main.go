// Bbolt stores the repositories of a host in a bbolt file (go.etcd.io/bbolt). It is a complete
// backend, as small as a correct one can be, to be copied: see "Writing a backend" in
// storage/storagetest/README.md.
//
//	go run ./examples/bbolt
//
// The program creates a repository, or opens an existing one, writes a record and lists the
// records.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
)

func main() {
	if err := run(context.Background(), "bbolt-data", os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bbolt:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, out io.Writer) (err error) {
	db, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	key, err := crypto.GenerateKey(crypto.K256) // a server keeps it
	if err != nil {
		return err
	}
	host := repo.NewHost(repo.Config{
		Store:  db.Store(),
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	did, notes := syntax.DID("did:web:notes.example"), syntax.NSID("com.example.note")
	if _, err := host.Create(ctx, did, repo.Batch{}); err != nil && !errors.Is(err, repo.ErrRepoExists) {
		return err
	}
	record, err := data.Encode(map[string]any{"$type": string(notes), "text": "kept by bbolt"})
	if err != nil {
		return err
	}
	write := repo.Write{Action: repo.Create, Collection: notes, RKey: host.NextRecordKey(), Record: record}
	if _, err := host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{write}}); err != nil {
		return err
	}
	page, err := host.List(ctx, did, notes, repo.ListOptions{})
	for _, rec := range page {
		fmt.Fprintln(out, rec.Path, rec.CID)
	}
	return err
}
