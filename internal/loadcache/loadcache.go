// Package loadcache caches values that are slow to load and may not exist: documents of other
// servers.
//
// A value is fresh for some time, a failure for a shorter time. An expired value is used for some
// more time if it cannot be loaded again. There is at most one load of each key at a time, which
// all callers share. The least recently used entries are dropped first.
package loadcache

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// Config says how long a cache believes what it holds. All fields without a default must be set.
type Config[K comparable, V any] struct {
	TTL      time.Duration // of values
	Stale    time.Duration // beyond TTL, while values cannot be loaded anew; negative: not at all
	Negative time.Duration // of errors, and between attempts while stale
	Timeout  time.Duration // of a load
	Max      int           // sum of costs
	Now      func() time.Time

	// Cost is that of a value, at least 1; nil: 1. An error costs 1.
	Cost func(V) int
	// Final reports errors that say something about the key, rather than that nothing could be
	// learned: they take the place of a stale value. nil: no error does.
	Final func(error) bool
	// GaveUp makes the error of a Get whose context ended, out of the context's; nil: that itself.
	GaveUp func(K, error) error
}

// Cache is a cache. Make one with New. It is safe for concurrent use. Values are shared.
type Cache[K comparable, V any] struct {
	Config[K, V]

	mu      sync.Mutex
	entries map[K]*list.Element // of *entry[K, V]
	recent  list.List           // the most recently used in front
	total   int                 // sum of costs
	flights map[K]*flight[V]
}

// entry does not change once others can see it.
type entry[K comparable, V any] struct {
	key     K
	value   V
	err     error     // instead of a value
	loaded  time.Time // when
	checked time.Time // when it was last tried to load it
	until   time.Time // when the next load is due
	cost    int
}

type flight[V any] struct {
	done  chan struct{} // closed when value and err are set
	value V
	err   error
}

// New returns an empty cache.
func New[K comparable, V any](cfg Config[K, V]) *Cache[K, V] {
	return &Cache[K, V]{Config: cfg, entries: make(map[K]*list.Element), flights: make(map[K]*flight[V])}
}

// Load loads a value. old is what the cache held, if it held one.
type Load[V any] func(ctx context.Context, old V, held bool) (V, error)

// Get returns what the cache holds, or else loads it. A load goes on when those who wait for it
// give up, as others may be waiting too.
func (c *Cache[K, V]) Get(ctx context.Context, key K, load Load[V]) (V, error) {
	c.mu.Lock()
	var old *entry[K, V]
	if el := c.entries[key]; el != nil {
		c.recent.MoveToFront(el)
		// What was loaded in the future was loaded before the clock went back: its time means
		// nothing.
		if old = el.Value.(*entry[K, V]); !c.Now().Before(old.checked) && c.Now().Before(old.until) {
			c.mu.Unlock()
			return old.value, old.err
		}
	}
	f := c.flights[key]
	if f == nil {
		f = &flight[V]{done: make(chan struct{})}
		c.flights[key] = f
		go c.fly(context.WithoutCancel(ctx), key, f, old, load)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		if c.GaveUp == nil {
			return none, ctx.Err()
		}
		return none, c.GaveUp(key, ctx.Err())
	}
}

func (c *Cache[K, V]) fly(ctx context.Context, key K, f *flight[V], old *entry[K, V], load Load[V]) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var before V
	held := old != nil && old.err == nil
	if held {
		before = old.value
	}
	v, err := load(ctx, before, held)

	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	f.value, f.err = v, err
	now := c.Now()
	e := &entry[K, V]{key: key, value: v, loaded: now, checked: now, until: now.Add(c.TTL), cost: 1}
	switch {
	case err == nil:
		if c.Cost != nil {
			e.cost = c.Cost(v)
		}
	case held && now.Before(old.loaded.Add(c.TTL+c.Stale)) && (c.Final == nil || !c.Final(err)):
		*e = *old // stale is better than nothing
		e.checked, e.until = now, now.Add(c.Negative)
		f.value, f.err = e.value, nil
	default:
		var none V
		e.value, e.err, e.until = none, err, now.Add(c.Negative)
		f.value = none
	}
	if c.flights[key] != f {
		return // purged meanwhile: what was loaded may be what the purge was about
	}
	delete(c.flights, key)
	c.put(e)
}

// put stores an entry and makes room for it.
func (c *Cache[K, V]) put(e *entry[K, V]) {
	c.drop(e.key)
	c.entries[e.key] = c.recent.PushFront(e)
	c.total += e.cost
	for c.total > c.Max && c.recent.Len() > 1 {
		c.drop(c.recent.Back().Value.(*entry[K, V]).key)
	}
}

func (c *Cache[K, V]) drop(key K) {
	if el := c.entries[key]; el != nil {
		c.total -= el.Value.(*entry[K, V]).cost
		c.recent.Remove(el)
		delete(c.entries, key)
	}
}

// Purge forgets a key, and makes the next Get load it even if a load is under way.
// It returns the value that the cache held.
func (c *Cache[K, V]) Purge(key K) (value V, held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, key)
	if el := c.entries[key]; el != nil {
		e := el.Value.(*entry[K, V])
		value, held = e.value, e.err == nil
	}
	c.drop(key)
	return value, held
}

// Stats returns how many keys the cache holds, the sum of their costs, and how many loads are under
// way.
func (c *Cache[K, V]) Stats() (entries, cost, loads int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries), c.total, len(c.flights)
}
