package limit

import (
	"context"
	"net/http"
	"net/netip"
)

// Client identifies the network of a client.
type Client struct {
	// Network is an IPv4 address or an IPv6 /64, since whoever has one address of a /64 has all of
	// them. The zero Prefix stands for all clients with unknown addresses.
	Network netip.Prefix
	// Privileged clients may use the reserved places of a Gate.
	Privileged bool
}

// NetworkOf returns the network of an address.
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

// WithClient returns a context for work on behalf of a client.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// ClientOf returns the client of a context, as set by Limiter.Handler or WithClient, or the zero
// Client.
func ClientOf(ctx context.Context) Client {
	c, _ := ctx.Value(clientKey{}).(Client)
	return c
}

// From returns the client of a request: that of its context, or the network of its RemoteAddr.
func From(r *http.Request) Client {
	if c, ok := r.Context().Value(clientKey{}).(Client); ok {
		return c
	}
	return Client{Network: NetworkOf(addrOf(r))}
}
