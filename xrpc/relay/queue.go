package relay

import (
	"context"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// item is a message that waits to be dealt with.
type item struct {
	seq     int64 // of its host; 0: none
	kind    string
	payload []byte // without "seq"
	size    int64  // of what it counts as
	at      time.Time
	ticket  *ticket
}

// ticket is the place of a message in its host's stream.
type ticket struct {
	seq  int64
	done bool
}

// lane has the messages of one account, which are dealt with in order.
type lane struct {
	did syntax.DID // does not change

	// These are the queue's, in its lock.
	items []*item
	bytes int64
	busy  bool        // a worker has it, or it is ready for one
	timer *time.Timer // not nil: it waits
	due   bool        // it is to be looked at even without messages, since no worker took it

	// What follows is the worker's while busy is set. Else the queue reads and sets it, in its
	// lock.
	wasDue         bool      // it was due
	waiting        bool      // its messages wait too: for an identity, or the store
	overBudget     bool      // it has more than its share of bytes: what it has is to be given up
	heldSince      time.Time // since when its messages wait for an identity; zero: they do not
	holds          int       // of that
	repairAt       time.Time // when the account is to be repaired; zero: it is not
	repairFailures int       // of repairs
}

// queue has the messages of one host, in lanes, and the workers that deal with them. A worker is
// there for as long as a lane is ready.
//
//	reader ─▶ put ─▶ lane of did:a  ■ ■ ■ ─┐
//	                 lane of did:b  ■      ├─▶ workers (at most so many)
//	                 lane of did:c  ■ ■    │     a lane that waits for something has none
//	          tickets ■ ✓ ✓ ■ ✓ …  ────────┘
//	                  └ the cursor that is saved is that before the first that is not done
type queue struct {
	// These do not change.
	limit    int64 // of bytes
	parallel int
	total    *budget // of all hosts
	// work deals with the first messages of a lane. It returns how many are done, and how long the
	// lane is to wait; less than 0: not at all.
	work func(ctx context.Context, l *lane, items []*item) (done int, wait time.Duration)

	// mu guards what follows. It is taken before the lock of total.
	mu      sync.Mutex
	ctx     context.Context // of workers; changed while there are none; nil: not started yet
	lanes   map[syntax.DID]*lane
	ready   []*lane
	workers int
	idle    sync.Cond // on mu: workers is 0
	bytes   int64
	room    chan struct{} // closed when there is more room; nil: nobody waits
	tickets []*ticket
	thinAt  int   // of tickets, which is thinned out
	cursor  int64 // all messages up to it are done
	read    int64 // the last that was put
}

// Limits on what a worker takes at a time, and the share of its host's budget that one lane may use
// while it waits.
const (
	batchItems = 64
	batchBytes = 1 << 20
	laneShare  = 4
	maxParked  = 10_000 // lanes without messages that wait
)

func newQueue(r *Relay, cursor int64) *queue {
	q := &queue{limit: r.HostMemory, parallel: r.Parallel, total: &r.memory, lanes: make(map[syntax.DID]*lane), cursor: cursor, read: cursor, thinAt: thinTickets}
	q.idle.L = &q.mu
	return q
}

// put adds a message, when there is room for it.
func (q *queue) put(ctx context.Context, did syntax.DID, it *item) error {
	it.size = int64(len(it.payload)) + 512
	if err := q.reserve(ctx, it.size); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ticketLocked(it)
	l := q.laneLocked(did)
	l.items = append(l.items, it)
	l.bytes += it.size
	if l.timer != nil && (!l.waiting || l.bytes > q.limit/laneShare) {
		l.overBudget = l.waiting
		q.wakeLocked(l)
	}
	if l.timer == nil {
		q.readyLocked(l)
	}
	return nil
}

// skip notes a message that is about no account.
func (q *queue) skip(seq int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := &item{seq: seq}
	q.ticketLocked(it)
	q.doneLocked(it)
}

func (q *queue) ticketLocked(it *item) {
	if it.seq == 0 {
		return
	}
	q.read = it.seq
	it.ticket = &ticket{seq: it.seq}
	q.tickets = append(q.tickets, it.ticket)
	if len(q.tickets) >= q.thinAt {
		q.thinLocked()
	}
}

// thinTickets is how many tickets there are before they are thinned out.
const thinTickets = 4096

// thinLocked takes out the tickets that say nothing: of those in a row that are done, only the last
// one moves the cursor. What remains are at most two for each message that waits, which the budget
// bounds; without this, one message that waits would have the tickets of all later ones kept.
func (q *queue) thinLocked() {
	kept := q.tickets[:0]
	for i, t := range q.tickets {
		if !t.done || i+1 == len(q.tickets) || !q.tickets[i+1].done {
			kept = append(kept, t)
		}
	}
	clear(q.tickets[len(kept):])
	q.tickets = kept
	q.thinAt = max(thinTickets, 2*len(kept))
}

// doneLocked notes that a message was dealt with. One from before a restart of the stream has no
// place in it any more.
func (q *queue) doneLocked(it *item) {
	if it.ticket == nil {
		return
	}
	it.ticket.done = true
	n := 0
	for n < len(q.tickets) && q.tickets[n].done {
		q.cursor = q.tickets[n].seq
		n++
	}
	q.tickets = q.tickets[n:]
	if len(q.tickets) == 0 {
		q.tickets = nil // let go of the array
	}
}

// restart begins the stream anew after a number.
func (q *queue) restart(cursor int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tickets, q.cursor, q.read = nil, cursor, cursor
}

// position returns the number up to which all messages were dealt with, and that of the last
// message that was read.
func (q *queue) position() (done, read int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cursor, q.read
}

// load returns how many bytes wait, and in how many lanes.
func (q *queue) load() (bytes int64, lanes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, len(q.lanes)
}

// reserve waits for room. A host that has nothing that waits gets it at once, unless the message is
// large.
func (q *queue) reserve(ctx context.Context, n int64) error {
	for {
		q.mu.Lock()
		if q.bytes == 0 || q.bytes+n <= q.limit {
			wait := q.total.take(n, q.bytes == 0 && n < stream.LargeFrame)
			if wait == nil {
				q.bytes += n
				q.mu.Unlock()
				return nil
			}
			q.mu.Unlock()
			// What is given back may be this host's own last message, so look again in any case.
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		wait := q.room
		q.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *queue) laneLocked(did syntax.DID) *lane {
	l := q.lanes[did]
	if l == nil {
		l = &lane{did: did}
		q.lanes[did] = l
	}
	return l
}

// schedule has an account looked at, though there may be no message about it. What waits there
// waits no longer. If very many are looked at, it is not now: the ledger has it still.
func (q *queue) schedule(did syntax.DID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lanes[did] == nil && len(q.lanes) > maxParked {
		return
	}
	l := q.laneLocked(did)
	l.due = true
	if l.busy {
		return
	}
	q.wakeLocked(l)
	q.readyLocked(l)
}

// wakeLocked ends the waiting of a lane.
func (q *queue) wakeLocked(l *lane) {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// readyLocked hands a lane to the workers.
func (q *queue) readyLocked(l *lane) {
	if l.busy || q.ctx == nil || q.ctx.Err() != nil {
		return
	}
	l.busy = true
	q.ready = append(q.ready, l)
	if q.workers < q.parallel {
		q.workers++
		go q.worker()
	}
}

// start lets workers work until the context ends.
func (q *queue) start(ctx context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ctx = ctx
	for _, l := range q.lanes {
		if l.timer == nil {
			q.readyLocked(l)
		}
	}
}

// drain waits until the workers have ended, after the context, and forgets what waits: it comes
// again after the cursor.
func (q *queue) drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.workers > 0 {
		q.idle.Wait()
	}
	for _, l := range q.lanes {
		q.wakeLocked(l)
	}
	clear(q.lanes)
	q.ready, q.tickets, q.read = nil, nil, q.cursor
	q.total.give(q.bytes)
	q.bytes = 0
}

// worker deals with lanes for as long as any is ready.
func (q *queue) worker() {
	q.mu.Lock()
	defer q.mu.Unlock()
	ctx := q.ctx
	for len(q.ready) > 0 && ctx.Err() == nil {
		l := q.ready[0]
		q.ready[0] = nil
		q.ready = q.ready[1:]
		l.wasDue, l.due = l.wasDue || l.due, false
		items := l.take()
		q.mu.Unlock()
		done, wait := q.work(ctx, l, items)
		q.mu.Lock()
		q.finishLocked(l, items[:done], wait)
	}
	if q.workers--; q.workers == 0 {
		q.idle.Broadcast()
	}
}

// take returns the first messages of a lane, which stay there.
func (l *lane) take() []*item {
	n, bytes := 0, int64(0)
	for n < len(l.items) && n < batchItems && bytes < batchBytes {
		bytes += l.items[n].size
		n++
	}
	return l.items[:n:n]
}

// finishLocked puts a lane back after a worker had it.
func (q *queue) finishLocked(l *lane, done []*item, wait time.Duration) {
	l.busy = false
	var freed int64
	for _, it := range done {
		q.doneLocked(it)
		freed += it.size
	}
	l.items = l.items[len(done):]
	l.bytes -= freed
	if freed > 0 {
		q.bytes -= freed
		q.total.give(freed)
		if q.room != nil {
			close(q.room)
			q.room = nil
		}
	}
	switch {
	case q.ctx.Err() != nil:
	case wait >= 0 && l.waiting && !l.overBudget && l.bytes > q.limit/laneShare:
		l.overBudget = true // it was filled while a worker had it
		q.readyLocked(l)
	case wait >= 0 && !l.due && !(len(l.items) == 0 && len(q.lanes) > maxParked):
		q.waitLocked(l, wait)
	case l.due, wait < 0 && len(l.items) > 0:
		q.readyLocked(l)
	default:
		delete(q.lanes, l.did)
	}
}

// waitLocked has a lane looked at after a time, unless it is woken before.
func (q *queue) waitLocked(l *lane, d time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if l.timer == timer { // it may have been woken just now, and wait again
			l.timer = nil
			l.due = true
			q.readyLocked(l)
		}
	})
	l.timer = timer
}
