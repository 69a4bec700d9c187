package safehttp

import (
	"net"
	"net/http"
	"strings"
	"syscall/js"
)

// newTransport returns a transport that uses the runtime's fetch function.
func newTransport(private bool, _ *net.Resolver) http.RoundTripper {
	return fetcher{private, &http.Transport{}}
}

// fetches is the rule by which package http uses fetch: not in Node.js, where it has a network in
// memory, for tests, and knows no such headers.
var fetches = func() bool {
	p := js.Global().Get("process")
	return !(p.Type() == js.TypeObject && strings.HasPrefix(p.Get("argv0").String(), "node"))
}()

// fetcher asks the runtime not to follow redirects, so that the client sees them.
type fetcher struct {
	private bool
	*http.Transport
}

func (f fetcher) RoundTrip(req *http.Request) (*http.Response, error) {
	if !f.private {
		if err := checkHost(req.URL.Hostname()); err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
	}
	if fetches {
		req = req.Clone(req.Context())
		req.Header.Set("js.fetch:redirect", "manual")
	}
	return f.Transport.RoundTrip(req)
}
