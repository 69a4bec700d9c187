package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/examples/pds/internal/check"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/xrpc/atproto"
)

const resyncHelp = `
The server must be stopped. The repositories of the accounts (DIDs or handles; default: of all that are
active) are signed anew, with a later revision, and a #sync event tells the network where they
stand: relays that have lost track, or have seen what a restored backup does not
have, read them again. Records stay as they are. "pds restore" does this by itself.
`

func resync(ctx context.Context, c *call) (err error) {
	s, list, close, err := c.openAccounts(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, close()) }()
	var dids []syntax.DID
	for i, a := range list {
		if a.Status != atproto.Active {
			return fmt.Errorf("%s is not active: the network is told nothing of it", c.args[i])
		}
		dids = append(dids, a.DID)
	}
	shown := c.progress("accounts")
	n, err := resyncAll(ctx, s, dids, shown.at)
	shown.done()
	if err != nil {
		return err
	}
	return c.result(map[string]int{"accounts": n}, "Signed the repositories of %s anew.", accountCount(n))
}

// accountCount writes a number of accounts for people.
func accountCount(n int) string {
	if n == 1 {
		return "1 account"
	}
	return fmt.Sprint(n, " accounts")
}

// resyncAll signs repositories anew (none: of all active accounts), and returns how many.
func resyncAll(ctx context.Context, s check.Server, dids []syntax.DID, progress func(n int)) (n int, err error) {
	if dids == nil {
		for a, err := range s.Accounts.All(ctx) {
			if err != nil {
				return 0, err
			}
			if a.Status() == atproto.Active {
				dids = append(dids, a.DID)
			}
		}
	}
	host := repo.NewHost(repo.Config{Store: s.Store, Signer: s.Accounts.Signer})
	for _, did := range dids {
		if err := resyncOne(ctx, host, s.Accounts, did); err != nil {
			return n, fmt.Errorf("%s: %w", did, err)
		}
		n++
		progress(n)
	}
	return n, nil
}

// resyncOne imports what it exports: the same records, under a new commit.
func resyncOne(ctx context.Context, host *repo.Host, store *accounts.Store, did syntax.DID) error {
	key, err := store.Signer(ctx, did)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(host.Export(ctx, did, "", w))
	}()
	_, err = host.Import(ctx, did, r, repo.Import{
		Sync: true, Keys: []*crypto.PublicKey{key.PublicKey()},
		Limits: repo.ImportLimits{Expanded: math.MaxInt64, Records: math.MaxInt}, // it is here already
	})
	r.CloseWithError(err)
	<-done
	return err
}
