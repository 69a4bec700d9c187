package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// The methods of an EventsView.
const (
	SubscribeEventsNSID   = "network.bsky.jetstream.subscribeEvents"
	GetZstdDictionaryNSID = "network.bsky.jetstream.getZstdDictionary"
	PlanSnapshotNSID      = "network.bsky.jetstream.planSnapshot"
)

// EventsView serves the log of an Outbox as version 2 of Jetstream does: the subscription
// network.bsky.jetstream.subscribeEvents, with the framing of proposal 15 (subprotocol
// "xrpc.v1.json"). It sends one message for each record that a commit creates, updates or deletes,
// and one for each other event. Sequence numbers are those of the log, as in a [JSONView]. Messages
// are not signed: whoever uses them trusts this host.
//
// The parameters of a connection are cursor (the first number wanted; 0: the oldest), kinds, dids,
// collections, maxMessageSizeBytes and zstdDictionary. A cursor of 10^15 or more may be a time in
// microseconds, which the numbers of the log are close to: if it is too old, the stream begins with
// #info OutdatedCursor and the oldest event. A smaller cursor that is too old is refused. Clients
// send no messages.
//
// Jetstream also has an archive, which this view does not have. Its plan of archive files is empty,
// so that clients subscribe at once.
//
// Each event is encoded, and compressed, once for all subscribers. Do not change the fields after
// the first use. It is safe for concurrent use.
type EventsView struct {
	// Outbox has the log and the settings of connections. It is required. Its Close also ends the
	// connections of the view, and its MaxSubscribers counts them.
	Outbox *Outbox
	// Window bounds the bytes of the view's newest messages in memory, as Outbox.Window does. 0: 32
	// MiB, or 2 MiB on WebAssembly.
	Window int
	// Zstd compresses the messages of subscribers that request its dictionary. Nil, or one without
	// a dictionary: there is no compression.
	Zstd Compressor

	once sync.Once
	feed feed
}

func (v *EventsView) init() {
	if v.Outbox == nil {
		panic("stream: EventsView.Outbox is missing")
	}
	v.once.Do(func() {
		if v.Zstd != nil && v.Zstd.ID() == 0 {
			v.Zstd = nil
		}
		v.feed = feed{events: v.Outbox.Events, limit: orDefault(v.Window, defaultWindow), encode: v.Outbox.showing(eventsItem, v.Zstd)}
		v.Outbox.attach(&v.feed)
	})
}

// Subscribers returns the number of subscribers of the view.
func (v *EventsView) Subscribers() int {
	v.init()
	return v.feed.count()
}

// eventsRequest is what a subscriber of an EventsView asks for.
type eventsRequest struct {
	cursor *int64
	filter *filter
	zstd   uint32 // number of a dictionary
}

// parseEvents reads the request for a connection.
func parseEvents(r *http.Request) (q eventsRequest, err error) {
	params, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, errors.New("malformed parameters")
	}
	for old, instead := range map[string]string{
		"wantedDids": "use dids", "wantedCollections": "use collections", "requireHello": "subscribers send nothing", "compress": "use zstdDictionary",
	} {
		if params.Has(old) {
			return q, fmt.Errorf("%s is a parameter of version 1: %s", old, instead)
		}
	}
	if offers(r, "Socket-Encoding", "zstd") {
		return q, errors.New("Socket-Encoding is a header of version 1: use zstdDictionary")
	}
	if q.cursor, err = parseCursor(params.Get("cursor")); err != nil {
		return q, err
	}
	if s := params.Get("zstdDictionary"); s != "" {
		id, err := strconv.ParseUint(s, 10, 32)
		if err != nil || id == 0 {
			return q, errors.New("zstdDictionary must be the number of a dictionary")
		}
		q.zstd = uint32(id)
	}
	q.filter, err = eventsFilter(params)
	return q, err
}

// kindNames are the kinds of messages.
var kindNames = map[string]kinds{"commit": kindCommit, "identity": kindIdentity, "account": kindAccount, "sync": kindSync}

// eventsFilter reads the filter of a subscriber of an EventsView. Nothing is forgiven.
func eventsFilter(params url.Values) (*filter, error) {
	for name, most := range map[string]int{"kinds": len(kindNames), "dids": maxWantedDIDs, "collections": maxWantedCollections} {
		if len(params[name]) > most {
			return nil, fmt.Errorf("too many %s: at most %d", name, most)
		}
	}
	f := &filter{}
	for _, k := range params["kinds"] {
		if kindNames[k] == 0 {
			return nil, fmt.Errorf("kinds: %.40q is none of commit, identity, account and sync", k)
		}
		f.kinds |= kindNames[k]
	}
	for _, c := range params["collections"] {
		if prefix, ok := strings.CutSuffix(c, ".*"); ok {
			if _, err := syntax.ParseNSID(prefix + ".x"); err != nil {
				return nil, fmt.Errorf("collections: %.320q is no prefix of an NSID", c)
			}
		}
		if err := f.addCollection(c); err != nil {
			return nil, fmt.Errorf("collections: %w", err)
		}
	}
	if len(params["collections"]) > 0 && f.kinds != 0 && f.kinds&kindCommit == 0 {
		return nil, errors.New("collections say which commits are wanted, and kinds that none is")
	}
	for _, d := range params["dids"] {
		if err := f.addDID(d); err != nil {
			return nil, fmt.Errorf("dids: %w", err)
		}
	}
	if list := params["maxMessageSizeBytes"]; len(list) > 0 {
		n, err := strconv.ParseUint(list[0], 10, 32)
		if err != nil || len(list) > 1 {
			return nil, errors.New("maxMessageSizeBytes must be a non-negative integer of 32 bits")
		}
		f.maxSize = int64(n)
	}
	return f, nil
}

