package s3

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// stalled is the error of a request that has made no progress. It is a net.Error, which the client
// library takes for a reason to try again.
type stalled struct{}

var errStalled error = stalled{}

func (stalled) Error() string   { return "no progress in time" }
func (stalled) Timeout() bool   { return true }
func (stalled) Temporary() bool { return true }

// watched makes requests that fail when they make no progress for some time: sending the body,
// waiting for the answer, or receiving its body.
type watched struct {
	patience time.Duration
	next     http.RoundTripper
}

func (w *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	d := &watchdog{patience: w.patience, cancel: cancel}
	d.timer = time.AfterFunc(w.patience, d.expire)
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sending{req.Body, d}
	}
	resp, err := w.next.RoundTrip(req)
	d.pause()
	if err != nil {
		if context.Cause(ctx) == errStalled {
			err = errStalled
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &receiving{resp.Body, d, ctx}
	return resp, nil
}

// watchdog cancels a request that makes no progress while it is not paused.
type watchdog struct {
	patience time.Duration
	cancel   context.CancelCauseFunc

	// mu guards these.
	mu     sync.Mutex
	timer  *time.Timer
	paused bool
}

func (d *watchdog) expire() { d.cancel(errStalled) }

// progress begins the time anew.
func (d *watchdog) progress() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.paused {
		d.timer.Reset(d.patience)
	}
}

// pause stops the time; resume starts it.
func (d *watchdog) pause() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paused = true
	d.timer.Stop()
}

func (d *watchdog) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paused = false
	d.timer.Reset(d.patience)
}

// sending is the body of a request. Its bytes are in memory, so that a Read means that those before
// were sent.
type sending struct {
	io.ReadCloser
	d *watchdog
}

func (s *sending) Read(b []byte) (int, error) {
	s.d.progress()
	return s.ReadCloser.Read(b)
}

// receiving is the body of an answer. The time in which its reader does something else does not
// count.
type receiving struct {
	io.ReadCloser
	d   *watchdog
	ctx context.Context
}

func (r *receiving) Read(b []byte) (int, error) {
	r.d.resume()
	n, err := r.ReadCloser.Read(b)
	r.d.pause()
	if err != nil && err != io.EOF && context.Cause(r.ctx) == errStalled {
		err = errStalled
	}
	return n, err
}

func (r *receiving) Close() error {
	r.d.pause()
	r.d.cancel(nil)
	return r.ReadCloser.Close()
}
