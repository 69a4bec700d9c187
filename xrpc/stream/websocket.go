package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// parseCursor reads the parameter of that name; empty: nil.
func parseCursor(s string) (*int64, error) {
	if s == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return nil, errors.New("cursor must be a non-negative integer")
	}
	return &n, nil
}

// refuse answers with an error in the envelope of XRPC.
func refuse(w http.ResponseWriter, status int, name, message string) {
	body, _ := json.Marshal(map[string]string{"error": name, "message": message})
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(body)
}

// conns are the WebSocket connections of an outbox.
type conns struct {
	max           int
	ping, timeout time.Duration

	mu     sync.Mutex
	open   map[*wire]struct{}
	n      int // with those that are about to be accepted
	closed bool
	wait   sync.WaitGroup
}

// enter counts a connection in, if there is room for it.
func (cs *conns) enter() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed || cs.n >= cs.max {
		return false
	}
	cs.n++
	cs.wait.Add(1)
	return true
}

func (cs *conns) leave(w *wire) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.n--
	delete(cs.open, w)
	cs.wait.Done()
}

// add makes a connection known to close.
func (cs *conns) add(w *wire) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.open == nil {
		cs.open = make(map[*wire]struct{})
	}
	cs.open[w] = struct{}{}
	if cs.closed {
		w.hurry()
	}
}

// close gives all connections a moment to end, and waits until they have.
func (cs *conns) close() {
	cs.mu.Lock()
	cs.closed = true
	for w := range cs.open {
		w.hurry()
	}
	cs.mu.Unlock()
	cs.wait.Wait()
}

// serve accepts a WebSocket connection and runs a subscription over it. heed, if
// not nil, is given the text messages of the peer; its errors end the connection.
func (cs *conns) serve(w http.ResponseWriter, r *http.Request, compress bool, heed func([]byte) error, run func(ctx context.Context, c *conn) error) {
	if !cs.enter() {
		refuse(w, http.StatusServiceUnavailable, "NotEnoughResources", "Too many subscribers")
		return
	}
	out := &wire{timeout: cs.timeout}
	defer cs.leave(out)
	ws, err := accept(&hijacker{w, out}, r, compress)
	if err != nil {
		return // and it was answered
	}
	defer ws.CloseNow()
	cs.add(out)
	c := &conn{ws: ws, wire: out, tick: time.NewTicker(cs.ping), timeout: cs.ping}
	defer c.tick.Stop()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	c.cancel = cancel
	if heed != nil {
		ws.SetReadLimit(maxUpdate)
	}
	go c.read(ctx, heed)

	err = run(ctx, c)
	var told *Error
	switch {
	case errors.As(err, &told):
		ws.Close(websocket.StatusPolicyViolation, told.Name)
	case errors.Is(err, ErrClosed):
		ws.Close(websocket.StatusGoingAway, "the server is shutting down")
	case ctx.Err() == nil && !errors.Is(err, errSend):
		ws.Close(websocket.StatusInternalError, "")
	}
}

// conn is a WebSocket connection that messages are sent over.
type conn struct {
	ws      *websocket.Conn
	wire    *wire
	tick    *time.Ticker // of pings
	timeout time.Duration
	cancel  context.CancelFunc
}

// errSend: nothing can be sent any more.
var errSend = errors.New("stream: connection is broken")

// send sends a message. What bounds its time is the wire.
func (c *conn) send(typ websocket.MessageType, b []byte) error {
	if c.ws.Write(context.Background(), typ, b) != nil {
		return errSend
	}
	return nil
}

// cork holds messages back, to be sent together.
func (c *conn) cork() { c.wire.cork() }

// uncork sends what was held back.
func (c *conn) uncork() error {
	if c.wire.uncork() != nil {
		return errSend
	}
	return nil
}

// read answers pings and ends the subscription when the peer closes the
// connection. What else the peer sends is ignored, as the specification says, or
// given to heed.
func (c *conn) read(ctx context.Context, heed func([]byte) error) {
	defer c.ws.CloseNow()
	defer c.cancel()
	for {
		typ, r, err := c.ws.Reader(ctx)
		switch {
		case err != nil:
		case heed == nil || typ != websocket.MessageText:
			_, err = io.Copy(io.Discard, r)
		default:
			var b []byte
			if b, err = io.ReadAll(r); err != nil {
				break
			}
			if err = heed(b); err != nil {
				c.ws.Close(websocket.StatusPolicyViolation, clip(err.Error()))
			}
		}
		if err != nil {
			return
		}
	}
}

// clip shortens a text to what fits into a close frame.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 120)], "") }

// ping ends the subscription if the peer does not answer.
func (c *conn) ping() {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
		defer cancel()
		if c.ws.Ping(ctx) != nil {
			c.cancel()
		}
	}()
}

// hijacker puts a wire between a WebSocket and its connection.
type hijacker struct {
	http.ResponseWriter
	wire *wire
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.wire.Conn = c
	rw.Writer.Reset(h.wire)
	return h.wire, rw, nil
}
