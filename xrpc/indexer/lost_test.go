package indexer_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// TestKilledWhileComparing: a process that ends while accounts are compared with their hosts, as
// events were missed, has that done when it runs again, though it knows where the stream is.
func TestKilledWhileComparing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		dir, scope := t.TempDir(), indexer.Scope{DIDs: []syntax.DID{alice}}
		a := w.app(dir, scope, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		a.halt()
		h.silently(alice, remove(notes, "r1"))
		_, newest, err := h.store.Events.Bounds(ctx)
		w.ok(err)
		w.ok(a.sink.Apply(ctx, &indexer.Transaction{Positions: map[string]string{h.url: strconv.FormatInt(newest, 10)}}))
		w.app(dir, scope, indexer.Source{Host: h.url}).start().settle(nil, alice)
	})
}

// TestKilledWhileListing: events of new accounts were missed, and the process ends before all are
// listed. They are listed when it runs again.
func TestKilledWhileListing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		dir := t.TempDir()
		a := w.app(dir, all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		h.write(alice, create(notes, "live", "x"))
		a.settle(nil, alice)
		a.halt()
		bob := h.account("bob", 3)
		time.Sleep(time.Hour)
		w.ok(h.store.Events.Trim(ctx, time.Now()))
		h.write(alice, create(notes, "later", "x"))
		h.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, api.SyncListReposNSID) {
				rw.WriteHeader(503)
				return true
			}
			return false
		})
		_, newest, err := h.store.Events.Bounds(ctx)
		w.ok(err)
		b := w.app(dir, all, indexer.Source{Host: h.url}).start()
		b.eventually(func() error {
			if at, err := b.sink.Position(ctx, h.url); !strings.HasPrefix(at, fmt.Sprint(newest)) {
				return fmt.Errorf("position %s, %v", at, err)
			}
			return nil
		})
		b.halt()
		h.setFault(nil)
		c := w.app(dir, all, indexer.Source{Host: h.url})
		c.ix.Relist = -1
		c.start().settle(nil, alice, bob)
	})
}

// TestLocalTrimmed: events of a new account were trimmed from a local log before they were read.
func TestLocalTrimmed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 3)
		dir := t.TempDir()
		source := indexer.Source{Local: &h.store}
		a := w.app(dir, all, source).start()
		h.write(alice, create(notes, "live", "x"))
		a.settle(nil, alice)
		time.Sleep(5 * time.Second)
		a.halt()
		bob := h.account("bob", 3)
		time.Sleep(time.Hour)
		w.ok(h.store.Events.Trim(ctx, time.Now()))
		h.write(alice, create(notes, "later", "x"))
		b := w.app(dir, all, source)
		b.ix.Relist = -1
		b.start().settle(nil, alice, bob)
	})
}

// TestSlowIdentities: more accounts than there are workers have hosts that do not say who they are.
// The events of all others are applied.
func TestSlowIdentities(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		var slow []syntax.DID
		for i := range 40 {
			slow = append(slow, h.account(fmt.Sprint("slow", i), 1))
		}
		alice := h.account("alice", 3)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, append(slow, alice)...)
		hang := make(chan struct{})
		w.mu.Lock()
		w.lookupErr = func(did syntax.DID) error {
			if did != alice {
				w.mu.Unlock()
				<-hang
				w.mu.Lock()
			}
			return nil
		}
		w.mu.Unlock()
		for _, did := range slow {
			h.write(did, create(notes, "slow", "x"))
		}
		h.write(alice, create(notes, "fast", "x"))
		a.eventually(func() error { return a.compare(nil, alice) })
		close(hang)
		a.settle(nil, append(slow, alice)...)
	})
}
