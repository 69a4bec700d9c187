//go:build !js

package safehttp

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// newTransport returns a transport that dials public addresses only, or any, of
// names that a resolver (nil: the system's) resolves.
func newTransport(private bool, resolver *net.Resolver) http.RoundTripper {
	dialer := &net.Dialer{Timeout: 5 * time.Second, Resolver: resolver}
	if !private {
		dialer.Control = checkAddress
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           100,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        90 * time.Second,
	}
}

// checkAddress is called between the resolution of a name and the connection to
// one of its addresses.
func checkAddress(network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q", ErrAddress, address)
	}
	if (network != "tcp4" && network != "tcp6") || !PublicAddress(ap.Addr()) {
		return fmt.Errorf("%w: %s is not a public address", ErrAddress, ap.Addr())
	}
	return nil
}
