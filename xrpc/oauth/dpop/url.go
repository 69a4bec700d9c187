package dpop

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
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
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r >= utf8.RuneSelf }):
		return "", errors.New("an address whose host is not in ASCII")
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
		v, err := strconv.ParseUint(p[i+1:i+3], 16, 8)
		switch c = byte(v); {
		case err != nil:
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
