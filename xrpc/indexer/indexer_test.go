package indexer_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

var ctx = context.Background()

// TestI01BackfillWhileWritten: repositories are read while they are written, and followed after
// that.
func TestI01BackfillWhileWritten(t *testing.T) {
	w := newWorld(t)
	one, two := w.host("one.test"), w.host("two.test")
	const n = 1000
	var dids []syntax.DID
	for i := range n {
		h := one
		if i%2 == 1 {
			h = two
		}
		dids = append(dids, h.account(fmt.Sprint("a", i), i%5))
	}
	a := w.app(t.TempDir(), indexer.Scope{All: true}, indexer.Source{Host: one.url}, indexer.Source{Host: two.url}).start()
	var writing sync.WaitGroup
	for k, h := range []*host{one, two} {
		writing.Go(func() {
			for i := 0; i < 500 || a.ix.Progress().Fetched < n; i++ {
				did := dids[(i*7%(n/2))*2+k]
				h.write(did, create(notes, fmt.Sprint("live", i), "x"))
				time.Sleep(time.Millisecond)
			}
		})
	}
	writing.Wait()
	a.settle(nil, dids...)
	p := a.ix.Progress()
	t.Logf("%+v", p)
	if p.Rejected+p.Malformed+p.FetchErrors > 0 {
		t.Errorf("%+v\n%s", p, a.tail())
	}
}
