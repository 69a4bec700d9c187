package stream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// JSONView serves the log of an Outbox as JSON text, as version 1 of Jetstream does: one message
// for each record that a commit creates, updates or deletes, and for each #identity and #account
// event. #sync events are not shown. Messages are not signed: whoever uses them trusts this host.
// [EventsView] is version 2.
//
// The log may be that of a PDS or of a relay. Parts of events that cannot be shown, such as an
// operation without its record, are left out: see Outbox.Skipped. The members of records are in the
// order of DAG-CBOR, as everywhere in this library. Jetstream sorts them by name, which means the
// same in JSON. Compressed with its dictionary, our order takes two per cent more bytes.
//
// The parameters of a connection are wantedCollections (NSIDs, or prefixes such as
// "app.bsky.feed.*"), wantedDids, maxMessageSizeBytes, requireHello, compress, and cursor, the
// "time_us" of a message. Each message has its own "time_us", the sequence number of its operation,
// and they increase. So a consumer that reconnects with the last one gets that message again and
// misses nothing. A cursor in the future means the next new event; one older than the log means its
// beginning. A text message of type "options_update", of up to 10 MB, changes the filters.
//
// Each event is encoded, and compressed with zstd, once for all subscribers. Messages from
// subscribers are decompressed only with Compress. Do not change the fields after the first use. It
// is safe for concurrent use.
type JSONView struct {
	// Outbox has the log and the settings of connections. It is required. Its Close also ends the
	// connections of the view, and its MaxSubscribers counts them.
	Outbox *Outbox
	// Window bounds the bytes of the view's newest messages in memory, as Outbox.Window does. 0: 32
	// MiB, or 2 MiB on WebAssembly.
	Window int
	// Zstd compresses the messages of subscribers that request it by "compress=true" or a header
	// "Socket-Encoding: zstd", as the official Go client does. Nil: such subscribers are refused.
	// Clients of version 1 know only Jetstream's dictionary, but all of them can read frames that
	// need no dictionary.
	Zstd Compressor
	// Compress lets subscribers negotiate permessage-deflate. Messages are then compressed
	// separately for each subscriber, which costs far more than sending them.
	Compress bool

	once sync.Once
	feed feed
}

func (v *JSONView) init() {
	if v.Outbox == nil {
		panic("stream: JSONView.Outbox is missing")
	}
	v.once.Do(func() {
		v.feed = feed{events: v.Outbox.Events, limit: orDefault(v.Window, defaultWindow), encode: v.Outbox.showing(jsonItem, v.Zstd)}
		v.Outbox.attach(&v.feed)
	})
}

// Subscribers returns the number of subscribers of the view.
func (v *JSONView) Subscribers() int {
	v.init()
	return v.feed.count()
}

// showing returns an encoder for a view: what cannot be shown is left out. Its items can be
// compressed, if there is what compresses.
func (o *Outbox) showing(encode func(storage.Event) (*item, error), c Compressor) func(storage.Event) (*item, error) {
	return func(e storage.Event) (*item, error) {
		it, err := encode(e)
		if err != nil && o.Skipped != nil {
			o.Skipped(e, err)
		}
		if c != nil {
			it = it.packable()
		}
		return it, nil
	}
}

// request is what a subscriber of a JSONView asks for.
type request struct {
	cursor *int64
	filter *filter
	zstd   bool
	hello  bool // to be sent nothing before its first options_update
}

// parse reads the request for a connection.
func (v *JSONView) parse(r *http.Request) (q request, err error) {
	params, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, errors.New("malformed parameters")
	}
	if q.cursor, err = parseCursor(params.Get("cursor")); err != nil {
		return q, err
	}
	if q.filter, err = newFilter(queryOptions(params)); err != nil {
		return q, err
	}
	q.hello = params.Get("requireHello") == "true"
	q.zstd = params.Get("compress") == "true" || offers(r, "Socket-Encoding", "zstd")
	switch {
	case q.zstd && v.Zstd == nil:
		err = errors.New("compression with zstd is not available")
	case q.zstd && offers(r, "Sec-WebSocket-Extensions", "permessage-deflate"):
		err = errors.New("either zstd or permessage-deflate can be chosen, not both")
	}
	return q, err
}

// ServeHTTP accepts a WebSocket connection and sends the messages over it. It refuses invalid
// requests with status 400 and plain text.
func (v *JSONView) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.init()
	q, err := v.parse(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	cs := &v.Outbox.conns
	wants := &filterOf{budget: &cs.filters, client: limit.From(r)}
	if err := wants.set(q.filter); err != nil {
		refuseFull(w, r, err)
		return
	}
	defer wants.end()
	hello := make(chan struct{}, 1)
	t := terms{deflate: v.Compress && !q.zstd, onText: func(b []byte) error {
		f, err := parseUpdate(b)
		if err != nil || f == nil {
			return err
		}
		if err := wants.set(f); err != nil {
			return err
		}
		select {
		case hello <- struct{}{}:
		default:
		}
		return nil
	}}
	p := &openSubscription{feed: &v.feed, Subscription: Subscription{JSON: true, Cursor: q.cursor}}
	cs.serve(w, r, t, p, func(ctx context.Context, c *conn) error {
		if q.hello {
			select {
			case <-hello:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s := c.subscriber(p, func(batch []*item) (int, error) {
			x := choice{filter: wants.current.Load()}
			if q.zstd {
				x.pack = v.Zstd
			}
			if q.cursor != nil {
				x.from = *q.cursor
			}
			return c.put(x.messageType(), batch, x)
		})
		s.lenient = true
		if q.hello {
			s.start = 0 // it starts with its first message
		}
		if q.cursor != nil { // it is to be seen again
			s.cursor = new(int64)
			*s.cursor = max(*q.cursor-1, 0)
		}
		return v.feed.serve(ctx, s)
	})
}
