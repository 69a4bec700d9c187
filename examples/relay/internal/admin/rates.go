package admin

import (
	"sync"
	"time"
)

// Rates are those of the last minute, in parts of ten seconds.
const (
	partTime = 10 * time.Second
	parts    = 6
)

// rates counts messages by host. Its zero value is empty.
type rates struct {
	mu    sync.Mutex
	hosts map[string]*recent
}

// recent are the counts of one host: those of the part that is under way, and of those before it.
type recent struct {
	last   int64 // number of the newest part
	counts [parts + 1]int64
}

// move forgets what is too old.
func (r *recent) move(now int64) {
	for n := min(now-r.last, parts+1); n > 0; n-- {
		r.counts[(now-n+1)%(parts+1)] = 0
	}
	r.last = max(r.last, now)
}

func part(t time.Time) int64 { return t.UnixNano() / int64(partTime) }

func (r *rates) add(host string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[host]
	if h == nil {
		if r.hosts == nil {
			r.hosts = make(map[string]*recent)
		}
		h = &recent{last: part(now)}
		r.hosts[host] = h
	}
	h.move(part(now))
	h.counts[h.last%(parts+1)]++
}

// of returns how many messages a second there were in the last whole minute.
func (r *rates) of(host string, now time.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[host]
	if h == nil {
		return 0
	}
	h.move(part(now))
	n := -h.counts[h.last%(parts+1)] // the part that is under way
	for _, count := range h.counts {
		n += count
	}
	return float64(n) / (parts * partTime).Seconds()
}
