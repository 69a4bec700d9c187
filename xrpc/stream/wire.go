package stream

import (
	"net"
	"sync"
	"time"
)

// wire is a connection that can be corked: what is written is then collected,
// so that many small messages cost one system call. Each piece that goes out has a
// time limit of its own.
type wire struct {
	net.Conn
	timeout time.Duration // does not change

	// mu guards these, and is held while writing. It is taken before timing.
	mu     sync.Mutex
	corked bool
	buf    *[]byte // nil: nothing is held back
	err    error   // of a write

	// timing guards these.
	timing   sync.Mutex
	deadline time.Time
	final    bool
}

// wirePiece is how many bytes are collected, or written under one time limit.
const wirePiece = 32 << 10

const (
	// frameHeader is the most bytes that a WebSocket frame has besides its payload.
	frameHeader = 14
	// wireRoom is how many bytes of frames can be collected without writing any.
	wireRoom = wirePiece - 64
)

// wireBuffers are for what is collected; a connection has one while it is corked.
var wireBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, wirePiece)
	return &b
}}

func (w *wire) cork() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = true
}

// uncork writes what was collected.
func (w *wire) uncork() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = false
	return w.flush()
}

// Write implements io.Writer.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return 0, w.err
	case !w.corked:
		return len(p), w.write(p)
	}
	if w.buf == nil {
		w.buf = wireBuffers.Get().(*[]byte)
	}
	if len(*w.buf)+len(p) > wirePiece {
		if err := w.flush(); err != nil {
			return 0, err
		}
		if len(p) > wirePiece/2 {
			return len(p), w.write(p)
		}
		w.buf = wireBuffers.Get().(*[]byte)
	}
	*w.buf = append(*w.buf, p...)
	return len(p), nil
}

// flush writes what was collected. The caller holds the lock.
func (w *wire) flush() error {
	if w.buf == nil {
		return w.err
	}
	err := w.write(*w.buf)
	*w.buf = (*w.buf)[:0]
	wireBuffers.Put(w.buf)
	w.buf = nil
	return err
}

// write writes to the connection, piece by piece. The caller holds the lock.
func (w *wire) write(p []byte) error {
	for len(p) > 0 && w.err == nil {
		w.renew()
		n := min(len(p), wirePiece)
		_, w.err = w.Conn.Write(p[:n])
		p = p[n:]
	}
	return w.err
}

// renew moves the deadline, now and then.
func (w *wire) renew() {
	w.timing.Lock()
	defer w.timing.Unlock()
	if now := time.Now(); !w.final && w.deadline.Sub(now) < w.timeout*3/4 {
		w.deadline = now.Add(w.timeout)
		w.Conn.SetWriteDeadline(w.deadline)
	}
}

// shortenDeadline gives the connection one more second. Further calls do not prolong that second.
func (w *wire) shortenDeadline() {
	w.timing.Lock()
	defer w.timing.Unlock()
	if w.final {
		return
	}
	w.final = true
	w.Conn.SetDeadline(time.Now().Add(time.Second))
}
