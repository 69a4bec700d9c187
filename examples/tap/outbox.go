package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// outbox decides which event is sent when. It knows all events that are not acknowledged; the table
// has them durably. Of one repository
//
//   - a live event is sent when all before it are acknowledged, and none after it until it is;
//   - historical events are sent without waiting for each other.
//
// Repositories take turns, so that a large one does not delay the others.
type outbox struct {
	table    table
	capacity int
	timeout  time.Duration // after which an event that was sent is sent again
	log      *slog.Logger
	meters   *meters

	mu        sync.Mutex
	cond      *sync.Cond // something became ready, or there is room, or somebody left
	lanes     map[syntax.DID]*lane
	ready     []*lane // those that have something to send, each once
	events    map[int64]*event
	kept      int     // bytes of bodies in memory
	acked     []int64 // to be deleted from the table
	consumers map[*consumer]bool
	kick      chan struct{} // there is something in acked
}

// table has the events durably.
type table interface {
	// bodies returns the messages of some events, those that are there.
	bodies(ctx context.Context, ids []int64) (map[int64][]byte, error)
	// remove deletes events.
	remove(ctx context.Context, ids []int64) error
}

// event is one that is not acknowledged.
type event struct {
	id   int64
	lane *lane
	live bool
	sent bool
	body []byte // nil: in the table

	to *consumer // that has it; nil: it is to be sent
	at time.Time // when it was sent
}

// lane has the events of a repository.
type lane struct {
	did    syntax.DID
	queue  []*event // not sent yet, in order
	resend []*event // to be sent again
	out    int      // sent, or to be sent again
	live   bool     // the one that is out is live
	listed bool     // in outbox.ready
}

// sendable reports whether an event may be sent now.
func (l *lane) sendable() bool {
	switch {
	case len(l.resend) > 0:
		return true
	case len(l.queue) == 0 || l.live:
		return false
	}
	return !l.queue[0].live || l.out == 0
}

// next takes the event that is to be sent.
func (l *lane) next() (e *event) {
	if len(l.resend) > 0 {
		e, l.resend = l.resend[0], l.resend[1:]
		return e
	}
	e, l.queue = l.queue[0], l.queue[1:]
	l.out++
	l.live = e.live
	return e
}

// consumer is a socket, or the webhook.
type consumer struct {
	window  int // how many events it may have that are not acknowledged
	has     map[int64]*event
	removed bool
}

// keptBodies bounds the bytes of messages in memory. Others are read from the table.
const keptBodies = 32 << 20

func newOutbox(t table, capacity int, timeout time.Duration, log *slog.Logger) *outbox {
	o := &outbox{
		table: t, capacity: capacity, timeout: timeout, log: log, lanes: make(map[syntax.DID]*lane), events: make(map[int64]*event),
		consumers: make(map[*consumer]bool), kick: make(chan struct{}, 1), meters: newMeters(),
	}
	o.cond = sync.NewCond(&o.mu)
	return o
}

// row is an event as the table has it. body may be nil.
type row struct {
	id   int64
	did  syntax.DID
	live bool
	body []byte
}

// add adds events that are in the table, in the order of their numbers.
func (o *outbox) add(rows []row) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range rows {
		l := o.lanes[r.did]
		if l == nil {
			l = &lane{did: r.did}
			o.lanes[r.did] = l
		}
		e := &event{id: r.id, lane: l, live: r.live}
		if r.body != nil && o.kept+len(r.body) <= keptBodies {
			e.body = r.body
			o.kept += len(r.body)
		}
		o.events[r.id] = e
		l.queue = append(l.queue, e)
		o.list(l)
	}
	o.cond.Broadcast()
}

// list puts a lane at the end of those that have something to send, if it has.
func (o *outbox) list(l *lane) {
	if !l.listed && l.sendable() {
		l.listed = true
		o.ready = append(o.ready, l)
	}
}

// size is how many events are stored.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.events) + len(o.acked)
}

// wait waits until there is room for more events.
func (o *outbox) wait(ctx context.Context) error {
	defer context.AfterFunc(ctx, o.wake)()
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.events)+len(o.acked) >= o.capacity && ctx.Err() == nil {
		o.cond.Wait()
	}
	return ctx.Err()
}

func (o *outbox) wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cond.Broadcast()
}

// join adds a consumer. It must leave.
func (o *outbox) join(window int) *consumer {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &consumer{window: window, has: make(map[int64]*event)}
	o.consumers[c] = true
	return c
}

// remove makes take return, and gives what the consumer has not acknowledged to others.
func (o *outbox) remove(c *consumer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.removed = true
	delete(o.consumers, c)
	for _, e := range c.has {
		o.requeue(e)
	}
	o.cond.Broadcast()
}

// requeue has an event that was sent sent again.
func (o *outbox) requeue(e *event) {
	if e.to == nil {
		return
	}
	delete(e.to.has, e.id)
	e.to = nil
	e.lane.resend = append(e.lane.resend, e)
	o.list(e.lane)
	o.cond.Broadcast()
}

