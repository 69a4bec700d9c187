package stream

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/internal/platform"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// Outbox serves an event log to subscribers. Events is required. Do not change the fields after the
// first use. It is safe for concurrent use.
type Outbox struct {
	// Events is the log. If it is nil, the first use panics.
	Events storage.Events
	// Window bounds the bytes of the newest frames that are kept in memory while there are
	// subscribers. A live subscriber may fall behind by so much. 0: 32 MiB, or 2 MiB on
	// WebAssembly.
	Window int
	// MaxSubscribers bounds the number of concurrent subscribers over HTTP. An eighth is reserved
	// for networks that have no other subscription, and one in 32 for privileged clients: see
	// limit.Limiter. 0: 5,000.
	MaxSubscribers int
	// MaxPerNetwork bounds the number of subscribers from one network: an IPv4 address or an IPv6
	// /64. The network is that of the request's RemoteAddr, unless a limit.Limiter says otherwise.
	// 0: 100; negative: no bound.
	MaxPerNetwork int
	// Ping is how long a connection may be idle before the peer is pinged. The peer must answer
	// within the same time. 0: 30 seconds.
	Ping time.Duration
	// WriteTimeout is how long a subscriber may accept no data. 0: 20 seconds.
	WriteTimeout time.Duration
	// Empty, if not nil, is called when the last subscriber has left, not counting those of JSON
	// views. It must not block.
	Empty func()
	// Skipped, if not nil, is called with an event that a JSON view does not show completely, and
	// the reason. For example, the blocks may lack an operation's record, or the messages of the
	// event may exceed 16 MiB. In the log of a relay, hosts can cause this; in a host's own log, it
	// means damage. Other events are not affected. Skipped may be called more than once for an
	// event, and must not block.
	Skipped func(e storage.Event, err error)

	// These are made by init, and have locks of their own.
	once   sync.Once
	frames feed
	conns  conns

	// mu guards these. It is taken before that of a feed.
	mu     sync.Mutex
	views  []*feed // of JSONViews
	closed bool
}

// defaultWindow is the default of Window.
var defaultWindow = platform.Default(32<<20, 2<<20)

// ErrClosed: the outbox was closed.
var ErrClosed = errors.New("stream: outbox is closed")

func (o *Outbox) init() {
	if o.Events == nil {
		panic("stream: Outbox.Events is missing")
	}
	o.once.Do(func() {
		o.frames = feed{events: o.Events, limit: orDefault(o.Window, defaultWindow), encode: frameItem, empty: o.Empty}
		o.conns = conns{
			gate:         subscriberGate(orDefault(o.MaxSubscribers, 5000), orDefault(o.MaxPerNetwork, 100)),
			large:        largeGate(),
			updates:      updateGate(),
			largeUpdates: largeUpdateGate(),
			filters:      limit.Budget{Name: "filters", Total: filterBytes, PerNetwork: filterBytesPerNetwork},
			ping:         orDefault(o.Ping, 30*time.Second),
			timeout:      orDefault(o.WriteTimeout, 20*time.Second),
		}
	})
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// frameItem encodes an event as a frame.
func frameItem(e storage.Event) (*item, error) {
	b, err := EncodeEvent(e)
	if err != nil {
		return nil, err
	}
	return &item{seq: e.Seq, did: e.DID, messages: []message{{bytes: b}}}, nil
}

// Subscribers returns the number of subscribers, not counting those of JSON views.
func (o *Outbox) Subscribers() int {
	o.init()
	return o.frames.count()
}

// Close ends all subscriptions. It waits up to about two seconds for the connections to close.
// Later subscriptions end at once.
func (o *Outbox) Close() error {
	o.init()
	o.mu.Lock()
	o.closed = true
	for _, f := range o.views {
		f.close()
	}
	o.mu.Unlock()
	o.frames.close()
	o.conns.close()
	return nil
}

// Forget drops an account's events with numbers less than before from memory, after they were
// deleted from the log. before is the number of the event that announces the deletion. Subscribers
// no longer get the dropped events, except one that is just being sent. Later events of the account
// are sent as usual.
func (o *Outbox) Forget(did syntax.DID, before int64) {
	o.init()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames.forget(did, before)
	for _, f := range o.views {
		f.forget(did, before)
	}
}

// attach makes Close end the subscriptions of another feed.
func (o *Outbox) attach(f *feed) {
	o.init()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.views = append(o.views, f)
	if o.closed {
		f.close()
	}
}

// Subscribe yields the encoded frames of all events after the cursor: first the past ones, then
// each new one. With a nil cursor it yields only new ones. It ends with an error: the context's,
// ErrClosed, an error of the log, or an *Error that should be sent to the subscriber as a frame
// (ErrFutureCursor, ErrConsumerTooSlow). Frames are shared and must not be changed.
func (o *Outbox) Subscribe(ctx context.Context, cursor *int64) iter.Seq2[[]byte, error] {
	o.init()
	return func(yield func([]byte, error) bool) {
		err := o.frames.serve(ctx, subscriber{
			cursor: cursor,
			outdated: func() error {
				if !yield(OutdatedFrame(), nil) {
					return errGone
				}
				return nil
			},
			put: func(batch []*item) (int, error) {
				for _, it := range batch {
					if !yield(it.messages[0].bytes, nil) {
						return 0, errGone
					}
				}
				return len(batch), nil
			},
		})
		if err != errGone {
			yield(nil, err)
		}
	}
}

// errGone: the subscriber takes no more.
var errGone = errors.New("gone")

// OutdatedFrame returns the #info frame for a subscriber whose cursor is older than the log.
func OutdatedFrame() []byte {
	return infoFrame(OutdatedCursor, "Requested cursor exceeded limit. Possibly missing events").Encode()
}

// ServeHTTP accepts a WebSocket connection and sends the stream over it, from the query parameter
// "cursor" on.
func (o *Outbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.init()
	cursor, err := parseCursor(r.URL.Query().Get("cursor"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	p := &openSubscription{feed: &o.frames, Subscription: Subscription{Cursor: cursor}}
	o.conns.serve(w, r, terms{}, p, func(ctx context.Context, c *conn) error {
		s := c.subscriber(p, func(batch []*item) (int, error) { return c.put(websocket.MessageBinary, batch, choice{}) })
		s.outdated = func() error { return c.send(websocket.MessageBinary, OutdatedFrame()) }
		err := o.frames.serve(ctx, s)
		if serr := (*Error)(nil); errors.As(err, &serr) {
			c.send(websocket.MessageBinary, serr.Encode())
		}
		return err
	})
}
