package stream

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Subscription describes a subscriber over a WebSocket, for the operator of a host.
type Subscription struct {
	// ID identifies the subscription within its Outbox. IDs are not reused.
	ID int64
	// Address is the subscriber's network address without a port. Agent is its User-Agent,
	// truncated to 200 bytes. The client chooses Agent freely. It can also forge Address, unless a
	// limit.Proxies has set that.
	Address, Agent string
	// JSON is set for a subscriber of a [JSONView].
	JSON bool
	// Since is when it connected. Cursor is the cursor that it sent; nil: the next new event.
	Since  time.Time
	Cursor *int64
	// Seq is the number up to which all events were sent; 0: none yet.
	Seq int64
	// Waiting is how many bytes of events in memory were not sent yet. Past is set while the
	// subscriber reads older events from the log, which Waiting does not count.
	Waiting int64
	Past    bool
}

// openSubscription is a subscription that is open. But for seq, it does not change once it is
// listed.
type openSubscription struct {
	Subscription
	feed  *feed
	wire  *wire
	start int64 // the newest event when it came; 0: not known
	seq   atomic.Int64
}

// register are the subscriptions that are open.
type register struct {
	// mu guards these. It is taken before that of a feed.
	mu   sync.Mutex
	last int64
	open map[int64]*openSubscription
}

// maxAgent is how many bytes of a User-Agent are kept.
const maxAgent = 200

// add lists a subscription.
func (g *register) add(r *http.Request, p *openSubscription) {
	p.Address, _, _ = net.SplitHostPort(r.RemoteAddr)
	p.Address = cmp.Or(p.Address, r.RemoteAddr)
	p.Agent = strings.Clone(r.UserAgent()) // not the whole header with it
	if len(p.Agent) > maxAgent {
		p.Agent = strings.Clone(p.Agent[:maxAgent])
	}
	p.Agent = strings.ToValidUTF8(p.Agent, "")
	p.Since = time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = make(map[int64]*openSubscription)
	}
	g.last++
	p.ID = g.last
	g.open[p.ID] = p
}

func (g *register) remove(p *openSubscription) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, p.ID)
}

// Subscriptions returns the subscribers over HTTP, including those of JSON views, earliest first.
// Its cost depends on their number.
func (o *Outbox) Subscriptions() []Subscription {
	o.init()
	g := &o.conns.register
	g.mu.Lock()
	list := make([]Subscription, 0, len(g.open))
	for _, p := range g.open {
		s := p.Subscription
		s.Seq = p.seq.Load()
		s.Waiting, s.Past = p.feed.waiting(s.Seq)
		list = append(list, s)
	}
	g.mu.Unlock()
	slices.SortFunc(list, func(a, b Subscription) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// End ends the subscription with an ID within about a second. It reports whether there was one. The
// client may reconnect; [Outbox.MaxPerNetwork] and a firewall can prevent that.
func (o *Outbox) End(id int64) bool {
	o.init()
	g := &o.conns.register
	g.mu.Lock()
	p := g.open[id]
	g.mu.Unlock()
	if p == nil {
		return false
	}
	p.wire.shortenDeadline()
	return true
}

// waiting returns how many bytes of the window come after a position, and whether the position is
// before it.
func (f *feed) waiting(seq int64) (n int64, past bool) {
	f.mu.Lock()
	now := f.current
	f.mu.Unlock()
	if now == nil {
		return 0, false
	}
	return now.win.waiting(seq)
}

func (w *window) waiting(seq int64) (n int64, past bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := sort.Search(w.n, func(i int) bool { return (*w.at(i)).seq > seq }); i < w.n {
		first := *w.at(i)
		n = w.total - first.end + int64(first.size())
	}
	return n, seq < w.start
}
