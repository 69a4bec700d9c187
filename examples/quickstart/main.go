package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

func main() {
	ctx, did := context.Background(), syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	key := must(crypto.GenerateKey(crypto.K256))
	signer := func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }
	db := must(sqlite.Open(ctx, must(os.MkdirTemp("", ""))+"/quickstart.sqlite", sqlite.Config{}))
	defer db.Close()
	host := repo.NewHost(repo.Config{Store: db.Store(), Signer: signer})
	must(host.Create(ctx, did, repo.Batch{}))
	post := must(data.Encode(map[string]any{"$type": "com.example.note", "text": "Hello, world"}))
	write := repo.Write{Action: repo.Create, Collection: "com.example.note", RKey: host.NextRecordKey(), Record: post}
	fmt.Println("committed", must(host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{write}})).Head.Commit)
	var car bytes.Buffer // export; then verify, sign and import at another host
	must(0, host.Export(ctx, did, "", &car))
	other := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: signer})
	fmt.Println("imported ", must(other.Import(ctx, did, &car, repo.Import{Keys: []*crypto.PublicKey{key.PublicKey()}})).Head.Data)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
