package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// caller calls alarms that are due.
type caller struct {
	Alarms
	now   func() time.Time
	repos storage.Repos
	// index yields the alarms that are set, the earliest first; there may be some that are not set
	// any more.
	index func(ctx context.Context) iter.Seq2[alarm, error]
	// forget deletes an alarm from the index that was called, or is not set any more.
	forget func(ctx context.Context, a alarm) error

	wake  chan struct{} // has room for one: full if there may be something new in the index
	slots chan struct{} // full while AtOnce calls run

	mu      sync.Mutex
	running map[alarm]*call
	retries map[syntax.DID]retry // one for each account: of an alarm that was set anew, nobody asks
}

// call is a call that runs.
type call struct {
	done chan struct{} // closed when it has ended
}

// retry says when an alarm that failed is called again.
type retry struct {
	of    alarm
	at    time.Time
	delay time.Duration
}

// The delay before an alarm that failed is called again doubles up to a maximum.
const (
	firstRetry = 2 * time.Second
	maxRetry   = 5 * time.Minute
)

// maxDue is how many alarms are taken from the index at a time.
const maxDue = 1000

func (c *caller) init() {
	if c.AtOnce <= 0 {
		c.AtOnce = 16
	}
	if c.Timeout <= 0 {
		c.Timeout = time.Minute
	}
	c.wake, c.slots = make(chan struct{}, 1), make(chan struct{}, c.AtOnce)
	c.running, c.retries = make(map[alarm]*call), make(map[syntax.DID]retry)
}

// poke says that there may be something new in the index.
func (c *caller) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// due returns alarms that are due and do not run, and when the next one is, or the zero time.
func (c *caller) due(ctx context.Context) (list []alarm, next time.Time, err error) {
	now := c.now()
	for a, err := range c.index(ctx) {
		if err != nil {
			return nil, next, fmt.Errorf("durable: index of alarms: %w", err)
		}
		at, retried, runs := c.planned(a, now)
		switch {
		case runs:
			continue
		case !at.After(now) && len(list) < maxDue:
			list = append(list, a)
			continue
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
		// Alarms are in the order of their times; those that are tried again later come first.
		if !retried {
			break
		}
	}
	return list, next, nil
}

// planned returns when an alarm is to be called, whether it waits to be called again, and whether
// it runs.
func (c *caller) planned(a alarm, now time.Time) (at time.Time, retried, runs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, runs = c.running[a]
	r, retried := c.retry(a)
	if retried && !now.Before(r.at.Add(-r.delay)) {
		return r.at, true, runs
	}
	return a.at(), retried, runs // if the clock has gone back since it failed: by its own time
}

// retry returns when an alarm that failed is called again. The caller holds mu.
func (c *caller) retry(a alarm) (r retry, ok bool) {
	if r = c.retries[a.did]; r.of != a {
		return retry{}, false
	}
	return r, true
}

// start calls an alarm in a goroutine of its own, as soon as there is a place for it. It returns
// nil if the alarm runs already.
func (c *caller) start(ctx context.Context, a alarm) (*call, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[a] != nil {
		<-c.slots
		return nil, nil
	}
	r := &call{done: make(chan struct{})}
	c.running[a] = r
	go func() {
		failed := errors.New("durable: the alarm's goroutine has ended")
		defer func() {
			c.ended(ctx, a, failed)
			close(r.done)
			<-c.slots
			c.poke()
		}()
		failed = c.run(ctx, a)
	}()
	return r, nil
}

// ended notes the end of a call, and when it is called again if it failed.
func (c *caller) ended(ctx context.Context, a alarm, failed error) {
	c.mu.Lock()
	delete(c.running, a)
	r, retried := c.retry(a)
	if failed == nil && retried {
		delete(c.retries, a.did)
	} else if failed != nil && ctx.Err() == nil {
		r.of = a
		r.delay = min(max(2*r.delay, firstRetry), maxRetry)
		r.at = c.now().Add(r.delay)
		c.retries[a.did] = r
	}
	c.mu.Unlock()
	if failed != nil && ctx.Err() == nil && c.Failed != nil {
		c.Failed(a.did, failed)
	}
}

// run calls an alarm, if it is still set, and deletes it.
func (c *caller) run(ctx context.Context, a alarm) error {
	set, _, err := c.isSet(ctx, a)
	if err != nil {
		return err
	}
	if set {
		if err := c.call(ctx, a); err != nil {
			return err
		}
		if err := c.delete(ctx, a); err != nil {
			return err
		}
	}
	return c.forget(ctx, a)
}

// call calls the function of the host.
func (c *caller) call(ctx context.Context, a alarm) (err error) {
	if c.Call == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("durable: the alarm of %s panicked: %v\n%s", a.did, p, debug.Stack())
		}
	}()
	return c.Call(ctx, a.did)
}

