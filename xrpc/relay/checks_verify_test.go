package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/relay"
)

func TestR10Signature(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.settle()
		right := a.key
		forged := *a
		forged.records = map[string]car.Block{}
		forged.key = testKey(t, "another")
		h.say(forged.write(t, map[string]string{"com.example.note/forged": "x"}))
		w.settle()
		r.wantRule(h, relay.RuleSignature, 1)
		r.want("#commit alice")
		// The key is changed, and nobody tells.
		w.pass(time.Minute)
		a.key = testKey(t, "next")
		w.dir.set(a)
		h.post(a)
		w.settle()
		r.want("#commit alice", "#commit alice")
		// What the old key signs now is refused.
		w.pass(time.Minute)
		old := *a
		old.records = map[string]car.Block{}
		old.key = right
		h.say(old.write(t, map[string]string{"com.example.note/old": "x"}))
		w.settle()
		r.want("#commit alice", "#commit alice")
		r.wantHead(a)
	})
}

// A key that is changed twice within moments is found, though not by asking each time.
func TestR10KeyChangedAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		for i := range 3 {
			a.key = testKey(t, fmt.Sprint("next ", i))
			w.dir.set(a)
			h.post(a)
			w.settle()
		}
		w.pass(time.Minute)
		r.wantHead(a)
		asked := w.dir.asked
		bad := *a
		bad.records = map[string]car.Block{}
		bad.key = testKey(t, "another")
		for range 100 {
			h.say(bad.write(t, map[string]string{"com.example.note/forged": "x"}))
		}
		w.settle()
		if n := w.dir.asked - asked; n > 3 {
			t.Errorf("the directory was asked %d times", n)
		}
	})
}

// tampered are commits with one thing wrong.
var tampered = []struct {
	name                     string
	rule                     relay.Rule
	change                   func(e *commit.Event)
	strict, lenient, observe bool // passed on
}{
	{"an operation is missing", relay.RuleProof, func(e *commit.Event) { e.Ops = e.Ops[:1] }, false, true, true},
	{"an operation too many", relay.RuleProof, func(e *commit.Event) {
		extra := e.Ops[0]
		extra.Path = "com.example.note/extra"
		e.Ops = append(e.Ops, extra)
	}, false, true, true},
	{"another prevData", relay.RuleProof, func(e *commit.Event) { e.PrevData = dag.Sum(dag.CBOR, []byte("x")) }, false, true, true},
	{"no prevData", relay.RuleProof, func(e *commit.Event) { e.PrevData = cid.Undef }, false, true, true},
	{"another since", relay.RuleGap, func(e *commit.Event) { e.Since = syntax.NewTID(time.Unix(1, 0), 1) }, false, false, true},
	{"a path given twice", relay.RuleOperation, func(e *commit.Event) { e.Ops = append(e.Ops, e.Ops[0]) }, false, false, true},
	{"another commit", relay.RuleCommit, func(e *commit.Event) { e.Commit = dag.Sum(dag.CBOR, []byte("x")) }, false, false, false},
	{"another rev", relay.RuleCommit, func(e *commit.Event) { e.Rev = syntax.NewTID(time.Now(), 9) }, false, false, false},
	{"no blocks", relay.RuleCommit, func(e *commit.Event) { e.Blocks = nil }, false, false, false},
}

func TestR11Policies(t *testing.T) {
	inWorld(t, func(w *world) {
		for i, policy := range []relay.Policy{relay.Strict, relay.Lenient, relay.Observe} {
			for j, c := range tampered {
				h := w.host(fmt.Sprintf("pds%d-%d.test", i, j))
				a := h.account(fmt.Sprintf("a%d-%d", i, j))
				r := w.relay("")
				r.follow(h)
				w.must(r.SetPolicy(w.ctx, h.name, &policy))
				h.post(a)
				w.settle()
				h.setDown(true) // so that nothing is repaired yet
				h.mu.Lock()
				h.broken = true
				h.mu.Unlock()
				h.setDown(false)
				e := a.write(t, map[string]string{"com.example.note/1": "x", "com.example.note/2": "y"})
				c.change(e)
				h.say(e)
				w.pass(2 * time.Second)
				want := map[relay.Policy]bool{relay.Strict: c.strict, relay.Lenient: c.lenient, relay.Observe: c.observe}[policy]
				if got := len(r.saw()) == 2; got != want {
					t.Errorf("%q, %s: passed on: %v", policy, c.name, got)
				}
				r.wantRule(h, c.rule, 1)
				h.mu.Lock()
				h.broken = false
				h.mu.Unlock()
				w.pass(5 * time.Minute)
				if r.wantHead(a); !want {
					if list := r.saw(); len(list) != 2 || !strings.HasPrefix(list[1], "#sync") {
						t.Errorf("%q, %s: passed on %q", policy, c.name, list)
					}
				}
				r.stop()
			}
		}
	})
}

