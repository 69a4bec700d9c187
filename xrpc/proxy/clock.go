package proxy

import (
	"io"
	"sync"
	"time"
)

// clock ends a request when a service takes too long. It runs only while the service is what is
// waited for.
//
// A service that a stranger has named has the time once, and earns it back with bytes: it cannot
// keep the request, and the place that the request takes, by a byte now and then. One that the
// operator has named has it each time, so its answer may be a slow stream.
type clock struct {
	limit    time.Duration
	stranger bool

	mu    sync.Mutex
	timer *time.Timer
	left  time.Duration
	began time.Time // when it was last set going; zero: it stands still
	ended bool
}

// perByte is the time that a byte earns: a second for a KiB.
const perByte = time.Second >> 10

// newClock returns a clock that stands still.
func newClock(limit time.Duration, stranger bool, cancel func()) *clock {
	c := &clock{limit: limit, stranger: stranger, left: limit, timer: time.AfterFunc(limit, cancel)}
	c.timer.Stop()
	return c
}

func (c *clock) run() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.began = time.Now()
		c.timer.Reset(c.left)
	}
}

// stop stops the clock after so many bytes were moved.
func (c *clock) stop(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
	if c.stranger && !c.began.IsZero() {
		c.left = min(c.limit, c.left-time.Since(c.began)+time.Duration(bytes)*perByte)
	}
	c.began = time.Time{}
}

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
	last  int // bytes that the service takes meanwhile
}

func (u *upload) Read(p []byte) (int, error) {
	u.clock.stop(u.last)
	defer u.clock.run()
	n, err := u.ReadCloser.Read(p)
	u.last = n
	return n, err
}

// download is the body of an answer: within reads, the service is waited for.
type download struct {
	io.ReadCloser
	clock *clock
}

func (d *download) Read(p []byte) (int, error) {
	d.clock.run()
	n, err := d.ReadCloser.Read(p)
	d.clock.stop(n)
	return n, err
}
