package indexer

import (
	"context"
	"sync"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// accounts remembers what the sink has of accounts. Events are dropped because of what an account
// is, so what is remembered must never be older than what the sink has told somebody:
//
//   - what is read is remembered only if nothing was changed or forgotten since the read began;
//   - a change is remembered only if what it was made from is.
type accounts struct {
	max int

	// mu guards these. No other lock is taken while it is held.
	mu      sync.Mutex
	m       map[syntax.DID]Account
	reading map[syntax.DID]*bool // reads that nothing has come in between of
}

func newAccounts(max int) *accounts {
	return &accounts{max: max, m: make(map[syntax.DID]Account), reading: make(map[syntax.DID]*bool)}
}

// get returns an account as it is remembered, or as read has it.
func (x *accounts) get(ctx context.Context, did syntax.DID, read func(context.Context, syntax.DID) (Account, error)) (Account, error) {
	x.mu.Lock()
	if a, ok := x.m[did]; ok {
		x.mu.Unlock()
		return a, nil
	}
	mark := new(bool)
	x.reading[did] = mark // an earlier read is not remembered
	x.mu.Unlock()
	a, err := read(ctx, did)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.reading[did] == mark {
		delete(x.reading, did)
		if err == nil && a.Version != 0 {
			x.put(did, a)
		}
	}
	return a, err
}

func (x *accounts) put(did syntax.DID, a Account) {
	if len(x.m) >= x.max {
		clear(x.m)
	}
	x.m[did] = a
}

// changed remembers what a change has made of an account.
func (x *accounts) changed(c *Change) {
	x.mu.Lock()
	defer x.mu.Unlock()
	did := c.Account.DID
	delete(x.reading, did)
	if old, ok := x.m[did]; ok && old.Version == c.Before && c.Account.State != Removed {
		x.put(did, c.Account)
	} else {
		delete(x.m, did)
	}
}

// forget forgets an account.
func (x *accounts) forget(did syntax.DID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.reading, did)
	delete(x.m, did)
}
