package indexer_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// TestSlowHosts: more hosts than there are places send their repositories as slowly as they may, without
// end. The accounts of all others are read.
func TestSlowHosts(t *testing.T) {
	if os.Getenv("PDSKIT_LONG") == "" {
		t.Skip("set PDSKIT_LONG=1: how long it takes depends on the order in which hosts are asked")
	}
	bubble(t, func(t *testing.T, w *world) {
		var sources []indexer.Source
		for i := range 6 {
			h := w.host(fmt.Sprintf("slow%d.test", i))
			for j := range 4 {
				h.account(fmt.Sprintf("slow%d-%d", i, j), 1)
			}
			h.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
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
			})
			sources = append(sources, indexer.Source{Host: h.url})
		}
		a := w.app(t.TempDir(), all, sources...)
		a.ix.Fetches = 2
		a.ix.MaxRepo = 1 << 40
		a.start()
		time.Sleep(10 * time.Minute) // they have all places, and those for slow downloads too
		good := w.host("good.test")
		var dids []syntax.DID
		for i := range 3 {
			dids = append(dids, good.account(fmt.Sprint("good", i), 3))
		}
		a.halt()
		b := w.app(t.TempDir(), all, append(sources, indexer.Source{Host: good.url})...)
		b.ix.Fetches, b.ix.MaxRepo = 2, 1<<40
		b.start()
		start := time.Now()
		for ; b.compare(nil, dids...) != nil; time.Sleep(time.Second) {
			if time.Since(start) > 10*time.Minute {
				t.Errorf("%v\n%+v", b.compare(nil, dids...), b.ix.Progress())
				break
			}
		}
		b.halt()
		time.Sleep(time.Minute) // until the hosts have noticed
	})
}
