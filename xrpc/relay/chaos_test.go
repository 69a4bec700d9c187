package relay_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/relay"
)

// TestChaos has hosts lie, rewind, reset, stall, flood and fall silent, accounts move, change their keys
// and come and go, and the relay be restarted. In the end each head is that of the host, and all that was
// passed on follows from what was passed on before. PDSKIT_SEEDS=1000 runs more, from
// PDSKIT_FIRST_SEED on; PDSKIT_SEED=n one.
func TestChaos(t *testing.T) {
	seeds, first := 6, uint64(1)
	if testing.Short() {
		seeds = 3
	}
	if n, err := strconv.Atoi(os.Getenv("PDSKIT_SEEDS")); err == nil {
		seeds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("PDSKIT_SEED"), 10, 64); err == nil {
		seeds, first = 1, n
	}
	if n, err := strconv.ParseUint(os.Getenv("PDSKIT_FIRST_SEED"), 10, 64); err == nil {
		first = n
	}
	for seed := first; seed < first+uint64(seeds) && !t.Failed(); seed++ {
		inWorld(t, func(w *world) {
			c := &chaos{world: w, rand: rand.New(rand.NewPCG(seed, 7)), seed: seed}
			c.run()
		})
	}
}

type chaos struct {
	*world
	rand  *rand.Rand
	seed  uint64
	hosts []*fakeHost
	list  []*account
	where map[*account]*fakeHost
	dead  map[*account]bool
	relay *testRelay
	did   []string // what was done, for who looks for a fault
}

func (c *chaos) run() {
	c.where, c.dead = make(map[*account]*fakeHost), make(map[*account]bool)
	c.relay = c.world.relay("", func(r *relay.Relay) { r.Limits.Accounts = -1 })
	for i := range 3 {
		h := c.host(fmt.Sprintf("pds%d.test", i))
		c.hosts = append(c.hosts, h)
		for j := range 3 {
			a := h.account(fmt.Sprintf("a%d-%d", i, j))
			c.list = append(c.list, a)
			c.where[a] = h
		}
		c.relay.follow(h)
	}
	for range 60 {
		c.step()
		if c.rand.IntN(3) == 0 {
			c.pass(time.Duration(c.rand.IntN(20_000)) * time.Millisecond)
		}
	}
	c.end()
}

func (c *chaos) note(format string, args ...any) {
	c.did = append(c.did, fmt.Sprintf(format, args...))
}

// step does one thing.
func (c *chaos) step() {
	a := c.list[c.rand.IntN(len(c.list))]
	h := c.where[a]
	c.note("%s at %s", a.did, h.name)
	switch n := c.rand.IntN(40); {
	case n < 16:
		c.note("post")
		h.post(a)
	case n < 18: // it floods
		c.note("flood")
		for range 30 {
			h.post(a)
		}
	case n < 20: // a message is lost
		c.note("lost")
		a.write(c.t, map[string]string{fmt.Sprintf("com.example.note/%013d", len(a.records)): "lost"})
	case n < 24:
		c.lie(h, a)
	case n == 24: // a key is changed
		c.note("key")
		a.key = testKey(c.t, fmt.Sprint(a.did, c.seed, len(c.did)))
		c.dir.set(a)
		if c.rand.IntN(2) == 0 {
			h.say(&commit.Identity{DID: a.did, Time: time.Now()})
		}
		h.post(a)
	case n == 25: // it moves
		next := c.hosts[c.rand.IntN(len(c.hosts))]
		c.note("move to %s", next.name)
		if next == h {
			return
		}
		h.mu.Lock()
		delete(h.accounts, a.did)
		h.mu.Unlock()
		a.home = next.name
		c.dir.set(a)
		next.take(a)
		c.where[a] = next
		if c.rand.IntN(2) == 0 {
			h.say(&commit.Account{DID: a.did, Status: "deactivated", Time: time.Now()})
		}
		next.say(&commit.Identity{DID: a.did, Time: time.Now()})
		next.setActive(a, true, "")
		next.post(a)
	case n == 26: // a stranger speaks for it
		other := c.hosts[c.rand.IntN(len(c.hosts))]
		c.note("stranger %s", other.name)
		if other != h {
			forged := c.copy(a)
			other.say(forged.write(c.t, map[string]string{"com.example.note/stranger": "x"}), &commit.Account{DID: a.did, Status: "deleted", Time: time.Now()})
		}
	case n == 27:
		c.note("down")
		h.setDown(true)
		c.pass(time.Duration(c.rand.IntN(600)) * time.Second)
		h.setDown(false)
	case n == 28: // its log begins anew
		c.note("reset")
		h.setDown(true)
		h.reset()
		h.setDown(false)
	case n == 29: // the log is cut
		c.note("trim")
		c.must(h.store.Events.Trim(c.ctx, time.Now()))
	case n == 30:
		c.note("directory down")
		c.dir.setDown(true)
		h.post(a)
		c.pass(time.Duration(c.rand.IntN(300)) * time.Second)
		c.dir.setDown(false)
	case n == 31:
		c.note("restart")
		c.relay = c.relay.again(func(r *relay.Relay) { r.Limits.Accounts = -1 })
	case n == 32:
		c.note("status")
		h.setActive(a, false, "deactivated")
		if c.rand.IntN(2) == 0 {
			h.post(a)
		}
		c.pass(time.Duration(c.rand.IntN(100)) * time.Second)
		h.setActive(a, true, "")
		h.post(a)
	case n == 33: // getRepo fails
		c.note("broken")
		h.mu.Lock()
		h.broken = !h.broken
		h.mu.Unlock()
	case n == 34: // a rewind: the host forgets its last commit, and makes another
		c.note("rewind")
		h.post(a)
		back := c.copy(a)
		h.post(a)
		back.clock = a.clock
		reposMu.Lock()
		*a = *back
		reposMu.Unlock()
		h.post(a)
	case n == 35:
		c.note("sync")
		if a.commit.Rev != "" {
			h.say(a.resign(c.t))
		}
	case n == 36:
		c.note("takedown")
		c.must(c.relay.Takedown(c.ctx, a.did))
		h.post(a)
		c.pass(time.Second)
		c.must(c.relay.Restore(c.ctx, a.did))
	default:
		c.note("several")
		for _, a := range c.list {
			c.where[a].post(a)
		}
	}
}

