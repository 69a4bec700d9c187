package plctest_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
)

// A directory in memory, with an account in it that moves to another server.
func Example() {
	directory, err := plctest.New(plctest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer directory.Close()
	server := httptest.NewServer(directory)
	defer server.Close()
	client := &identity.PLCClient{URL: server.URL, Verify: true}
	ctx := context.Background()

	rotation, _ := crypto.GenerateKey(crypto.K256)
	signing, _ := crypto.GenerateKey(crypto.K256)

	genesis := identity.NewPLCOperation("alice.example.com", "https://old.example.com", signing.PublicKey(), rotation.PublicKey())
	if err := genesis.Sign(ctx, rotation); err != nil {
		log.Fatal(err)
	}
	did, err := genesis.DID()
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Submit(ctx, did, genesis); err != nil {
		log.Fatal(err)
	}

	last, err := client.Last(ctx, did)
	if err != nil {
		log.Fatal(err)
	}
	move, err := last.Next()
	if err != nil {
		log.Fatal(err)
	}
	move.SetPDS("https://new.example.com")
	if err := move.Sign(ctx, rotation); err != nil {
		log.Fatal(err)
	}
	if err := client.Submit(ctx, did, move); err != nil {
		log.Fatal(err)
	}

	doc, err := client.Resolve(ctx, did)
	if err != nil {
		log.Fatal(err)
	}
	handle, _ := doc.Handle()
	pds, _ := doc.PDS()
	fmt.Println(handle, pds)
	// Output: alice.example.com https://new.example.com
}
