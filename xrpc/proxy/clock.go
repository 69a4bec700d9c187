package proxy

import (
	"io"
	"sync"
	"time"
)

// clock ends a request when a service takes too long. It runs only while the
// service is what is waited for.
type clock struct {
	limit time.Duration

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// newClock returns a clock that stands still.
func newClock(limit time.Duration, cancel func()) *clock {
	c := &clock{limit: limit, timer: time.AfterFunc(limit, cancel)}
	c.timer.Stop()
	return c
}

func (c *clock) run() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.timer.Reset(c.limit)
	}
}

func (c *clock) stop() { c.timer.Stop() }

// end stops the clock for good.
func (c *clock) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.timer.Stop()
}

// upload is the body of a request: between reads, the service is waited for.
type upload struct {
	io.ReadCloser
	clock *clock
}

func (u *upload) Read(p []byte) (int, error) {
	u.clock.stop()
	defer u.clock.run()
	return u.ReadCloser.Read(p)
}

// download is the body of an answer: within reads, the service is waited for.
type download struct {
	io.ReadCloser
	clock *clock
}

func (d *download) Read(p []byte) (int, error) {
	d.clock.run()
	defer d.clock.stop()
	return d.ReadCloser.Read(p)
}
