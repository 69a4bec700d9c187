package pds

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/internal/platform"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// relays recognises the relays of the configuration by the addresses of their names, so that there
// is always room for their subscriptions. A relay that calls from elsewhere is a client like any
// other.
type relays struct {
	hosts []string // URLs
	// lookUp returns the addresses of a name. Nil: the system's resolver.
	lookUp func(ctx context.Context, host string) ([]netip.Addr, error)

	known atomic.Pointer[map[netip.Prefix]bool]
}

const (
	relayLookUps = time.Hour   // how often names are looked up
	relayRetry   = time.Minute // after a failure
	relayTimeout = 10 * time.Second
)

// contains reports whether an address is a relay's.
func (r *relays) contains(a netip.Addr) bool {
	known := r.known.Load()
	return known != nil && (*known)[limit.NetworkOf(a)]
}

// run looks names up, now and then, until the context ends.
func (r *relays) run(ctx context.Context) {
	if len(r.hosts) == 0 {
		return
	}
	for {
		wait := relayLookUps
		if !r.refresh(ctx) {
			wait = relayRetry
		}
		if sleep.For(ctx, wait) != nil {
			return
		}
	}
}

// refresh looks all names up. It reports whether it found them; if not, what was known before
// stays.
func (r *relays) refresh(ctx context.Context) (found bool) {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	next := make(map[netip.Prefix]bool)
	found = true
	for _, h := range r.hosts {
		u, err := url.Parse(h)
		if err != nil {
			continue
		}
		addrs, err := r.addresses(ctx, u.Hostname())
		found = found && err == nil
		for _, a := range addrs {
			next[limit.NetworkOf(a)] = true
		}
	}
	if old := r.known.Load(); !found && old != nil {
		for network := range *old {
			next[network] = true
		}
	}
	r.known.Store(&next)
	return found
}

var errNoDNS = errors.New("pds: there are no sockets to ask DNS by")

func (r *relays) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if r.lookUp != nil {
		return r.lookUp(ctx, host)
	}
	if platform.Wasm {
		return nil, errNoDNS
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
