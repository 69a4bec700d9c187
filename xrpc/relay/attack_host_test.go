package relay_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// TestFloodOfUnknownKinds: messages that are about no account count for the rate, and cannot name
// what metrics are kept by.
func TestFloodOfUnknownKinds(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		a := h.account("alice")
		var mu sync.Mutex
		kinds := make(map[string]int)
		r := w.relay("", func(r *relay.Relay) {
			r.Limits = relay.Limits{Rate: 10, Burst: 20}
			r.Observe = func(o relay.Observation) {
				mu.Lock()
				defer mu.Unlock()
				kinds[o.Kind]++
			}
		})
		for i := range 500 {
			h.sayRaw(a.did, fmt.Sprint("#kind", i), cbor.AppendMap(nil, 0))
		}
		r.follow(h)
		w.pass(time.Second)
		if info, _ := r.Host(w.ctx, h.name); info.Messages > 40 {
			t.Errorf("%d messages were read in a second", info.Messages)
		}
		w.pass(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(kinds) != 1 || kinds[""] != 500 {
			t.Errorf("%d kinds were told", len(kinds))
		}
	})
}

// TestErrorTextOfHosts: what a host ends its stream with is kept for operators, but not at any length.
func TestErrorTextOfHosts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.net.Handle("pds.example", http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			c, err := websocket.Accept(rw, req, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			e := stream.Error{Name: "Odd", Message: strings.Repeat("x", 1<<20)}
			c.Write(req.Context(), websocket.MessageBinary, e.Encode())
			c.Read(req.Context())
		}))
		r := w.relay("")
		w.must(r.AddHost(w.ctx, "pds.example"))
		w.settle()
		info, err := r.Host(w.ctx, "pds.example")
		if w.must(err); !strings.Contains(info.Error, "Odd") || len(info.Error) > 2000 {
			t.Errorf("%d bytes: %.100s", len(info.Error), info.Error)
		}
	})
}

// TestLargeFramesOfManyHosts: hosts that begin with large frames and do not end them cost no more
// memory than is there for them, and hold up no one's small messages.
func TestLargeFramesOfManyHosts(t *testing.T) {
	inWorld(t, func(w *world) {
		const hosts, size, chunk = 8, 4 << 20, 64 << 10
		body := cbor.AppendText(cbor.AppendInt(cbor.AppendText(cbor.AppendMap(nil, 2), "seq"), 1), "data")
		body = cbor.AppendText(body, strings.Repeat("x", size))
		frame := stream.Frame{Kind: "#large", Payload: body}.Encode()
		var taken atomic.Int64
		end := make(chan struct{})
		r := w.relay("", func(r *relay.Relay) { r.Memory = 64 << 20 }) // two places for large frames
		for i := range hosts {
			name := fmt.Sprintf("pds%d.example", i)
			w.net.Handle(name, http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
				c, err := websocket.Accept(rw, req, nil)
				if err != nil {
					return
				}
				defer c.CloseNow()
				out, err := c.Writer(req.Context(), websocket.MessageBinary)
				for rest := frame; err == nil && len(rest) > 0; {
					if len(rest) <= chunk {
						<-end
					}
					n := min(chunk, len(rest))
					_, err = out.Write(rest[:n])
					taken.Add(int64(n))
					rest = rest[n:]
				}
				out.Close()
				c.Read(req.Context())
			}))
			w.must(r.AddHost(w.ctx, name))
		}
		quiet := w.host("quiet.example")
		a := quiet.account("alice")
		r.follow(quiet)
		quiet.post(a)
		w.pass(30 * time.Second)
		r.wantHead(a)
		if n := taken.Load(); n < size || n > 2*size+hosts*4*chunk {
			t.Errorf("%d bytes were read of large frames", n)
		}
		close(end)
		w.pass(10 * time.Minute)
		for i := range hosts {
			if info, _ := r.Host(w.ctx, fmt.Sprintf("pds%d.example", i)); info.Rules[relay.RuleKind] != 1 {
				t.Errorf("%+v", info)
			}
		}
	})
}

// TestScarceMemory: when messages that wait for an identity fill half of the memory, they are given up,
// and the account is repaired.
func TestScarceMemory(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		a := h.account("alice")
		r := w.relay("", func(r *relay.Relay) { r.Memory = 32 << 10 })
		w.dir.unavailable(a.did, true)
		r.follow(h)
		for range 40 {
			h.post(a)
		}
		w.pass(10 * time.Minute) // HoldFor is an hour
		if info, _ := r.Host(w.ctx, h.name); info.Waiting > 16<<10 || info.Rules[relay.RuleRepaired] == 0 {
			t.Errorf("%+v", info)
		}
		w.dir.unavailable(a.did, false)
		w.pass(2 * time.Hour)
		r.wantHead(a)
	})
}

