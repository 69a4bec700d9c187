package crawl

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// relay is one that is asked.
type relay struct {
	n       *Notifier
	client  xrpc.Client
	timeout time.Duration
	wake    chan struct{} // has an element when the plan has changed

	mu   sync.Mutex
	plan schedule
	seen int64 // the newest event at the last planned look, or at the start
	// The last request and the last look, and when they ended.
	asked              Request
	checked            Check
	askedAt, checkedAt time.Time
	ordered            time.Time // the last look that was
}

// change changes the plan.
func (r *relay) change(f func(s *schedule, now time.Time)) {
	r.mu.Lock()
	f(&r.plan, r.n.now())
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run asks and checks until the context ends.
func (r *relay) run(ctx context.Context) {
	var checks <-chan time.Time
	if every := orDefault(r.n.CheckInterval, time.Hour); every > 0 {
		tick := time.NewTicker(every)
		defer tick.Stop()
		checks = tick.C
	}
	for {
		timer := r.ask(ctx)
		select {
		case <-timer:
		case <-r.wake:
		case <-checks:
			r.check(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// ask makes a request if one is due. It returns a channel that tells when the next
// one is; nil: none is planned.
func (r *relay) ask(ctx context.Context) <-chan time.Time {
	if reason, ok := r.take(); ok {
		if _, ended := r.request(ctx, reason); ended {
			return nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plan.reason == "" {
		return nil
	}
	return time.After(r.plan.due.Sub(r.n.now()))
}

// request makes a request that take, or order, has allowed. ended: the context has, and nothing is
// known.
func (r *relay) request(ctx context.Context, reason Reason) (req Request, ended bool) {
	err := r.within(ctx, func(ctx context.Context) error {
		return api.SyncRequestCrawl(ctx, &r.client, api.SyncRequestCrawlInput{Hostname: r.n.Hostname})
	})
	if ctx.Err() != nil {
		return req, true
	}
	req = Request{Relay: r.client.Host, Reason: reason, Err: err, Retry: r.done(reason, err)}
	r.mu.Lock()
	r.asked, r.askedAt = req, r.n.now()
	r.mu.Unlock()
	if r.n.Asked != nil {
		r.n.Asked(req)
	}
	return req, false
}

func (r *relay) take() (Reason, bool) {
	watched := r.n.watched()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plan.take(r.n.now(), watched)
}

func (r *relay) done(reason Reason, err error) (retry time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plan.done(reason, r.n.now(), err)
}

// within runs a request within its time.
func (r *relay) within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	return f(ctx)
}

// Problem is what is wrong with a relay's state.
type Problem string

// Problems. The last four are statuses that the relay reports.
const (
	None Problem = ""
	// Ahead: the relay has seen a number that this host has not assigned yet, for example because
	// the host lost its log. The relay's cursor is refused as FutureCursor until its operator
	// resets it, or the host's numbers have passed it.
	Ahead Problem = "ahead"
	// Unknown: the relay does not know the host.
	Unknown Problem = "unknown"
	// Behind: the relay has not seen events that the log already had at the previous check.
	Behind    Problem = "behind"
	Idle      Problem = "idle"
	Offline   Problem = "offline"
	Throttled Problem = "throttled"
	Banned    Problem = "banned"
)

// Check is a check of what a relay knows of the host.
type Check struct {
	Relay string // its address
	// Err is set if there is no answer. Not all relays have the method (MethodNotImplemented).
	Err error
	// Status is the relay's answer about the host. Its Seq is approximately the last event that the
	// relay has seen; negative: none.
	Status api.SyncGetHostStatusOutput
	// Newest is the greatest number that this host has assigned.
	Newest  int64
	Problem Problem
}

// check looks at what the relay knows, and plans a request if that may help.
func (r *relay) check(ctx context.Context) { r.look(ctx, true) }

// look is check; unless the turn is a planned one, it plans nothing, and the next planned one
// judges by what the one before it has found.
func (r *relay) look(ctx context.Context, planned bool) Check {
	c := Check{Relay: r.client.Host}
	r.mu.Lock()
	seen := r.seen
	r.mu.Unlock()
	c.Err = r.within(ctx, func(ctx context.Context) (err error) {
		if c.Status, err = api.SyncGetHostStatus(ctx, &r.client, api.SyncGetHostStatusParams{Hostname: r.n.Hostname}); errors.Is(err, &xrpc.Error{Name: api.ErrorHostNotFound}) {
			c.Problem, err = Unknown, nil
		}
		if err == nil {
			_, c.Newest, err = r.n.Events.Bounds(ctx) // after the answer: it cannot be ahead of us by delay
		}
		return err
	})
	if ctx.Err() != nil {
		c.Err = ctx.Err()
		return c
	}
	if c.Err == nil && c.Problem == None {
		c.Problem = problem(c.Status, seen, c.Newest)
	}
	r.mu.Lock()
	r.checked, r.checkedAt = c, r.n.now()
	if c.Err == nil && planned {
		r.seen = c.Newest
	}
	r.mu.Unlock()
	if c.Err == nil && planned {
		switch c.Problem {
		case Unknown, Behind, Idle, Offline:
			r.change(func(s *schedule, now time.Time) { s.planRequest(Checked, now) })
		}
	}
	if r.n.Checked != nil {
		r.n.Checked(c)
	}
	return c
}

// problem judges an answer. Seen is the newest event at the check before, newest is that of now.
func problem(s api.SyncGetHostStatusOutput, seen, newest int64) Problem {
	switch {
	case s.Seq != nil && *s.Seq > newest:
		return Ahead
	case s.Status != "" && s.Status != "active":
		return Problem(s.Status)
	case s.Seq != nil && *s.Seq < seen:
		return Behind
	}
	return None
}
