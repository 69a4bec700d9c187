package relay_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// A relay of two hosts, of which one is in the same process.
func Example() {
	ctx := context.Background()
	own := memory.New(memory.Config{}) // the store of a PDS in this process

	r := &relay.Relay{
		Store: memory.New(memory.Config{}), // or that of package sqlite, so that cursors and events stay
		Observe: func(o relay.Observation) {
			if o.Rule != "" {
				fmt.Println(o.Host, o.Kind, o.Result, o.Rule)
			}
		},
	}
	go r.Run(ctx)
	if err := r.AddLocal(ctx, "pds.example.com", own); err != nil {
		fmt.Println(err)
	}
	if err := r.AddHost(ctx, "pds.example.net"); err != nil {
		fmt.Println(err)
	}

	// The public methods. Others may ask for their hosts by requestCrawl.
	methods := &xrpc.Server{Catalog: lexicon.Builtin()}
	r.Mount(methods)
	go http.ListenAndServe(":2470", methods)

	// A reader in the same process needs no connection.
	for b, err := range r.Outbox().Subscribe(ctx, nil) {
		if err != nil {
			fmt.Println(err)
			return
		}
		frame, err := stream.Decode(b)
		fmt.Println(frame.Kind, frame.Seq, err)
	}
}

// The code of the README.
func Example_short() {
	serve := func(ctx context.Context, db *sqlite.DB, ownStore storage.Store) http.Handler {
		r := &relay.Relay{Store: db.Store()} // any backend of package storage
		go r.Run(ctx)                        // connections, cursors, repairs, retention
		r.AddHost(ctx, "pds.example.com")
		r.AddLocal(ctx, "pds.here.example", ownStore) // the same checks, without a connection

		methods := &xrpc.Server{Catalog: lexicon.Builtin()}
		r.Mount(methods) // subscribeRepos, requestCrawl, listRepos, …
		return methods
	}
	_ = serve
}