// take returns up to most events for a consumer, and waits until there are some. It returns none
// when the consumer has left.
func (o *outbox) take(c *consumer, most int) (list []*event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !c.removed && len(list) == 0 {
		for !c.removed && (len(o.ready) == 0 || len(c.has) >= c.window) {
			o.cond.Wait()
		}
		list = o.pick(c, most)
	}
	return list
}

// pick takes what may be sent now. That may be nothing: what a lane had to send again may have been
// acknowledged.
func (o *outbox) pick(c *consumer, most int) (list []*event) {
	now := time.Now()
	for !c.removed && len(o.ready) > 0 && len(c.has) < c.window && len(list) < most {
		l := o.ready[0]
		o.ready[0] = nil
		o.ready = o.ready[1:]
		l.listed = false
		if !l.sendable() {
			o.drop(l)
			continue
		}
		e := l.next()
		e.sent, e.to, e.at = true, c, now
		c.has[e.id] = e
		list = append(list, e)
		o.list(l)
	}
	o.meters.delivered.Add(uint64(len(list)))
	return list
}

// drop forgets a lane that has nothing.
func (o *outbox) drop(l *lane) {
	if l.out == 0 && len(l.queue) == 0 && !l.listed {
		delete(o.lanes, l.did)
	}
}

// load returns the messages of events, in order; nil for one that was acknowledged meanwhile.
func (o *outbox) load(ctx context.Context, list []*event) ([][]byte, error) {
	bodies := make([][]byte, len(list))
	var missing []int64
	o.mu.Lock()
	for i, e := range list {
		if bodies[i] = e.body; e.body == nil {
			missing = append(missing, e.id)
		}
	}
	o.mu.Unlock()
	if len(missing) == 0 {
		return bodies, nil
	}
	found, err := o.table.bodies(ctx, missing)
	if err != nil {
		return nil, err
	}
	for i, e := range list {
		if bodies[i] == nil {
			bodies[i] = found[e.id]
		}
	}
	return bodies, nil
}

// ack takes an acknowledgement of an event. One that is not known, or was not sent since the start,
// is of no interest.
func (o *outbox) ack(id int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.events[id]
	if e == nil || !e.sent {
		return
	}
	l := e.lane
	if e.to != nil {
		delete(e.to.has, id)
	} else {
		for i, other := range l.resend {
			if other == e {
				l.resend = append(l.resend[:i], l.resend[i+1:]...)
				break
			}
		}
	}
	delete(o.events, id)
	o.kept -= len(e.body)
	l.out--
	l.live = l.live && l.out > 0
	o.list(l)
	o.drop(l)
	o.acked = append(o.acked, id)
	o.meters.acks.Add(1)
	select {
	case o.kick <- struct{}{}:
	default:
	}
	o.cond.Broadcast()
}

// refused has an event sent again after a pause: for a webhook.
func (o *outbox) refused(e *event, pause time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	to := e.to
	if to == nil {
		return
	}
	time.AfterFunc(pause, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if e.to == to {
			o.requeue(e)
		}
	})
}

// expire has events sent again that were not acknowledged in time.
func (o *outbox) expire(now time.Time) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.consumers {
		for _, e := range c.has {
			if now.Sub(e.at) >= o.timeout {
				o.requeue(e)
				n++
			}
		}
	}
	return n
}

// Bounds of the transactions that delete what was acknowledged.
const (
	removeAtOnce = 1000
	removePause  = 20 * time.Millisecond
)

// run deletes what was acknowledged from the table, until the context ends. Then it deletes the
// rest.
func (o *outbox) run(ctx context.Context) {
	for {
		select {
		case <-o.kick:
		case <-ctx.Done():
			last, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer stop()
			for o.sweep(last) {
			}
			return
		}
		pause(ctx, removePause) // so that a transaction has several
		for ctx.Err() == nil && o.sweep(ctx) {
		}
	}
}

// sweep deletes some of what was acknowledged, in the order in which it was. It reports whether
// there may be more.
func (o *outbox) sweep(ctx context.Context) bool {
	o.mu.Lock()
	ids := o.acked[:min(len(o.acked), removeAtOnce)]
	o.mu.Unlock()
	if len(ids) == 0 {
		return false
	}
	if err := o.table.remove(ctx, ids); err != nil {
		if ctx.Err() == nil {
			o.log.Error("acknowledged events cannot be deleted", "error", err)
		}
		pause(ctx, time.Second)
		return ctx.Err() == nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.acked = o.acked[len(ids):]; len(o.acked) == 0 {
		o.acked = nil
	}
	o.cond.Broadcast()
	return true
}

// watch looks for events that were not acknowledged in time, until the context ends.
func (o *outbox) watch(ctx context.Context) {
	every := min(max(o.timeout/10, 10*time.Millisecond), time.Second)
	for pause(ctx, every) {
		if n := o.expire(time.Now()); n > 0 {
			o.log.Info("events are sent again", "events", n)
		}
	}
}

// pause waits, and reports whether the context has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
