package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
)

// An agent does one thing at a time. What it is to do waits in its mailbox; while there is
// something, a goroutine works on it, and else the agent sleeps: it is a file, and nothing runs.
//
// The mailbox is in memory. It is lost when the agent is killed, and that does no harm: a job stays
// in the queue until it is done, an alarm is called until it has been answered, and what the agent
// was to hear is read again from the relay's log, from the position in its memory on.

// ErrKilled is the end of what an agent was doing, or was to do, when it was killed.
var ErrKilled = errors.New("agent: killed")

// rest is how long a killed agent stays down.
const rest = 2 * time.Second

// item is something to do.
type item struct {
	ctx  context.Context
	what string
	do   func(ctx context.Context) error
	done chan error // of capacity 1; nil: nobody waits
}

// do lets the agent do something, and returns when it has.
func (a *Agent) do(ctx context.Context, what string, fn func(context.Context) error) error {
	it := item{ctx, what, fn, make(chan error, 1)}
	a.mu.Lock()
	if a.down || a.g.ctx.Err() != nil {
		a.mu.Unlock()
		return ErrKilled
	}
	a.items = append(a.items, it)
	a.wake()
	a.mu.Unlock()
	return <-it.done
}

// wake starts the goroutine if it does not run. The caller holds mu.
func (a *Agent) wake() {
	if !a.awake && !a.down {
		a.awake = true
		a.g.running.Go(a.live)
		a.g.changed()
	}
}

// live works until there is nothing more to do.
func (a *Agent) live() {
	for {
		a.mu.Lock()
		switch {
		case a.down, a.g.ctx.Err() != nil && len(a.items) == 0, !a.deaf && len(a.items) == 0 && len(a.heard) == 0:
			a.awake, a.doing, a.cancel = false, "", nil
			a.mu.Unlock()
			a.g.changed()
			return
		}
		it := a.next()
		ctx, cancel := context.WithCancelCause(it.ctx)
		a.doing, a.cancel = it.what, cancel
		a.mu.Unlock()
		a.g.changed()
		err := ctx.Err()
		if err == nil {
			err = it.do(ctx)
		}
		if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrKilled) {
			err = ErrKilled
		}
		cancel(nil)
		if it.done != nil {
			it.done <- err
		} else if err != nil && !errors.Is(err, ErrKilled) {
			a.g.fail(a.Name+" "+it.what, err)
			a.kill(rest / 4) // what was not acted on is read again
		}
	}
}

// next takes what is to be done next: what was heard comes first. The caller holds mu.
func (a *Agent) next() item {
	switch {
	case a.deaf:
		return item{ctx: a.g.ctx, what: "catching up", do: a.catchUp}
	case len(a.heard) > 0:
		n := a.heard[0]
		a.heard = slices.Delete(a.heard, 0, 1)
		return item{ctx: a.g.ctx, what: "listening", do: func(ctx context.Context) error { return a.hear(ctx, n) }}
	}
	it := a.items[0]
	a.items = slices.Delete(a.items, 0, 1)
	return it
}

// Kill ends what the agent does, at whatever point, and empties its mailbox. It is down for a
// moment, and then goes on.
func (a *Agent) Kill() { a.kill(rest) }

func (a *Agent) kill(down time.Duration) {
	a.mu.Lock()
	if a.cancel != nil {
		a.cancel(ErrKilled)
	}
	for _, it := range a.items {
		if it.done != nil {
			it.done <- ErrKilled
		}
	}
	a.items, a.heard, a.deaf = nil, nil, true
	first := !a.down
	a.down = true
	a.mu.Unlock()
	a.g.changed()
	if first && a.g.ctx.Err() == nil {
		a.g.running.Go(func() {
			sleep.For(a.g.ctx, down)
			a.mu.Lock()
			a.down = false
			a.wake()
			a.mu.Unlock()
		})
	}
}

// busy counts what waits, and reports whether the agent can take more.
func (a *Agent) busy() (n int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = len(a.items) + len(a.heard)
	if a.awake {
		n++
	}
	return n, !a.down
}
