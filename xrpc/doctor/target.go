package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity/safehttp"
)

// Resolver looks up the addresses of names; *net.Resolver implements it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Target is a server that is checked at its public URL. URL is required.
type Target struct {
	// URL is the public URL, "https://pds.example.com".
	URL string
	// HTTP makes the requests to it. Nil: a client with the limits of package safehttp, but it may
	// connect to private addresses, since the operator has named the server.
	HTTP *http.Client
	// DNS looks up names. Nil: the system's resolver.
	DNS Resolver
	// Own returns the addresses of this machine. Nil: those of its network interfaces.
	Own func() ([]netip.Addr, error)
	// Direct means that there is no reverse proxy: the server itself has the certificate.
	Direct bool
	// Development means that handles are not in the network, so they are not resolved.
	Development bool
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

func (t Target) now() time.Time {
	if t.Now == nil {
		return time.Now()
	}
	return t.Now()
}

func (t Target) client() *http.Client {
	if t.HTTP == nil {
		return safehttp.NewClient(safehttp.Config{AllowPrivate: true, AllowHTTP: true, MaxRedirects: -1})
	}
	return safehttp.WithoutRedirects(t.HTTP)
}

func (t Target) host() string {
	u, err := url.Parse(t.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// Names returns the check "dns": whether the server's name, and names below the domains of its
// handles (".pds.example.com"), have addresses, and the same ones.
func (t Target) Names(domains ...string) Check {
	return Check{Name: "dns", Run: func(ctx context.Context) (list []Finding) {
		host := t.host()
		addrs, f := t.lookup(ctx, host)
		list = append(list, f)
		for _, d := range domains {
			name := "doctor-" + strings.ToLower(rand.Text()[:8]) + d
			below, f := t.lookup(ctx, name)
			f.Subject = "*" + d
			switch {
			case f.Level == Problem:
				f.Level = Warning
				f.Text = "names below " + d[1:] + " have no address: handles there do not resolve"
				f.Remedy = "add an A (and AAAA) record for *" + d + " with the address of " + host
			case f.Level == OK && len(addrs) > 0 && !slices.Equal(below, addrs):
				f = Warn("give *"+d+" the same records as "+host, "names below %s lead to %s, and %s to %s", d[1:], join(below), host, join(addrs)).About("*" + d)
			case f.Level == OK:
				f.Text = "names below " + d[1:] + " lead there too"
			}
			list = append(list, f)
		}
		return list
	}}
}

// lookup returns the addresses of a name, sorted, and what is to be said of them.
func (t Target) lookup(ctx context.Context, host string) ([]netip.Addr, Finding) {
	dns := t.DNS
	if dns == nil {
		dns = net.DefaultResolver
	}
	addrs, err := dns.LookupNetIP(ctx, "ip", host+".")
	var gone *net.DNSError
	switch {
	case errors.As(err, &gone) && gone.IsNotFound:
		return nil, Bad("add an A (and AAAA) record for "+host+" with this machine's public address, and wait until it is known", "%s has no address", host)
	case err != nil:
		return nil, Bad("look at /etc/resolv.conf; \"dig +short "+host+"\" must print addresses", "%s cannot be looked up: %v", host, err)
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	for _, a := range addrs {
		if !safehttp.PublicAddress(a) {
			return addrs, Warn("ask from elsewhere: \"dig +short "+host+" @1.1.1.1\"; if it is /etc/hosts that says so, take the name out there",
				"%s leads to %s on this machine, which is no address of the Internet", host, a)
		}
	}
	return addrs, Good("%s leads to %s%s", host, join(addrs), t.whose(addrs))
}

// whose says whether addresses are this machine's own.
func (t Target) whose(addrs []netip.Addr) string {
	own := t.Own
	if own == nil {
		own = OwnAddresses
	}
	mine, err := own()
	if err != nil || len(mine) == 0 {
		return ""
	}
	for _, a := range addrs {
		if slices.Contains(mine, a) {
			return ", this machine"
		}
	}
	return ", which is no interface of this machine: right behind a router or a proxy elsewhere"
}

// OwnAddresses returns the addresses of this machine's network interfaces.
func OwnAddresses() (list []netip.Addr, err error) {
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				list = append(list, ip.Unmap())
			}
		}
	}
	return list, err
}

func join(addrs []netip.Addr) string {
	var list []string
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return strings.Join(list, ", ")
}

// Renew is how long before its end a certificate should have been renewed.
const Renew = 14 * 24 * time.Hour

// Certificate returns the check "certificate": whether the server answers at its public URL with a
// valid certificate, and how long that is valid.
func (t Target) Certificate() Check {
	return Check{Name: "certificate", Run: func(ctx context.Context) []Finding {
		resp, err := t.get(ctx, "/xrpc/_health", nil)
		if err != nil {
			return []Finding{unreachable(t.URL, err)}
		}
		defer resp.Body.Close()
		var list []Finding
		if resp.TLS == nil || len(resp.TLS.PeerCertificates) == 0 {
			list = append(list, Warn("let a proxy with a certificate answer at the public address, or turn on TLS", "%s is not encrypted", t.URL))
		} else {
			list = append(list, t.expiry(resp.TLS.PeerCertificates[0]))
		}
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
			list = append(list, Bad("see the log of the server, and of the proxy in front of it", "the server answers with status %d: %s", resp.StatusCode, body))
		}
		return list
	}}
}

