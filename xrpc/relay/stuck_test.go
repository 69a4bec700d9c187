package relay_test

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/relay"
)

// TestStuckAfterOutage: a host that was away for long comes back with a log that cannot be read. When the
// relay has given that up, it does not wait for as long again before it reads on.
func TestStuckAfterOutage(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.settle()
		h.setDown(true)
		w.pass(10 * time.Hour) // attempts are hours apart now
		h.reset()
		h.sayRaw(a.did, "", []byte{0xa0})
		h.sayRaw(a.did, "", []byte{0xa0})
		h.setDown(false)
		for range 200 {
			if r.rule(h, relay.RuleStuck) == 3 {
				break
			}
			w.pass(time.Hour)
		}
		w.pass(2 * time.Second)
		info, err := r.Host(w.ctx, h.name)
		if w.must(err); info.Connected.IsZero() {
			t.Fatalf("%+v", info)
		}
		h.post(a)
		w.pass(time.Minute)
		r.wantHead(a)
	})
}
