package account

import (
	"context"
	"sync"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// locks is one lock per account, existing only while somebody wants it.
type locks struct {
	mu   sync.Mutex
	held map[syntax.DID]*lock
}

type lock struct {
	room  chan struct{} // for one: full while held
	users int           // who holds it or waits
}

// lock waits for an account's lock or for the context to end.
func (k *locks) lock(ctx context.Context, did syntax.DID) (unlock func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = make(map[syntax.DID]*lock)
	}
	l := k.held[did]
	if l == nil {
		l = &lock{room: make(chan struct{}, 1)}
		k.held[did] = l
	}
	l.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.held, did)
		}
	}
	select {
	case l.room <- struct{}{}:
		return func() { <-l.room; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
