package relay_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/relay"
)

// A request for a crawl is passed on to other relays, once in a while for each host, and by them to
// nobody. A relay that refuses or is away keeps nothing from the others.
func TestForwardCrawl(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		asked := 0
		w.net.Handle("refuses.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			asked++
			http.Error(rw, "no", http.StatusTeapot)
		}))
		first := w.relay("relay1.test", func(r *relay.Relay) { r.Forward = []string{"away.test", "refuses.test", "relay2.test"} })
		second := w.relay("relay2.test", func(r *relay.Relay) { r.Forward = []string{"refuses.test"} })
		w.settle() // they run
		ask := func(name string) error {
			return api.SyncRequestCrawl(w.ctx, first.client, api.SyncRequestCrawlInput{Hostname: name})
		}
		if err := ask("nowhere.test"); err == nil {
			t.Error("a host that does not answer was taken")
		}
		w.must(ask(h.name))
		w.must(ask(h.name))
		w.pass(30 * time.Second)
		if asked != 1 {
			t.Errorf("asked %d times, want once", asked)
		}
		hosts, err := second.Hosts(w.ctx, "", 10)
		w.must(err)
		if !slices.ContainsFunc(hosts, func(x relay.Host) bool { return x.Name == h.name }) {
			t.Errorf("the second relay knows %+v", hosts)
		}
		w.pass(time.Minute)
		w.must(ask(h.name))
		w.pass(time.Second)
		if asked != 2 {
			t.Errorf("asked %d times, want twice", asked)
		}
	})
}