func (t Target) expiry(c *x509.Certificate) Finding {
	left := c.NotAfter.Sub(t.now())
	issuer := cmp.Or(strings.Join(c.Issuer.Organization, ", "), c.Issuer.CommonName, "itself")
	text := fmt.Sprintf("the certificate of %s is good until %s (%d days; by %s)", t.host(), c.NotAfter.UTC().Format("2006-01-02 15:04 UTC"), int(left.Hours()/24), issuer)
	remedy := "see why it is not renewed: the log of the proxy (journalctl -u caddy), or of the server where it gets certificates itself"
	f := Good("%s", text)
	switch {
	case left < 0: // the client has its own clock
		f = Bad(remedy, "the certificate of %s has ended at %s", t.host(), c.NotAfter.UTC().Format("2006-01-02 15:04 UTC"))
	case left < Renew:
		f = Warn(remedy, "%s", text)
	}
	f.Until = c.NotAfter.UTC()
	return f
}

// unreachable says why the public address does not answer.
func unreachable(address string, err error) Finding {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	err = brief(err)
	switch {
	case errors.As(err, &unknown):
		return Bad("get one from an authority that everybody knows, as Caddy and PDS_TLS_ACME do; for other authorities send the whole chain", "the certificate of %s is by an authority that nobody knows: %v", address, err)
	case errors.As(err, &name):
		return Bad("get a certificate for that name", "the certificate is not for %s: %v", address, err)
	case errors.As(err, &invalid):
		return Bad("see why it is not renewed: the log of the proxy, or of the server where it gets certificates itself", "the certificate of %s is not good: %v", address, err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return Bad("what listens on the port of https must speak TLS: put a proxy there, or turn on TLS", "%s does not speak TLS: %v", address, err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return Bad("see the check of DNS", "%s cannot be reached: its name has no address", address)
	case errors.As(err, &dns):
		return Bad("see the check of DNS", "%s cannot be reached: %v", address, err)
	}
	return Bad("open ports 443 and 80 (in the firewall, and at the provider's), and see that the proxy runs; behind a router that does not let this machine call its own public address, look from elsewhere",
		"%s cannot be reached from this machine: %v", address, err)
}

// silent is what other checks say then.
func silent(url string) Finding {
	return Skip("%s does not answer: see the check of the certificate", url)
}

// brief is the cause of a request's error, without the address, which is told already.
func brief(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Stream returns the check "stream": whether WebSockets reach the event stream.
func (t Target) Stream() Check {
	return Check{Name: "stream", Run: func(ctx context.Context) []Finding {
		raw := make([]byte, 16)
		rand.Read(raw)
		key := base64.StdEncoding.EncodeToString(raw)
		resp, err := t.get(ctx, "/xrpc/com.atproto.sync.subscribeRepos", http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {key},
		})
		if err != nil {
			return []Finding{silent(t.URL)}
		}
		defer resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable:
			return []Finding{Warn("see who is connected, on the page of the event stream", "the event stream has no room for another subscriber (status %d)", resp.StatusCode)}
		case resp.StatusCode != http.StatusSwitchingProtocols:
			return []Finding{Bad("let the proxy pass on the headers Upgrade and Connection, with HTTP/1.1 (see deploy/nginx.conf; Caddy does so by itself). Until then no relay reads this server",
				"WebSockets do not get through to the event stream: status %d instead of 101", resp.StatusCode)}
		case resp.Header.Get("Sec-Websocket-Accept") != acceptKey(key):
			return []Finding{Bad("see which program answers at the public address", "what answers for the event stream is no WebSocket server")}
		}
		return []Finding{Good("WebSockets get through to the event stream")}
	}}
}

// acceptKey is what a WebSocket server answers to a key (RFC 6455, 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// get sends a GET request to the public address.
func (t Target) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(t.URL, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "pdskit-doctor")
	return t.client().Do(req)
}
