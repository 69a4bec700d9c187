package commit_test

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// A server makes the message of a commit, and a relay verifies it.
func ExampleVerifier() {
	ctx := context.Background()
	key, err := crypto.ParsePrivateKey(crypto.K256, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic(err)
	}

	// The server applies operations to its tree, signs the new root, and puts the
	// operations and the blocks into a message.
	const did, path = "did:web:alice.example.com", "com.example.note/3jzfcijpj2z2a"
	note := record("hello")
	change, err := mst.Empty().Apply([]mst.Op{{Key: path, Value: note.CID}})
	if err != nil {
		panic(err)
	}
	var clock commit.Clock
	rev, err := clock.Next("")
	if err != nil {
		panic(err)
	}
	c, block, err := commit.Sign(ctx, did, rev, change.Root, key)
	if err != nil {
		panic(err)
	}
	e := &commit.Event{
		Repo: did, Commit: block.CID, Rev: c.Rev, Time: time.Now(),
		Ops: []commit.Op{{Action: commit.Create, Path: path, CID: note.CID}},
	}
	if err := e.SetBlocks(block, change, []car.Block{note}, commit.Limits{}); err != nil {
		panic(err)
	}
	payload := e.Payload()

	// The relay knows where accounts keep their keys, and what it saw last.
	relay := &commit.Verifier{
		Key: func(context.Context, syntax.DID, bool) (*crypto.PublicKey, error) { return key.PublicKey(), nil },
	}
	got, err := commit.DecodeEvent(payload)
	if err != nil {
		panic(err)
	}
	state, records, err := relay.Commit(ctx, commit.State{}, got)
	fmt.Println(err, state.Data == change.Root, len(records[path]) > 0)

	// A message that keeps an operation secret is refused.
	got.Ops = nil
	_, _, err = relay.Commit(ctx, commit.State{}, got)
	fmt.Println(err != nil)
	// Output:
	// <nil> true true
	// true
}

// The records of an export, verified as they stream by.
func ExampleReadRepo() {
	key, err := crypto.ParsePrivateKey(crypto.K256, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic(err)
	}
	note := record("hello")
	change, err := mst.Empty().Apply([]mst.Op{{Key: "com.example.note/1", Value: note.CID}})
	if err != nil {
		panic(err)
	}
	_, block, err := commit.Sign(context.Background(), "did:web:alice.example.com", "3jzfcijpj2z2a", change.Root, key)
	if err != nil {
		panic(err)
	}
	file := car.Append(nil, []cid.Cid{block.CID}, append(append([]car.Block{block}, change.New...), note)...)

	x, err := commit.ReadRepo(bytes.NewReader(file), commit.RepoOptions{Key: key.PublicKey()})
	if err != nil {
		panic(err)
	}
	defer x.Close()
	for rec, err := range x.Records() {
		if err != nil {
			panic(err)
		}
		fmt.Println(rec.Path, len(rec.Data))
	}
	// Output: com.example.note/1 12
}
