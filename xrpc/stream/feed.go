package stream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// feed serves an event log, in one encoding, to any number of subscribers. While
// there are any, a pump moves events from the log into a window that all of them read.
type feed struct {
	// These do not change.
	events storage.Events
	limit  int // bytes of the window
	encode func(storage.Event) (*item, error)
	empty  func() // may be nil: called when the last subscriber has left

	pastPages pages // of events from before the window; with a lock of its own

	// mu guards these, and the subscribers of each generation. It is taken before that of a window.
	mu          sync.Mutex
	subscribers int
	closed      bool
	current     *generation // nil: nobody is subscribed
}

// generation is the time from a first subscriber to the last, or to a failure.
type generation struct {
	// These do not change.
	win  *window
	stop context.CancelFunc // of the pump

	subscribers int // with the lock of the feed
}

// count returns how many subscribers there are.
func (f *feed) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.subscribers
}

// close ends all subscriptions.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.current != nil {
		f.current.win.fail(ErrClosed)
	}
}

// forget drops what is kept of an account, of events with numbers below before.
func (f *feed) forget(did syntax.DID, before int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil {
		f.current.win.forget(did, before)
	}
	f.pastPages.clear()
}

// subscribe counts a subscriber in. The first one starts a pump after a position, which
// must be one that all events visible at the call are at or before.
func (f *feed) subscribe(ctx context.Context, newest int64) (*generation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	if f.current == nil || f.current.win.failed() {
		pump, stop := context.WithCancel(context.WithoutCancel(ctx))
		f.current = &generation{win: newWindow(newest), stop: stop}
		go f.pump(pump, f.current.win)
	}
	f.current.subscribers++
	f.subscribers++
	return f.current, nil
}

// unsubscribe counts a subscriber out. The last one stops the pump.
func (f *feed) unsubscribe(g *generation) {
	f.mu.Lock()
	f.subscribers--
	if g.subscribers--; g.subscribers == 0 {
		g.stop()
		if f.current == g {
			f.current = nil
		}
	}
	nowEmpty := f.empty != nil && f.subscribers == 0 && !f.closed
	f.mu.Unlock()
	if nowEmpty {
		f.empty()
	}
}

// pump moves events from the log into a window until its context ends.
func (f *feed) pump(ctx context.Context, win *window) {
	last := win.start
	for {
		if err := f.events.Wait(ctx, last); err != nil {
			win.fail(err)
			return
		}
		var batch []*item
		size := 0
		win.reads()
		for e, err := range f.events.Since(ctx, last) {
			var it *item
			if err == nil {
				it, err = f.encode(e)
			}
			if err != nil {
				win.fail(err)
				return
			}
			last = e.Seq
			batch = append(batch, it)
			if size += it.size(); size > f.limit/8 {
				win.add(batch, f.limit)
				batch, size = nil, 0
			}
		}
		if len(batch) > 0 {
			win.add(batch, f.limit)
		}
	}
}

// Limits on a batch of items that a subscriber takes from the window. A larger single item is a
// batch by itself.
const (
	batchItems = 64
	batchBytes = 256 << 10
)

// subscriber is how to serve one.
//
// It keeps nothing alive while it waits for its peer: put copies what fits into a small buffer, and
// what it was given is let go of before flush. An item that is too large for the buffer has to be
// kept. Then waitLarge is called first, which bounds how many subscribers do so.
type subscriber struct {
	// cursor is the number of the last event seen; nil: start with what comes after start.
	cursor *int64
	start  int64 // 0: the newest event
	// lenient starts with what comes next, and does not fail, if the cursor is in the future.
	lenient bool
	// outdated, if not nil, is called if events after the cursor are no longer kept.
	outdated func() error
	// put takes items, which are valid until it returns, and returns how many it took: at least
	// one.
	put func(batch []*item) (int, error)
	// flush, if not nil, waits until the peer has what was put.
	flush func() error
	// waitLarge, if not nil, waits until a large item may be sent.
	waitLarge func(ctx context.Context) (release func(), err error)
	// idle, if not nil, is called when tick ticks and there is nothing to send.
	idle func()
	tick <-chan time.Time
	// position, if not nil, is set to the position of the subscriber.
	position *atomic.Int64
}

