package relay_test

import (
	"testing"
	"time"
)

// TestComparedAfterRestart: what a host's log had no longer is found by a comparison, whenever the relay
// ends meanwhile; and one that was finished is not made again.
func TestComparedAfterRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.test")
		a, b := h.account("alice"), h.account("bob")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		h.post(b)
		w.settle()
		r.stop()
		h.post(b)
		w.pass(time.Second)
		w.must(h.store.Events.Trim(w.ctx, time.Now()))
		h.post(a)
		h.setUnlisted(true)
		r = r.again()
		w.pass(time.Minute)
		r.wantHead(a) // so the cursor is after what was missed
		if n := h.count("sync.listRepos"); n == 0 {
			t.Error("nothing was compared")
		}
		r.stop()
		h.setUnlisted(false)
		r = r.again()
		w.pass(time.Minute)
		r.wantHead(b)
		n := h.count("sync.listRepos")
		r = r.again()
		w.pass(time.Minute)
		if again := h.count("sync.listRepos"); again != n {
			t.Errorf("the repositories were listed again, %d times", again-n)
		}
		w.must(r.Compare(w.ctx, h.name))
		w.pass(time.Minute)
		if again := h.count("sync.listRepos"); again != n+1 {
			t.Errorf("the repositories were listed %d times", again-n)
		}
	})
}
