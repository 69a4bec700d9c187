package stream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// Consumer follows a stream. It is for one goroutine.
type Consumer struct {
	// URL is that of the subscription, with scheme http, https, ws or wss and
	// without a cursor: "https://pds.example.com/xrpc/com.atproto.sync.subscribeRepos".
	URL string
	// Cursor is the sequence number of the last event seen; it moves with the
	// stream. Nil: start with what comes next.
	Cursor *int64
	// HTTP is the client for connecting. Nil: http.DefaultClient.
	HTTP *http.Client
	// MaxFrame bounds the bytes of one frame. 0: 5 MiB.
	MaxFrame int64
	// MaxDelay bounds the time between attempts to connect, which doubles from a
	// quarter of a second. 0: 30 seconds.
	MaxDelay time.Duration
	// Retry, if not nil, is told of each lost or refused connection, and ends
	// the stream by returning an error.
	Retry func(error) error
}

// Frames yields the frames of the stream, connecting again, after the last one
// seen, when a connection breaks. A frame that was seen before is left out. It ends with an
// error: the context's, that of Retry, an *Error that the server sent (except ConsumerTooSlow, after
// which it connects again), or a malformed frame. The frame of
// an iteration is valid until the next.
func (c *Consumer) Frames(ctx context.Context) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		for delay := time.Duration(0); ; {
			got, err := c.once(ctx, yield)
			if err == nil {
				return
			}
			var told *Error
			end := ctx.Err()
			if end == nil && errors.As(err, &told) && told.Name != ErrConsumerTooSlow.Name {
				end = told
			}
			if end == nil && errors.Is(err, ErrFrame) {
				end = err
			}
			if end == nil && c.Retry != nil {
				end = c.Retry(err)
			}
			if end != nil {
				yield(Frame{}, end)
				return
			}
			if got {
				delay = 0
			}
			if !sleep(ctx, delay/2+rand.N(delay/2+1)) {
				yield(Frame{}, ctx.Err())
				return
			}
			most := c.MaxDelay
			if most == 0 {
				most = 30 * time.Second
			}
			delay = min(max(2*delay, 250*time.Millisecond), most)
		}
	}
}

// once reads one connection to its end. It returns nil when the consumer has had enough.
func (c *Consumer) once(ctx context.Context, yield func(Frame, error) bool) (got bool, err error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return false, fmt.Errorf("stream: %w", err)
	}
	if c.Cursor != nil {
		q := u.Query()
		q.Set("cursor", strconv.FormatInt(*c.Cursor, 10))
		u.RawQuery = q.Encode()
	}
	conn, _, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{HTTPClient: c.HTTP})
	if err != nil {
		return false, fmt.Errorf("stream: %w", err)
	}
	defer conn.CloseNow()
	limit := c.MaxFrame
	if limit == 0 {
		limit = 5 << 20
	}
	conn.SetReadLimit(limit)
	for {
		typ, b, err := conn.Read(ctx)
		if err != nil {
			return got, fmt.Errorf("stream: %w", err)
		}
		if typ != websocket.MessageBinary {
			return got, fmt.Errorf("%w: a text message", ErrFrame)
		}
		f, err := Decode(b)
		if err != nil {
			return got, err
		}
		if f.Seq != 0 && c.Cursor != nil && f.Seq <= *c.Cursor {
			continue
		}
		got = true
		if !yield(f, nil) {
			conn.Close(websocket.StatusNormalClosure, "")
			return true, nil
		}
		if f.Seq != 0 {
			seq := f.Seq
			c.Cursor = &seq
		}
	}
}

// sleep waits and reports false if the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
