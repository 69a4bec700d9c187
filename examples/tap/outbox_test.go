package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// mapTable is a table in memory.
type mapTable struct {
	mu   sync.Mutex
	rows map[int64][]byte
	fail int // so many removals fail
}

func (m *mapTable) bodies(_ context.Context, ids []int64) (map[int64][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make(map[int64][]byte)
	for _, id := range ids {
		if b := m.rows[id]; b != nil {
			found[id] = b
		}
	}
	return found, nil
}

func (m *mapTable) remove(_ context.Context, ids []int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail > 0 {
		m.fail--
		return errors.New("the disk is full")
	}
	for _, id := range ids {
		delete(m.rows, id)
	}
	return nil
}

// TestOrder has events of some repositories taken by consumers that acknowledge, forget, leave and
// come. An event goes out only when the rule allows it, and all are acknowledged in the end.
func TestOrder(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		o := newOutbox(&mapTable{}, 1000, time.Minute, slog.New(slog.DiscardHandler))
		var rows []row
		for i := range int64(60) {
			rows = append(rows, row{id: i + 1, did: syntax.DID(fmt.Sprint("did:web:", r.IntN(4))), live: r.IntN(3) == 0, body: []byte("x")})
		}
		acked := make(map[int64]bool)
		allowed := func(e *event) bool {
			for _, x := range rows[:e.id-1] {
				if x.did == e.lane.did && !acked[x.id] && (x.live || e.live) {
					return false
				}
			}
			return true
		}
		o.add(rows[:30])
		var out []*event
		consumers := []*consumer{o.join(3), o.join(5)}
		for step := 0; len(acked) < 60; step++ {
			if step == 5 {
				o.add(rows[30:])
			}
			if step > 20_000 {
				t.Fatalf("seed %d: %d are acknowledged", seed, len(acked))
			}
			k := r.IntN(2)
			switch c := consumers[k]; r.IntN(8) {
			case 0:
				o.remove(c)
				consumers[k] = o.join(3)
			case 1:
				o.expire(time.Now().Add(time.Hour))
			case 2, 3, 4:
				if len(out) > 0 {
					i := r.IntN(len(out))
					o.ack(out[i].id)
					acked[out[i].id] = true
					out = slices.Delete(out, i, i+1)
				}
			default:
				if len(o.ready) == 0 || len(c.has) >= c.window {
					continue
				}
				for _, e := range o.pick(c, 1+r.IntN(3)) {
					if !allowed(e) {
						t.Fatalf("seed %d: event %d was sent too early", seed, e.id)
					}
					if len(c.has) > c.window {
						t.Fatalf("seed %d: %d events at a socket", seed, len(c.has))
					}
					out = append(out, e)
				}
			}
		}
		for _, c := range consumers {
			o.pick(c, 10)
		}
		if len(o.events) > 0 || len(o.lanes) > 0 || o.kept != 0 {
			t.Errorf("seed %d: %d events and %d lanes are left, with %d bytes", seed, len(o.events), len(o.lanes), o.kept)
		}
	}
}

// TestLateAck: an event that was to be sent again is acknowledged. Its socket goes on.
func TestLateAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox(&mapTable{}, 10, time.Minute, slog.New(slog.DiscardHandler))
		o.add([]row{{id: 1, did: "did:web:a", live: true}})
		c := o.join(10)
		o.take(c, 1)
		o.expire(time.Now().Add(time.Hour))
		o.ack(1)
		got := make(chan []*event, 1)
		go func() { got <- o.take(c, 1) }()
		synctest.Wait()
		o.add([]row{{id: 2, did: "did:web:a", live: true}})
		if list := <-got; len(list) != 1 || list[0].id != 2 {
			t.Error(list)
		}
	})
}

// TestTurns: a repository with many events does not delay one with a few.
func TestTurns(t *testing.T) {
	o := newOutbox(&mapTable{}, 1000, time.Minute, slog.New(slog.DiscardHandler))
	for i := range int64(500) {
		o.add([]row{{id: i + 1, did: "did:web:large"}})
	}
	o.add([]row{{id: 1000, did: "did:web:small", live: true}})
	for _, e := range o.take(o.join(10), 3) {
		if e.id == 1000 {
			return
		}
	}
	t.Error("it was not among the first three")
}

// TestSweep: what was acknowledged is deleted, also if the database fails for a while; it counts
// until then, so that the outbox stays bounded.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mapTable{rows: map[int64][]byte{1: []byte("a"), 2: []byte("b")}, fail: 3}
		o := newOutbox(m, 2, time.Minute, slog.New(slog.DiscardHandler))
		o.add([]row{{id: 1, did: "did:web:a"}, {id: 2, did: "did:web:b"}})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			o.run(ctx)
		}()
		room := make(chan time.Duration, 1)
		start := time.Now()
		go func() {
			o.wait(ctx)
			room <- time.Since(start)
		}()
		c := o.join(10)
		for _, e := range o.take(c, 10) {
			if b, err := o.load(ctx, []*event{e}); err != nil || string(b[0]) != string(m.rows[e.id]) {
				t.Error(b, err)
			}
			o.ack(e.id)
			o.ack(e.id) // again
		}
		if waited := <-room; waited < 3*time.Second || waited > 4*time.Second {
			t.Error(waited)
		}
		if len(m.rows) > 0 || o.size() > 0 {
			t.Error(m.rows, o.size())
		}
		o.remove(c)
		if list := o.take(c, 1); list != nil {
			t.Error(list)
		}
		stop()
		<-done
	})
}
