package relay_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// testRelay is a relay of the world.
type testRelay struct {
	*relay.Relay
	w       *world
	client  *xrpc.Client
	stopped func()
}

// relay runs a relay, which is reached by a name.
func (w *world) relay(name string, change ...func(*relay.Relay)) *testRelay {
	w.t.Helper()
	r := &testRelay{w: w, Relay: &relay.Relay{Store: memory.New(memory.Config{}), Identity: w.dir, HTTP: w.net.Client()}}
	for _, f := range change {
		f(r.Relay)
	}
	r.Outbox().Ping = noPings
	if name != "" {
		server := &xrpc.Server{Catalog: lexicon.Builtin()}
		r.Mount(server)
		w.net.Handle(name, server)
		r.client = &xrpc.Client{Host: "https://" + name, HTTP: w.net.Client()}
	}
	r.start()
	w.stop = append(w.stop, func() { r.stop() })
	return r
}

func (r *testRelay) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stopped = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.w.t.Errorf("Run: %v", err)
		}
	}
}

// memoryCursor sets the cursor of a host that is stored.
func memoryCursor(r *testRelay, host string, seq int64) error {
	return r.Store.KV.Write(context.Background(), func(tx storage.KVTx) error {
		return tx.Set(context.Background(), "relay/cursor/"+host, fmt.Append(nil, seq), time.Time{})
	})
}

// hideHeaders forwards subscriptions to a relay, without the headers that name relays.
func hideHeaders(client *http.Client, of string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cursor, err := strconv.ParseInt(r.URL.Query().Get("cursor"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		ctx := conn.CloseRead(r.Context())
		c := stream.Consumer{URL: "https://" + of + r.URL.Path, Cursor: &cursor, HTTP: client, Retry: func(err error) error { return err }}
		for f, err := range c.Frames(ctx) {
			if err != nil || conn.Write(ctx, websocket.MessageBinary, f.Encode()) != nil {
				return
			}
		}
	})
}

// stop ends the relay, once.
func (r *testRelay) stop() {
	if r.stopped != nil {
		r.stopped()
		r.Outbox().Close()
		r.stopped = nil
	}
}

// again runs another relay with the same store.
func (r *testRelay) again(change ...func(*relay.Relay)) *testRelay {
	r.stop()
	return r.w.relay("", append([]func(*relay.Relay){func(n *relay.Relay) { n.Store = r.Store }}, change...)...)
}

// follow adds hosts and waits.
func (r *testRelay) follow(hosts ...*fakeHost) {
	r.w.t.Helper()
	for _, h := range hosts {
		r.w.must(r.AddHost(r.w.ctx, h.name))
	}
	r.w.settle()
}

// log returns all that the relay has passed on.
func (r *testRelay) log() (list []commit.Message) {
	r.w.t.Helper()
	last := int64(0)
	for e, err := range r.Store.Events.Since(context.Background(), 0) {
		r.w.must(err)
		if e.First() <= last {
			r.w.t.Errorf("number %d after %d", e.First(), last)
		}
		last = e.Seq
		m, err := commit.Decode(e.Kind, e.Payload)
		r.w.must(err)
		list = append(list, m)
	}
	return list
}

// saw returns the log, short: "#commit alice" for each.
func (r *testRelay) saw() (list []string) {
	for _, m := range r.log() {
		text := m.Kind() + " " + strings.TrimSuffix(strings.TrimPrefix(string(m.About()), "did:web:"), ".example")
		if a, ok := m.(*commit.Account); ok {
			text += " " + a.Status
			text = strings.TrimSpace(text)
		}
		list = append(list, text)
	}
	return list
}

// want compares what saw returns.
func (r *testRelay) want(list ...string) {
	r.w.t.Helper()
	if got := r.saw(); !slices.Equal(got, list) {
		r.w.t.Errorf("the relay has passed on %q,\nwant %q", got, list)
	}
}

// wantHead checks that the relay's head is the account's.
func (r *testRelay) wantHead(a *account) {
	r.w.t.Helper()
	got, err := r.Account(r.w.ctx, a.did)
	if err != nil || got.Head != (storage.Head{Commit: a.block.CID, Data: a.commit.Data, Rev: a.commit.Rev}) {
		r.w.t.Errorf("the head of %s is %v, want %v: %+v, %v", a.did, got.Head.Rev, a.commit.Rev, got, err)
	}
}

func (r *testRelay) wantStatus(a *account, status string) {
	r.w.t.Helper()
	got, err := r.Account(r.w.ctx, a.did)
	if err != nil || got.Status != status {
		r.w.t.Errorf("the status of %s is %q, want %q: %v", a.did, got.Status, status, err)
	}
}

// rule returns how many messages of a host broke a rule.
func (r *testRelay) rule(h *fakeHost, rule relay.Rule) int64 {
	r.w.t.Helper()
	info, err := r.Host(r.w.ctx, h.name)
	r.w.must(err)
	return info.Rules[rule]
}

func (r *testRelay) wantRule(h *fakeHost, rule relay.Rule, n int64) {
	r.w.t.Helper()
	if got := r.rule(h, rule); got != n {
		info, _ := r.Host(r.w.ctx, h.name)
		r.w.t.Errorf("rule %q: %d messages, want %d; all: %v", rule, got, n, info.Rules)
	}
}
