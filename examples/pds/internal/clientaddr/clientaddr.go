// Package clientaddr finds out which address a request came from when there are
// proxies in front of the server.
//
// A proxy adds the address that it was called from to the header
// X-Forwarded-For. Anyone else may write there what he likes. So the header is
// read from its end, for as long as the address that spoke is one of a trusted
// proxy's: the first other address is the client's.
package clientaddr

import (
	"net/http"
	"net/netip"
	"strings"
)

// Private are the networks that are trusted unless the operator says otherwise, as
// the official server does: this machine, link-local and private networks.
func Private() []netip.Prefix {
	list := []string{
		"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10",
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
	}
	networks := make([]netip.Prefix, len(list))
	for i, s := range list {
		networks[i] = netip.MustParsePrefix(s)
	}
	return networks
}

// Trust is the set of networks in which proxies are.
type Trust []netip.Prefix

// Of returns the address of a request's client; the zero Addr if the request's
// own is not known.
func (t Trust) Of(r *http.Request) netip.Addr {
	own, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	from := own.Addr().Unmap()
	chain := r.Header["X-Forwarded-For"]
	for i := len(chain) - 1; i >= 0; i-- {
		rest := chain[i]
		for rest != "" {
			if !t.Contains(from) {
				return from
			}
			var last string
			if j := strings.LastIndexByte(rest, ','); j >= 0 {
				rest, last = rest[:j], rest[j+1:]
			} else {
				rest, last = "", rest
			}
			hop, ok := parse(strings.TrimSpace(last))
			if !ok {
				return from // who spoke so is as far as can be seen
			}
			from = hop
		}
	}
	return from
}

// Contains reports whether an address is that of a trusted proxy.
func (t Trust) Contains(a netip.Addr) bool {
	a = a.WithZone("")
	for _, p := range t {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// parse reads an address, which some proxies write with a port.
func parse(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap(), true
	}
	a, err := netip.ParseAddrPort(s)
	return a.Addr().Unmap(), err == nil
}

// Handler serves requests with the address of their client as RemoteAddr, of
// port 0 where a proxy is between.
func (t Trust) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header["X-Forwarded-For"]) > 0 {
			if a := t.Of(r); a.IsValid() {
				r2 := *r
				r2.RemoteAddr = netip.AddrPortFrom(a, 0).String()
				r = &r2
			}
		}
		next.ServeHTTP(w, r)
	})
}
