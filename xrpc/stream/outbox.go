package stream

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Outbox serves an event log to subscribers. Its fields must not change once it is
// used. It is safe for concurrent use.
type Outbox struct {
	// Events is the log.
	Events storage.Events
	// Window is how many bytes of the newest frames are kept in memory while
	// anybody is subscribed. It is how far a live subscriber may lag. 0: 32 MiB.
	Window int
	// Ping is the time between pings to a subscriber, who must answer one before
	// the next. 0: 30 seconds.
	Ping time.Duration
	// WriteTimeout is how long a subscriber may take to accept a frame. 0: 20 seconds.
	WriteTimeout time.Duration

	mu          sync.Mutex
	subscribers int
	stop        context.CancelFunc // of the pump
	stopped     chan struct{}      // closed when the pump has ended
	closed      bool
	done        chan struct{} // closed by Close
	win         window
}

// ErrClosed: the outbox was closed.
var ErrClosed = errors.New("stream: outbox is closed")

// Subscribers returns how many there are.
func (o *Outbox) Subscribers() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.subscribers
}

// Close ends all subscriptions. Later ones end at once.
func (o *Outbox) Close() error {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		if o.done == nil {
			o.done = make(chan struct{})
		}
		close(o.done)
	}
	o.mu.Unlock()
	return nil
}

// join counts a subscriber in and starts the pump for the first one.
func (o *Outbox) join(ctx context.Context) (done <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done == nil {
		o.done = make(chan struct{})
	}
	if o.closed {
		return nil, ErrClosed
	}
	if o.subscribers == 0 {
		if o.stopped != nil {
			<-o.stopped // the last pump has been told to stop
		}
		_, newest, err := o.Events.Bounds(ctx)
		if err != nil {
			return nil, err
		}
		o.win.reset(newest)
		pumpCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		o.stop, o.stopped = stop, make(chan struct{})
		go o.pump(pumpCtx, newest, o.stopped)
	}
	o.subscribers++
	return o.done, nil
}

// leave counts a subscriber out and stops the pump after the last one.
func (o *Outbox) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.subscribers--; o.subscribers == 0 {
		o.stop()
	}
}

// pump moves events from the log into the window.
func (o *Outbox) pump(ctx context.Context, last int64, stopped chan<- struct{}) {
	defer close(stopped)
	limit := o.Window
	if limit == 0 {
		limit = 32 << 20
	}
	for {
		if err := o.Events.Wait(ctx, last); err != nil {
			o.win.fail(err)
			return
		}
		_, newest, err := o.Events.Bounds(ctx)
		if err != nil {
			o.win.fail(err)
			return
		}
		var batch []encoded
		size := 0
		for e, err := range o.Events.Since(ctx, last) {
			var f Frame
			if err == nil {
				f, err = frameOf(e)
			}
			if err != nil {
				o.win.fail(err)
				return
			}
			batch = append(batch, encoded{f.Seq, f.Encode()})
			last = f.Seq
			if size += len(f.Payload); size > limit/8 {
				o.win.add(batch, 0, limit)
				batch, size = nil, 0
			}
		}
		last = max(last, newest)
		o.win.add(batch, last, limit)
	}
}

// Subscribe yields the encoded frames of all events after the cursor, first
// those of the past, then each as it comes; with a nil cursor, only those to come. It
// ends with an error: the context's, ErrClosed, an error of the log, or an *Error for
// which a frame should be sent (ErrFutureCursor, ErrConsumerTooSlow). The frames
// are shared and must not be changed.
func (o *Outbox) Subscribe(ctx context.Context, cursor *int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		done, err := o.join(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer o.leave()
		if err := o.subscribe(ctx, done, cursor, yield); err != nil && err != errGone {
			yield(nil, err)
		}
	}
}

// errGone: the subscriber takes no more.
var errGone = errors.New("gone")

func (o *Outbox) subscribe(ctx context.Context, done <-chan struct{}, cursor *int64, yield func([]byte, error) bool) error {
	oldest, newest, err := o.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	at := newest
	if cursor != nil {
		at = *cursor
		if at > newest {
			return ErrFutureCursor
		}
		if at+1 < oldest {
			if !yield(infoFrame(OutdatedCursor, "Requested cursor exceeded limit. Possibly missing events").Encode(), nil) {
				return errGone
			}
		}
	}
	live := false
	for {
		frames, covered, start, changed, err := o.win.after(at)
		switch {
		case err != nil:
			return err
		case !covered && live:
			return ErrConsumerTooSlow
		case !covered:
			if at, err = o.backfill(ctx, done, at, yield); err != nil {
				return err
			}
			// All that there is up to start has been seen; there may be no event
			// with just that number.
			at = max(at, start)
			continue
		}
		live = true
		for _, f := range frames {
			if !yield(f.bytes, nil) {
				return errGone
			}
			at = f.seq
		}
		if len(frames) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-done:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// backfill yields events of the log after a position and returns the position
// it has come to.
func (o *Outbox) backfill(ctx context.Context, done <-chan struct{}, at int64, yield func([]byte, error) bool) (int64, error) {
	for e, err := range o.Events.Since(ctx, at) {
		var f Frame
		if err == nil {
			f, err = frameOf(e)
		}
		if err != nil {
			return at, err
		}
		select {
		case <-done:
			return at, ErrClosed
		default:
		}
		if !yield(f.Encode(), nil) {
			return at, errGone
		}
		at = f.Seq
	}
	return at, nil
}
