package indexer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// TestSlowHosts: more hosts than there are places send their repositories as slowly as they may, without
// end. The accounts of another host are read at once when they are due, though those of the slow hosts
// have been due for longer.
func TestSlowHosts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const fetches = 2
		var sources []indexer.Source
		for i := range 6 {
			h := w.host(fmt.Sprintf("slow%d.test", i))
			for j := range 8 {
				h.account(fmt.Sprintf("slow%d-%d", i, j), 1)
			}
			h.setFault(sendSlowly)
			sources = append(sources, indexer.Source{Host: h.url})
		}
		good := w.host("good.test")
		a := w.app(t.TempDir(), all, append(sources, indexer.Source{Host: good.url})...)
		a.ix.Fetches, a.ix.MaxRepo = fetches, 1<<40
		a.start()
		// At first no host is known to be slow. After a minute, a download is a slow one.
		time.Sleep(6*2/fetches*time.Minute + 5*time.Minute)
		if n := a.ix.Progress().Fetching; n < 4*fetches || n > 5*fetches { // four times as many may be slow ones
			t.Errorf("%d downloads are under way", n)
		}
		var dids []syntax.DID
		for i := range 3 {
			did := good.account(fmt.Sprint("good", i), 3) // all its commits come as events
			_, err := good.repo.Apply(ctx, did, repo.Batch{Silent: true, Sync: true, Writes: []repo.Write{create(notes, "more", "x")}})
			w.ok(err)
			dids = append(dids, did)
		}
		a.eventually(func() error { return a.compare(nil, dids...) })
		a.halt()
		time.Sleep(time.Minute) // until the hosts have noticed
	})
}

// sendSlowly answers a request for a repository without end, just faster than what is ended for that.
func sendSlowly(rw http.ResponseWriter, r *http.Request) bool {
	if !strings.HasSuffix(r.URL.Path, api.SyncGetRepoNSID) {
		return false
	}
	for r.Context().Err() == nil {
		if _, err := rw.Write(make([]byte, 100<<10)); err != nil {
			break
		}
		rw.(http.Flusher).Flush()
		time.Sleep(5 * time.Second)
	}
	return true
}
