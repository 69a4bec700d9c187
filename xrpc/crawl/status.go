package crawl

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RelayStatus is the state of a relay.
type RelayStatus struct {
	Relay string // its address
	// Request is the last request, and AskedAt when it was answered; zero: there was none.
	Request Request
	AskedAt time.Time
	// Check is the last check, and CheckedAt when it ended; zero: there was none.
	Check     Check
	CheckedAt time.Time
	// Planned is when the next request is made, if one is scheduled.
	Planned time.Time
}

// Status returns the state of each relay, in the order of Relays. It is empty while the Notifier
// does not run.
func (n *Notifier) Status() (list []RelayStatus) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.relays {
		r.mu.Lock()
		s := RelayStatus{Relay: r.client.Host, Request: r.asked, AskedAt: r.askedAt, Check: r.checked, CheckedAt: r.checkedAt}
		if r.plan.reason != "" {
			s.Planned = r.plan.due
		}
		r.mu.Unlock()
		list = append(list, s)
	}
	return list
}

// Errors of Ask and Look.
var (
	// ErrNoRelay: the Notifier has no such relay, or does not run.
	ErrNoRelay = errors.New("crawl: no such relay is asked")
	// ErrTooSoon: the relay was asked a moment ago, or has asked for a longer delay.
	ErrTooSoon = errors.New("crawl: too soon")
)

// leastOrder is the least time between requests, or looks, that an operator orders.
const leastOrder = 10 * time.Second

// Ask asks a relay to read the host now, independently of the schedule. The relay is named by its
// URL in Status. The request and its failure affect the schedule like any other.
func (n *Notifier) Ask(ctx context.Context, relay string) (Request, error) {
	r, err := n.relay(relay)
	if err != nil {
		return Request{}, err
	}
	r.mu.Lock()
	now := r.n.now()
	wait := later(r.plan.last.Add(leastOrder), r.plan.notBefore)
	if now.Before(wait) {
		r.mu.Unlock()
		return Request{}, fmt.Errorf("%w: the relay can be asked again at %s", ErrTooSoon, wait.UTC().Format(time.RFC3339))
	}
	r.plan.order(now)
	r.mu.Unlock()
	req, ended := r.request(ctx, Ordered)
	if ended {
		return req, ctx.Err()
	}
	r.change(func(*schedule, time.Time) {}) // what is planned may have changed
	return req, nil
}

// Look checks now what a relay knows of the host. It does not affect the schedule.
func (n *Notifier) Look(ctx context.Context, relay string) (Check, error) {
	r, err := n.relay(relay)
	if err != nil {
		return Check{}, err
	}
	r.mu.Lock()
	now := r.n.now()
	if now.Before(r.ordered.Add(leastOrder)) {
		r.mu.Unlock()
		return Check{}, ErrTooSoon
	}
	r.ordered = now
	r.mu.Unlock()
	return r.look(ctx, false), ctx.Err()
}

func (n *Notifier) relay(address string) (*relay, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.relays {
		if r.client.Host == address {
			return r, nil
		}
	}
	return nil, ErrNoRelay
}
