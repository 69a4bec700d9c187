package safehttp

import (
	"net"
	"net/http"
)

// newTransport returns a transport that uses the runtime's fetch function.
func newTransport(private bool, _ *net.Resolver) http.RoundTripper {
	return fetcher{private, &http.Transport{}}
}

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
	req = req.Clone(req.Context())
	req.Header.Set("js.fetch:redirect", "manual")
	return f.Transport.RoundTrip(req)
}
