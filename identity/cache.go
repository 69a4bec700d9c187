package identity

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// policy says how long a cache believes what it holds.
type policy struct {
	ttl      time.Duration // of values
	stale    time.Duration // beyond ttl, while values cannot be loaded anew
	negative time.Duration // of errors, and between attempts while stale
	timeout  time.Duration // of a load
	max      int           // sum of costs
	now      func() time.Time
}

// cache keeps what was loaded by key, the least recently used leaving first. At
// most one load of a key is under way at a time; it goes on when those who wait for
// it give up, as others may be waiting too.
type cache[K comparable, V any] struct {
	policy
	cost func(V) int // of a value; at least 1

	mu      sync.Mutex
	entries map[K]*list.Element // of *entry[K, V]
	recent  list.List           // the most recently used in front
	total   int                 // sum of costs
	flights map[K]*flight[V]
}

type entry[K comparable, V any] struct {
	key    K
	value  V
	err    error     // instead of a value
	loaded time.Time // when
	until  time.Time // when the next load is due
	cost   int
}

type flight[V any] struct {
	done  chan struct{} // closed when value and err are set
	value V
	err   error
}

func newCache[K comparable, V any](p policy, cost func(V) int) *cache[K, V] {
	return &cache[K, V]{policy: p, cost: cost, entries: map[K]*list.Element{}, flights: map[K]*flight[V]{}}
}

// get returns what the cache holds or loads it. An error of ctx ends the waiting.
func (c *cache[K, V]) get(ctx context.Context, key K, load func(context.Context) (V, error)) (V, error) {
	c.mu.Lock()
	if el := c.entries[key]; el != nil {
		c.recent.MoveToFront(el)
		if e := el.Value.(*entry[K, V]); c.now().Before(e.until) {
			c.mu.Unlock()
			return e.value, e.err
		}
	}
	f := c.flights[key]
	if f == nil {
		f = &flight[V]{done: make(chan struct{})}
		c.flights[key] = f
		go c.fly(context.WithoutCancel(ctx), key, f, load)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		return none, transportError(ctx.Err())
	}
}

func (c *cache[K, V]) fly(ctx context.Context, key K, f *flight[V], load func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	v, err := load(ctx)

	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	f.value, f.err = v, err
	if c.flights[key] != f {
		return // purged meanwhile: what was loaded may be what the purge was about
	}
	delete(c.flights, key)
	now := c.now()
	old := c.entries[key]
	switch {
	case err == nil:
		c.put(&entry[K, V]{key: key, value: v, loaded: now, until: now.Add(c.ttl), cost: c.cost(v)})
	case old != nil && !isDefinite(err) && c.usable(old.Value.(*entry[K, V]), now):
		e := *old.Value.(*entry[K, V]) // a copy: others may be reading the value
		e.until = now.Add(c.negative)
		old.Value = &e
		f.value, f.err = e.value, nil
	default:
		c.put(&entry[K, V]{key: key, err: err, loaded: now, until: now.Add(c.negative), cost: 1})
	}
}

// usable reports whether a value may still be served although it cannot be loaded
// anew.
func (c *cache[K, V]) usable(e *entry[K, V], now time.Time) bool {
	return e.err == nil && now.Before(e.loaded.Add(c.ttl+c.stale))
}

// isDefinite reports whether an error says something about the identifier, rather
// than that nothing could be learned.
func isDefinite(err error) bool {
	for _, e := range []error{ErrNotFound, ErrTombstoned, ErrAmbiguous, ErrInvalid, ErrMethod} {
		if errors.Is(err, e) {
			return !errors.Is(err, ErrUnavailable)
		}
	}
	return false
}

// put stores an entry and makes room for it.
func (c *cache[K, V]) put(e *entry[K, V]) {
	c.drop(e.key)
	c.entries[e.key] = c.recent.PushFront(e)
	c.total += e.cost
	for c.total > c.max && c.recent.Len() > 1 {
		c.drop(c.recent.Back().Value.(*entry[K, V]).key)
	}
}

func (c *cache[K, V]) drop(key K) {
	if el := c.entries[key]; el != nil {
		c.total -= el.Value.(*entry[K, V]).cost
		c.recent.Remove(el)
		delete(c.entries, key)
	}
}

// purge forgets a key, and makes the next get load it even if a load is under way.
// It returns the value that the cache held.
func (c *cache[K, V]) purge(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, key)
	if el := c.entries[key]; el != nil {
		e := el.Value.(*entry[K, V])
		value, ok = e.value, e.err == nil
	}
	c.drop(key)
	return value, ok
}
