package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"github.com/pdskit/pdskit/internal/sleep"
)

// ErrSequence: the sequence numbers of a stream do not increase. The server has lost its state, and
// an operator has to decide what to do (Event Stream specification, Sequence Numbers).
var ErrSequence = errors.New("stream: sequence number out of order")

// ErrFrameSize: a frame is longer than Consumer.MaxFrame.
var ErrFrameSize = errors.New("stream: the frame is too long")

// Consumer follows a stream. It is for one goroutine.
type Consumer struct {
	// URL is that of the subscription, with scheme http, https, ws or wss, and without a cursor:
	// "https://pds.example.com/xrpc/com.atproto.sync.subscribeRepos". It is required. An invalid
	// URL ends the stream at once.
	URL string
	// Cursor points to the sequence number of the last event that was processed. It advances with
	// the stream. Nil: start with the next new event.
	Cursor *int64
	// HTTP makes the connections. Nil: http.DefaultClient.
	HTTP *http.Client
	// MaxFrame bounds the bytes of one frame. A longer one ends the connection with ErrFrameSize.
	// 0: 5 MiB.
	MaxFrame int64
	// Large, if not nil, is called before more than LargeFrame bytes of a frame are read, and waits
	// until there is memory for it. So it can bound the memory of many consumers together. release
	// is called when the frame is no longer needed. An error ends the connection.
	Large func(ctx context.Context) (release func(), err error)
	// MaxDelay bounds the delay between attempts to connect, which begins at a quarter of a second
	// and doubles. 0: 30 seconds.
	MaxDelay time.Duration
	// Idle is how long a connection may be silent. After half of it, the consumer pings the server.
	// A frame must be complete within this time after its beginning, even if other answers arrive
	// meanwhile. 0: one minute.
	Idle time.Duration
	// Connected, if not nil, is called when a connection is open. Events written from then on
	// arrive over it.
	Connected func()
	// Retry, if not nil, is called after each lost or refused connection. If it returns an error,
	// the stream ends.
	Retry func(error) error

	buf     bytes.Buffer
	release func() // what Large has returned; nil: nothing
}

// LargeFrame is how many bytes of a frame a Consumer reads without calling Large.
const LargeFrame = 64 << 10

// Frames yields the frames of the stream. If a connection breaks, it connects again and continues
// after the last processed frame. The cursor advances when the loop body for a frame has ended, so
// a frame that was not processed is yielded again. Frames with unknown operations are skipped.
//
// The stream ends with an error: the context's, that of Retry, an *Error that the server sent
// (except ConsumerTooSlow, after which it connects again), ErrSequence, or ErrFrame. A frame is
// valid until the next iteration.
func (c *Consumer) Frames(ctx context.Context) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		if err := c.checkURL(); err != nil { // to try again would not help
			yield(Frame{}, err)
			return
		}
		const first = 250 * time.Millisecond
		most := orDefault(c.MaxDelay, 30*time.Second)
		for delay := first; ; {
			got, err := c.readConnection(ctx, yield)
			if err == nil {
				return
			}
			if end := c.end(ctx, err); end != nil {
				yield(Frame{}, end)
				return
			}
			if got {
				delay = first
			}
			delay = min(delay, most)
			if sleep.For(ctx, delay/2+rand.N(delay/2+1)) != nil {
				yield(Frame{}, ctx.Err())
				return
			}
			delay *= 2
		}
	}
}

// checkURL checks that there is a URL that can be subscribed to.
func (c *Consumer) checkURL() error {
	u, err := url.Parse(c.URL)
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	switch u.Scheme {
	case "http", "https", "ws", "wss":
		if u.Host != "" {
			return nil
		}
	}
	return fmt.Errorf("stream: Consumer.URL is %q, not the URL of a subscription", c.URL)
}

// end returns the error that ends the stream; nil to connect again.
func (c *Consumer) end(ctx context.Context, err error) error {
	var serr *Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &serr) && serr.Name != ErrConsumerTooSlow.Name:
		return serr
	case errors.Is(err, ErrFrame), errors.Is(err, ErrSequence):
		return err
	case c.Retry != nil:
		return c.Retry(err)
	}
	return nil
}

