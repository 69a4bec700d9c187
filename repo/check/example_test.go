package check_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage/memory"
)

func Example() {
	ctx := context.Background()
	const alice = syntax.DID("did:web:alice.example")
	key, err := crypto.ParsePrivateKey(crypto.K256, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic(err)
	}
	store := memory.New(memory.Config{})
	host := repo.NewHost(repo.Config{Store: store, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	if _, err := host.Create(ctx, alice, repo.Batch{}); err != nil {
		panic(err)
	}
	photo, err := host.UploadBlob(ctx, alice, "text/plain", strings.NewReader("a photo"), 0)
	if err != nil {
		panic(err)
	}
	record, err := data.Encode(map[string]any{"$type": "com.example.post", "photo": data.Blob{Ref: photo.CID, MIME: photo.MIME, Size: photo.Size}.Value()})
	if err != nil {
		panic(err)
	}
	if _, err := host.Apply(ctx, alice, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: "com.example.post", RKey: "1", Record: record}}}); err != nil {
		panic(err)
	}

	// A disk loses the photo.
	if err := store.Blobs.Delete(ctx, alice, photo.CID); err != nil {
		panic(err)
	}

	checker := check.Checker{
		Store: store,
		Key:   func(context.Context, syntax.DID) (*crypto.PublicKey, error) { return key.PublicKey(), nil },
	}
	report, err := checker.Account(ctx, alice, check.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(report.Records, "record")
	for _, p := range report.Problems {
		fmt.Println(p.Kind, "in", p)
	}

	// There is no copy of it.
	if _, err := checker.Run(ctx, check.Options{AcceptMissing: true}); err != nil {
		panic(err)
	}
	report, err = checker.Run(ctx, check.Options{})
	fmt.Println(len(report.Problems), "problems,", report.MissingBlobs, "blob missing,", err)
	// Output:
	// 1 record
	// lostBlob in did:web:alice.example: blob bafkreigu4jgxjgsp4lywdlzn5ej4aqblatr24kd5v7iptw72jjofnrusqu is lost, which com.example.post/1 refers to
	// 0 problems, 1 blob missing, <nil>
}
