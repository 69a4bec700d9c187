package stream

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/xrpc/limit"
)

// JSONView serves the log of an Outbox as JSON text, in the manner of Jetstream
// (version 1): one message for each record that a commit creates, updates or deletes, and for
// #identity and #account events. #sync events are not shown. Messages are not signed: to trust them is
// to trust this host.
//
// Parameters of the connection are wantedCollections (NSIDs, or prefixes such as
// "app.bsky.feed.*"), wantedDids, maxMessageSizeBytes, requireHello, and cursor, the
// "time_us" of a message. These are the log's own sequence numbers, so that a consumer that
// comes back with the last one it has seen misses nothing. It is shown the messages of
// that event again, as those of one commit have the same number. A cursor from the
// future means what comes next. A text message of type "options_update" changes the filters.
//
// Each event is encoded once, for all subscribers. Fields must not change once it is used. It is
// safe for concurrent use.
type JSONView struct {
	// Outbox has the log and the settings of connections. It is required. Its Close ends those of
	// the view too, and they count towards its MaxSubscribers.
	Outbox *Outbox
	// Window is the Outbox's, for the messages of the view. 0: 32 MiB, on WebAssembly 2 MiB.
	Window int
	// Compress allows subscribers to ask for compression (permessage-deflate). Messages are
	// compressed for each subscriber by itself, which costs far more than to send them.
	Compress bool

	once sync.Once
	feed feed
}

func (v *JSONView) init() {
	if v.Outbox == nil {
		panic("stream: JSONView.Outbox is missing")
	}
	v.once.Do(func() {
		v.feed = feed{events: v.Outbox.Events, limit: orDefault(v.Window, defaultWindow), encode: jsonItem}
		v.Outbox.attach(&v.feed)
	})
}

// Subscribers returns how many there are.
func (v *JSONView) Subscribers() int {
	v.init()
	return v.feed.count()
}

// maxUpdate is the size in bytes of the largest message that a subscriber may send.
const maxUpdate = 1 << 20

// ServeHTTP accepts a WebSocket connection and sends the messages over it.
func (v *JSONView) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.init()
	q := r.URL.Query()
	cursor, err := parseCursor(q.Get("cursor"))
	var wanted *filter
	if err == nil {
		var o filterOptions
		if o, err = queryOptions(q); err == nil {
			wanted, err = newFilter(o)
		}
	}
	if err == nil && q.Get("compress") == "true" {
		err = errors.New("compress is not available; permessage-deflate may be")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	if cursor != nil { // it is to be seen again
		*cursor = max(*cursor-1, 0)
	}
	hello := make(chan struct{}, 1)
	v.Outbox.init()
	cs := &v.Outbox.conns
	wants := &filterOf{budget: &cs.filters, client: limit.From(r)}
	if err := wants.set(wanted); err != nil {
		refuseFull(w, r, err)
		return
	}
	defer wants.end()
	update := func(b []byte) error {
		f, err := parseUpdate(b)
		if err == nil {
			err = wants.set(f)
		}
		if err != nil {
			return err
		}
		select {
		case hello <- struct{}{}:
		default:
		}
		return nil
	}
	p := &present{feed: &v.feed, Subscription: Subscription{JSON: true, Cursor: cursor}}
	cs.serve(w, r, v.Compress, p, update, func(ctx context.Context, c *conn) error {
		if q.Get("requireHello") == "true" {
			select {
			case <-hello:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return v.feed.serve(ctx, subscriber{
			cursor:  cursor,
			lenient: true,
			put:     func(batch []*item) (int, error) { return c.put(websocket.MessageText, batch, wants.now.Load()) },
			flush:   c.uncork,
			room:    c.room,
			idle:    c.ping,
			tick:    c.tick.C,
			seen:    &p.seq,
		})
	})
}