// readConnection reads one connection to its end. It returns nil when the consumer has had enough.
func (c *Consumer) readConnection(ctx context.Context, yield func(Frame, error) bool) (got bool, err error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return false, fmt.Errorf("stream: %w", err)
	}
	if c.Cursor != nil {
		q := u.Query()
		q.Set("cursor", strconv.FormatInt(*c.Cursor, 10))
		u.RawQuery = q.Encode()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := newWatch(orDefault(c.Idle, time.Minute), cancel)
	defer watch.stop()
	conn, err := dial(ctx, u.String(), c.HTTP, watch.restart)
	if err != nil {
		return false, fmt.Errorf("stream: %w", err)
	}
	defer conn.CloseNow()
	defer c.frameDone()
	watch.open(conn)
	if c.Connected != nil {
		c.Connected()
	}
	limit := c.MaxFrame
	if limit == 0 {
		limit = 5 << 20
	}
	conn.SetReadLimit(limit)
	for {
		f, err := c.read(ctx, conn, watch)
		if errors.Is(err, ErrUnknownOp) {
			continue
		} else if err != nil {
			return got, err
		}
		if f.Seq != 0 && c.Cursor != nil && f.Seq <= *c.Cursor {
			if f.Seq == *c.Cursor && !got {
				continue // the server counts the cursor as not seen
			}
			return got, fmt.Errorf("%w: %d after %d", ErrSequence, f.Seq, *c.Cursor)
		}
		got = true
		if !yield(f, nil) {
			conn.Close(websocket.StatusNormalClosure, "")
			return true, nil
		}
		if f.Seq != 0 {
			if c.Cursor == nil {
				c.Cursor = new(int64)
			}
			*c.Cursor = f.Seq
		}
	}
}

// keptBuffer is how large a buffer a Consumer keeps: a process may follow thousands of hosts.
const keptBuffer = 256 << 10

// read reads a frame into the buffer.
func (c *Consumer) read(ctx context.Context, conn *websocket.Conn, watch *watch) (Frame, error) {
	c.frameDone()
	watch.restart()
	defer watch.stop()
	typ, r, err := conn.Reader(ctx)
	if err != nil {
		return Frame{}, fmt.Errorf("stream: %w", err)
	}
	if typ != websocket.MessageBinary {
		return Frame{}, fmt.Errorf("%w: a text message", ErrFrame)
	}
	if err := c.body(ctx, r, watch); errors.Is(err, websocket.ErrMessageTooBig) {
		return Frame{}, fmt.Errorf("%w: %w", ErrFrameSize, err)
	} else if err != nil {
		return Frame{}, fmt.Errorf("stream: %w", err)
	}
	return Decode(c.buf.Bytes())
}

// body reads the bytes of a frame into the buffer.
func (c *Consumer) body(ctx context.Context, r io.Reader, watch *watch) error {
	if c.buf.Cap() > keptBuffer {
		c.buf = bytes.Buffer{} // do not keep the room that one large frame needed
	}
	c.buf.Reset()
	late := time.AfterFunc(watch.idle, watch.cancel)
	defer late.Stop()
	if c.Large != nil {
		n, err := c.buf.ReadFrom(io.LimitReader(r, LargeFrame))
		if err != nil || n < LargeFrame {
			return err
		}
		late.Stop()
		watch.stop() // while this waits, nothing is read that could be a sign of life
		if c.release, err = c.Large(ctx); err != nil {
			c.release = nil
			return err
		}
		late.Reset(watch.idle)
	}
	_, err := c.buf.ReadFrom(r)
	return err
}

// frameDone tells the reader that the last frame is no longer needed.
func (c *Consumer) frameDone() {
	if c.release != nil {
		c.buf = bytes.Buffer{}
		c.release()
		c.release = nil
	}
}

// watch ends a connection that is silent for too long while it is read from. At half
// time it asks for a sign of life.
// It is for the goroutine that reads; the timers have goroutines of their own.
type watch struct {
	idle   time.Duration
	cancel context.CancelFunc
	expire *time.Timer
	ping   *time.Timer // nil: there is no connection yet
}

func newWatch(idle time.Duration, cancel context.CancelFunc) *watch {
	return &watch{idle: idle, cancel: cancel, expire: time.AfterFunc(idle, cancel)}
}

// open says which connection is to be asked.
func (w *watch) open(conn *websocket.Conn) {
	w.ping = time.AfterFunc(w.idle/2, func() {
		ctx, cancel := context.WithTimeout(context.Background(), w.idle)
		defer cancel()
		conn.Ping(ctx) // the answer leads to restart
	})
}

// restart restarts the timers: the peer has sent something.
func (w *watch) restart() {
	w.ping.Reset(w.idle / 2)
	w.expire.Reset(w.idle)
}

func (w *watch) stop() {
	if w.ping != nil {
		w.ping.Stop()
	}
	w.expire.Stop()
}
