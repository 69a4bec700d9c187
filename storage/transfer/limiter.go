package transfer

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
)

// limiter lets a number of bytes pass each second.
type limiter struct {
	rate int64 // 0: all
	mu   sync.Mutex
	free time.Time // when the next bytes may pass
}

// wait waits until n more bytes may pass. Time that was not used is not made up for.
func (l *limiter) wait(ctx context.Context, n int64) error {
	if l.rate <= 0 || n <= 0 {
		return ctx.Err()
	}
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	at := l.free
	l.free = at.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	l.mu.Unlock()
	return sleep.For(ctx, at.Sub(now))
}

// limited is a reader that keeps to a limiter, and counts.
type limited struct {
	ctx context.Context
	r   io.Reader
	l   *limiter
	n   int64
}

func (r *limited) Read(b []byte) (int, error) {
	n, err := r.r.Read(b[:min(len(b), 256<<10)])
	r.n += int64(n)
	if e := r.l.wait(r.ctx, int64(n)); e != nil {
		return n, e
	}
	return n, err
}
