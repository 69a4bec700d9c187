package timecheck_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// A host whose clock is two hours ahead signs nothing.
func Example() {
	ctx := context.Background()
	directory := httptest.NewServer(http.NotFoundHandler()) // or "https://plc.directory"
	defer directory.Close()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	ahead := func() time.Time { return time.Now().Add(2 * time.Hour) }

	store := memory.New(memory.Config{Now: ahead})
	watch := &timecheck.Watch{Now: ahead, Servers: []string{directory.URL}, Log: store.Events}
	host := repo.NewHost(repo.Config{
		Store: store, Now: ahead, CheckClock: watch.Check,
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	watch.CheckNow(ctx) // or: go watch.Run(ctx)

	_, err = host.Create(ctx, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", repo.Batch{})
	fmt.Println(errors.Is(err, repo.ErrClock), errors.Is(err, timecheck.ErrClock))
	// Output: true true
}
