package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
)

const (
	maxDocument  = 64 << 10 // bytes of metadata and of an answer of an endpoint
	fetchTimeout = 10 * time.Second
	postTimeout  = 30 * time.Second // servers fetch the client's metadata meanwhile
)

// document fetches a JSON document. ok is false if there is none (404).
func document(ctx context.Context, c *http.Client, address string) (text []byte, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrServer, err)
	}
	r.Header.Set("Accept", "application/json")
	resp, text, err := exchange(c, r)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("%s: %w", address, err)
	case resp.StatusCode == http.StatusNotFound:
		return nil, false, nil
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return nil, false, fmt.Errorf("%w: %s: status %d", ErrTemporary, address, resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, false, fmt.Errorf("%w: %s: status %d", ErrServer, address, resp.StatusCode)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, false, fmt.Errorf("%w: %s: content type %.100q", ErrServer, address, resp.Header.Get("Content-Type"))
	}
	return text, true, nil
}

// exchange sends a request and reads the answer, which may be of any status but a redirect.
func exchange(c *http.Client, r *http.Request) (*http.Response, []byte, error) {
	resp, err := c.Do(r)
	if err != nil {
		return nil, nil, transportError(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case err != nil:
		return resp, nil, transportError(err)
	case len(text) > maxDocument:
		return resp, nil, fmt.Errorf("%w: answer of more than %d bytes", ErrServer, maxDocument)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return resp, nil, fmt.Errorf("%w: status %d", ErrServer, resp.StatusCode)
	}
	return resp, text, nil
}

// transportError tells a server that does wrong from one that cannot be reached.
func transportError(err error) error {
	if errors.Is(err, safehttp.ErrAddress) || errors.Is(err, safehttp.ErrTooLarge) || errors.Is(err, errRedirect) {
		return fmt.Errorf("%w: %w", ErrServer, err)
	}
	return fmt.Errorf("%w: %w", ErrTemporary, err)
}

// identityError brings an error of package identity among those of this one.
func identityError(err error) error {
	if errors.Is(err, identity.ErrUnavailable) {
		return fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	return fmt.Errorf("oauth client: %w", err)
}

var errRedirect = errors.New("redirected")

// withoutRedirects is a client like c that follows no redirects.
func withoutRedirects(c *http.Client) *http.Client {
	out := *c
	out.CheckRedirect = func(*http.Request, []*http.Request) error { return errRedirect }
	return &out
}

// parseOrigin reads the address of a server, which has nothing but scheme, host and port. The
// result is in the form that origins are compared in.
func parseOrigin(s string, development bool) (string, error) {
	u, err := parseAddress(s, development)
	if err != nil {
		return "", err
	}
	if u.Path != "" && u.Path != "/" || strings.ContainsAny(s, "?#") {
		return "", fmt.Errorf("%.200q is more than an origin", s)
	}
	return originOf(u), nil
}

// parseAddress reads a URL that requests go to.
func parseAddress(s string, development bool) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > 2048:
		return nil, fmt.Errorf("%.200q is not an address", s)
	case u.Hostname() == "" || u.Opaque != "" || u.User != nil || u.Fragment != "" || strings.Contains(s, "#"):
		return nil, fmt.Errorf("%.200q is not the address of an endpoint", s)
	case u.Scheme != "https" && !(development && u.Scheme == "http" && isLoopback(u.Hostname())):
		return nil, fmt.Errorf("%.200q is not an https:// address", s)
	}
	return u, nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || strings.EqualFold(host, "localhost")
}

// originOf is the origin of an address, without a port that is the scheme's own.
func originOf(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return u.Scheme + "://" + host
	}
	return u.Scheme + "://" + net.JoinHostPort(host, port)
}
