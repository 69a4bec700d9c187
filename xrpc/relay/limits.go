package relay

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"
)

// Limits bound a host. A zero field means that of DefaultLimits; a negative one means no bound.
type Limits struct {
	// Accounts is the maximum number of accounts. Further ones are throttled: nothing of them is
	// passed on until there is room or the limit is raised. Then they are caught up.
	Accounts int64 `json:"accounts,omitempty"`
	// Rate is the average number of messages a second that are read. A faster host is read later;
	// nothing is dropped.
	Rate float64 `json:"rate,omitempty"`
	// Burst is how many messages may arrive at once.
	Burst int64 `json:"burst,omitempty"`
}

// DefaultLimits are the limits of hosts without other limits. The burst allows a small host to
// import a repository. The rate is that of some ten thousand accounts.
var DefaultLimits = Limits{Accounts: 100, Rate: 50, Burst: 20_000}

// or fills in the fields that are zero.
func (l Limits) or(def Limits) Limits {
	return Limits{cmp.Or(l.Accounts, def.Accounts), cmp.Or(l.Rate, def.Rate), cmp.Or(l.Burst, def.Burst)}
}

// limitsOf returns the limits that hold for a host.
func (r *Relay) limitsOf(name string, own *Limits) Limits {
	var l Limits
	if own != nil {
		l = *own
	}
	best := ""
	for domain := range r.DomainLimits {
		if inDomain(name, domain) && len(domain) > len(best) {
			best = domain
		}
	}
	if best != "" {
		l = l.or(r.DomainLimits[best])
	}
	return l.or(r.Limits).or(DefaultLimits)
}

// inDomain reports whether a host is the domain or below it.
func inDomain(host, domain string) bool {
	rest, ok := strings.CutSuffix(host, domain)
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}

// bucket is a token bucket: it fills at a rate up to a size. It is for use under a lock.
type bucket struct {
	tokens float64
	at     time.Time
}

// take takes a token, and returns how long to wait for it.
func (b *bucket) take(now time.Time, rate float64, size int64) time.Duration {
	if rate < 0 || size < 0 {
		return 0
	}
	if b.at.IsZero() {
		b.tokens, b.at = float64(size), now
	}
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(float64(size), b.tokens+d.Seconds()*rate)
	}
	b.at = now // also if the clock went back
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / rate * float64(time.Second))
}

// budget is a number of bytes that many share.
type budget struct {
	limit int64

	mu      sync.Mutex
	used    int64
	changed chan struct{} // closed when there is more room; nil: nobody waits
}

// take takes n bytes if there is room, or else returns a channel that is closed when there may be.
func (b *budget) take(n int64, always bool) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if always || b.used == 0 || b.used+n <= b.limit {
		b.used += n
		return nil
	}
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// halfUsed reports whether less than half of the bytes are left.
func (b *budget) halfUsed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used > b.limit/2
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// places are for large frames that are read at the same time.
type places chan struct{}

// acquire waits for a place.
func (p places) acquire(ctx context.Context) (leave func(), err error) {
	select {
	case p <- struct{}{}:
		return func() { <-p }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// recentlyDone remembers when something was last done for each of a bounded number of keys.
type recentlyDone struct {
	// mu guards these. No other lock is taken while it is held.
	mu   sync.Mutex
	m    map[string]time.Time // the newer half
	last map[string]time.Time // the older half
}

// maxRecentlyDone bounds the keys of each half of a recentlyDone.
const maxRecentlyDone = 10_000

// doneWithin reports whether it was done for the key within a time, and if not, notes that it is
// now.
func (s *recentlyDone) doneWithin(key string, now time.Time, within time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.m[key]
	if !ok {
		at, ok = s.last[key]
	}
	if d := now.Sub(at); ok && d >= 0 && d < within {
		return true
	}
	if s.m == nil || len(s.m) >= maxRecentlyDone {
		s.m, s.last = make(map[string]time.Time), s.m
	}
	s.m[key] = now
	return false
}

// lastDone returns when it was last done for a key; zero: not that anybody remembers.
func (s *recentlyDone) lastDone(key string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.m[key]; ok {
		return at
	}
	return s.last[key]
}
