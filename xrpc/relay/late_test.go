package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/relay"
)

// TestMovesRightAfterLookUp: somebody has had a document fetched a moment before the account moves. What
// the new host says then waits until it may be fetched again.
func TestMovesRightAfterLookUp(t *testing.T) {
	inWorld(t, func(w *world) {
		one, two := w.host("pds1.test"), w.host("pds2.test")
		a := one.account("alice")
		r := w.relay("")
		r.follow(one, two)
		one.post(a)
		one.say(&commit.Identity{DID: a.did, Time: time.Now()}) // which is looked up
		w.settle()
		w.pass(2 * time.Second)
		a.home = two.name
		w.dir.set(a)
		two.take(a)
		two.post(a) // the only message for a long time
		w.pass(25 * time.Second)
		r.wantHead(a)
		r.want("#commit alice", "#identity alice", "#commit alice")
		if n := r.rule(two, relay.RuleHost); n != 0 {
			t.Errorf("%d messages were dropped", n)
		}
	})
}

// TestForeignMessagesWait: messages that a host sends for another one's account wait for a moment at most,
// and change nothing there, however many they are.
func TestForeignMessagesWait(t *testing.T) {
	inWorld(t, func(w *world) {
		home, liar := w.host("home.example"), w.host("liar.example")
		a := home.account("alice")
		r := w.relay("", func(r *relay.Relay) { r.HostMemory = 64 << 10 })
		r.follow(home, liar)
		home.post(a)
		home.say(&commit.Identity{DID: a.did, Time: time.Now()})
		w.settle()
		w.pass(2 * time.Second)
		for range 200 {
			liar.say(&commit.Account{DID: a.did, Status: "takendown", Time: time.Now()})
		}
		home.post(a)
		w.settle()
		r.wantHead(a)
		r.wantStatus(a, "")
		w.pass(2 * time.Minute)
		r.wantRule(liar, relay.RuleHost, 200)
		r.want("#commit alice", "#identity alice", "#commit alice")
	})
}

// TestNewInDirectory: the first messages of an account come before the directory knows it.
func TestNewInDirectory(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		a := newAccount(t, "did:web:alice.example", h.name)
		h.take(a)
		r := w.relay("")
		r.follow(h)
		h.post(a)
		h.post(a)
		w.pass(5 * time.Second)
		w.dir.set(a)
		w.pass(25 * time.Second)
		r.want("#commit alice", "#commit alice")
		r.wantHead(a)
		nobody := newAccount(t, "did:web:nobody.example", h.name)
		h.post(nobody)
		w.pass(time.Minute)
		r.wantRule(h, relay.RuleIdentity, 1)
		r.want("#commit alice", "#commit alice")
	})
}

// TestRelayBringsFirst: an account that another relay has brought counts from when its host is followed
// itself, and no longer when it has moved away.
func TestRelayBringsFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		home, next, up := w.host("pds.example"), w.host("next.example"), w.host("relay.example")
		alice, bob := home.account("alice"), home.account("bob")
		r := w.relay("", func(r *relay.Relay) { r.Limits.Accounts = 1 })
		w.must(r.AddRelay(w.ctx, up.name))
		counts := func(h *fakeHost, want int64) {
			t.Helper()
			if info, _ := r.Host(w.ctx, h.name); info.Accounts != want {
				t.Errorf("%s has %d accounts, want %d", h.name, info.Accounts, want)
			}
		}
		for _, a := range []*account{alice, bob} {
			up.say(a.write(t, map[string]string{"com.example.note/1": "one"}))
			w.settle()
		}
		r.want("#commit alice", "#commit bob")
		r.follow(home)
		w.pass(time.Second)
		home.post(alice)
		w.settle()
		home.post(bob)
		w.settle()
		counts(home, 2)
		r.wantStatus(alice, "")
		r.wantStatus(bob, "throttled")
		w.pass(time.Minute)
		alice.home = next.name
		w.dir.set(alice)
		up.say(&commit.Identity{DID: alice.did, Time: time.Now()})
		w.settle()
		w.pass(time.Minute)
		counts(home, 1)
		r.wantStatus(bob, "")
	})
}

// busyKV does something right after each change of an account.
type busyRepos struct {
	storage.Repos
	after func(did syntax.DID)
}

func (s *busyRepos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	seq, err := s.Repos.Apply(ctx, did, c)
	if err == nil {
		s.after(did)
	}
	return seq, err
}

