package relay

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// HostStatus is the status of a host, in the words of com.atproto.sync.defs.
type HostStatus string

// The statuses.
const (
	HostActive    HostStatus = "active"    // it is read
	HostIdle      HostStatus = "idle"      // it is not, and nothing is known to be wrong
	HostOffline   HostStatus = "offline"   // it cannot be reached, or its stream not be read
	HostThrottled HostStatus = "throttled" // it is read more slowly than it sends
	HostBanned    HostStatus = "banned"
)

// Host describes a host and its connection.
type Host struct {
	Name  string
	Relay bool // it brings accounts of other hosts, too
	Local bool // it is in the same process
	Added time.Time
	// Policy and Limits are those in effect, whether they are the host's own or defaults.
	Policy Policy
	Limits Limits
	Status HostStatus
	// Seq is the number of its last message that was processed; 0: none was.
	Seq int64
	// Accounts is the number of its accounts. Throttled is how many of them exceed its limit.
	Accounts, Throttled int64

	// What follows is since the relay has started.

	// Connected is when the present connection began; zero: there is none.
	Connected time.Time
	// Heard is when the last message arrived.
	Heard time.Time
	// Failures is the number of consecutive failures to read it, and Next the time of the next
	// attempt.
	Failures int
	Next     time.Time
	// Error is the most recent error.
	Error string
	// Waiting is the size in bytes of the waiting messages, and Lanes the number of accounts that
	// they belong to.
	Waiting int64
	Lanes   int
	// Messages counts received messages, Passed those passed on, and Rules, for each rule, those
	// that broke it.
	Messages, Passed int64
	Rules            map[Rule]int64
}

// host follows one host.
type host struct {
	// These do not change. Those that are shared have locks of their own.
	r         *Relay
	name      string
	queue     *queue
	wake      chan struct{} // has room for one: try to connect now
	fetches   chan struct{} // has room for as many requests as there may be at a time
	comparing task          // compares the host's repositories
	filling   task          // gives throttled accounts the places that are free

	store atomic.Pointer[storage.Store] // of a local host; nil: it is another

	// Relay.mu guards these.
	started bool
	stop    context.CancelFunc // of run; not nil if it has started
	path    []string           // of the relays that it follows

	// mu guards these. No other lock is taken while it is held.
	mu            sync.Mutex
	row           hostRow // but for the cursor; other fields than count are changed with Relay.settings
	saved         int64   // the cursor that is stored
	seen          Host    // the counters and times
	rate          bucket  // of messages
	refreshes     bucket  // of documents fetched anew
	slow          bool    // it waits for the rate
	refused       int     // how often in a row the cursor was refused, or nothing could be read
	fromNewest    bool    // see below
	fromOldest    bool    // see below
	retrySoon     bool    // see below
	endConnection context.CancelFunc

	// Three flags say how the next connection differs from the last. It takes them back.
	//
	//	set by            fromOldest  fromNewest  retrySoon
	//	ResetCursor       yes                                 it begins with the oldest message
	//	a future cursor                           yes         the same: streamEnded restarts the queue
	//	unreadable frames             yes         yes         it begins with what comes next
	//
	// Without a flag it begins after the cursor, and the pauses between attempts grow.
}

const hostFetches = 4

func newHost(r *Relay, name string, row hostRow) *host {
	h := &host{r: r, name: name, row: row, saved: row.cursor, wake: make(chan struct{}, 1), fetches: make(chan struct{}, hostFetches)}
	h.seen.Rules = make(map[Rule]int64)
	h.queue = newQueue(r, row.cursor)
	h.queue.work = h.work
	return h
}

// task is work in the background that is done once at a time. Who asks for it while it is under way
// has it done once more: what is asked for may have come too late for it.
type task struct {
	// mu guards these. It is taken before Relay.mu.
	mu    sync.Mutex
	busy  bool // it is under way
	rerun bool // it is to be done once more
}

// start does the work in the background, and reports false if the relay does not run.
func (t *task) start(r *Relay, work func(ctx context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy {
		t.rerun = true
		return true
	}
	t.busy = r.background(func(ctx context.Context) {
		for more := true; more; more = t.more(ctx) {
			work(ctx)
		}
	})
	return t.busy
}

// more reports whether the work is to be done once more.
func (t *task) more(ctx context.Context) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy, t.rerun = t.rerun && ctx.Err() == nil, false
	return t.busy
}

// policy returns the policy that holds.
func (h *host) policy() Policy {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.row.Policy != nil {
		return *h.row.Policy
	}
	return h.r.Policy
}

// limits returns the limits that hold.
func (h *host) limits() Limits {
	h.mu.Lock()
	own := h.row.Limits
	h.mu.Unlock()
	return h.r.limitsOf(h.name, own)
}

// counted takes over counts of hosts, unless newer ones are known.
func (r *Relay) counted(counts map[string]countRow) {
	for name, c := range counts {
		if h := r.host(name); h != nil {
			h.mu.Lock()
			if c.Version < h.row.count.Version {
				c = h.row.count
			}
			h.row.count = c
			h.mu.Unlock()
			if most := h.limits().Accounts; c.Throttled > 0 && (most < 0 || c.Accounts-c.Throttled < most) {
				h.fill()
			}
		}
	}
}