// microseconds is the smallest cursor that may be a time.
const microseconds = 1e15

// start says after which number to begin. outdated is set if the stream must begin by saying that
// events are missing. An error is why the cursor is refused.
func (q *eventsRequest) start(oldest int64) (after *int64, outdated bool, err error) {
	if q.cursor == nil {
		return nil, false, nil
	}
	after = new(int64)
	*after = max(*q.cursor-1, 0)
	if *q.cursor == 0 || *q.cursor >= oldest {
		return after, false, nil
	}
	if *q.cursor < microseconds {
		return nil, false, fmt.Errorf("cursor %d is too old: the oldest event has the number %d or a greater one", *q.cursor, oldest)
	}
	return after, true, nil
}

// ServeHTTP serves the subscription: it accepts a WebSocket connection and sends the messages over
// it. It refuses invalid requests with status 400 and the name InvalidRequest, CursorTooOld or
// UnknownZstdDictionary.
func (v *EventsView) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.init()
	q, err := parseEvents(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	var pack Compressor
	if q.zstd != 0 {
		if v.Zstd == nil || v.Zstd.ID() != q.zstd {
			refuse(w, http.StatusBadRequest, "UnknownZstdDictionary", v.unknown(uint64(q.zstd)))
			return
		}
		pack = v.Zstd
	}
	oldest, _, err := v.Outbox.Events.Bounds(r.Context())
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "the event log cannot be read")
		return
	}
	after, outdated, err := q.start(oldest)
	if err != nil {
		refuse(w, http.StatusBadRequest, "CursorTooOld", err.Error())
		return
	}
	cs := &v.Outbox.conns
	wants := &filterOf{budget: &cs.filters, client: limit.From(r)}
	if err := wants.set(q.filter); err != nil {
		refuseFull(w, r, err)
		return
	}
	defer wants.end()
	x := choice{filter: q.filter, pack: pack}
	if q.cursor != nil {
		x.from = *q.cursor
	}
	p := &openSubscription{feed: &v.feed, Subscription: Subscription{JSON: true, Cursor: q.cursor}}
	cs.serve(w, r, terms{protocol: jsonProtocol, mute: true}, p, func(ctx context.Context, c *conn) error {
		send := func(b []byte) error {
			if pack != nil {
				b = pack.AppendFrame(nil, b)
			}
			return c.send(x.messageType(), b)
		}
		if outdated {
			if err := send(infoMessage(OutdatedCursor, fmt.Sprintf("the oldest event has the number %d or a greater one", oldest))); err != nil {
				return err
			}
		}
		s := c.subscriber(p, func(batch []*item) (int, error) { return c.put(x.messageType(), batch, x) })
		s.cursor, s.lenient = after, true
		err := v.feed.serve(ctx, s)
		if serr := (*Error)(nil); errors.As(err, &serr) {
			send(errorMessage(serr))
		}
		return err
	})
}

// unknown says that there is no dictionary with a number.
func (v *EventsView) unknown(id uint64) string {
	if v.Zstd == nil {
		return "there is no dictionary here: subscribe without zstdDictionary"
	}
	return fmt.Sprintf("there is no dictionary %d: the present one is %d", id, v.Zstd.ID())
}

// ServeDictionary serves network.bsky.jetstream.getZstdDictionary: it sends the dictionary.
func (v *EventsView) ServeDictionary(w http.ResponseWriter, r *http.Request) {
	v.init()
	id := r.URL.Query().Get("id")
	number, err := strconv.ParseUint(id, 10, 32)
	switch {
	case id != "" && (err != nil || number == 0):
		refuse(w, http.StatusBadRequest, "InvalidRequest", "id must be the number of a dictionary")
		return
	case v.Zstd == nil, id != "" && uint32(number) != v.Zstd.ID():
		refuse(w, http.StatusNotFound, "DictionaryNotFound", v.unknown(number))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("ETag", fmt.Sprintf(`"zstd-dictionary-%d"`, v.Zstd.ID()))
	if id != "" { // it never changes
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", noTime, bytes.NewReader(v.Zstd.Bytes()))
}

// ServePlan serves network.bsky.jetstream.planSnapshot with an empty plan for any input: there are
// no snapshots, only the stream.
func (v *EventsView) ServePlan(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write([]byte(`{"plannedThroughSeq":0,"sealedTipSeq":0,"segments":[],"stats":{"segmentsExamined":0,"segmentsMatched":0,"blocksMatched":0,"entries":0}}`))
}
