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

	"github.com/pdskit/pdskit/xrpc/limit"
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

// refuseFull answers a request for which there is no room.
func refuseFull(w http.ResponseWriter, r *http.Request, err error) {
	var full *limit.Error
	if !errors.As(err, &full) {
		full = &limit.Error{} // its client has gone
	}
	limit.WriteError(w, r, full)
}

// conns are the WebSocket connections of an outbox.
type conns struct {
	// These do not change. Those that are shared have locks of their own.
	gate          *limit.Gate
	large         *limit.Gate // see conn.waitLarge
	updates       *limit.Gate // of messages that are read
	largeUpdates  *limit.Gate // of those beyond smallUpdate
	filters       limit.Budget
	ping, timeout time.Duration
	register      register

	// mu guards these. wait is added to with mu, and only before closed is set.
	mu     sync.Mutex
	open   map[*wire]struct{}
	closed bool
	wait   sync.WaitGroup
}

// subscriberGate bounds subscribers.
func subscriberGate(most, perNetwork int) *limit.Gate {
	return &limit.Gate{
		Name: "subscribers", Total: most, PerNetwork: max(perNetwork, 0), Reserved: most / 8, Privileged: most / 32,
	}
}

// largeGate bounds how many messages that are larger than a wire's buffer are on their way: while
// one is, it is kept in memory.
func largeGate() *limit.Gate {
	return &limit.Gate{
		Name: "large messages", Total: 32, PerNetwork: 2, Reserved: 8, Privileged: 4, Queue: 1 << 20, Wait: time.Minute,
	}
}

// updateGate bounds how many messages of subscribers are read at a time.
func updateGate() *limit.Gate {
	return &limit.Gate{Name: "messages", Total: 16, PerNetwork: 2, Reserved: 4, Queue: 1 << 20, Wait: time.Minute}
}

// largeUpdateGate bounds how many of these may be of more than smallUpdate bytes. Nobody waits for
// it, as who waits holds what was read already.
func largeUpdateGate() *limit.Gate {
	return &limit.Gate{Name: "large messages", Total: 4, PerNetwork: 1, Reserved: 1}
}

// updateTimeout is how long a message of a subscriber may take.
const updateTimeout = 10 * time.Second

// admit counts a connection in, if there is room for it.
func (cs *conns) admit(ctx context.Context, c limit.Client) (release func(), err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return nil, &limit.Error{What: "subscribers", RetryAfter: 5 * time.Second}
	}
	if release, err = cs.gate.Enter(ctx, c); err != nil {
		return nil, err
	}
	cs.wait.Add(1)
	return release, nil
}

func (cs *conns) remove(w *wire, release func()) {
	release()
	cs.mu.Lock()
	defer cs.mu.Unlock()
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
		w.shortenDeadline()
	}
}

// close gives all connections a moment to end, and waits until they have.
func (cs *conns) close() {
	cs.mu.Lock()
	cs.closed = true
	for w := range cs.open {
		w.shortenDeadline()
	}
	cs.mu.Unlock()
	cs.wait.Wait()
}

// terms are those of a connection.
type terms struct {
	// deflate allows permessage-deflate, if the peer offers it.
	deflate bool
	// protocol is a subprotocol that is agreed to if the peer offers it.
	protocol string
	// onText, if not nil, is given the text messages of the peer, of up to maxUpdate bytes; its
	// errors end the connection.
	onText func([]byte) error
	// mute ends the connection when the peer sends a message.
	mute bool
}

// serve accepts a WebSocket connection and runs a subscription over it, which is listed as p.
func (cs *conns) serve(w http.ResponseWriter, r *http.Request, t terms, p *openSubscription, run func(ctx context.Context, c *conn) error) {
	client := limit.From(r)
	release, err := cs.admit(r.Context(), client)
	if err != nil {
		refuseFull(w, r, err)
		return
	}
	out := &wire{timeout: cs.timeout}
	defer cs.remove(out, release)
	if p.Cursor == nil {
		// Whoever has the answer gets what is written from then on, so this is looked at before.
		if _, p.start, err = p.feed.events.Bounds(r.Context()); err != nil {
			refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "the event log cannot be read")
			return
		}
	}
	ws, err := accept(&hijacker{w, out}, r, t)
	if err != nil {
		return // and it was answered
	}
	defer ws.CloseNow()
	cs.add(out)
	p.wire = out
	cs.register.add(r, p)
	defer cs.register.remove(p)
	c := &conn{ws: ws, wire: out, tick: time.NewTicker(cs.ping), timeout: cs.ping, client: client, all: cs}
	defer c.tick.Stop()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	c.cancel = cancel
	if t.onText != nil {
		ws.SetReadLimit(maxUpdate)
	}
	go c.read(ctx, t)

	err = run(ctx, c)
	var serr *Error
	switch {
	case errors.As(err, &serr):
		ws.Close(websocket.StatusPolicyViolation, serr.Name)
	case errors.Is(err, ErrClosed):
		ws.Close(websocket.StatusGoingAway, "the server is shutting down")
	case ctx.Err() == nil && !errors.Is(err, errSend):
		ws.Close(websocket.StatusInternalError, "")
	}
}

