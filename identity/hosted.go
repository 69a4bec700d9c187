package identity

import (
	"net"
	"net/url"
	"strings"
)

// HostedAt reports whether the document names the server at address ("https://pds.example.com") as
// the account's PDS. It ignores case, and the scheme's default port.
func (d *Document) HostedAt(address string) bool {
	endpoint, ok := d.PDS()
	return ok && origin(endpoint) == origin(address)
}

// origin is an address with its scheme and host in lower case, and with its port. It is empty if
// the text is not an address.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	case u.Scheme == "http":
		port = "80"
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
