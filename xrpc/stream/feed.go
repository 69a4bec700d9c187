package stream

import (
	"context"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// feed serves an event log, in one encoding, to any number of subscribers. While
// there are any, a pump moves events from the log into a window that all of them read.
type feed struct {
	events storage.Events
	limit  int // bytes of the window
	encode func(storage.Event) (*item, error)
	empty  func() // may be nil: called when the last subscriber has left

	mu          sync.Mutex
	subscribers int
	closed      bool
	now         *generation // nil: nobody is subscribed
}

// generation is the time from a first subscriber to the last, or to a failure.
type generation struct {
	win         *window
	subscribers int
	stop        context.CancelFunc // of the pump
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
	if f.now != nil {
		f.now.win.fail(ErrClosed)
	}
}

// join counts a subscriber in. The first one starts a pump after a position, which
// must be one that all events visible at the call are at or before.
func (f *feed) join(ctx context.Context, newest int64) (*generation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	if f.now == nil || f.now.win.failed() {
		pump, stop := context.WithCancel(context.WithoutCancel(ctx))
		f.now = &generation{win: newWindow(newest), stop: stop}
		go f.pump(pump, f.now.win)
	}
	f.now.subscribers++
	f.subscribers++
	return f.now, nil
}

// leave counts a subscriber out. The last one stops the pump.
func (f *feed) leave(g *generation) {
	f.mu.Lock()
	f.subscribers--
	if g.subscribers--; g.subscribers == 0 {
		g.stop()
		if f.now == g {
			f.now = nil
		}
	}
	tell := f.empty != nil && f.subscribers == 0 && !f.closed
	f.mu.Unlock()
	if tell {
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

// A subscriber takes items in batches of at most so many, and, unless one alone is
// larger, so many bytes. This is what it keeps alive if it stalls.
const (
	batchItems = 64
	batchBytes = 256 << 10
	// pageBytes bounds what is read ahead from the log.
	pageBytes = 512 << 10
	pageItems = 512
)

// subscriber is how to serve one.
type subscriber struct {
	// cursor is the number of the last event seen; nil: start with what comes next.
	cursor *int64
	// lenient starts with what comes next, and does not fail, if the cursor is in the future.
	lenient bool
	// outdated, if not nil, is called if events after the cursor are no longer kept.
	outdated func() error
	// send takes a batch, which is valid until it returns.
	send func(batch []*item) error
	// idle, if not nil, is called when tick ticks and there is nothing to send.
	idle func()
	tick <-chan time.Time
}

// serve runs a subscription until its context ends, send fails, or there is an error
// of the log. It returns why.
func (f *feed) serve(ctx context.Context, s subscriber) error {
	oldest, newest, err := f.events.Bounds(ctx)
	if err != nil {
		return err
	}
	g, err := f.join(ctx, newest)
	if err != nil {
		return err
	}
	defer f.leave(g)
	at := newest
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
	live := false
	var buf [batchItems]*item
	for {
		v, err := g.win.after(at, buf[:], batchBytes)
		switch {
		case err != nil:
			return err
		case !v.covered && live:
			return ErrConsumerTooSlow
		case !v.covered:
			if at, err = f.backfill(ctx, g.win, at, s.send); err != nil {
				return err
			}
			// All that there is up to start has been seen; there may be no event
			// with just that number.
			at = max(at, v.start)
			continue
		}
		live = true
		if v.n > 0 {
			if err := s.send(buf[:v.n]); err != nil {
				return err
			}
			at = buf[v.n-1].seq
			clear(buf[:v.n]) // the window may let go of them
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
// it has come to. While send runs it holds no more than a page, and nothing of the log.
func (f *feed) backfill(ctx context.Context, win *window, at int64, send func([]*item) error) (int64, error) {
	page := make([]*item, 0, pageItems)
	for {
		page = page[:0]
		size, more := 0, false
		for e, err := range f.events.Since(ctx, at) {
			if err != nil {
				return at, err
			}
			it, err := f.encode(e)
			if err != nil {
				return at, err
			}
			page = append(page, it)
			at = e.Seq
			if size += it.size(); size >= pageBytes || len(page) == pageItems {
				more = true
				break
			}
		}
		if win.failed() { // closed, for example
			return at, nil
		}
		if len(page) > 0 {
			if err := send(page); err != nil {
				return at, err
			}
		}
		if !more {
			return at, nil
		}
		clear(page)
	}
}