// fill gives throttled accounts the places that have become free, in the background.
func (h *host) fill() {
	h.filling.start(h.r, func(ctx context.Context) {
		if err := h.r.catchUp(ctx, h); err != nil && ctx.Err() == nil {
			h.note(err)
		}
	})
}

// host returns a host, or nil.
func (r *Relay) host(name string) *host {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hosts[name]
}

// note remembers what went wrong.
func (h *host) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen.Error = errorText(err)
}

// errorText is an error for operators. Hosts may have chosen what it says.
func errorText(err error) string {
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "…"
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

const maxErrorText = 1000

// count counts what became of a message.
func (h *host) count(it *item, o outcome) {
	h.mu.Lock()
	if o.rule != "" {
		h.seen.Rules[o.rule]++
	}
	if o.result == Passed {
		h.seen.Passed++
	}
	h.mu.Unlock()
	if h.r.Observe != nil {
		h.r.Observe(Observation{Host: h.name, Kind: it.kind, Result: o.result, Rule: o.rule, Bytes: len(it.payload), Waited: h.r.Now().Sub(it.at)})
	}
}

// info returns what is known of the host.
func (h *host) info() Host {
	policy, limits := h.policy(), h.limits()
	seq, _ := h.queue.position()
	bytes, lanes := h.queue.load()
	banned := h.r.banned(h.name) != nil
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.seen
	out.Name, out.Relay, out.Local, out.Added = h.name, h.row.Relay, h.row.Local, h.row.Added
	out.Policy, out.Limits, out.Seq = policy, limits, seq
	out.Accounts, out.Throttled = h.row.count.Accounts, h.row.count.Throttled
	out.Waiting, out.Lanes = bytes, lanes
	out.Rules = make(map[Rule]int64, len(h.seen.Rules))
	for rule, n := range h.seen.Rules {
		out.Rules[rule] = n
	}
	switch {
	case banned:
		out.Status = HostBanned
	case out.Failures >= offlineAfter:
		out.Status = HostOffline
	case h.slow:
		out.Status = HostThrottled
	case !out.Connected.IsZero():
		out.Status = HostActive
	default:
		out.Status = HostIdle
	}
	return out
}

// pace counts a message that has come, and waits until the host's rate allows for it.
func (h *host) pace(ctx context.Context) error {
	limits, now := h.limits(), h.r.Now()
	h.mu.Lock()
	wait := h.rate.take(now, limits.Rate, limits.Burst)
	h.seen.Messages++
	h.seen.Heard = now
	h.slow = wait > time.Second
	h.mu.Unlock()
	return sleep.For(ctx, wait)
}

// admit takes a message in, at the host's rate.
func (h *host) admit(ctx context.Context, did syntax.DID, it *item) error {
	it.at = h.r.Now()
	if err := h.pace(ctx); err != nil {
		return err
	}
	return h.queue.put(ctx, did, it)
}

// Limits on how often a host can make the relay fetch documents again, or fetch those of accounts
// that are not known to be its own. Documents of accounts that prove to be the host's do not count,
// if the host has room for the account: a host can make up any number of did:web accounts.
const (
	refreshRate  = 5
	refreshBurst = 200
)

// mayRefresh waits until a document may be fetched anew on behalf of the host.
func (h *host) mayRefresh(ctx context.Context) bool {
	h.mu.Lock()
	wait := h.refreshes.take(h.r.Now(), refreshRate, refreshBurst)
	h.mu.Unlock()
	return sleep.For(ctx, wait) == nil
}

// refund gives back what mayRefresh took.
func (h *host) refund() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refreshes.tokens = min(h.refreshes.tokens+1, refreshBurst)
}

// parseHost reads the name of a host, as requestCrawl is given it. "https://" before it is left
// out.
func (r *Relay) parseHost(text string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(text, "https://"), "/"))
	name = strings.TrimSuffix(strings.TrimPrefix(name, "http://"), ".")
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("%w: %.260q %s", ErrHostname, text, why)
	}
	plain, port, hasPort := strings.Cut(name, ":")
	switch local := plain == "localhost"; {
	case local && !r.Development:
		return bad("is of this machine")
	case hasPort && !local:
		return bad("has a port")
	case hasPort:
		if u, err := url.Parse("http://" + name); err != nil || u.Port() != port || port == "" {
			return bad("has no valid port")
		}
		return name, nil
	case local:
		return name, nil
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return bad("is an address")
	}
	if _, err := syntax.ParseHandle(name); err != nil { // which are host names
		return bad("is no host name")
	}
	return name, nil
}

// hostOf returns the name of the host of an address in a DID document, or that it is none that can
// be followed.
func (r *Relay) hostOf(endpoint string) (string, bool) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Path != "" {
		return "", false
	}
	name := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		name = strings.TrimSuffix(name, ":443")
	}
	return strings.TrimSuffix(name, "."), name != ""
}

// url returns the address of a host's methods.
func (r *Relay) url(name string) string {
	scheme := "https"
	if plain, _, _ := strings.Cut(name, ":"); r.Development && plain == "localhost" {
		scheme = "http"
	}
	return scheme + "://" + name + "/xrpc/"
}

// get makes a request to a host. The caller closes the body.
func (r *Relay) get(ctx context.Context, name, method string, params url.Values) (*http.Response, error) {
	u := r.url(name) + method
	if len(params) > 0 {
		u += "?" + params.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", serverName)
	return r.HTTP.Do(req)
}
