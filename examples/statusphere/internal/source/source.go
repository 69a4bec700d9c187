// Package source brings data from the network into the index.
//
// There are two kinds of streams. [Network.Firehose] follows com.atproto.sync.subscribeRepos of a
// PDS or a relay: each relevant commit is verified, and repositories are read completely if the
// stream has gaps ([Network.Repair]). [Network.Jetstream] follows a Jetstream, which sends plain
// JSON without signatures; its operator is trusted.
//
// Handles and names come from their authoritative sources: the DID document with the handle that
// points back to it, and the profile in the account's own repository.
package source

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Network says how the network is reached. All fields are required, except Log.
type Network struct {
	Index    *index.Index
	Type     *status.Type
	Resolver *identity.Resolver
	// Strangers makes requests to servers that strangers have named: see package safehttp.
	// Downloads does so for whole repositories, so it has greater limits.
	Strangers, Downloads *http.Client
	// Operator makes requests to the stream that the operator has named.
	Operator *http.Client
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Log gets what an operator should know. What anybody in the network can cause is at the level
	// Info. Nil: silent.
	Log *slog.Logger
}

func (n *Network) log() *slog.Logger {
	if n.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return n.Log
}

func (n *Network) now() time.Time {
	if n.Now == nil {
		return time.Now()
	}
	return n.Now()
}

// key returns the signing key of an account.
func (n *Network) key(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
	if refresh {
		n.Resolver.Purge(syntax.AtIdentifier(did))
	}
	doc, err := n.Resolver.ResolveDID(ctx, did)
	if err != nil {
		return nil, err
	}
	return doc.SigningKey()
}

// How many repositories are read, and how many names are looked up, at a time.
const (
	fetchWorkers  = 8
	lookUpWorkers = 8
)

// Repair reads the repositories that have to be read, and looks up handles and names, until the
// context ends.
func (n *Network) Repair(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { n.work(ctx, fetchWorkers, n.Index.ToFetch, n.fetch, "a repository could not be read") })
	running.Go(func() { n.work(ctx, lookUpWorkers, n.Index.ToLookUp, n.lookUp, "an account could not be looked up") })
	running.Wait()
}

// work takes accounts from a queue, some at a time. One whose server is slow holds up no other.
func (n *Network) work(ctx context.Context, workers int, take func(context.Context, int) ([]syntax.DID, error), do func(context.Context, syntax.DID) error, failed string) {
	const every = 200 * time.Millisecond
	var running sync.WaitGroup
	defer running.Wait()
	places := make(chan struct{}, workers)
	for ctx.Err() == nil {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		list, err := take(ctx, 1)
		if err != nil && ctx.Err() == nil {
			n.log().Error("the index could not be read", "error", err)
		}
		if len(list) == 0 {
			<-places
			sleep(ctx, every)
			continue
		}
		running.Go(func() {
			defer func() { <-places }()
			if err := do(ctx, list[0]); err != nil && ctx.Err() == nil {
				n.log().Info(failed, "did", list[0], "error", err)
			}
		})
	}
}

// sleep waits; it reports false if the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ended reports whether an error is that of a context that ended.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
