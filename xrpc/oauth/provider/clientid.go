package provider

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/xrpc/auth"
)

// maxClientID is the length in bytes of the longest client_id.
const maxClientID = 2048

// loopbackPrefix begins the client_id of programs on the user's own device.
const loopbackPrefix = "http://localhost"

// localTLDs are names that lead nowhere, or to the user's own network.
var localTLDs = []string{"test", "local", "localhost", "invalid", "example", "onion", "internal", "alt", "arpa"}

func isLocalHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return slices.Contains(localTLDs, host[strings.LastIndexByte(host, '.')+1:])
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	if err == nil {
		return true
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	return last != "" && strings.Trim(last, "0123456789") == "" || strings.HasPrefix(strings.ToLower(last), "0x")
}

// needlessEscape finds the escape of a letter, a digit, or one of the characters -._~ (RFC 3986,
// 2.3).
var needlessEscape = lazy(`(?i)%(4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae]|3[0-9]|2[de])`)

// discoverable checks a client_id that is the address of a document.
func discoverable(id string) error {
	bad := func(format string, args ...any) error {
		return fail(codeInvalidMetadata, "client_id: "+format, args...)
	}
	if len(id) > maxClientID {
		return bad("longer than %d bytes", maxClientID)
	}
	u, err := url.Parse(id)
	if err != nil {
		return bad("not an address")
	}
	host := u.Hostname()
	switch {
	case u.Scheme != "https" || !strings.HasPrefix(id, "https://"):
		return bad("must be an https:// address, or begin with %s", loopbackPrefix)
	case u.User != nil:
		return bad("must have no credentials")
	case u.Fragment != "" || strings.Contains(id, "#"):
		return bad("must have no fragment")
	case u.Port() != "" || strings.HasSuffix(u.Host, ":"):
		return bad("must have no port")
	case host == "" || isIP(host) || !strings.Contains(strings.Trim(host, "."), ".") || isLocalHost(host):
		return bad("must have a public host name")
	case host != strings.ToLower(host):
		return bad("must have its host in lower case")
	case u.Path == "" || strings.HasSuffix(u.Path, "/"):
		return bad("must have a path that does not end with a slash")
	}
	path := u.EscapedPath()
	for segment := range strings.SplitSeq(path, "/") {
		if plain, err := url.PathUnescape(segment); err != nil || plain == "." || plain == ".." {
			return bad("its path must be canonical")
		}
	}
	if u.String() != id || needlessEscape().MatchString(path) {
		return bad("it must be canonical, without needless escapes or characters that need one")
	}
	return nil
}

// loopback makes the metadata of a program on the user's device, which has no document: its
// client_id says it all.
func loopback(id string) (*metadata, error) {
	bad := func(format string, args ...any) error {
		return fail(codeInvalidMetadata, "client_id: "+format, args...)
	}
	if len(id) > maxClientID {
		return nil, bad("longer than %d bytes", maxClientID)
	}
	head, query, _ := strings.Cut(id, "?")
	if head != loopbackPrefix && head != loopbackPrefix+"/" {
		return nil, bad("one that begins with %s has neither port nor path", loopbackPrefix)
	}
	if strings.Contains(id, "#") {
		return nil, bad("must have no fragment")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, bad("malformed query")
	}
	m := &metadata{
		ID: id, ApplicationType: "native", AuthMethod: authNone, Bound: true, Scope: auth.Atproto,
		ResponseTypes: []string{"code"}, GrantTypes: []string{grantCode, grantRefresh},
		RedirectURIs: []string{"http://127.0.0.1/", "http://[::1]/"},
	}
	for name, v := range values {
		switch name {
		case "scope":
			if len(v) > 1 {
				return nil, bad("several scope parameters")
			}
			m.Scope = v[0]
		case "redirect_uri":
			m.RedirectURIs = v
		default:
			return nil, bad("unknown parameter %s", short(name))
		}
	}
	for _, uri := range m.RedirectURIs {
		if !isLoopbackRedirect(uri) {
			return nil, fail(codeInvalidRedirect, "client_id: the redirect_uri %s must be at http://127.0.0.1 or http://[::1]", short(uri))
		}
	}
	return m, m.check(id)
}

// lazy returns a regular expression that is compiled when it is first needed, not when every
// program starts.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
