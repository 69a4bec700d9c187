package limit

import (
	"net/netip"
	"sync"
)

// Budget bounds a number of bytes, in total and for each network. Set the fields before use. The
// zero Budget has no bounds. It is safe for concurrent use.
type Budget struct {
	// Name is used in errors.
	Name string
	// Total bounds the bytes of all clients, and PerNetwork those of one network. 0: no bound.
	Total, PerNetwork int64

	mu   sync.Mutex
	used int64
	by   map[netip.Prefix]int64
}

// Take takes n bytes for a client, or takes none and returns an *Error.
func (b *Budget) Take(c Client, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	mine := b.by[c.Network]
	switch {
	case b.PerNetwork > 0 && mine+n > b.PerNetwork:
		return &Error{What: b.Name, Own: true, RetryAfter: retryAfter}
	case b.Total > 0 && b.used+n > b.Total:
		return &Error{What: b.Name, RetryAfter: retryAfter}
	}
	b.set(c.Network, mine+n)
	b.used += n
	return nil
}

// Give returns n bytes that Take took.
func (b *Budget) Give(c Client, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(c.Network, b.by[c.Network]-n)
	b.used -= n
}

func (b *Budget) set(network netip.Prefix, n int64) {
	if n == 0 {
		delete(b.by, network)
		return
	}
	if b.by == nil {
		b.by = make(map[netip.Prefix]int64)
	}
	b.by[network] = n
}

// Used returns how many bytes are taken.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
