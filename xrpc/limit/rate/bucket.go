package rate

import (
	"sync"
	"time"
)

// Window is an allowance: a number of points in a time. A call takes one point unless stated
// otherwise.
type Window struct {
	Points int
	Length time.Duration
}

// over reports whether a window that ends then counts no more. One that ends later than a new one
// would was begun before the clock went back.
func (w Window) over(ends, now time.Time) bool {
	return !now.Before(ends) || ends.After(now.Add(w.Length))
}

// maxWindows is how many windows a limit may have.
const maxWindows = 2

// bucket counts the points that each key has used in each of its windows. A key's
// window begins with its first use and ends as a whole, so that a client can be
// told exactly how much is left and when it gets everything back. A nil bucket has no limits.
type bucket struct {
	windows []Window
	max     int // keys
	name    string
	sharing sharing

	mu      sync.Mutex
	keys    map[uint64]usage
	sweep   time.Time // not before
	pending map[uint64]pending
}

// usage is what a key has used. The zero value has used nothing.
type usage [maxWindows]struct {
	used int
	ends time.Time
}

// status is what a take found in the tightest window.
type status struct {
	Window
	left  int
	reset time.Time
	ok    bool
}

// take takes n points from all windows, or from none if one has too few left.
func (b *bucket) take(key uint64, n int, now time.Time) status {
	if b == nil {
		return status{ok: true}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	st, u := b.apply(b.keys[key], n, now)
	if st.ok {
		b.putLocked(key, u, now)
	}
	return st
}

// apply takes n points from what a key has used, or none.
func (b *bucket) apply(u usage, n int, now time.Time) (status, usage) {
	var tight status
	for i, w := range b.windows {
		if w.over(u[i].ends, now) {
			u[i].used, u[i].ends = 0, now.Add(w.Length)
		}
		s := status{Window: w, left: w.Points - u[i].used - n, reset: u[i].ends, ok: true}
		if s.left < 0 {
			s.left, s.ok = w.Points-u[i].used, false
		}
		if i == 0 || tighter(s, tight) {
			tight = s
		}
	}
	if !tight.ok {
		return tight, u
	}
	for i := range b.windows {
		u[i].used += n
	}
	return tight, u
}

func (b *bucket) get(key uint64) usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys[key]
}

func (b *bucket) put(key uint64, u usage, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putLocked(key, u, now)
}

func (b *bucket) putLocked(key uint64, u usage, now time.Time) {
	if _, known := b.keys[key]; !known && len(b.keys) >= b.max {
		b.makeRoom(now)
	}
	if b.keys == nil {
		b.keys = make(map[uint64]usage)
	}
	b.keys[key] = u
}

// has reports whether n points are left in all windows.
func (b *bucket) has(key uint64, n int, now time.Time) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.keys[key]
	for i, w := range b.windows {
		if !w.over(u[i].ends, now) && u[i].used+n > w.Points {
			return false
		}
	}
	return true
}

// give gives n points back.
func (b *bucket) give(key uint64, n int, now time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u, ok := b.keys[key]
	if !ok {
		return
	}
	for i, w := range b.windows {
		if !w.over(u[i].ends, now) {
			u[i].used = max(0, u[i].used-n)
		}
	}
	b.keys[key] = u
}

// tighter orders refusals before the rest, then by what is left. Of two
// refusals, the one that lasts longer counts.
func tighter(a, b status) bool {
	switch {
	case a.ok != b.ok:
		return !a.ok
	case !a.ok:
		return a.reset.After(b.reset)
	}
	return a.left < b.left
}

// makeRoom forgets keys whose windows have ended, or else, of some keys, the
// one that used least: a flood of new keys cannot push out one that is near its limit.
func (b *bucket) makeRoom(now time.Time) {
	if !now.Before(b.sweep) || b.sweep.After(now.Add(time.Second)) { // or the clock has gone back
		b.sweep = now.Add(time.Second)
		for key, u := range b.keys {
			if b.ended(u, now) {
				delete(b.keys, key)
			}
		}
		if len(b.keys) < b.max {
			return
		}
	}
	const sample = 16
	var victim uint64
	seen, least := 0, 0
	for key, u := range b.keys { // in an order that nobody can foresee
		if seen == 0 || u[0].used < least {
			victim, least = key, u[0].used
		}
		if seen++; seen == sample {
			break
		}
	}
	delete(b.keys, victim)
}

func (b *bucket) ended(u usage, now time.Time) bool {
	for i, w := range b.windows {
		if !w.over(u[i].ends, now) {
			return false
		}
	}
	return true
}
