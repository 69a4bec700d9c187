package indexer_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// TestKilledWhileComparing: a process that ends while accounts are compared with their hosts, as
// events were missed, has that done when it runs again, though it knows where the stream is.
func TestKilledWhileComparing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		dir, scope := t.TempDir(), indexer.Scope{DIDs: []syntax.DID{alice}}
		a := w.app(dir, scope, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		a.halt()
		h.silently(alice, remove(notes, "r1"))
		_, newest, err := h.store.Events.Bounds(ctx)
		w.ok(err)
		w.ok(a.sink.Apply(ctx, &indexer.Transaction{Positions: map[string]string{h.url: strconv.FormatInt(newest, 10)}}))
		w.app(dir, scope, indexer.Source{Host: h.url}).start().settle(nil, alice)
	})
}

// TestKilledWhileListing: events of new accounts were missed, and the process ends before all are
// listed. They are listed when it runs again.
func TestKilledWhileListing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		dir := t.TempDir()
		a := w.app(dir, all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		h.write(alice, create(notes, "live", "x"))
		a.settle(nil, alice)
		a.halt()
		bob := h.account("bob", 3)
		time.Sleep(time.Hour)
		w.ok(h.store.Events.Trim(ctx, time.Now()))
		h.write(alice, create(notes, "later", "x"))
		h.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, api.SyncListReposNSID) {
				rw.WriteHeader(503)
				return true
			}
			return false
		})
		_, newest, err := h.store.Events.Bounds(ctx)
		w.ok(err)
		b := w.app(dir, all, indexer.Source{Host: h.url}).start()
		b.eventually(func() error {
			if at, err := b.sink.Position(ctx, h.url); !strings.HasPrefix(at, fmt.Sprint(newest)) {
				return fmt.Errorf("position %s, %v", at, err)
			}
			return nil
		})
		b.halt()
		h.setFault(nil)
		c := w.app(dir, all, indexer.Source{Host: h.url})
		c.ix.Relist = -1
		c.start().settle(nil, alice, bob)
	})
}

// TestLocalTrimmed: events of a new account were trimmed from a local log before they were read.
func TestLocalTrimmed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 3)
		dir := t.TempDir()
		source := indexer.Source{Local: &h.store}
		a := w.app(dir, all, source).start()
		h.write(alice, create(notes, "live", "x"))
		a.settle(nil, alice)
		time.Sleep(5 * time.Second)
		a.halt()
		bob := h.account("bob", 3)
		time.Sleep(time.Hour)
		w.ok(h.store.Events.Trim(ctx, time.Now()))
		h.write(alice, create(notes, "later", "x"))
		b := w.app(dir, all, source)
		b.ix.Relist = -1
		b.start().settle(nil, alice, bob)
	})
}

// TestSlowIdentities: more accounts than there are workers have hosts that do not say who they are.
// The events of all others are applied.
func TestSlowIdentities(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		var slow []syntax.DID
		for i := range 40 {
			slow = append(slow, h.account(fmt.Sprint("slow", i), 1))
		}
		alice := h.account("alice", 3)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, append(slow, alice)...)
		hang := make(chan struct{})
		w.mu.Lock()
		w.lookupErr = func(did syntax.DID) error {
			if did != alice {
				w.mu.Unlock()
				<-hang
				w.mu.Lock()
			}
			return nil
		}
		w.mu.Unlock()
		for _, did := range slow {
			h.write(did, create(notes, "slow", "x"))
		}
		h.write(alice, create(notes, "fast", "x"))
		a.eventually(func() error { return a.compare(nil, alice) })
		close(hang)
		a.settle(nil, append(slow, alice)...)
	})
}

// lateSink is a sink whose list of what is due is old: it has an account in it that is not due any
// more. While that account is looked up, something else happens.
type lateSink struct {
	indexer.Sink
	meanwhile func()

	mu  sync.Mutex
	did syntax.DID
}

func (s *lateSink) Due(ctx context.Context, now time.Time, skip []string, perHost, most int) ([]indexer.Account, error) {
	list, err := s.Sink.Due(ctx, now, skip, perHost, most)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.did != "" {
		list = append(list, indexer.Account{DID: s.did})
	}
	return list, err
}

func (s *lateSink) Account(ctx context.Context, did syntax.DID) (indexer.Account, error) {
	a, err := s.Sink.Account(ctx, did)
	s.mu.Lock()
	late := s.did == did
	if late {
		s.did = ""
	}
	s.mu.Unlock()
	if late {
		s.meanwhile()
	}
	return a, err
}

// TestEventsWhileNothingIsDue: an account is in the list of those that are due, but has been read by
// the time its turn comes. The events that come at that moment are applied.
func TestEventsWhileNothingIsDue(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		a := w.app(t.TempDir(), indexer.Scope{DIDs: []syntax.DID{alice}}, indexer.Source{Host: h.url})
		late := &lateSink{Sink: a.sink}
		a.ix.Sink, a.ix.Relist = late, -1
		a.start().settle(nil, alice)
		looked := make(chan struct{})
		late.meanwhile = func() {
			h.write(alice, create(notes, "meanwhile", "x"))
			time.Sleep(time.Millisecond) // in the bubble: until all have taken it as far as they can
			close(looked)
		}
		late.mu.Lock()
		late.did = alice
		late.mu.Unlock()
		<-looked
		a.settle(nil, alice)
	})
}

// blindSink is a sink that never says what is due.
type blindSink struct{ indexer.Sink }

func (blindSink) Due(context.Context, time.Time, []string, int, int) ([]indexer.Account, error) {
	return nil, nil
}

// TestFirstEventsOfTracked: an account that was named before it existed has all its records, though
// it is followed from its first commit and never read.
func TestFirstEventsOfTracked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		bob := h.account("bob", 1)
		a := w.app(t.TempDir(), indexer.Scope{DIDs: []syntax.DID{bob}}, indexer.Source{Host: h.url})
		a.ix.Sink, a.ix.Relist = blindSink{a.sink}, -1
		a.start()
		time.Sleep(time.Second) // until it is connected
		alice := syntax.DID("did:web:alice.example")
		w.ok(a.ix.Track(ctx, alice))
		h.account("alice", 5)
		a.eventually(func() error { return a.compare(nil, alice) })
	})
}