// isSet reports whether an account's alarm is still set to that time, and the account's head.
func (c *caller) isSet(ctx context.Context, a alarm) (set bool, head storage.Head, err error) {
	err = c.repos.View(ctx, a.did, func(r storage.Reader) error {
		b, err := r.Get(ctx, AlarmKey)
		set, head = err == nil && string(b) == string(a.value()), r.Head()
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return set, head, err
}

// delete deletes the alarm of an account, which may be one without a head, unless it was set to
// another time.
func (c *caller) delete(ctx context.Context, a alarm) error {
	for {
		set, head, err := c.isSet(ctx, a)
		if err != nil || !set {
			return err
		}
		change := storage.Change{
			Prev: head, Head: head,
			Checks: []storage.KVCheck{{Key: AlarmKey, Value: a.value()}},
			KV:     []storage.KVWrite{{Key: AlarmKey}},
		}
		// After a conflict, the head has changed, or the alarm.
		if _, err = c.repos.Apply(ctx, a.did, &change); !changedSince(err) {
			return err
		}
	}
}

// changedSince reports whether a change came too late: the account is not what it was read as.
func changedSince(err error) bool {
	return errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrNotFound)
}

// fire calls all alarms that are due, waits until they have ended, but for none longer than
// Timeout, and returns when the next one is.
func (c *caller) fire(ctx context.Context) (next time.Time, err error) {
	due, next, err := c.due(ctx)
	if err != nil {
		return next, err
	}
	calls := make(map[alarm]*call, len(due))
	var failed error
	for _, a := range due {
		r, err := c.start(ctx, a)
		if failed = err; err != nil {
			break
		}
		if r != nil {
			calls[a] = r
		}
	}
	again, err := c.await(ctx, calls)
	if failed = errors.Join(failed, err); failed == nil && len(calls) > 0 {
		// A call may have set its alarm anew, or another one.
		var left []alarm
		if left, next, failed = c.due(ctx); len(left) > 0 {
			next = left[0].at()
		}
	}
	if !again.IsZero() && (next.IsZero() || again.Before(next)) {
		next = again
	}
	return next, failed
}

// fireOne is fire for the alarm of one account.
func (c *caller) fireOne(ctx context.Context, did syntax.DID) (next time.Time, err error) {
	is := func() (a alarm, set bool, err error) {
		var at time.Time
		err = c.repos.View(ctx, did, func(r storage.Reader) (err error) {
			at, err = Alarm(ctx, r)
			return err
		})
		if errors.Is(err, storage.ErrNotFound) {
			err = nil
		}
		return alarm{at.UnixMicro(), did}, !at.IsZero(), err
	}
	a, set, err := is()
	if err != nil || !set {
		return next, err
	}
	switch at, _, runs := c.planned(a, c.now()); {
	case runs:
		return c.now().Add(firstRetry), nil
	case at.After(c.now()):
		return at, nil
	}
	r, err := c.start(ctx, a)
	if err != nil || r == nil {
		return c.now().Add(firstRetry), err
	}
	again, err := c.await(ctx, map[alarm]*call{a: r})
	if err != nil || !again.IsZero() {
		return again, err
	}
	if a, set, err = is(); err != nil || !set {
		return next, err
	}
	return a.at(), nil
}

// await waits for calls, and returns when one of those that failed is called again.
func (c *caller) await(ctx context.Context, calls map[alarm]*call) (next time.Time, err error) {
	patience, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	for a, r := range calls {
		select {
		case <-r.done:
		case <-patience.Done():
		}
		c.mu.Lock()
		retry, again := c.retry(a)
		if c.running[a] != nil {
			retry.at, again = c.now().Add(firstRetry), true
		}
		c.mu.Unlock()
		if again && (next.IsZero() || retry.at.Before(next)) {
			next = retry.at
		}
	}
	return next, ctx.Err()
}

// maxWait is how long serve trusts the clock.
const maxWait = time.Hour

// serve calls alarms when they are due, until the context ends or the index fails, and returns that
// error when all calls have ended.
func (c *caller) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var calls []*call
	defer func() {
		cancel()
		for _, r := range calls {
			<-r.done
		}
	}()
	for {
		due, next, err := c.due(ctx)
		if err != nil {
			return err
		}
		calls = unended(calls)
		for _, a := range due {
			r, err := c.start(ctx, a)
			if err != nil {
				return err
			}
			if r != nil {
				calls = append(calls, r)
			}
		}
		if err := c.sleep(ctx, next); err != nil {
			return err
		}
	}
}

func unended(calls []*call) (list []*call) {
	for _, r := range calls {
		select {
		case <-r.done:
		default:
			list = append(list, r)
		}
	}
	return list
}

// sleep waits until a time, or until something is new in the index. While no alarm is set, it has
// no timer.
func (c *caller) sleep(ctx context.Context, until time.Time) error {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(min(maxWait, max(0, until.Sub(c.now()))))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-c.wake:
	case <-ctx.Done():
	}
	return ctx.Err()
}
