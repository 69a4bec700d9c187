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

// What is skipped is counted, and what lists bring; each reading of a repository is told.
func TestSkippedFoundAndFetched(t *testing.T) {
	w := newWorld(t)
	h := w.host("one.test")
	alice, bob := h.account("alice", 2), h.account("bob", 2)
	var mu sync.Mutex
	read := make(map[syntax.DID]int)
	open := func(s indexer.Scope) *app {
		a := w.app(t.TempDir(), s, indexer.Source{Host: h.url})
		a.ix.Fetched = func(did syntax.DID, took time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			if read[did]++; took < 0 || err != nil {
				t.Errorf("%s took %s, %v", did, took, err)
			}
		}
		return a.start()
	}
	one := open(indexer.Scope{DIDs: []syntax.DID{alice}})
	one.settle(nil, alice)
	h.write(bob, create(notes, "b", "x"))
	h.write(alice, create(notes, "a", "x"))
	one.settle(nil, alice)
	if p := one.ix.Progress(); p.Skipped == 0 || p.Skipped >= p.Events || p.Found != 0 {
		t.Errorf("%+v", p)
	}
	mu.Lock()
	if read[alice] == 0 || read[bob] != 0 {
		t.Errorf("read: %v", read)
	}
	mu.Unlock()
	one.halt()
	all := open(indexer.Scope{All: true})
	all.settle(nil, alice, bob)
	if p := all.ix.Progress(); p.Skipped != 0 || p.Found != 2 {
		t.Errorf("of all: %+v", p)
	}
}
