package crawl

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
)

// maxChecks is how often in a row the relays are looked at, while nothing is written, because they
// do not follow the host. Else a relay that is gone for good would wake a host for ever.
const maxChecks = 3

// Rounds is a Notifier for a host that does not run between requests, such as a Durable Object. It
// replaces Run and its timers: it says when to call [Rounds.Turn] next. The host keeps
// [Rounds.State], the bytes that it must remember until then. If nothing is written and all relays
// follow the host, it need not be woken at all. It is safe for concurrent use.
type Rounds struct {
	n      *Notifier
	relays []*relay
	turn   sync.Mutex // held by the turn that is under way

	mu       sync.Mutex
	newest   int64     // the newest event that the plans know of; negative: this is the first start
	nextLook time.Time // when the relays are looked at; zero: not until something is written
	misses   int       // how many looks in a row found a relay that does not follow
}

// roundsState is the form of what Rounds remember.
type roundsState struct {
	Newest *int64                  `json:"newest"` // nil: there has been no turn
	Look   time.Time               `json:"look,omitzero"`
	Looks  int                     `json:"looks,omitzero"`
	Relays map[string]scheduleJSON `json:"relays"`
}

// scheduleJSON is the form of a schedule, and of what a check compares with.
type scheduleJSON struct {
	Reason    Reason        `json:"reason,omitzero"`
	Due       time.Time     `json:"due,omitzero"`
	Untold    bool          `json:"untold,omitzero"`
	Last      time.Time     `json:"last,omitzero"`
	Gap       time.Duration `json:"gap,omitzero"`
	NotBefore time.Time     `json:"notBefore,omitzero"`
	Failed    int           `json:"failed,omitzero"`
	Seen      int64         `json:"seen,omitzero"`
}

// Rounds returns rounds that continue from a [Rounds.State]. An empty or invalid state means that
// the host has started for the first time. Do not call Run as well.
func (n *Notifier) Rounds(state []byte) *Rounds {
	var s roundsState
	if err := exactjson.Unmarshal(state, &s); err != nil {
		s = roundsState{}
	}
	r := &Rounds{n: n, newest: -1, nextLook: s.Look, misses: s.Looks}
	if s.Newest != nil && *s.Newest >= 0 {
		r.newest = *s.Newest
	} else {
		s.Relays = nil
	}
	now := n.now()
	for _, address := range n.Relays {
		to := n.newRelay(address, r.newest)
		if k, known := s.Relays[to.client.Host]; known {
			p := &to.plan
			p.reason, p.due, p.unreported, p.last, p.notBefore, p.failed = k.Reason, k.Due, k.Untold, k.Last, k.NotBefore, min(max(k.Failed, 0), maxTries)
			p.gap, to.seen = min(max(k.Gap, p.soon), p.interval), k.Seen
		} else {
			to.plan.planRequest(Start, now)
		}
		r.relays = append(r.relays, to)
	}
	n.setRelays(r.relays)
	return r
}

// State returns the state to keep, after Turn or Left has changed it.
func (r *Rounds) State() []byte {
	r.mu.Lock()
	s := roundsState{Look: r.nextLook, Looks: r.misses, Relays: make(map[string]scheduleJSON)}
	if newest := r.newest; newest >= 0 {
		s.Newest = &newest
	}
	r.mu.Unlock()
	for _, to := range r.relays {
		to.mu.Lock()
		p := to.plan
		s.Relays[to.client.Host] = scheduleJSON{p.reason, p.due, p.unreported, p.last, p.gap, p.notBefore, p.failed, to.seen}
		to.mu.Unlock()
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a time beyond the year 9999
	}
	return text
}

// Due returns when to call Turn, if newest is the number of the newest event. The zero time means
// not before there is a newer event, or Left was called. It does no I/O.
func (r *Rounds) Due(newest int64) (at time.Time) {
	now, watched := r.n.now(), r.n.watched()
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	r.mu.Lock()
	written := r.newest >= 0 && newest > r.newest
	if !r.nextLook.IsZero() {
		sooner(r.nextLook)
	}
	r.mu.Unlock()
	for _, to := range r.relays {
		to.mu.Lock()
		plan := to.plan
		to.mu.Unlock()
		if written {
			plan.written(now, watched)
		}
		if plan.reason != "" {
			sooner(plan.due)
		}
	}
	return at
}

// Left says that the last subscriber has left, as [Notifier.Left] does.
func (r *Rounds) Left() { r.n.Left() }

// Turn makes the requests and checks that are due, and schedules the next ones. It returns an error
// of the log or the context. Errors of relays are not returned.
func (r *Rounds) Turn(ctx context.Context) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	_, newest, err := r.n.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	now, watched := r.n.now(), r.n.watched()
	every := orDefault(r.n.CheckInterval, time.Hour)
	r.mu.Lock()
	if r.newest < 0 {
		r.newest = newest // relays are asked because of the start
		for _, to := range r.relays {
			to.mu.Lock()
			to.seen = newest
			to.mu.Unlock()
		}
	}
	if newest > r.newest {
		for _, to := range r.relays {
			to.change(func(s *schedule, now time.Time) { s.written(now, watched) })
		}
		if r.newest, r.misses = newest, 0; r.nextLook.IsZero() && every > 0 && len(r.relays) > 0 {
			r.nextLook = now.Add(every)
		}
	}
	looking := !r.nextLook.IsZero() && !now.Before(r.nextLook)
	r.mu.Unlock()
	var all sync.WaitGroup
	lost := make([]bool, len(r.relays))
	for i, to := range r.relays {
		all.Go(func() {
			if looking {
				c := to.look(ctx, true)
				lost[i] = c.Err == nil && c.Problem != None && c.Problem != Banned
			}
			if reason, ok := to.take(); ok {
				to.request(ctx, reason)
			}
		})
	}
	all.Wait()
	if looking {
		r.planLook(lost, every)
	}
	return ctx.Err()
}

// planLook plans the next look, after one that has found which relays do not follow.
func (r *Rounds) planLook(lost []bool, every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nextLook = time.Time{}
	for _, l := range lost {
		if l && r.misses < maxChecks {
			r.misses++
			r.nextLook = r.n.now().Add(every)
			return
		}
	}
	r.misses = 0
}
