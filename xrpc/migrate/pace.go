package migrate

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Neither server is believed in how long it takes or how much it sends. Whatever is read from one
// has a bound: JSON answers of maxAnswer bytes, the repository and each blob of what the options
// say, lists of maxPages pages. And every transfer must keep a pace.

const (
	// maxAnswer bounds the bytes of a JSON answer.
	maxAnswer = 2 << 20
	// maxHeader bounds the bytes of an answer's header.
	maxHeader = 64 << 10
	// maxPages bounds the pages of a list.
	maxPages = 20_000
)

// Default limits of Options in bytes.
const (
	DefaultMaxRepo = 4 << 30
	DefaultMaxBlob = 1 << 30
)

// errStalled: a transfer has fallen behind the least pace.
var errStalled = errors.New("the transfer has stalled or is too slow")

// errTooLarge: a server sends more than was allowed.
var errTooLarge = errors.New("the server sends too much")

// pace is how fast transfers must be.
type pace struct {
	grace  time.Duration // in all, beyond the time that the bytes may take
	perSec int64         // bytes
	answer time.Duration // until an answer begins
	long   time.Duration // the same for methods that work on a whole repository
	// methods says how long the answers of single methods may take to begin. Only tests set it.
	methods map[string]time.Duration
}

var defaultPace = pace{grace: time.Minute, perSec: 8 << 10, answer: 3 * time.Minute, long: 15 * time.Minute}

// allowed is how long a transfer of some bytes may have taken.
func (p *pace) allowed(n int64) time.Duration {
	return p.grace + time.Duration(float64(n)/float64(p.perSec)*float64(time.Second))
}

// wait is how long the answer of a method may take to begin.
func (p *pace) wait(path string) time.Duration {
	if d, ok := p.methods[strings.TrimPrefix(path, "/xrpc/")]; ok {
		return d
	}
	if strings.HasSuffix(path, ".importRepo") || strings.HasSuffix(path, ".getRepo") {
		return p.long
	}
	return p.answer
}

// pacedTransport ends requests whose transfers are too slow, in both directions.
type pacedTransport struct {
	http.RoundTripper
	pace pace
}

func (t *pacedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	r = r.Clone(ctx)
	wait := t.pace.wait(r.URL.Path)
	watch := &watch{pace: &t.pace, cancel: cancel}
	if r.Body == nil || r.Body == http.NoBody {
		watch.set(wait)
	} else {
		watch.begin()
		r.Body = &pacedBody{ReadCloser: r.Body, ctx: ctx, watch: watch, end: func() { watch.set(wait) }}
	}
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		watch.stop()
		err = cause(ctx, err)
		cancel(nil)
		return nil, err
	}
	watch.begin()
	resp.Body = &pacedBody{ReadCloser: resp.Body, ctx: ctx, watch: watch, end: watch.stop, close: func() { cancel(nil) }}
	return resp, nil
}

// cause is the reason why a request was canceled, if it was too slow.
func cause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// watch cancels a request that is too slow.
type watch struct {
	pace   *pace
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	start time.Time
	n     int64
}

// set gives the request some time.
func (w *watch) set(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.restart(d)
}

func (w *watch) restart(d time.Duration) {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = time.AfterFunc(max(d, 0), func() { w.cancel(errStalled) })
}

// begin begins a transfer.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start, w.n = time.Now(), 0
	w.restart(w.pace.allowed(0))
}

// moved notes that bytes were transferred.
func (w *watch) moved(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n += int64(n)
	w.restart(w.pace.allowed(w.n) - time.Since(w.start))
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

// pacedBody is a body whose transfer is watched. end is called when it has ended.
type pacedBody struct {
	io.ReadCloser
	ctx   context.Context
	watch *watch
	end   func()
	close func() // may be nil
	ended bool
}

func (b *pacedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		b.watch.moved(n)
		return n, nil
	}
	if !b.ended {
		b.ended = true
		b.end()
	}
	if err != io.EOF {
		err = cause(b.ctx, err)
	}
	return n, err
}

func (b *pacedBody) Close() error {
	err := b.ReadCloser.Close()
	if b.close != nil {
		b.watch.stop()
		b.close()
	}
	return err
}

// copyAtMost copies a body of at most most bytes.
func copyAtMost(w io.Writer, body io.Reader, most int64) (int64, error) {
	n, err := io.Copy(w, io.LimitReader(body, most))
	if err != nil {
		return n, err
	}
	if extra, _ := io.ReadFull(body, make([]byte, 1)); extra > 0 {
		return n, errTooLarge
	}
	return n, nil
}

// pages bounds a list that is read with cursors.
type pages struct {
	seen map[string]bool
}

// next notes a cursor that leads to another page. A server that gives the one of an earlier page,
// or ever new ones, would never come to an end.
func (p *pages) next(cursor string) error {
	if p.seen == nil {
		p.seen = make(map[string]bool)
	}
	switch {
	case p.seen[cursor]:
		return errors.New("the server's list comes back to an earlier page")
	case len(p.seen) == maxPages:
		return errors.New("the server's list has too many pages")
	}
	p.seen[cursor] = true
	return nil
}
