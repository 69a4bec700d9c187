//go:build js

package cloudflare

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall/js"
	"time"
)

// defaultIdleBody is that of Host.IdleBody.
const defaultIdleBody = time.Minute

// chunks is the body of a request that is a stream of JavaScript.
type chunks struct {
	host    *Host
	ctx     context.Context
	reading js.Value // see the shim's reading
	buf     []byte
	rest    []byte // of buf
	err     error

	mu       sync.Mutex
	deadline time.Time // zero: it is idle for too long
	timer    *time.Timer
	late     context.CancelCauseFunc // of the read that waits; nil: none does
}

// Read implements io.Reader. After the deadline, its error is os.ErrDeadlineExceeded.
func (c *chunks) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.err == nil {
			c.err = c.next()
		}
		if c.err != nil {
			return 0, c.err
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *chunks) next() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	ctx, late := context.WithCancelCause(c.ctx)
	defer late(nil)
	c.mu.Lock()
	c.late = late
	c.arm()
	c.mu.Unlock()
	v, err := c.host.Wait(ctx, c.reading.Call("next"))
	c.mu.Lock()
	c.timer.Stop()
	c.late = nil
	c.mu.Unlock()
	switch {
	case err != nil && context.Cause(ctx) == os.ErrDeadlineExceeded:
		c.reading.Call("cancel")
		return os.ErrDeadlineExceeded
	case err != nil:
		return err
	case v.IsNull():
		return io.EOF
	}
	n := v.Length()
	if n > len(c.buf) {
		c.buf = make([]byte, n)
	}
	c.rest = c.buf[:js.CopyBytesToGo(c.buf[:n], v)]
	return nil
}

// arm sets the timer of the read that waits. The caller holds mu.
func (c *chunks) arm() {
	if c.timer != nil {
		c.timer.Stop()
	}
	wait := c.host.IdleBody
	if wait <= 0 {
		wait = defaultIdleBody
	}
	if !c.deadline.IsZero() {
		wait = time.Until(c.deadline)
	}
	late := c.late
	c.timer = time.AfterFunc(wait, func() { late(os.ErrDeadlineExceeded) })
}

// SetReadDeadline implements the method that http.ResponseController calls. It bounds reads of the
// request's body, including a read that is waiting. The zero time means Host.IdleBody. After the
// deadline the body cannot be read any more.
func (ex *exchange) SetReadDeadline(t time.Time) error {
	c := ex.body
	if c == nil {
		return nil // it is here as a whole
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline = t; c.late != nil {
		c.arm()
	}
	return nil
}

var errClosed = errors.New("cloudflare: read of a closed body")

// Close implements io.Closer.
func (c *chunks) Close() error {
	if c.err == nil {
		c.reading.Call("cancel")
	}
	c.err, c.rest = errClosed, nil
	return nil
}
