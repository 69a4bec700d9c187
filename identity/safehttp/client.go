package safehttp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Errors of refused requests. Test with errors.Is.
var (
	// ErrAddress: the destination of the request, or of a redirect, is forbidden.
	ErrAddress = errors.New("safehttp: forbidden destination")
	// ErrTooLarge: the body of a response is longer than the limit.
	ErrTooLarge = errors.New("safehttp: too large")
)

// Config says what a client may do. The zero value suits requests to untrusted URLs.
type Config struct {
	// AllowPrivate allows addresses that are not public: loopback, private networks, and the like.
	// It is for development, and for hosts that the operator named.
	AllowPrivate bool
	// AllowHTTP allows plain HTTP.
	AllowHTTP bool
	// Timeout bounds an exchange, from dialling to the last byte of the body. 0: 10 seconds;
	// negative: no limit.
	Timeout time.Duration
	// MaxBody bounds the body of a response, in bytes after decompression. Reading beyond it gives
	// ErrTooLarge. 0: 1 MiB; negative: no limit.
	MaxBody int64
	// MaxRedirects bounds how many redirects are followed. 0: 3; negative: none are followed.
	MaxRedirects int
	// Resolver resolves host names. Nil means the system's resolver.
	Resolver *net.Resolver
}

// NewClient returns a client with the limits of a configuration.
func NewClient(cfg Config) *http.Client {
	timeout := orDefault(cfg.Timeout, 10*time.Second)
	redirects := orDefault(cfg.MaxRedirects, 3)
	return &http.Client{
		Timeout: timeout,
		Transport: &guard{
			base:    newTransport(cfg.AllowPrivate, cfg.Resolver),
			plain:   cfg.AllowHTTP,
			maxBody: orDefault(cfg.MaxBody, 1<<20),
		},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > redirects {
				return fmt.Errorf("%w: more than %d redirects", ErrAddress, redirects)
			}
			return nil
		},
	}
}

// orDefault returns v, or def if v is zero, or zero ("none") if v is negative.
func orDefault[T ~int | ~int64](v, def T) T {
	if v == 0 {
		return def
	}
	return max(v, 0)
}

// guard checks each request, those of redirects included, and limits bodies.
type guard struct {
	base    http.RoundTripper
	plain   bool
	maxBody int64 // 0: none
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if s := req.URL.Scheme; s != "https" && !(s == "http" && g.plain) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, fmt.Errorf("%w: scheme %.16q", ErrAddress, s)
	}
	resp, err := g.base.RoundTrip(req)
	if err == nil && g.maxBody > 0 && resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = &limitedBody{ReadCloser: resp.Body, left: g.maxBody}
	}
	return resp, err
}

// CloseIdleConnections implements the method that http.Client calls.
func (g *guard) CloseIdleConnections() {
	if t, ok := g.base.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// limitedBody fails when more than left bytes come out of a body.
type limitedBody struct {
	io.ReadCloser
	left int64
	err  error // the first
}

func (b *limitedBody) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	if int64(len(p))-1 > b.left {
		p = p[:b.left+1] // one byte more tells whether the body goes on
	}
	n, b.err = b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, b.err = int(b.left), fmt.Errorf("%w: body of an answer", ErrTooLarge)
	}
	b.left -= int64(n)
	return n, b.err
}

// errRedirect refuses a redirect.
var errRedirect = errors.New("safehttp: redirected")

// WithoutRedirects returns a client like c, which may be nil, for which a redirect is an error.
func WithoutRedirects(c *http.Client) *http.Client {
	out := &http.Client{}
	if c != nil {
		*out = *c
	}
	out.CheckRedirect = func(*http.Request, []*http.Request) error { return errRedirect }
	return out
}

// PublicAddress reports whether an address is public. Addresses that contain an IPv4 address
// (mapped, NAT64) are treated like that address. Not public are all blocks that the IANA
// special-purpose registries do not mark as globally reachable, multicast, and transition
// mechanisms that lead elsewhere (6to4, Teredo).
func PublicAddress(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !a.Is4() && !globalUnicast.Contains(a) {
		return false // also the invalid address
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// Address blocks of the IANA special-purpose address registries.
var (
	nat64         = netip.MustParsePrefix("64:ff9b::/96")
	globalUnicast = netip.MustParsePrefix("2000::/3") // all other IPv6 is special or not assigned
	special       = prefixes(
		"0.0.0.0/8",       // this network
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // shared by carriers
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, cloud metadata
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, broadcast
		"2001::/23",       // protocol assignments: Teredo, benchmarks, ORCHID
		"2001:db8::/32",   // documentation
		"2002::/16",       // 6to4
		"3fff::/20",       // documentation
	)
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
