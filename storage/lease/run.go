package lease

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/storage"
)

// Held is a lease that this process has taken. Its methods may be called concurrently, and after
// the lease was lost.
type Held struct {
	lease *Lease
	token int64
	// until is the end of the lease as this process counts it, in nanoseconds after start.
	start time.Time
	until atomic.Int64
}

// Token returns a number greater than those of all earlier holders.
func (h *Held) Token() int64 { return h.token }

// Check returns nil if the caller still holds the lease in a snapshot or transaction, or else
// ErrLost. A transaction of KV.Write that has called Check does not commit if another process takes
// the lease. After its term, the caller still holds the lease until another process takes it.
func (h *Held) Check(ctx context.Context, r storage.KVReader) error {
	x, err := h.lease.read(ctx, r)
	if err != nil {
		return err
	}
	if x.Token != h.token || x.Holder == "" {
		return fmt.Errorf("%w: %s has token %d now, not %d", ErrLost, h.lease.cfg.Name, x.Token, h.token)
	}
	return nil
}

// Valid reports whether the last renewal began less than a term ago, so that no other process can
// hold the lease at this moment. It does no I/O, and says nothing about the next moment: see
// [Held.Check].
func (h *Held) Valid() bool { return int64(time.Since(h.start)) < h.until.Load() }

// Run waits for the lease and calls fn while this process holds it. If the lease is lost, Run waits
// again. It ends when the context ends, or when fn returns before its own context has ended. The
// context of fn ends before another process can take the lease. Run waits for fn to return,
// releases the lease, and returns fn's error, or that of the context if fn was not running.
func (l *Lease) Run(ctx context.Context, fn func(ctx context.Context, h *Held) error) error {
	for {
		h, err := l.wait(ctx)
		if err != nil {
			return err
		}
		lost, err := l.hold(ctx, h, fn)
		if !lost || ctx.Err() != nil {
			return err
		}
		if err != nil && !errors.Is(err, ErrLost) && !errors.Is(err, context.Canceled) {
			l.failed(err)
		}
	}
}

// wait waits until the lease could be taken.
func (l *Lease) wait(ctx context.Context) (*Held, error) {
	var seen row
	var since time.Time // when seen was read first
	var poll time.Duration
	for {
		now := time.Now()
		x, err := l.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			l.failed(err)
		case x.Holder == "" || x == seen && now.Sub(since) >= x.term():
			h := &Held{lease: l, start: time.Now()}
			token, ok, err := l.take(ctx, x)
			if ok {
				h.token = token
				h.until.Store(int64(l.cfg.Term))
				if h.Valid() {
					return h, nil
				}
				l.release(ctx, h) // the store has taken longer than a term to say so
			} else if err != nil && ctx.Err() == nil {
				l.failed(err)
			}
		case x != seen:
			seen, since = x, time.Now() // after it was read: the holder has begun earlier
		}
		poll = l.cfg.Term / 4
		if rest := seen.term() - time.Since(since); x == seen && rest > 0 {
			poll = min(poll, rest)
		}
		if err := sleep.For(ctx, max(poll, 10*time.Millisecond)); err != nil {
			return nil, err
		}
	}
}

// hold calls fn and renews the lease meanwhile. lost is false if fn has returned by itself.
func (l *Lease) hold(ctx context.Context, h *Held, fn func(context.Context, *Held) error) (lost bool, err error) {
	inner, end := context.WithCancelCause(ctx)
	defer end(nil)
	// The timer ends the context of a process that cannot reach the store.
	timer := time.AfterFunc(time.Duration(h.until.Load())-time.Since(h.start), func() {
		if !h.Valid() {
			end(ErrLost)
		}
	})
	defer timer.Stop()
	l.changed(true)
	defer l.changed(false)
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		for pause := l.cfg.Term / 3; sleep.For(inner, pause) == nil; {
			pause = l.cfg.Term / 3
			switch err := l.renew(inner, h, timer); {
			case errors.Is(err, ErrLost):
				end(ErrLost)
			case err != nil && inner.Err() == nil:
				l.failed(err)
				pause = l.cfg.Term / 12
			}
		}
	}()
	err = fn(inner, h)
	lost = context.Cause(inner) == ErrLost
	end(nil)
	<-renewing
	l.release(ctx, h)
	return lost, err
}

// renew writes another beat.
func (l *Lease) renew(ctx context.Context, h *Held, timer *time.Timer) error {
	begun := time.Since(h.start)
	err := l.cfg.KV.Write(ctx, func(tx storage.KVTx) error {
		if err := h.Check(ctx, tx); err != nil {
			return err
		}
		return l.write(ctx, tx, row{Token: h.token, Holder: l.cfg.Holder, Term: l.cfg.Term.Milliseconds()})
	})
	if err != nil {
		return err
	}
	h.until.Store(int64(begun + l.cfg.Term))
	timer.Reset(begun + l.cfg.Term - time.Since(h.start))
	return nil
}

// releaseTime bounds how long it takes to give a lease back: others take it anyway, later.
const releaseTime = 2 * time.Second

// release gives the lease back.
func (l *Lease) release(ctx context.Context, h *Held) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	err := l.cfg.KV.Write(ctx, func(tx storage.KVTx) error {
		if err := h.Check(ctx, tx); err != nil {
			return err
		}
		return l.write(ctx, tx, row{Token: h.token})
	})
	if err != nil && !errors.Is(err, ErrLost) {
		l.failed(err)
	}
}

func (l *Lease) changed(held bool) {
	if l.cfg.Changed != nil {
		l.cfg.Changed(held)
	}
}

func (l *Lease) failed(err error) {
	if l.cfg.Failed != nil {
		l.cfg.Failed(err)
	}
}
