package indexer

import (
	"context"
	"sync"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// lanes runs tasks: those of one account in order, those of others beside them.
type lanes struct {
	run   func(did syntax.DID, tasks []task)
	slots chan struct{} // how many lanes run at once

	mu      sync.Mutex
	lanes   map[syntax.DID]*lane
	running sync.WaitGroup
}

// task is an event, or something else that is done in the order of an account's events.
type task struct {
	*item
	do func()
}

type lane struct {
	queue []task
	bytes int
}

// Limits on the waiting events of one account. Beyond them its commits are dropped, and its
// repository is read again. Other events wait as far as the limits of the source allow.
const (
	laneItems = 1000
	laneBytes = 8 << 20
	laneBatch = 64
)

func newLanes(workers int, run func(syntax.DID, []task)) *lanes {
	return &lanes{run: run, slots: make(chan struct{}, workers), lanes: make(map[syntax.DID]*lane)}
}

// add adds a task. It returns false if the account has too many.
func (l *lanes) add(did syntax.DID, t task) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.lanes[did]
	if x == nil {
		x = &lane{}
		l.lanes[did] = x
		l.running.Add(1)
		go l.work(did, x)
	}
	if t.item != nil {
		_, large := t.message.(*commit.Event) // what others say is not in the repository
		if large && (len(x.queue) >= laneItems || x.bytes+t.size > laneBytes && len(x.queue) > 0) {
			return false
		}
		x.bytes += t.size
	}
	x.queue = append(x.queue, t)
	return true
}

// laneKey marks the context of a lane.
type laneKey struct{}

// inLane returns a context for what a lane runs.
func inLane(ctx context.Context) context.Context { return context.WithValue(ctx, laneKey{}, true) }

// withoutSlot runs f, which waits for other work. If ctx is a lane's context, the lane gives up its
// slot meanwhile.
func (l *lanes) withoutSlot(ctx context.Context, f func()) {
	if ctx.Value(laneKey{}) == nil {
		f()
		return
	}
	<-l.slots
	defer func() { l.slots <- struct{}{} }()
	f()
}

// do runs f in the order of an account's events, and waits for it.
func (l *lanes) do(did syntax.DID, f func()) {
	done := make(chan struct{})
	l.add(did, task{do: func() { defer close(done); f() }})
	<-done
}

func (l *lanes) work(did syntax.DID, x *lane) {
	defer l.running.Done()
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	for {
		l.mu.Lock()
		if len(x.queue) == 0 {
			delete(l.lanes, did)
			l.mu.Unlock()
			return
		}
		n := min(len(x.queue), laneBatch)
		tasks := x.queue[:n:n]
		x.queue = x.queue[n:]
		for _, t := range tasks {
			if t.item != nil {
				x.bytes -= t.size
			}
		}
		l.mu.Unlock()
		l.run(did, tasks)
	}
}
