package resolve

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// policy says how long a cache believes what it holds. See the fields of Resolver.
type policy struct {
	ttl, stale, negative, timeout time.Duration
	max                           int // sum of costs
}

// cache keeps schemas and failures, the least recently used leaving first. At most one load of
// an NSID is under way; it goes on when those who wait for it give up, as others may be waiting
// too.
type cache struct {
	policy
	now func() time.Time

	mu      sync.Mutex
	entries map[syntax.NSID]*list.Element // of *entry
	recent  list.List                     // the most recently used in front
	total   int                           // sum of costs
	flights map[syntax.NSID]*flight
}

type entry struct {
	id     syntax.NSID
	schema *Schema // nil: err
	err    *Error
	loaded time.Time
	until  time.Time // when the next load is due
}

type flight struct {
	done   chan struct{} // closed when schema and err are set
	schema *Schema
	err    *Error
}

type loader func(ctx context.Context, old *Schema) (*Schema, *Error)

func newCache(p policy, now func() time.Time) *cache {
	return &cache{policy: p, now: now, entries: make(map[syntax.NSID]*list.Element), flights: make(map[syntax.NSID]*flight)}
}

// get returns what the cache holds, or loads it.
func (c *cache) get(ctx context.Context, id syntax.NSID, load loader) (*Schema, error) {
	c.mu.Lock()
	var old *entry
	if el := c.entries[id]; el != nil {
		c.recent.MoveToFront(el)
		old = el.Value.(*entry)
		if c.now().Before(old.until) {
			defer c.mu.Unlock()
			return old.result()
		}
	}
	f := c.flights[id]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		c.flights[id] = f
		go c.fly(context.WithoutCancel(ctx), id, f, old, load)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		if f.err != nil {
			return nil, f.err
		}
		return f.schema, nil
	case <-ctx.Done():
		return nil, &Error{ID: id, Kind: ErrUnavailable, Err: ctx.Err()}
	}
}

func (e *entry) result() (*Schema, error) {
	if e.err != nil {
		return nil, e.err
	}
	return e.schema, nil
}

func (c *cache) fly(ctx context.Context, id syntax.NSID, f *flight, old *entry, load loader) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var before *Schema
	if old != nil {
		before = old.schema
	}
	f.schema, f.err = load(ctx, before)

	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	delete(c.flights, id)
	now := c.now()
	e := &entry{id: id, schema: f.schema, err: f.err, loaded: now, until: now.Add(c.ttl)}
	if f.err != nil {
		e.until = now.Add(c.negative)
		if before != nil && now.Before(old.loaded.Add(c.ttl+c.stale)) { // stale is better than nothing
			e.schema, e.err, e.loaded = before, nil, old.loaded
			f.schema, f.err = before, nil
		}
	}
	c.put(e)
}

// put stores an entry and makes room for it.
func (c *cache) put(e *entry) {
	c.drop(c.entries[e.id])
	c.entries[e.id] = c.recent.PushFront(e)
	c.total += e.cost()
	for c.total > c.max && c.recent.Len() > 1 {
		c.drop(c.recent.Back())
	}
}

func (c *cache) drop(el *list.Element) {
	if el != nil {
		e := el.Value.(*entry)
		c.total -= e.cost()
		c.recent.Remove(el)
		delete(c.entries, e.id)
	}
}

func (e *entry) cost() int {
	if e.schema == nil {
		return 1
	}
	return 1 + e.schema.size>>13
}
