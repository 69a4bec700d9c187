package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/selfcheck"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

const resyncHelp = `
The server must be stopped. The repositories of the accounts (DIDs or handles; default: all active
ones) are signed again, with a later revision, and a #sync event announces the result. Then relays
read them again that have lost track, or have seen changes that a restored backup lacks. Records do
not change. "pds restore" does this by itself.

With -rewind, only accounts whose revision is in the future are signed (those named, or all, active
or not), and get a revision of the present time. See "pds help check".

Before anything is signed, the clock is compared with those of the directory and of the relays. If
it is wrong, nothing is done (PDS_CLOCK_CHECK=false turns that into a warning).
`

func resyncFlags(c *call) {
	c.BoolVar(&c.values.rewind, "rewind", false, "only sign repositories with a revision in the future, with one of the present")
}

func resync(ctx context.Context, c *call) (err error) {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	s, list, d, err := c.openAccounts(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if _, err := c.checkClock(ctx, cfg, s.Store.Events); err != nil {
		return err
	}
	var dids []syntax.DID
	for i, a := range list {
		if a.Status() != account.Active && !c.values.rewind {
			return fmt.Errorf("%s is not active: the network is told nothing of it", c.args[i])
		}
		dids = append(dids, a.DID)
	}
	if c.values.rewind {
		if dids, err = aheadOf(ctx, s, dids); err != nil {
			return err
		}
		if len(dids) == 0 {
			return c.result(map[string]int{"accounts": 0}, "No revision lies in the future.")
		}
	}
	shown := c.progress("accounts")
	done, err := resyncAll(ctx, s, dids, c.values.rewind, shown.at)
	shown.done()
	if err != nil {
		return err
	}
	c.warnAhead(done)
	return c.result(map[string]int{"accounts": done.accounts}, "Signed the repositories of %s anew.", accountCount(done.accounts))
}

// checkClock compares the clock with others before something is signed. It reports whether one of
// them agrees.
func (c *call) checkClock(ctx context.Context, cfg *config.Config, log timecheck.Log) (confirmed bool, err error) {
	w := timecheck.Watch{Now: cfg.Now, Servers: selfcheck.TimeServers(cfg.PLC, cfg.Crawlers), Log: log}
	res := w.CheckNow(ctx)
	switch {
	case res.Err != nil && cfg.ClockCheck:
		return false, fmt.Errorf("%w (PDS_CLOCK_CHECK=false signs all the same)", res.Err)
	case res.Err != nil:
		fmt.Fprintf(c.Stderr, "warning: %v\n", res.Err)
		return false, nil
	}
	return res.Confirmed(commit.DefaultDrift / 2), nil
}

// aheadOf returns those of the accounts (nil: of all) whose revision lies in the future.
func aheadOf(ctx context.Context, s stock, dids []syntax.DID) (list []syntax.DID, err error) {
	report, err := s.Ahead(ctx, dids)
	for _, a := range report {
		list = append(list, a.DID)
	}
	return list, err
}

// warnAhead says that accounts which were signed anew are ignored all the same.
func (c *call) warnAhead(r resynced) {
	if r.ahead > 0 {
		fmt.Fprintf(c.Stderr, "warning: %s: the revision lies in the future, and the network ignores it; see \"pds check\"\n", accountCount(r.ahead))
	}
}

// accountCount writes a number of accounts for people.
func accountCount(n int) string {
	if n == 1 {
		return "1 account"
	}
	return fmt.Sprint(n, " accounts")
}

// resynced is what was signed anew.
type resynced struct {
	accounts int
	ahead    int // of them, those with a revision from the future
}

// resyncAll signs repositories anew (none: of all active accounts). With rewind, a revision from
// the future gives way to one of the present.
func resyncAll(ctx context.Context, s stock, dids []syntax.DID, rewind bool, progress func(n int)) (done resynced, err error) {
	if dids == nil {
		for a, err := range s.Accounts.All(ctx) {
			if err != nil {
				return done, err
			}
			if a.Status() == account.Active {
				dids = append(dids, a.DID)
			}
		}
	}
	host := repo.NewHost(repo.Config{Store: s.Store, Signer: s.Accounts.Signer, Now: s.Now})
	for _, did := range dids {
		head, err := resyncOne(ctx, host, s, did, rewind)
		if err != nil {
			return done, fmt.Errorf("%s: %w", did, err)
		}
		if done.accounts++; s.IsAhead(head.Rev) {
			done.ahead++
		}
		progress(done.accounts)
	}
	return done, nil
}

// resyncOne imports what it exports: the same records, under a new commit.
func resyncOne(ctx context.Context, host *repo.Host, s stock, did syntax.DID, rewind bool) (storage.Head, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return storage.Head{}, err
	}
	key, err := s.Accounts.Signer(ctx, did)
	if err != nil {
		return storage.Head{}, err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(host.Export(ctx, did, "", w))
	}()
	res, err := host.Import(ctx, did, r, repo.Import{
		Sync: a.Status() == account.Active, Keys: []*crypto.PublicKey{key.PublicKey()}, Rewind: rewind,
		Limits: repo.ImportLimits{Expanded: math.MaxInt64, Records: math.MaxInt}, // it is here already
	})
	r.CloseWithError(err)
	<-done
	return res.Head, err
}