// at notes the position of a subscriber.
func (s *subscriber) at(seq int64) int64 {
	if s.position != nil {
		s.position.Store(seq)
	}
	return seq
}

// deliver sends some of the items that fetch finds. It returns the number of the last one; 0 if
// there are none.
func (s *subscriber) deliver(ctx context.Context, fetch func() ([]*item, error)) (at int64, err error) {
	items, err := fetch()
	if err != nil || len(items) == 0 {
		return 0, err
	}
	if s.waitLarge != nil && items[0].wireSize() > wireRoom {
		items = nil // it may take a while
		release, err := s.waitLarge(ctx)
		if err != nil {
			return 0, err
		}
		defer release()
		if items, err = fetch(); err != nil || len(items) == 0 {
			return 0, err
		}
	}
	n, err := s.put(items)
	if err != nil {
		return 0, err
	}
	at = items[n-1].seq
	if s.flush != nil {
		items = nil
		err = s.flush()
	}
	return at, err
}

// serve runs a subscription until its context ends, sending fails, or there is an error
// of the log. It returns why.
func (f *feed) serve(ctx context.Context, s subscriber) error {
	oldest, newest, err := f.events.Bounds(ctx)
	if err != nil {
		return err
	}
	g, err := f.subscribe(ctx, newest)
	if err != nil {
		return err
	}
	defer f.unsubscribe(g)
	at := newest
	if s.start > 0 {
		at = min(s.start, newest)
	}
	if s.cursor != nil {
		at = *s.cursor
		switch {
		case at > newest && !s.lenient:
			return ErrFutureCursor
		case at > newest:
			at = newest
		case at+1 < oldest && s.outdated != nil:
			if err := s.outdated(); err != nil {
				return err
			}
		}
	}
	s.at(at)
	live := false
	for {
		v, err := g.win.viewAfter(at)
		switch {
		case err != nil:
			return err
		case !v.covered && live:
			return ErrConsumerTooSlow
		case !v.covered:
			if at, err = f.backfill(ctx, g.win, at, &s); err != nil {
				return err
			}
			// All that there is up to start has been seen; there may be no event
			// with just that number.
			at = s.at(max(at, v.start))
			continue
		}
		live = true
		if v.more {
			last, err := s.deliver(ctx, func() ([]*item, error) { return g.win.after(at, batchItems, batchBytes) })
			if err != nil {
				return err
			}
			at = s.at(max(at, last))
			continue
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.tick:
			s.idle()
		}
	}
}

// backfill sends the events of the log after a position, and returns the position
// it has come to.
func (f *feed) backfill(ctx context.Context, win *window, at int64, s *subscriber) (int64, error) {
	for !win.failed() { // closed, for example
		newest := int64(-1) // the last event that there is, if the page has it
		last, err := s.deliver(ctx, func() ([]*item, error) {
			items, all, err := f.pastPages.after(ctx, at, f.page)
			if newest = -1; all {
				newest = at
				if n := len(items); n > 0 {
					newest = items[n-1].seq
				}
			}
			return items, err
		})
		if err != nil {
			return at, err
		}
		if at = s.at(max(at, last)); at == newest {
			break
		}
	}
	return at, nil
}

// page reads a page of the log.
func (f *feed) page(ctx context.Context, after int64) (*page, error) {
	p := &page{start: after, end: after}
	for e, err := range f.events.Since(ctx, after) {
		if err != nil {
			return nil, err
		}
		it, err := f.encode(e)
		if err != nil {
			return nil, err
		}
		p.items = append(p.items, it)
		p.end = e.Seq
		if p.size += it.size(); p.size >= pageBytes || len(p.items) == pageItems {
			p.more = true
			break
		}
	}
	return p, nil
}
