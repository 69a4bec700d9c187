package indexer

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// writer brings changes into the sink. Those that wait at the same time share a transaction.
type writer struct {
	sink  Sink
	queue chan *pending
	cache *accounts
	now   func() time.Time
}

type pending struct {
	change    *Change
	positions map[string]string
	size      int
	done      chan error
}

// Limits on a transaction.
const (
	groupOps   = 2000
	groupBytes = 4 << 20
)

func (w *writer) run(ctx context.Context) {
	var next *pending
	for {
		first := next
		if next = nil; first == nil {
			select {
			case first = <-w.queue:
			case <-ctx.Done():
				return
			}
		}
		group := []*pending{first}
		size, ops := first.size, len(first.ops())
	more:
		for size < groupBytes && ops < groupOps {
			select {
			case p := <-w.queue:
				if size+p.size > groupBytes {
					next = p
					break more
				}
				group, size, ops = append(group, p), size+p.size, ops+1+len(p.ops())
			default:
				break more
			}
		}
		w.apply(ctx, group)
	}
}

func (p *pending) ops() []Op {
	if p.change == nil {
		return nil
	}
	return p.change.Ops
}

// apply applies a group, and if that fails, each change by itself.
func (w *writer) apply(ctx context.Context, group []*pending) {
	t := &Transaction{}
	for _, p := range group {
		if p.change != nil {
			t.Changes = append(t.Changes, p.change)
		}
		for name, at := range p.positions {
			if t.Positions == nil {
				t.Positions = make(map[string]string)
			}
			t.Positions[name] = at
		}
	}
	err := w.sink.Apply(ctx, t)
	if err != nil && len(group) > 1 {
		for _, p := range group {
			w.apply(ctx, []*pending{p})
		}
		return
	}
	for _, p := range group {
		if p.change != nil {
			w.remember(p.change, err)
		}
		p.done <- err
	}
}

// remember keeps what the sink has of an account now.
func (w *writer) remember(c *Change, err error) {
	if err != nil {
		w.cache.forget(c.Account.DID)
		return
	}
	w.cache.changed(c)
}

// submit applies a change and positions, either of which may be missing.
func (w *writer) submit(ctx context.Context, c *Change, positions map[string]string) error {
	p := &pending{change: c, positions: positions, done: make(chan error, 1)}
	if c != nil {
		c.Account.Version = nextVersion(c.Before, w.now())
		for i := range c.Ops {
			p.size += len(c.Ops[i].Record) + 256
		}
	}
	select {
	case w.queue <- p:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// account returns an account of the sink.
func (w *writer) account(ctx context.Context, did syntax.DID) (Account, error) {
	a, err := w.cache.get(ctx, did, w.sink.Account)
	a.DID = did
	return a, err
}

// fresh returns an account as the sink has it now. Whoever asks for it next gets it so, or newer.
func (w *writer) fresh(ctx context.Context, did syntax.DID) (Account, error) {
	w.cache.forget(did)
	return w.account(ctx, did)
}

// nextVersion is the version after another one. An account that was removed and is added again does
// not have the versions of before: what was made from those does not fit it.
func nextVersion(before int64, now time.Time) int64 {
	if before == 0 {
		return max(now.UnixMicro(), 1)
	}
	return before + 1
}

// persist calls f until it succeeds or the context ends.
func persist(ctx context.Context, failed func(error), f func() error) error {
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, 10*time.Second) {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed(err)
		if sleep.For(ctx, delay) != nil {
			return ctx.Err()
		}
	}
}
