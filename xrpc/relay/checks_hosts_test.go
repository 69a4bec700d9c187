package relay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
	"golang.org/x/net/dns/dnsmessage"
)

// errorName is the name of an XRPC error.
func errorName(err error) string {
	var e *xrpc.Error
	if errors.As(err, &e) {
		return e.Name
	}
	return fmt.Sprint(err)
}

func TestR01RequestCrawl(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		h.post(a)
		r := w.relay("relay.test")
		w.must(api.SyncRequestCrawl(w.ctx, r.client, api.SyncRequestCrawlInput{Hostname: "pds1.test"}))
		w.settle()
		h.post(a)
		h.post(a)
		w.settle()
		r.want("#commit alice", "#commit alice", "#commit alice") // log checks the numbers
		status, err := api.SyncGetHostStatus(w.ctx, r.client, api.SyncGetHostStatusParams{Hostname: "pds1.test"})
		if w.must(err); status.Status != "active" || status.Seq == nil || *status.Seq != 3 || *status.AccountCount != 1 {
			t.Errorf("%+v", status)
		}
		// A host that is followed may ask again.
		w.must(api.SyncRequestCrawl(w.ctx, r.client, api.SyncRequestCrawlInput{Hostname: "https://PDS1.test/"}))
	})
}

func TestR02WrongHosts(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.relay("relay.test")
		w.net.Handle("web.test", http.NotFoundHandler())
		w.net.Handle("odd.test", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"did":"no"}`)) }))
		for name, want := range map[string]string{
			"unreachable.test": api.ErrorHostNotFound, "web.test": api.ErrorHostNotFound, "odd.test": api.ErrorHostNotFound,
			"192.0.2.7": "InvalidRequest", "[2001:db8::1]": "InvalidRequest", "pds1.test:8443": "InvalidRequest", "pds1.test/path": "InvalidRequest",
			"user@pds1.test": "InvalidRequest", "localhost": "InvalidRequest", "localhost:2583": "InvalidRequest", "": "InvalidRequest", "pds1": "InvalidRequest",
			"pds1.test?x": "InvalidRequest", "2130706433": "InvalidRequest", "pds1..test": "InvalidRequest", "0x7f.1": "InvalidRequest",
		} {
			err := api.SyncRequestCrawl(w.ctx, r.client, api.SyncRequestCrawlInput{Hostname: name})
			if got := errorName(err); got != want {
				t.Errorf("%q: %s, want %s", name, got, want)
			}
		}
		if list, err := r.Hosts(w.ctx, "", 10); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

func TestR03Bans(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.bad.test")
		a := h.account("alice")
		r := w.relay("relay.test")
		for _, ban := range []string{"pds1.bad.test", "bad.test", "Test."} {
			w.must(r.Ban(w.ctx, ban, "spam"))
			err := api.SyncRequestCrawl(w.ctx, r.client, api.SyncRequestCrawlInput{Hostname: h.name})
			if errorName(err) != api.ErrorHostBanned {
				t.Errorf("%s: %v", ban, err)
			}
			if err := r.AddHost(w.ctx, h.name); !errors.Is(err, relay.ErrBanned) {
				t.Errorf("%s: %v", ban, err)
			}
			w.must(r.Unban(w.ctx, ban))
		}
		w.must(r.Ban(w.ctx, "ad.test", "")) // which is another domain
		r.follow(h)
		h.post(a)
		w.settle()
		// A host that is followed is let go, and after a restart, too.
		w.must(r.Ban(w.ctx, "bad.test", "spam"))
		w.settle()
		h.post(a)
		w.settle()
		if info, _ := r.Host(w.ctx, h.name); info.Status != relay.HostBanned {
			t.Errorf("%+v", info)
		}
		r2 := r.again()
		w.pass(time.Hour)
		r2.want("#commit alice")
		if bans, _ := r2.Bans(w.ctx); len(bans) != 2 || bans[1].Name != "bad.test" || bans[1].Reason != "spam" {
			t.Errorf("%+v", bans)
		}
		w.must(r2.Unban(w.ctx, "bad.test"))
		w.settle()
		r2.want("#commit alice", "#commit alice")
	})
}

// A name that leads to an address which is not public is not connected to, and neither is one that
// such a host redirects to.
func TestR04PrivateAddresses(t *testing.T) {
	testenv.NotOnJS(t, "it has no DNS")
	for _, addr := range []string{"127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "::1", "fd00::1", "::ffff:127.0.0.1"} {
		resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go serveDNS(server, netip.MustParseAddr(addr))
			return client, nil
		}}
		r := &relay.Relay{Store: memory.New(memory.Config{}), HTTP: safehttp.NewClient(safehttp.Config{Resolver: resolver})}
		if err := r.RequestCrawl(t.Context(), "pds.example.com"); !errors.Is(err, relay.ErrNoServer) || !errors.Is(err, safehttp.ErrAddress) {
			t.Errorf("%s: %v", addr, err)
		}
		if list, _ := r.Hosts(t.Context(), "", 10); len(list) != 0 {
			t.Errorf("%s: %+v", addr, list)
		}
	}
	// The default client is as careful.
	r := &relay.Relay{Store: memory.New(memory.Config{})}
	for _, name := range []string{"localhost", "127.0.0.1", "[::1]", "169.254.169.254", "localhost:443"} {
		if err := r.AddHost(t.Context(), name); !errors.Is(err, relay.ErrHostname) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.Ban(t.Context(), "x.test", "") // so that it is set up
	if _, err := r.HTTP.Get("https://127.0.0.1/"); !errors.Is(err, safehttp.ErrAddress) {
		t.Error(err)
	}
}

// serveDNS answers one connection's questions with an address.
func serveDNS(conn net.Conn, addr netip.Addr) {
	defer conn.Close()
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		text := make([]byte, int(head[0])<<8|int(head[1]))
		var m dnsmessage.Message
		if _, err := io.ReadFull(conn, text); err != nil || m.Unpack(text) != nil || len(m.Questions) != 1 {
			return
		}
		q := m.Questions[0]
		m.Response, m.Additionals = true, nil
		rh := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		switch {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			m.Answers = []dnsmessage.Resource{{Header: rh, Body: &dnsmessage.AResource{A: addr.As4()}}}
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			m.Answers = []dnsmessage.Resource{{Header: rh, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}}
		}
		out, err := m.Pack()
		if err != nil {
			return
		}
		if _, err := conn.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...)); err != nil {
			return
		}
	}
}

func TestR05NewHostsOfADay(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.relay("relay.test", func(r *relay.Relay) { r.NewHostsPerDay, r.NewHostsPerNetwork = 2, -1 })
		ask := func(name string) string {
			return errorName(api.SyncRequestCrawl(w.ctx, r.client, api.SyncRequestCrawlInput{Hostname: name}))
		}
		for i := range 5 {
			w.host(fmt.Sprintf("pds%d.test", i))
		}
		for name, want := range map[string]string{"pds0.test": "<nil>"} {
			if got := ask(name); got != want {
				t.Errorf("%s: %s", name, got)
			}
		}
		if got := ask("pds1.test") + ask("pds2.test") + ask("pds0.test"); got != "<nil>RateLimitExceeded<nil>" {
			t.Error(got)
		}
		w.must(r.AddHost(w.ctx, "pds3.test")) // an operator may
		w.pass(24 * time.Hour)
		if got := ask("pds2.test") + ask("pds4.test"); got != "<nil><nil>" {
			t.Error(got)
		}
	})
}

func TestR06CleanRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.settle()
		r.stop()
		h.post(a)
		r = r.again()
		w.settle()
		h.post(a)
		w.settle()
		r.want("#commit alice", "#commit alice", "#commit alice")
		if got := h.cursors; !slices.Equal(got, []string{"0", "1"}) {
			t.Errorf("subscriptions from %q", got)
		}
		r.wantHead(a)
	})
}

// What was dealt with, but not saved as such, comes again, and is dropped.
func TestR06CursorWasNotSaved(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		h.say(&commit.Identity{DID: a.did, Time: time.Now()})
		h.post(a)
		w.settle()
		r.stop()
		w.must(memoryCursor(r, h.name, 0))
		r = r.again()
		w.settle()
		r.want("#commit alice", "#identity alice", "#commit alice", "#identity alice")
		r.wantRule(h, relay.RuleStale, 2)
	})
}

func TestR07QuietHost(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		if got := h.cursors; !slices.Equal(got, []string{"0"}) {
			t.Errorf("a new host is read from %q", got)
		}
		w.pass(3 * time.Second)
		h.setDown(true) // between two connections
		h.post(a)
		h.setDown(false)
		w.pass(time.Minute)
		r.want("#commit alice")

		quiet := w.host("pds2.test")
		b := quiet.account("bob")
		r.follow(quiet)
		r.stop()
		quiet.post(b)
		r = r.again()
		w.settle()
		r.want("#commit alice", "#commit bob")
	})
}

func TestR08FutureCursor(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a, b := h.account("alice"), h.account("bob")
		r := w.relay("", func(r *relay.Relay) { r.Limits.Accounts = 10 })
		r.follow(h)
		h.post(b)
		for range 5 {
			h.post(a)
		}
		w.pass(5 * time.Second)
		h.setDown(true)
		h.reset() // all numbers are forgotten
		b.write(t, map[string]string{"com.example.note/unheard": "x"})
		h.setDown(false)
		w.pass(2 * time.Second)
		if info, _ := r.Host(w.ctx, h.name); !strings.Contains(info.Error, stream.ErrFutureCursor.Name) || info.Seq != 6 {
			t.Errorf("%+v", info)
		}
		w.pass(time.Minute)
		h.post(a)
		w.pass(time.Minute)
		r.wantHead(a)
		r.wantHead(b) // found by comparing, as nothing was said
		if info, _ := r.Host(w.ctx, h.name); info.Status != relay.HostActive || info.Seq != 1 {
			t.Errorf("%+v", info)
		}
	})
}

// The operator may rather decide.
func TestR08FutureCursorByHand(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("", func(r *relay.Relay) { r.ResetAfter = -1 })
		r.follow(h)
		h.post(a)
		w.pass(5 * time.Second)
		h.setDown(true)
		h.reset()
		h.setDown(false)
		w.pass(48 * time.Hour)
		if info, _ := r.Host(w.ctx, h.name); info.Status != relay.HostOffline || info.Seq != 1 {
			t.Errorf("%+v", info)
		}
		w.must(r.ResetCursor(w.ctx, h.name))
		h.post(a)
		w.pass(time.Minute)
		r.wantHead(a)
	})
}

// A frame that cannot be read would end each connection.
func TestR08UnreadableFrame(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.settle()
		h.sayRaw(a.did, "", []byte{0xa0}) // without a type
		w.pass(time.Second)
		h.post(a)
		w.pass(10 * time.Minute)
		r.wantHead(a)
		h.post(a)
		w.settle()
		r.wantHead(a)
		if info, _ := r.Host(w.ctx, h.name); info.Status != relay.HostActive {
			t.Errorf("%+v", info)
		}
	})
}

func TestR09HostIsDown(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.pass(time.Minute)
		h.setDown(true)
		w.pass(time.Hour)
		info, err := r.Host(w.ctx, h.name)
		if w.must(err); info.Status != relay.HostOffline || info.Failures < 10 || info.Failures > 30 || info.Next.Before(time.Now()) {
			t.Errorf("%+v", info)
		}
		h.setDown(false)
		h.post(a)
		w.pass(90 * time.Minute)
		r.want("#commit alice", "#commit alice")
		// One that is down for long is asked once a day.
		h.setDown(true)
		w.pass(5 * 24 * time.Hour)
		before := h.count("sync.subscribeRepos")
		w.pass(3 * 24 * time.Hour)
		if n := h.count("sync.subscribeRepos") - before; n < 2 || n > 7 {
			t.Errorf("asked %d times in three days", n)
		}
		// Whoever says that it is back is believed at once.
		h.setDown(false)
		h.post(a)
		w.must(r.RequestCrawl(w.ctx, h.name))
		w.settle()
		r.wantHead(a)
	})
}

// A host that no longer has what was not read is compared as a whole.
func TestOutdatedCursor(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a, b := h.account("alice"), h.account("bob")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.settle()
		h.post(b)
		w.settle()
		r.stop()
		b.write(t, map[string]string{"com.example.note/unheard": "x"})
		h.say(b.write(t, map[string]string{"com.example.note/unheard": "y"}))
		w.pass(time.Second)
		w.must(h.store.Events.Trim(w.ctx, time.Now()))
		h.post(a)
		r = r.again()
		w.pass(time.Minute)
		r.wantRule(h, relay.RuleOutdated, 1)
		r.wantHead(a)
		r.wantHead(b)
		if got := r.saw(); len(got) < 4 || got[0] != "#commit alice" || got[1] != "#commit bob" || !slices.Contains(got, "#sync bob") {
			t.Errorf("%q", got)
		}
	})
}

func TestR25PagesOfHostsAndRepos(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.relay("relay.test", func(r *relay.Relay) { r.Limits.Accounts = -1 })
		const hosts, accounts = 7, 5
		seen, more := make(map[string]int), 0
		var list []*fakeHost
		for i := range hosts {
			h := w.host(fmt.Sprintf("pds%d.test", i))
			for j := range accounts {
				h.post(h.account(fmt.Sprintf("a%d-%d", i, j)))
			}
			list = append(list, h)
		}
		r.follow(list...)
		for cursor, first := "", true; cursor != "" || first; first = false {
			page, err := api.SyncListHosts(w.ctx, r.client, api.SyncListHostsParams{Cursor: cursor, Limit: 3})
			w.must(err)
			for _, h := range page.Hosts {
				seen[h.Hostname]++
			}
			h := w.host(fmt.Sprintf("new%d.test", more))
			more++
			h.post(h.account(fmt.Sprintf("new%d", more)))
			r.follow(h)
			cursor = page.Cursor
		}
		for cursor, first := "", true; cursor != "" || first; first = false {
			page, err := api.SyncListRepos(w.ctx, r.client, api.SyncListReposParams{Cursor: cursor, Limit: 4})
			w.must(err)
			for _, repo := range page.Repos {
				seen[string(repo.DID)]++
			}
			list[0].post(list[0].account(fmt.Sprintf("late%d", more)))
			more++
			w.settle()
			if cursor = page.Cursor; more > 100 {
				t.Fatal("there is no end")
			}
		}
		for i, h := range list {
			if seen[h.name] != 1 {
				t.Errorf("%s: listed %d times", h.name, seen[h.name])
			}
			for j := range accounts {
				if n := seen[fmt.Sprintf("did:web:a%d-%d.example", i, j)]; n != 1 {
					t.Errorf("account %d of %s: listed %d times", j, h.name, n)
				}
			}
		}
	})
}

func TestR28Chain(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a, b := h.account("alice"), h.account("bob")
		first := w.relay("relay1.test")
		second := w.relay("relay2.test")
		first.follow(h)
		w.must(second.AddRelay(w.ctx, "relay1.test"))
		for range 3 {
			h.post(a)
			h.post(b)
		}
		h.say(&commit.Identity{DID: a.did, Time: time.Now()})
		h.setActive(b, false, "deactivated")
		w.settle()
		w.pass(time.Minute)
		second.wantHead(a)
		second.wantHead(b)
		second.wantStatus(b, "deactivated")
		for _, name := range []string{"alice", "bob"} { // accounts may overtake each other
			others := func(s string) bool { return !strings.Contains(s, name) }
			one, two := slices.DeleteFunc(first.saw(), others), slices.DeleteFunc(second.saw(), others)
			if len(one) < 4 || !slices.Equal(one, two) {
				t.Errorf("%q,\n%q", one, two)
			}
		}
		// The way back is refused, whoever asks.
		w.must(first.AddRelay(w.ctx, "relay2.test"))
		w.pass(time.Minute)
		if info, _ := first.Host(w.ctx, "relay2.test"); !strings.Contains(info.Error, "follows this one") || !info.Connected.IsZero() {
			t.Errorf("%+v", info)
		}
		if err := first.RequestCrawl(w.ctx, "relay3.test"); err == nil {
			t.Error("a relay is taken for a PDS")
		}
	})
}

// A relay is refused where it is not expected, by its own word or by that of others.
func TestR28RelayIsNoPDS(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		h.server = "Atproto-Relay/1.0"
		other, r := w.relay("relay1.test"), w.relay("relay2.test")
		if err := r.RequestCrawl(w.ctx, h.name); !errors.Is(err, relay.ErrLoop) {
			t.Error(err)
		}
		w.must(r.AddHost(w.ctx, h.name))
		w.must(r.AddHost(w.ctx, "relay1.test"))
		w.pass(time.Minute)
		for _, name := range []string{h.name, "relay1.test"} {
			if info, _ := r.Host(w.ctx, name); !info.Connected.IsZero() || !strings.Contains(info.Error, relay.ErrLoop.Error()) {
				t.Errorf("%+v", info)
			}
		}
		_ = other
	})
}

// Even if two relays follow each other, as when nobody has told who they are, nothing goes round.
func TestR28LoopEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		one, two := w.relay("relay1.test"), w.relay("relay2.test")
		strip := func(name, of string) {
			client := w.net.Client()
			w.net.Handle(name, hideHeaders(client, of))
		}
		strip("hidden1.test", "relay1.test")
		strip("hidden2.test", "relay2.test")
		one.follow(h)
		w.must(one.AddRelay(w.ctx, "hidden2.test"))
		w.must(two.AddRelay(w.ctx, "hidden1.test"))
		h.post(a)
		h.say(&commit.Identity{DID: a.did, Time: time.Now()})
		w.pass(time.Second)
		h.setActive(a, false, "deactivated")
		w.pass(time.Second)
		h.setActive(a, true, "")
		w.pass(time.Second)
		h.post(a)
		w.pass(10 * time.Minute)
		want := []string{"#commit alice", "#identity alice", "#account alice deactivated", "#account alice", "#commit alice"}
		two.want(want...)
		if got := one.saw(); len(got) > len(want)+3 { // each message may come back once
			t.Errorf("%q", got)
		}
		one.wantHead(a)
		two.wantHead(a)
		one.wantStatus(a, "")
		two.wantStatus(a, "")
	})
}