func TestR12GapIsRepaired(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.settle()
		r.wantHead(a)
		h.mu.Lock()
		h.broken = true
		h.mu.Unlock()
		a.write(t, map[string]string{"com.example.note/lost": "x"}) // nobody is told
		h.post(a)
		h.post(a)
		w.pass(time.Second)
		r.wantRule(h, relay.RuleGap, 1)
		r.wantStatus(a, "desynchronized")
		r.want("#commit alice")
		h.post(a)
		w.settle()
		r.want("#commit alice")
		h.mu.Lock()
		h.broken = false
		h.mu.Unlock()
		w.pass(10 * time.Minute)
		r.wantHead(a)
		r.wantStatus(a, "")
		h.post(a)
		w.settle()
		r.want("#commit alice", "#sync alice", "#commit alice")
		r.wantHead(a)
	})
}

// An account that waits to be repaired is not forgotten when the relay is started again.
func TestR12RepairAfterRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.settle()
		h.mu.Lock()
		h.broken = true
		h.mu.Unlock()
		a.write(t, map[string]string{"com.example.note/lost": "x"})
		h.post(a)
		w.pass(time.Minute)
		r.wantStatus(a, "desynchronized")
		h.mu.Lock()
		h.broken = false
		h.mu.Unlock()
		r = r.again()
		w.pass(time.Minute)
		r.wantHead(a)
		r.wantStatus(a, "")
	})
}

// A host cannot make the relay go back by a repair.
func TestR12RepairNeverGoesBack(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		before := *a
		h.post(a)
		w.settle()
		h.take(&before) // what getRepo gives from now on
		e := a.write(t, map[string]string{"com.example.note/x": "x"})
		e.Since = syntax.NewTID(time.Unix(1, 0), 1)
		h.say(e)
		w.pass(time.Hour)
		r.wantStatus(a, "desynchronized")
		r.want("#commit alice", "#commit alice")
		h.take(a)
		w.pass(2 * time.Hour)
		r.wantHead(a)
	})
}

func TestR13Revisions(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		first := h.post(a)
		older := a.sync()
		second := h.post(a)
		w.settle()
		h.say(first, second, older)
		w.settle()
		r.wantRule(h, relay.RuleStale, 3)
		r.wantHead(a)
		ahead := *a
		ahead.records = map[string]car.Block{}
		ahead.clock = time.Now().Add(10 * time.Minute).UnixMicro()
		h.say(ahead.write(t, map[string]string{"com.example.note/ahead": "x"}))
		ahead.clock = time.Now().Add(10 * time.Minute).UnixMicro()
		h.say(ahead.resign(t))
		w.settle()
		r.wantRule(h, relay.RuleFuture, 2)
		r.want("#commit alice", "#commit alice")
		r.wantHead(a)
		w.pass(time.Second)
		h.say(a.resign(t))
		w.settle()
		r.want("#commit alice", "#commit alice", "#sync alice")
		r.wantHead(a)
	})
}

func TestR14Moves(t *testing.T) {
	inWorld(t, func(w *world) {
		one, two := w.host("pds1.test"), w.host("pds2.test")
		a := one.account("alice")
		r := w.relay("")
		r.follow(one, two)
		one.post(a)
		w.settle()
		stranger := *a
		stranger.records = map[string]car.Block{}
		two.say(stranger.write(t, map[string]string{"com.example.note/x": "x"}), &commit.Account{DID: a.did, Status: "deleted", Time: time.Now()},
			&commit.Identity{DID: a.did, Time: time.Now()}, stranger.resign(t))
		w.settle()
		r.wantRule(two, relay.RuleHost, 4)
		r.want("#commit alice")
		// It moves. The documents are still in the cache.
		w.pass(time.Minute)
		a.home, a.key = two.name, testKey(t, "new")
		w.dir.set(a)
		two.take(a)
		two.say(a.resign(t))
		w.settle()
		two.post(a)
		w.settle()
		old := *a
		old.records, old.key = map[string]car.Block{}, testKey(t, string(a.did))
		one.say(old.write(t, map[string]string{"com.example.note/x": "x"}), &commit.Account{DID: a.did, Status: "deactivated", Time: time.Now()})
		w.pass(30 * time.Second) // it might be moving back
		r.wantRule(one, relay.RuleHost, 2)
		r.want("#commit alice", "#sync alice", "#commit alice")
		r.wantHead(a)
		r.wantStatus(a, "")
		for h, want := range map[*fakeHost]int64{one: 0, two: 1} {
			if info, _ := r.Host(w.ctx, h.name); info.Accounts != want {
				t.Errorf("%s has %d accounts", h.name, info.Accounts)
			}
		}
	})
}