// conn is a WebSocket connection that messages are sent over. Its fields do not change once it is
// read from.
type conn struct {
	ws      *websocket.Conn
	wire    *wire
	tick    *time.Ticker // of pings
	timeout time.Duration
	cancel  context.CancelFunc
	client  limit.Client
	all     *conns
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

// choice is which messages of items a subscriber is sent, and in which form. The zero value: all,
// as they are.
type choice struct {
	filter *filter    // nil: all
	from   int64      // of an event with this number, messages with smaller ones were seen
	pack   Compressor // nil: none
}

// form returns a message as it goes over the wire.
func (x *choice) form(m *message) []byte {
	if x.pack != nil {
		return m.pack(x.pack)
	}
	return m.bytes
}

// messageType is that of the messages: text, or binary if they are compressed.
func (x *choice) messageType() websocket.MessageType {
	if x.pack != nil {
		return websocket.MessageBinary
	}
	return websocket.MessageText
}

// put collects the messages of as many items as fit into the wire's buffer, of those that are
// chosen. A first one that does not fit is sent at once.
func (c *conn) put(typ websocket.MessageType, batch []*item, x choice) (n int, err error) {
	c.wire.cork()
	f := x.filter
	for room := wireRoom; n < len(batch); n++ {
		it := batch[n]
		if f != nil && !f.account(it.did) {
			continue
		}
		if room -= it.wireSize(); room < 0 && n > 0 {
			break
		}
		for i := range it.messages {
			m := &it.messages[i]
			if m.seq < x.from && x.from <= it.seq || f != nil && !f.message(m) {
				continue
			}
			if err := c.send(typ, x.form(m)); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// subscriber is how to serve the connection's, with put.
func (c *conn) subscriber(p *openSubscription, put func(batch []*item) (int, error)) subscriber {
	return subscriber{cursor: p.Cursor, start: p.start, put: put, flush: c.uncork, waitLarge: c.waitLarge, idle: c.ping, tick: c.tick.C, position: &p.seq}
}

// waitLarge waits until a large item may be sent.
func (c *conn) waitLarge(ctx context.Context) (release func(), err error) {
	return c.all.large.Enter(ctx, c.client)
}

// uncork sends what was held back.
func (c *conn) uncork() error {
	if c.wire.uncork() != nil {
		return errSend
	}
	return nil
}

// read answers pings and ends the subscription when the peer closes the
// connection. What else the peer sends is ignored, as the specification says, unless the terms say
// otherwise.
func (c *conn) read(ctx context.Context, t terms) {
	defer c.ws.CloseNow()
	defer c.cancel()
	for {
		typ, r, err := c.ws.Reader(ctx)
		switch {
		case err != nil:
		case t.mute:
			err = errSend
			c.ws.Close(websocket.StatusPolicyViolation, "this stream takes no messages")
		case t.onText == nil || typ != websocket.MessageText:
			_, err = io.Copy(io.Discard, r)
		default:
			err = c.update(ctx, r, t.onText)
		}
		if err != nil {
			return
		}
	}
}

// update reads a message of the peer.
func (c *conn) update(ctx context.Context, r io.Reader, onText func([]byte) error) error {
	release, err := c.all.updates.Enter(ctx, c.client)
	if err != nil {
		return err
	}
	defer release()
	defer time.AfterFunc(updateTimeout, func() { c.ws.CloseNow() }).Stop()
	b, err := io.ReadAll(io.LimitReader(r, smallUpdate))
	if err == nil && len(b) == smallUpdate {
		var releaseLarge func()
		if releaseLarge, err = c.all.largeUpdates.Enter(ctx, c.client); err != nil {
			c.ws.Close(websocket.StatusTryAgainLater, clip(err.Error()))
			return err
		}
		defer releaseLarge()
		var rest []byte
		rest, err = io.ReadAll(r)
		b = append(b, rest...)
	}
	if err != nil {
		return err
	}
	if err = onText(b); err != nil {
		code, malformed := websocket.StatusPolicyViolation, (*malformedError)(nil)
		if errors.As(err, &malformed) {
			code = websocket.StatusInvalidFramePayloadData
		}
		c.ws.Close(code, clip(err.Error()))
	}
	return err
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
