package dpop

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// normalURL brings the address of a request into the form that addresses are compared in (RFC 3986,
// 6.2.2 and 6.2.3): scheme and host in lower case, no default port, no query or fragment, dot
// segments removed, and nothing escaped that needs no escape, with upper-case digits.
func normalURL(s string) (string, error) {
	if len(s) > maxURL {
		return "", fmt.Errorf("an address of more than %d bytes", maxURL)
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", errors.New("not an address")
	}
	scheme := strings.ToLower(u.Scheme)
	switch {
	case scheme != "https" && scheme != "http":
		return "", fmt.Errorf("scheme %.20q", u.Scheme)
	case u.User != nil:
		return "", errors.New("an address with credentials")
	case u.Opaque != "" || u.Hostname() == "":
		return "", errors.New("an address without a host")
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	switch {
	case port == "" || scheme == "https" && port == "443" || scheme == "http" && port == "80":
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	default:
		host = net.JoinHostPort(host, port)
	}
	return scheme + "://" + host + normalPath(u.EscapedPath()), nil
}

// normalPath normalises an escaped path.
func normalPath(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c != '%' || i+2 >= len(p) {
			b.WriteByte(c)
			continue
		}
		c, ok := hexByte(p[i+1], p[i+2])
		switch {
		case !ok:
			b.WriteByte('%')
			continue
		case isUnreserved(c):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
		i += 2
	}
	p = b.String()
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	if !strings.Contains(p, "/.") {
		return p
	}
	// Empty segments count, so path.Clean will not do.
	var out []string
	segments := strings.Split(p[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func hexByte(a, b byte) (byte, bool) {
	x, ok1 := hexDigit(a)
	y, ok2 := hexDigit(b)
	return x<<4 | y, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
