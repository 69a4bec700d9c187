package safehttp

import (
	"net"
	"net/http"
)

// newTransport returns a transport that uses the runtime's fetch function.
func newTransport(bool, *net.Resolver) http.RoundTripper { return fetcher{&http.Transport{}} }

// fetcher asks the runtime not to follow redirects, so that the client sees them.
type fetcher struct{ *http.Transport }

func (f fetcher) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("js.fetch:redirect", "manual")
	return f.Transport.RoundTrip(req)
}
