package limit

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// pace is a client's allowance of stall time. Waiting for the client spends the allowance; bytes
// that the client sends or takes earn it back, but never beyond its initial value. So a client that
// was fast for a gigabyte may stall for no longer than others.
type pace struct {
	stall time.Duration
	rate  int64         // bytes a second
	used  time.Duration // of the stall time; not negative
}

func (p *pace) left() time.Duration { return p.stall - p.used }

// charge subtracts the time spent waiting for the client, and credits the bytes that were moved.
func (p *pace) charge(took time.Duration, moved int) {
	earned := time.Duration(float64(moved) / float64(p.rate) * float64(time.Second))
	p.used = max(0, p.used+took-earned)
}

// timings returns the stall time, not positive if there is none, and pace of a class.
func (c *Class) timings() pace {
	p := pace{stall: c.Stall, rate: c.Pace}
	if p.stall == 0 {
		p.stall = 20 * time.Second
	}
	if p.rate <= 0 {
		p.rate = 1 << 10
	}
	return p
}

const (
	// pressed is how long a client may stall while the class's bytes are used up.
	pressed = time.Second
	// piece is how many bytes of an answer are written under one deadline.
	piece = 64 << 10
	// small answers do not count towards the class's bytes.
	small = 4 << 10
)

// response is an answer with deadlines.
//
// In HTTP/1.1 a deadline is the connection's. It matters only while something is written, so it
// stays in place between writes, and when the handler returns, since net/http may have something
// left to write; the next request sets a new one. In HTTP/2 a deadline resets the stream when it
// passes, whatever the handler is doing, so it is there during writes only.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	held    *lease
	streams bool // HTTP/2

	mu       sync.Mutex // a handler may set deadlines from elsewhere
	pace     pace
	deadline time.Time
	ownRead  bool // the handler has set a deadline, which replaces ours
	ownWrite bool
}

func newResponse(w http.ResponseWriter, r *http.Request, held *lease) *response {
	out := &response{
		ResponseWriter: w, control: http.NewResponseController(w), held: held, streams: r.ProtoMajor > 1, pace: held.class.timings(),
	}
	if !out.streams {
		out.renew(0)
	}
	return out
}

// renew sets the deadline of what is written next, or moves it, now and then. most bounds the time;
// 0: no further bound.
func (w *response) renew(most time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ownWrite || w.pace.stall <= 0 {
		return
	}
	left := w.pace.left()
	if most > 0 {
		left = min(left, most)
	}
	want := time.Now().Add(left)
	if w.deadline.IsZero() || want.Before(w.deadline) || want.Sub(w.deadline) > w.pace.stall/4 {
		w.deadline = want
		w.control.SetWriteDeadline(want) // not every ResponseWriter can do this
	}
}

// wrote counts what was written.
func (w *response) wrote(n int, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pace.charge(took, n)
	if w.streams && !w.ownWrite && w.pace.stall > 0 {
		w.deadline = time.Time{}
		w.control.SetWriteDeadline(time.Time{})
	}
}

// finish gives net/http a time to write what is left.
func (w *response) finish() { w.renew(0) }

func (w *response) Write(b []byte) (n int, err error) {
	var most time.Duration
	if len(b) > small {
		if size := int64(len(b)); w.held.hold(size) == nil {
			defer w.held.hold(-size)
		} else {
			most = pressed
		}
	}
	for {
		part := b[n:min(len(b), n+piece)]
		w.renew(most)
		start := time.Now()
		k, err := w.ResponseWriter.Write(part)
		w.wrote(k, time.Since(start))
		if n += k; err != nil || n >= len(b) {
			return n, err
		}
	}
}

// FlushError implements the method that http.ResponseController calls. Flush is for callers that
// assert an http.Flusher.
func (w *response) FlushError() error {
	w.renew(0)
	start := time.Now()
	err := w.control.Flush()
	w.wrote(0, time.Since(start))
	return err
}

func (w *response) Flush() { w.FlushError() }

// Unwrap implements the method that http.ResponseController calls.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// SetWriteDeadline implements the method that http.ResponseController calls. The handler's deadline
// replaces that of the class.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ownWrite = true
	return w.control.SetWriteDeadline(t)
}

// SetReadDeadline implements the method that http.ResponseController calls. The handler's deadline
// replaces that of the class.
func (w *response) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ownRead = true
	return w.control.SetReadDeadline(t)
}

// Hijack implements the method that http.ResponseController calls. The handler is then responsible
// for deadlines of the connection.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ownRead, w.ownWrite = true, true
	return w.control.Hijack()
}

// body is a request's body with deadlines. In HTTP/1.1 one is there from the start, as net/http
// reads bodies by itself that a handler leaves alone. In HTTP/2 it is there during reads only. A
// nil body is that of a request without one.
type body struct {
	io.ReadCloser
	out *response

	mu    sync.Mutex // held while reading
	pace  pace
	ended atomic.Bool
}

func newBody(r *http.Request, out *response) *body {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	b := &body{ReadCloser: r.Body, out: out, pace: out.held.class.timings()}
	if !out.streams {
		b.setDeadline(time.Now().Add(b.pace.left()))
	}
	return b
}

// setDeadline sets the time until which more of the body must be there.
func (b *body) setDeadline(t time.Time) {
	b.out.mu.Lock()
	defer b.out.mu.Unlock()
	if !b.out.ownRead && b.pace.stall > 0 {
		b.out.control.SetReadDeadline(t) // not every ResponseWriter can do this
	}
}

// abandon ends the wait for a body of which the handler has not read all: net/http would read on,
// to be able to use the connection again.
func (b *body) abandon() {
	if b == nil {
		return
	}
	if !b.ended.Load() {
		b.out.control.SetReadDeadline(time.Now().Add(pressed))
	}
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	start := time.Now()
	b.setDeadline(start.Add(b.pace.left()))
	n, err := b.ReadCloser.Read(p)
	b.pace.charge(time.Since(start), n)
	if err == io.EOF {
		b.ended.Store(true)
	}
	if b.ended.Load() || b.out.streams {
		b.setDeadline(time.Time{})
	}
	if n > 0 {
		if e := b.out.held.hold(int64(n)); e != nil {
			return 0, e
		}
	}
	return n, err
}
