package limit

import (
	"net/http"
	"net/netip"
	"strings"
)

// PrivateNetworks returns the networks that the official server trusts: loopback, link-local and
// private ones.
func PrivateNetworks() Proxies {
	list := []string{
		"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10",
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
	}
	networks := make(Proxies, len(list))
	for i, s := range list {
		networks[i] = netip.MustParsePrefix(s)
	}
	return networks
}

// Proxies are the networks of trusted reverse proxies.
//
// A proxy appends the address of its client to the header X-Forwarded-For. Clients may send any
// value in it. So the header is read from its end, skipping the addresses of trusted proxies: the
// first other address is the client's.
type Proxies []netip.Prefix

// ClientAddr returns the address of a request's client, or the zero Addr if the request's own
// address is unknown.
func (p Proxies) ClientAddr(r *http.Request) netip.Addr {
	own, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	from := own.Addr().Unmap()
	chain := r.Header["X-Forwarded-For"]
	for i := len(chain) - 1; i >= 0; i-- {
		rest := chain[i]
		for rest != "" {
			if !p.Contains(from) {
				return from
			}
			var last string
			if j := strings.LastIndexByte(rest, ','); j >= 0 {
				rest, last = rest[:j], rest[j+1:]
			} else {
				rest, last = "", rest
			}
			hop, ok := parseHop(strings.TrimSpace(last))
			if !ok {
				return from // who spoke so is as far as can be seen
			}
			from = hop
		}
	}
	return from
}

// Contains reports whether an address is that of a trusted proxy.
func (p Proxies) Contains(a netip.Addr) bool {
	a = a.WithZone("")
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// parseHop reads an address, which some proxies write with a port.
func parseHop(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap(), true
	}
	a, err := netip.ParseAddrPort(s)
	return a.Addr().Unmap(), err == nil
}

// Handler serves requests with the client's address as RemoteAddr. The port is 0 if there is a
// proxy. It must come before all handlers that use addresses, such as Limiter.Handler.
func (p Proxies) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header["X-Forwarded-For"]) > 0 {
			if a := p.ClientAddr(r); a.IsValid() {
				r2 := *r
				r2.RemoteAddr = netip.AddrPortFrom(a, 0).String()
				r = &r2
			}
		}
		next.ServeHTTP(w, r)
	})
}
