package follow_test

import (
	"context"
	"fmt"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// exampleHost is a host with one account that has written a note and deleted it.
func exampleHost(ctx context.Context) storage.Store {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	store := memory.New(memory.Config{})
	host := repo.NewHost(repo.Config{
		Store:  store,
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	note, err := data.Encode(map[string]any{"$type": "com.example.note", "text": "hello"})
	if err != nil {
		panic(err)
	}
	did := syntax.DID("did:web:alice.example")
	if _, err := host.Create(ctx, did, repo.Batch{}); err != nil {
		panic(err)
	}
	for _, w := range []repo.Write{
		{Action: repo.Create, Collection: "com.example.note", RKey: "one", Record: note},
		{Action: repo.Delete, Collection: "com.example.note", RKey: "one"},
		{Action: repo.Create, Collection: "com.example.note", RKey: "two", Record: note},
	} {
		if _, err := host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{w}}); err != nil {
			panic(err)
		}
	}
	return store
}

// What was written, with the records as they were then.
func ExampleEvents() {
	ctx := context.Background()
	store := exampleHost(ctx)
	count := 0
	for ev, err := range follow.Events(ctx, store.Events, 0) {
		if err != nil {
			panic(err)
		}
		for _, op := range ev.Ops {
			if op.Action == commit.Delete {
				fmt.Println(op.Action, ev.DID, op.Path())
				continue
			}
			note, err := op.Value()
			if err != nil {
				panic(err)
			}
			fmt.Println(op.Action, ev.DID, op.Path(), note["text"])
		}
		if count++; count == 4 {
			break // else it waits for more
		}
	}
	// Output:
	// create did:web:alice.example com.example.note/one hello
	// delete did:web:alice.example com.example.note/one
	// create did:web:alice.example com.example.note/two hello
}

// An index in memory. That of a database carries out each step in a transaction: see the program
// examples/records.
func ExampleFeed() {
	ctx := context.Background()
	position, revisions, notes := "", map[syntax.DID]syntax.TID{}, map[syntax.DID]map[syntax.RecordKey]string{}
	feed := follow.Feed{
		Store:       exampleHost(ctx),
		Position:    func(context.Context) (string, error) { return position, nil },
		Revision:    func(_ context.Context, did syntax.DID) (syntax.TID, error) { return revisions[did], nil },
		Collections: []syntax.NSID{"com.example.note"},
	}
	for step, err := range feed.Steps(ctx) {
		if err != nil {
			panic(err)
		}
		if step.Reset || notes[step.DID] == nil {
			notes[step.DID] = map[syntax.RecordKey]string{}
		}
		for op, err := range step.Ops {
			if err != nil {
				panic(err)
			}
			if op.Action == commit.Delete {
				delete(notes[step.DID], op.RKey)
				continue
			}
			note, err := op.Value()
			if err != nil {
				continue // a record that breaks the rules of the data model
			}
			notes[step.DID][op.RKey], _ = note["text"].(string)
		}
		revisions[step.DID], position = step.Rev, step.Position
		break // else it waits for more
	}
	fmt.Println(notes)
	// Output: map[did:web:alice.example:map[two:hello]]
}
