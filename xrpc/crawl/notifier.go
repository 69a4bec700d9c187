package crawl

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/sleep"
)

// Log is the part of a host's event log that a Notifier uses; storage.Events implements it.
type Log interface {
	// Bounds returns the span of the log. newest is the greatest number ever assigned.
	Bounds(ctx context.Context) (oldest, newest int64, err error)
	// Wait returns nil as soon as an event newer than seq is visible, or the
	// context's error.
	Wait(ctx context.Context, seq int64) error
}

// Notifier asks relays to read a host, and checks whether they do. Hostname and Events are
// required. Do not change its fields after Run was called.
type Notifier struct {
	// Hostname is the name of this host, "pds.example.com". Relays reach it by HTTPS.
	Hostname string
	// Relays are the URLs of the relays, "https://relay.example.net". Without a scheme, HTTPS is
	// used.
	Relays []string
	// Events is the host's log. Relays are asked when it grows.
	Events Log
	// Subscribers returns the number of subscribers of the host's stream; see stream.Outbox. While
	// it is 0, relays are asked sooner. Nil: there is always one.
	Subscribers func() int
	// HTTP makes the requests. Nil: the client of safehttp.NewClient, which connects only to public
	// addresses.
	HTTP *http.Client
	// Interval is the minimum time between requests to one relay because of writes. 0: 20 minutes.
	Interval time.Duration
	// Soon is the minimum time between requests while there are no subscribers, and before a failed
	// request is repeated. It doubles each time, up to Interval. 0: 1 minute.
	Soon time.Duration
	// Grace is how long there may be no subscribers before relays are asked, since they often
	// reconnect by themselves. 0: 30 seconds.
	Grace time.Duration
	// CheckInterval is the time between two checks of what a relay knows. 0: 1 hour; negative:
	// none.
	CheckInterval time.Duration
	// Timeout bounds each request. 0: 30 seconds.
	Timeout time.Duration
	// Now is the clock for scheduling requests. Nil: time.Now.
	Now func() time.Time
	// Asked, if not nil, is called after each request, and Checked after each check. They are
	// called from one goroutine for each relay, which waits for them, and by Ask and Look.
	Asked   func(Request)
	Checked func(Check)

	mu     sync.Mutex
	relays []*relay // while it runs, or has Rounds
}

// Reason is the reason for a request.
type Reason string

// The reasons.
const (
	Start     Reason = "start"     // the host has started
	Written   Reason = "written"   // there are new events
	Unwatched Reason = "unwatched" // there are new events, or the last subscriber has left, and nobody is subscribed
	Checked   Reason = "checked"   // the relay has said that it does not follow the host
	Ordered   Reason = "ordered"   // the operator wants it: see Notifier.Ask
)

// Request is a request to crawl, with its result.
type Request struct {
	Relay  string // its address
	Reason Reason
	// Err is the error of a failed request; it is an *xrpc.Error if the relay refused.
	Err error
	// Retry is when the request is repeated; zero: not for the same reason.
	Retry time.Time
}

// errNoHost: a Notifier is of no use.
var errNoHost = errors.New("crawl: Notifier without Hostname or Events")

// settle is how long a Notifier looks away after it has seen the log grow.
const settle = 5 * time.Second

// Run asks the relays, as the package comment describes, until the context ends. Start it when the
// host serves requests. It returns the context's error or one of the log; errors of relays do not
// end it. It may be called again after it has returned, but not concurrently.
func (n *Notifier) Run(ctx context.Context) error {
	if n.Hostname == "" || n.Events == nil {
		return errNoHost
	}
	_, newest, err := n.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer n.setRelays(nil)
	defer cancel()
	var relays []*relay
	for _, address := range n.Relays {
		r := n.newRelay(address, newest)
		r.change(func(s *schedule, now time.Time) { s.planRequest(Start, now) })
		relays = append(relays, r)
		wait.Go(func() { r.run(ctx) })
	}
	n.setRelays(relays)
	for {
		if err := n.Events.Wait(ctx, newest); err != nil {
			return err
		}
		if _, newest, err = n.Events.Bounds(ctx); err != nil {
			return err
		}
		watched := n.watched()
		for _, r := range relays {
			r.change(func(s *schedule, now time.Time) { s.written(now, watched) })
		}
		if err := sleep.For(ctx, settle); err != nil {
			return err
		}
	}
}

// Left says that the last subscriber has left. If there is none after Grace, the relays are asked.
// It does not block, and does nothing while the Notifier does not run.
func (n *Notifier) Left() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.relays {
		r.change(func(s *schedule, now time.Time) {
			s.planRequest(Unwatched, now.Add(orDefault(n.Grace, 30*time.Second)))
		})
	}
}

func (n *Notifier) setRelays(relays []*relay) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.relays = relays
}

// watched reports whether anybody is subscribed.
func (n *Notifier) watched() bool { return n.Subscribers == nil || n.Subscribers() > 0 }

func (n *Notifier) now() time.Time {
	if n.Now != nil {
		return n.Now()
	}
	return time.Now()
}

func (n *Notifier) newRelay(address string, newest int64) *relay {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	timeout := orDefault(n.Timeout, 30*time.Second)
	client := n.HTTP
	if client == nil {
		client = safehttp.NewClient(safehttp.Config{Timeout: timeout})
	}
	r := &relay{n: n, timeout: timeout, seen: newest, wake: make(chan struct{}, 1)}
	r.client.Host, r.client.HTTP, r.client.Retries = address, client, -1
	r.plan.interval = orDefault(n.Interval, 20*time.Minute)
	r.plan.soon = min(orDefault(n.Soon, time.Minute), r.plan.interval)
	r.plan.gap = r.plan.soon
	return r
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
