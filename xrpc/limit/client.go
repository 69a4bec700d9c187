package limit

import (
	"context"
	"net/http"
	"net/netip"
)

// Client is who holds something: a network.
type Client struct {
	// Network is an IPv4 address or an IPv6 /64: whoever has one address of those has all. The zero
	// Prefix stands for all clients whose address is not known.
	Network netip.Prefix
	// Privileged clients may use the places that a Gate keeps for them.
	Privileged bool
}

// NetworkOf returns the network that an address counts for.
func NetworkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	network, _ := a.Prefix(bits) // of an invalid address: the zero Prefix
	return network
}

// addrOf returns the address of a request; invalid if it is not known.
func addrOf(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}

type clientKey struct{}

// WithClient returns a context for work that is done for a client.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// ClientOf returns the client that a context belongs to, as Limiter.Handler or WithClient set it;
// else the zero Client.
func ClientOf(ctx context.Context) Client {
	c, _ := ctx.Value(clientKey{}).(Client)
	return c
}

// From returns the client of a request: that of its context, or else the network of its RemoteAddr.
func From(r *http.Request) Client {
	if c, ok := r.Context().Value(clientKey{}).(Client); ok {
		return c
	}
	return Client{Network: NetworkOf(addrOf(r))}
}
