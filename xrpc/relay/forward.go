package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// Limits on crawl requests that are passed on: the interval for one host, how many run at once, and
// the timeout of one.
const (
	forwardEvery   = time.Minute
	forwardAtOnce  = 8
	forwardTimeout = 10 * time.Second
)

// forward passes a request for the crawl of a host on to other relays, in the background. What
// another relay has passed on goes no further, so that nothing goes in circles. When many are under
// way, further ones are left out: hosts ask again.
func (r *Relay) forward(from http.Header, text string) {
	if len(r.Forward) == 0 || isForwarded(from) {
		return
	}
	hostname, err := r.parseHost(text)
	if err != nil {
		return
	}
	select {
	case r.forwarding <- struct{}{}:
	default:
		return
	}
	done := func() { <-r.forwarding }
	if !r.background(func(ctx context.Context) {
		defer done()
		if r.forwarded.doneWithin(hostname, r.Now(), forwardEvery) {
			return
		}
		for _, name := range r.Forward {
			if err := r.forwardTo(ctx, name, hostname); err != nil {
				r.Logger.Warn("relay: a request for a crawl was not passed on", "relay", name, "host", hostname, "err", err)
			}
		}
	}) {
		done()
	}
}

// isForwarded reports whether a request comes from a relay.
func isForwarded(h http.Header) bool {
	for _, name := range []string{"Via", "User-Agent"} {
		for _, v := range h.Values(name) {
			if strings.Contains(strings.ToLower(v), "atproto-relay") {
				return true
			}
		}
	}
	return false
}

func (r *Relay) forwardTo(ctx context.Context, name, hostname string) error {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	body, err := json.Marshal(api.SyncRequestCrawlInput{Hostname: hostname})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url(name)+api.SyncRequestCrawlNSID, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", serverName)
	req.Header.Set("Via", "1.1 "+serverName)
	res, err := r.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}
