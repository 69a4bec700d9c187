package limit

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Gate bounds the number of concurrent holders, in total and for each network. Others wait.
// Networks are served in turn, those that hold least first. So a network with a thousand waiting
// requests delays the only request of another network by at most one place.
//
// Set the fields before use. The zero Gate has no bounds. It is safe for concurrent use.
type Gate struct {
	// Name is used in errors.
	Name string
	// Total bounds the holders. 0: no bound.
	Total int
	// PerNetwork bounds the holders of one network. 0: no bound.
	PerNetwork int
	// Reserved is how many places of Total are reserved for networks that hold none.
	Reserved int
	// Privileged is how many places of Total are reserved for privileged clients.
	Privileged int
	// Queue bounds the number of waiting requests, and QueuePerNetwork those of one network (0: the
	// same as Queue). If the queue is full, a request of a network with few waiting requests
	// replaces one of a network with more. 0: nobody waits.
	Queue, QueuePerNetwork int
	// Wait bounds the time of waiting. 0: 10 seconds.
	Wait time.Duration

	mu      sync.Mutex
	shares  map[netip.Prefix]*share // of networks that hold or wait
	held    int
	waiting int
	turns   []*share // with a queue; the next one to be served first
}

// share is what one network holds.
type share struct {
	network netip.Prefix
	held    int
	queue   []*waiter
}

type waiter struct {
	client Client
	done   chan struct{} // closed when it is let in, or turned away with err
	err    error
}

// Enter waits for a place and takes it. The caller must call leave when it no longer needs the
// place; further calls of leave do nothing. The error is an *Error if there is no room, or the
// context's error.
func (g *Gate) Enter(ctx context.Context, c Client) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	s := g.share(c.Network)
	if len(s.queue) == 0 && g.fits(s, c) {
		g.take(s)
		g.mu.Unlock()
		return g.releaser(s), nil
	}
	w, err := g.enqueue(s, c)
	g.drop(s)
	g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	limit := g.Wait
	if limit == 0 {
		limit = 10 * time.Second
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.done: // perhaps at the same moment
		if w.err == nil && ctx.Err() != nil {
			g.release(s)
			return nil, ctx.Err()
		}
		if w.err != nil {
			return nil, w.err
		}
		return g.releaser(s), nil
	default:
	}
	if err == nil {
		err = g.refusal(s)
	}
	g.remove(s, w)
	return nil, err
}

// Held returns how many places are taken.
func (g *Gate) Held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// Waiting returns how many wait for a place.
func (g *Gate) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// share returns the share of a network. The caller holds the lock, as for all that follows.
func (g *Gate) share(n netip.Prefix) *share {
	s := g.shares[n]
	if s == nil {
		if g.shares == nil {
			g.shares = make(map[netip.Prefix]*share)
		}
		s = &share{network: n}
		g.shares[n] = s
	}
	return s
}

// drop forgets a share that is empty.
func (g *Gate) drop(s *share) {
	if s.held == 0 && len(s.queue) == 0 {
		delete(g.shares, s.network)
	}
}

// fits reports whether there is a place for a client.
func (g *Gate) fits(s *share, c Client) bool {
	if g.PerNetwork > 0 && s.held >= g.PerNetwork {
		return false
	}
	if g.Total == 0 {
		return true
	}
	room := g.Total
	if !c.Privileged {
		room -= g.Privileged
		if s.held > 0 {
			room -= g.Reserved
		}
	}
	return g.held < max(room, 1)
}

func (g *Gate) take(s *share) {
	s.held++
	g.held++
}

// release gives a place back and lets others in.
func (g *Gate) release(s *share) {
	s.held--
	g.held--
	for g.letIn() {
	}
	g.drop(s)
}

// releaser is the function that gives a place back.
func (g *Gate) releaser(s *share) func() {
	var once sync.Once
	return func() {
		once.Do(func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.release(s)
		})
	}
}

// letIn lets in one of those who wait, if there is a place.
func (g *Gate) letIn() bool {
	best := -1
	for i, s := range g.turns {
		if g.fits(s, s.queue[0].client) && (best < 0 || s.held < g.turns[best].held) {
			best = i
		}
	}
	if best < 0 {
		return false
	}
	s := g.turns[best]
	w := s.queue[0]
	g.take(s)
	g.turns = append(append(g.turns[:best:best], g.turns[best+1:]...), s) // its next turn is the last
	g.remove(s, w)
	close(w.done)
	return true
}

// enqueue makes a client wait.
func (g *Gate) enqueue(s *share, c Client) (*waiter, error) {
	most := g.QueuePerNetwork
	if most == 0 {
		most = g.Queue
	}
	if len(s.queue) >= most {
		return nil, g.refusal(s)
	}
	if g.waiting >= g.Queue {
		longest := s
		for _, t := range g.turns {
			if len(t.queue) > len(longest.queue) {
				longest = t
			}
		}
		if len(longest.queue) <= len(s.queue)+1 {
			return nil, g.refusal(s)
		}
		last := longest.queue[len(longest.queue)-1]
		last.err = &Error{What: g.Name, Own: true, RetryAfter: retryAfter}
		g.remove(longest, last)
		close(last.done)
	}
	w := &waiter{client: c, done: make(chan struct{})}
	if len(s.queue) == 0 {
		g.turns = append(g.turns, s)
	}
	s.queue = append(s.queue, w)
	g.waiting++
	return w, nil
}

// remove takes one that waits out of its queue.
func (g *Gate) remove(s *share, w *waiter) {
	for i, x := range s.queue {
		if x == w {
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
			g.waiting--
			break
		}
	}
	if len(s.queue) == 0 {
		for i, t := range g.turns {
			if t == s {
				g.turns = append(g.turns[:i:i], g.turns[i+1:]...)
				break
			}
		}
	}
	g.drop(s)
}

// refusal is the error for a network that gets no place.
func (g *Gate) refusal(s *share) *Error {
	return &Error{What: g.Name, Own: g.PerNetwork > 0 && s.held >= g.PerNetwork, RetryAfter: retryAfter}
}