// TestHostNamesStrangers: a host that speaks of accounts that are not its own, or lists them, makes the
// relay ask the directory slowly. One that has many accounts of its own is not slowed down.
func TestHostNamesStrangers(t *testing.T) {
	inWorld(t, func(w *world) {
		own, liar := w.host("own.example"), w.host("liar.example")
		r := w.relay("", func(r *relay.Relay) { r.Limits.Accounts = 1000 })
		var last *account
		for i := range 400 {
			last = own.account(fmt.Sprint("a", i))
			own.post(last)
		}
		r.follow(own)
		w.settle()
		r.wantHead(last)
		asked := func() int {
			w.dir.mu.Lock()
			defer w.dir.mu.Unlock()
			return w.dir.asked
		}
		before := asked()
		for i := range 2000 {
			did := syntax.DID(fmt.Sprintf("did:web:nobody%d.example", i))
			liar.say(&commit.Identity{DID: did, Time: time.Now()})
		}
		r.follow(liar)
		w.pass(10 * time.Second)
		if n := asked() - before; n < 50 || n > 400 {
			t.Errorf("the directory was asked %d times", n)
		}
		own.post(last)
		w.settle()
		r.wantHead(last)
	})
}

// TestListedStrangers is the same for listRepos.
func TestListedStrangers(t *testing.T) {
	inWorld(t, func(w *world) {
		liar := w.host("liar.example")
		for i := range 2000 {
			a := newAccount(t, syntax.DID(fmt.Sprintf("did:web:nobody%d.example", i)), liar.name)
			a.write(t, map[string]string{"com.example.note/1": "x"})
			liar.take(a)
		}
		r := w.relay("")
		r.follow(liar)
		w.must(r.Compare(w.ctx, liar.name))
		w.pass(10 * time.Second)
		w.dir.mu.Lock()
		defer w.dir.mu.Unlock()
		if n := w.dir.asked; n < 50 || n > 400 {
			t.Errorf("the directory was asked %d times", n)
		}
	})
}

// TestHostOfEndlessAccounts: a host may make up accounts of its own, such as did:web names below its
// own. Beyond those that it may have, the relay looks them up slowly.
func TestHostOfEndlessAccounts(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		r := w.relay("", func(r *relay.Relay) { r.Limits.Accounts = 1 })
		for i := range 3000 {
			a := newAccount(t, syntax.DID(fmt.Sprintf("did:web:a%d.pds.example", i)), h.name)
			w.dir.set(a)
			h.say(&commit.Account{DID: a.did, Active: true, Time: time.Now()})
		}
		r.follow(h)
		w.pass(10 * time.Second)
		w.dir.mu.Lock()
		defer w.dir.mu.Unlock()
		if n := w.dir.asked; n < 1100 || n > 1500 { // one that is active, and 1010 that are throttled
			t.Errorf("the directory was asked %d times", n)
		}
	})
}

// TestCrawlIsNoHammer: requests for the crawl of a host that is down do not make the relay connect to
// it each time.
func TestCrawlIsNoHammer(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		r := w.relay("")
		r.follow(h)
		h.setDown(true)
		w.settle()
		before := h.count("sync.subscribeRepos")
		for range 1000 {
			w.must(r.RequestCrawl(w.ctx, h.name))
			w.pass(10 * time.Millisecond)
		}
		if n := h.count("sync.subscribeRepos") - before; n > 12 {
			t.Errorf("%d connections in ten seconds", n)
		}
	})
}

// TestBannedHostByRelay: what is banned does not come by way of a relay.
func TestBannedHostByRelay(t *testing.T) {
	inWorld(t, func(w *world) {
		home, up := w.host("pds.example"), w.host("relay.example")
		a := home.account("alice")
		r := w.relay("")
		w.must(r.Ban(w.ctx, "pds.example", ""))
		w.must(r.AddRelay(w.ctx, up.name))
		up.say(a.write(t, map[string]string{"com.example.note/1": "x"}))
		w.pass(time.Minute)
		r.want()
		r.wantRule(up, relay.RuleHost, 1)
	})
}
