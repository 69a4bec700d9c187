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

// Subscription describes a subscriber that has come by a WebSocket, for the operator of a host.
type Subscription struct {
	// ID names the subscription within its Outbox. It is never used again.
	ID int64
	// Address is the network address that it comes from, without a port, and Agent the User-Agent
	// that it gives, of which at most 200 bytes are kept. The client may have made up both the
	// Agent and, unless a limit.Proxies has set it, a port.
	Address, Agent string
	// JSON is set for a subscriber of a [JSONView].
	JSON bool
	// Since is when it came, and Cursor what it asked for; nil: what comes next.
	Since  time.Time
	Cursor *int64
	// Seq is the number up to which it was sent all events; 0: it was sent none yet.
	Seq int64
	// Waiting is how many bytes of events in memory it was not sent yet. Past is set while it reads
	// older ones, from the log, which are not counted.
	Waiting int64
	Past    bool
}

// present is a subscription that is open. But for seq, it does not change once it is listed.
type present struct {
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
	open map[int64]*present
}

// maxAgent is how many bytes of a User-Agent are kept.
const maxAgent = 200

// add lists a subscription.
func (g *register) add(r *http.Request, p *present) {
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
		g.open = make(map[int64]*present)
	}
	g.last++
	p.ID = g.last
	g.open[p.ID] = p
}

func (g *register) remove(p *present) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, p.ID)
}

// Subscriptions returns the subscribers over HTTP, those of JSON views among them, the earliest
// first. It costs as much as there are.
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

// End ends a subscription, by its ID, within about a second. It reports whether there was such a
// one. The client may come back: [Outbox.MaxPerNetwork] and a firewall keep it out.
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
	now := f.now
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