// copy is an account that another one can write to without changing it.
func (c *chaos) copy(a *account) *account {
	b := *a
	b.records = make(map[string]car.Block)
	for k, v := range a.records {
		b.records[k] = v
	}
	return &b
}

// lie says something that breaks a rule.
func (c *chaos) lie(h *fakeHost, a *account) {
	if a.commit.Rev == "" {
		h.post(a)
	}
	n := c.rand.IntN(len(tampered) + 5)
	c.note("lie %d", n)
	if n < len(tampered) {
		e := a.write(c.t, map[string]string{"com.example.lie/1": fmt.Sprint(len(c.did)), "com.example.lie/2": fmt.Sprint(len(c.did))})
		tampered[n].change(e)
		h.say(e)
		return
	}
	liar := c.copy(a)
	switch n - len(tampered) {
	case 0: // another key
		liar.key = testKey(c.t, "liar")
		h.say(liar.write(c.t, map[string]string{"com.example.lie/1": "x"}))
	case 1: // the future
		liar.clock = time.Now().Add(time.Hour).UnixMicro()
		h.say(liar.write(c.t, map[string]string{"com.example.lie/1": "x"}))
	case 2: // what cannot be read
		h.sayRaw(a.did, commit.KindCommit, []byte{0xa1, 0x61, 'x', 1})
	case 3: // an old state
		old := a.sync()
		h.post(a)
		h.say(old)
	case 4: // a frame that is none
		h.sayRaw(a.did, "", []byte{0xa0})
	}
}

// end lets everything come to rest, and compares.
func (c *chaos) end() {
	for _, h := range c.hosts {
		h.mu.Lock()
		h.broken = false
		h.mu.Unlock()
	}
	for range 4 { // also what is found out with the next word only
		c.pass(3 * time.Hour)
		for _, a := range c.list {
			c.where[a].post(a)
		}
	}
	c.pass(3 * time.Hour)
	for _, a := range c.list {
		c.relay.wantHead(a)
		c.relay.wantStatus(a, "")
	}
	c.follows()
	if c.t.Failed() {
		c.t.Logf("seed %d failed: PDSKIT_SEED=%d go test -run=TestChaos ./xrpc/relay", c.seed, c.seed)
		c.t.Logf("what was done: %q", c.did)
		for _, h := range c.hosts {
			info, _ := c.relay.Host(c.ctx, h.name)
			c.t.Logf("%+v", info)
		}
	}
}

// follows checks that each commit that was passed on follows the last state of its account, and that
// revisions grow.
func (c *chaos) follows() {
	v := &commit.Verifier{}
	states := make(map[syntax.DID]commit.State)
	for i, m := range c.relay.log() {
		did := m.About()
		last, known := states[did]
		var err error
		switch m := m.(type) {
		case *commit.Event:
			if !known && m.Since != "" {
				last = commit.State{Rev: m.Since, Data: m.PrevData} // what came before was taken out by a takedown
			}
			states[did], _, err = v.Commit(c.ctx, last, m)
		case *commit.Sync:
			states[did], err = v.Sync(c.ctx, last, m)
		}
		if err != nil {
			c.t.Errorf("message %d: %v", i, err)
		}
	}
	for _, a := range c.list {
		if got := states[a.did]; got != (commit.State{Rev: a.commit.Rev, Data: a.commit.Data}) {
			c.t.Errorf("who reads the stream has %s at %s, not %s", a.did, got.Rev, a.commit.Rev)
		}
	}
}