// TestSeenIsKnown: whoever has seen an event is told of what it says.
func TestSeenIsKnown(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		a := h.account("alice")
		store := memory.New(memory.Config{})
		repos := &busyRepos{Repos: store.Repos}
		r := w.relay("", func(r *relay.Relay) {
			r.Store = store
			r.Store.Repos = repos
		})
		var wrong []string
		repos.after = func(did syntax.DID) {
			var want syntax.TID
			for e, err := range store.Events.Since(w.ctx, 0) {
				if m, _ := commit.Decode(e.Kind, e.Payload); err == nil {
					if c, ok := m.(*commit.Event); ok {
						want = c.Rev
					}
				}
			}
			if known, err := r.Account(w.ctx, did); err != nil || known.Head.Rev != want {
				wrong = append(wrong, fmt.Sprintf("%s, not %s, %v", known.Head.Rev, want, err))
			}
		}
		r.follow(h)
		for range 3 {
			h.post(a)
			w.settle()
		}
		if len(wrong) > 0 {
			t.Error(wrong)
		}
		r.wantHead(a)
	})
}

// TestResetWhileRead: a cursor is reset while messages come.
func TestResetWhileRead(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		for range 10 {
			h.post(a)
		}
		w.settle()
		done := make(chan bool)
		go func() {
			defer close(done)
			for range 50 {
				h.post(a)
			}
		}()
		w.must(r.ResetCursor(w.ctx, h.name))
		<-done
		w.pass(time.Minute)
		if n := r.rule(h, relay.RuleStale); n < 10 {
			t.Errorf("%d messages were read again", n)
		}
		r.wantHead(a)
	})
}

// TestEndlessList: a host lists accounts without end. The comparison has one.
func TestEndlessList(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		pages := 0
		w.net.Handle("endless.example", http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			if !strings.HasSuffix(req.URL.Path, "listRepos") {
				h.ServeHTTP(rw, req)
				return
			}
			pages++
			type repo map[string]any
			list := make([]repo, 1000)
			for i := range list {
				list[i] = repo{"did": fmt.Sprintf("did:web:a%d-%d.example", pages, i), "rev": "3l3qo2vuowo2b", "active": false}
			}
			json.NewEncoder(rw).Encode(map[string]any{"repos": list, "cursor": fmt.Sprint(pages)})
		}))
		r := w.relay("")
		w.must(r.AddHost(w.ctx, "endless.example"))
		w.settle()
		w.must(r.Compare(w.ctx, "endless.example"))
		w.pass(time.Hour)
		if pages < 5 || pages > 20 {
			t.Errorf("%d pages were read", pages)
		}
	})
}

// TestCompareFindsStatus: the message that an account is not active any more was lost.
func TestCompareFindsStatus(t *testing.T) {
	inWorld(t, func(w *world) {
		one, two := w.host("pds1.test"), w.host("pds2.test")
		a, b := one.account("alice"), one.account("bob")
		r := w.relay("")
		r.follow(one, two)
		one.post(a)
		one.post(b)
		w.settle()
		w.pass(time.Minute)
		one.setStatus(a, "deactivated")
		b.home = two.name // and bob has moved
		w.dir.set(b)
		two.take(b)
		b.write(t, map[string]string{"com.example.note/moved": "x"})
		w.must(r.Compare(w.ctx, one.name))
		w.must(r.Compare(w.ctx, two.name))
		w.pass(time.Minute)
		r.wantStatus(a, "deactivated")
		r.wantHead(b)
	})
}

// TestNewHostsOfANetwork: who asks for one host after the other leaves some to others.
func TestNewHostsOfANetwork(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.relay("", func(r *relay.Relay) { r.NewHostsPerDay = 10 })
		n := 0
		ask := func(addr string) error {
			n++
			name := fmt.Sprintf("pds%d.test", n)
			w.host(name)
			return r.RequestCrawl(limit.WithClient(w.ctx, limit.Client{Network: limit.NetworkOf(netip.MustParseAddr(addr))}), name)
		}
		for i, c := range []struct {
			addr string
			want error
		}{
			{"192.0.2.1", nil}, {"192.0.2.1", nil}, {"192.0.2.1", relay.ErrTooMany}, {"2001:db8::1", nil}, {"192.0.2.2", nil},
			{"2001:db8::2", nil}, {"2001:db8::3", relay.ErrTooMany}, {"2001:db8:0:1::3", nil},
		} {
			if err := ask(c.addr); !errors.Is(err, c.want) {
				t.Errorf("%d, %s: %v", i, c.addr, err)
			}
		}
	})
}
