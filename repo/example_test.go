package repo_test

import (
	"context"
	"fmt"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
)

// A host, one repository, two writes in one commit.
func Example() {
	ctx := context.Background()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	host := repo.NewHost(repo.Config{
		Store:  memory.New(memory.Config{}),
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	did := syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	if _, err := host.Create(ctx, did, repo.Batch{}); err != nil {
		panic(err)
	}
	note := func(text string) []byte {
		b, err := data.Encode(map[string]any{"$type": "com.example.note", "text": text})
		if err != nil {
			panic(err)
		}
		return b
	}
	_, err = host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{
		{Action: repo.Create, Collection: "com.example.note", RKey: "one", Record: note("first")},
		{Action: repo.Put, Collection: "com.example.note", RKey: "two", Record: note("second")},
	}})
	if err != nil {
		panic(err)
	}
	page, err := host.List(ctx, did, "com.example.note", repo.ListOptions{Limit: 10})
	if err != nil {
		panic(err)
	}
	for _, rec := range page {
		fmt.Println(rec.Path, rec.CID)
	}
	// Output:
	// com.example.note/two bafyreifkympwcrpanelxpqykjpl2bmbqnmkzv54e4fr2rjalu3oxlwirzi
	// com.example.note/one bafyreiaa7hpjt4mxahxvi27xd77amkl44ihlot4ykfbzivcxqrsxyd53jq
}