// The old host is the first to speak after a move: its word on the status does not count.
func TestR14OldHostSpeaksFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		one, two := w.host("pds1.test"), w.host("pds2.test")
		a := one.account("alice")
		r := w.relay("")
		r.follow(one, two)
		one.post(a)
		w.pass(time.Minute)
		a.home = two.name
		w.dir.set(a)
		two.take(a)
		one.say(&commit.Account{DID: a.did, Status: "deactivated", Time: time.Now()})
		w.settle()
		r.wantRule(one, relay.RuleHost, 1)
		r.wantStatus(a, "")
		two.post(a)
		w.settle()
		r.wantHead(a)
	})
}

func TestR15DirectoryDown(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a, b := h.account("alice"), h.account("bob")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.settle()
		w.dir.setDown(true)
		h.post(a)
		h.say(&commit.Identity{DID: a.did, Time: time.Now()})
		h.post(b)
		h.post(a)
		w.pass(10 * time.Minute)
		r.want("#commit alice")
		if info, _ := r.Host(w.ctx, h.name); info.Seq != 1 || info.Lanes != 2 {
			t.Errorf("%+v", info)
		}
		r = r.again() // which loses nothing of what waits
		w.pass(time.Minute)
		w.dir.setDown(false)
		w.pass(2 * time.Minute)
		r.wantHead(a)
		r.wantHead(b)
		got := strings.Join(r.saw(), ", ")
		for _, one := range []string{"#commit alice", "#commit alice, #identity alice, #commit alice"} {
			if !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(got, "#commit bob, ", ""), ", #commit bob", ""), one) {
				t.Error(got)
			}
		}
		r.wantRule(h, relay.RuleGap, 0)
	})
}

// The cursor stays behind what waits, also while others go on.
func TestR15CursorStaysBehind(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a, b := h.account("alice"), h.account("bob")
		r := w.relay("")
		r.follow(h)
		h.post(b)
		w.settle()
		w.dir.unavailable(a.did, true)
		h.post(a)
		h.post(b)
		h.post(b)
		w.pass(time.Minute)
		r.wantHead(b)
		if info, _ := r.Host(w.ctx, h.name); info.Seq != 1 {
			t.Errorf("the cursor is at %d", info.Seq)
		}
		r = r.again()
		w.dir.unavailable(a.did, false)
		w.pass(2 * time.Minute)
		r.wantHead(a)
		r.wantHead(b)
		if info, _ := r.Host(w.ctx, h.name); info.Seq != 4 {
			t.Errorf("the cursor is at %d", info.Seq)
		}
	})
}

// What waits too long is given up. The account is repaired when its identity can be had.
func TestR15HeldTooLong(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a, b := h.account("alice"), h.account("bob")
		r := w.relay("", func(r *relay.Relay) { r.HoldFor = 10 * time.Minute })
		r.follow(h)
		h.post(a)
		w.settle()
		w.dir.setDown(true)
		h.post(a)
		h.post(b)
		w.pass(20 * time.Minute)
		if info, _ := r.Host(w.ctx, h.name); info.Seq != 3 {
			t.Errorf("the cursor is at %d", info.Seq)
		}
		r.want("#commit alice")
		w.dir.setDown(false)
		w.pass(2 * time.Hour)
		r.wantHead(a)
		h.post(b)
		w.pass(2 * time.Hour)
		r.wantHead(b)
	})
}

// Whoever fills a lane that waits does not fill the memory, and does not hold up other accounts.
func TestR15HeldTooMuch(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a, b := h.account("alice"), h.account("bob")
		r := w.relay("", func(r *relay.Relay) { r.HostMemory = 64 << 10 })
		r.follow(h)
		h.post(a)
		h.post(b)
		w.settle()
		w.dir.setDown(true)
		h.post(a)
		w.settle()
		w.dir.setDown(false)
		w.dir.mu.Lock()
		doc := w.dir.docs[a.did]
		delete(w.dir.docs, a.did)
		w.dir.mu.Unlock()
		w.dir.unavailable(a.did, true)
		for range 200 {
			h.post(a)
			h.post(b)
		}
		w.pass(time.Minute)
		r.wantHead(b)
		w.dir.mu.Lock()
		w.dir.docs[a.did] = doc
		w.dir.mu.Unlock()
		w.dir.unavailable(a.did, false)
		w.pass(2 * time.Hour)
		r.wantHead(a)
	})
}
