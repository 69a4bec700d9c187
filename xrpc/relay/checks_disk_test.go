package relay_test

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/relay"
)

func TestR29FullDisk(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		store := memory.New(memory.Config{})
		disk := &failing{Repos: store.Repos, kv: store.KV, err: storage.ErrFull}
		r := w.relay("relay.test", func(r *relay.Relay) { r.Store = storage.Store{Repos: disk, Events: store.Events, KV: disk} })
		r.follow(h)
		h.post(a)
		w.pass(3 * time.Second)
		disk.start()
		h.post(a)
		h.say(&commit.Identity{DID: a.did, Time: time.Now()})
		h.post(a)
		w.pass(time.Hour)
		r.want("#commit alice")
		if list, _ := r.frames(0); len(list) != 1 {
			t.Errorf("%d frames were sent", len(list))
		}
		info, _ := r.Host(w.ctx, h.name)
		if info.Seq != 1 || info.Error == "" {
			t.Errorf("%+v", info)
		}
		disk.on.Store(false)
		w.pass(time.Minute)
		r.want("#commit alice", "#commit alice", "#identity alice", "#commit alice")
		r.wantHead(a)
	})
}

// The log has what is younger than Retention, and a bit. PDSKIT_EVENTS=1000000 says more.
func TestR30Retention(t *testing.T) {
	events := 20_000
	if n, err := strconv.Atoi(os.Getenv("PDSKIT_EVENTS")); err == nil {
		events = n
	}
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("", func(r *relay.Relay) { r.Retention, r.Window = time.Hour, 1<<20 })
		w.must(r.AddHost(w.ctx, h.name))
		w.must(r.SetLimits(w.ctx, h.name, &relay.Limits{Rate: -1}))
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		seen := 0
		go func() {
			for _, err := range r.Outbox().Subscribe(ctx, nil) {
				if err != nil {
					return
				}
				seen++
			}
		}()
		w.settle()
		const hours = 10
		each := events / hours / 60
		for range hours * 60 {
			for range each {
				h.say(&commit.Identity{DID: a.did, Time: time.Now()})
			}
			w.pass(time.Minute)
		}
		n := 0
		for e, err := range r.Store.Events.Since(w.ctx, 0) {
			w.must(err)
			if age := time.Since(e.Time); age > time.Hour+11*time.Minute {
				t.Fatalf("an event is %s old", age)
			}
			n++
		}
		if n > each*72 || n < each*59 {
			t.Errorf("%d of %d events are kept", n, hours*60*each)
		}
		cancel()
		w.settle()
		if seen != hours*60*each {
			t.Errorf("a subscriber got %d events of %d", seen, hours*60*each)
		}
	})
}

// TestRetentionBytes: the log has no more bytes than it may have, over restarts, too.
func TestRetentionBytes(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		const most = 64 << 10
		bounded := func(r *relay.Relay) { r.RetentionBytes = most }
		r := w.relay("", bounded)
		size := func() (n, bytes int) {
			for e, err := range r.Store.Events.Since(w.ctx, 0) {
				w.must(err)
				n, bytes = n+1, bytes+len(e.Payload)
			}
			return n, bytes
		}
		r.follow(h)
		for round := range 4 {
			for range 100 {
				h.post(a)
				w.pass(time.Millisecond)
			}
			if round == 2 {
				r = r.again(bounded)
			}
			w.pass(11 * time.Minute)
			if n, bytes := size(); bytes > most || bytes < most*3/4 {
				t.Errorf("round %d: %d events, %d bytes", round, n, bytes)
			}
		}
		rows := 0
		w.must(r.Store.KV.Read(w.ctx, func(kv storage.KVReader) error {
			for _, err := range kv.Keys(w.ctx, storage.Prefix("relay/log/")) {
				w.must(err)
				rows++
			}
			return nil
		}))
		if rows > 100 {
			t.Errorf("%d rows", rows)
		}
		r.wantHead(a)
	})
}
