package relay_test

import (
	"context"
	"errors"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// run runs a relay until the test ends.
func run(t testing.TB, r *relay.Relay) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		r.Outbox().Close()
	})
}

// next returns the messages of a relay after a cursor, until stop says that it has seen enough.
func next(t testing.TB, r *relay.Relay, cursor int64, stop func(commit.Message) bool) (list []commit.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	last := cursor
	for b, err := range r.Outbox().Subscribe(ctx, &cursor) {
		if err != nil {
			t.Fatalf("after %d messages: %v", len(list), err)
		}
		f, err := stream.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if f.Seq <= last {
			t.Fatalf("number %d after %d", f.Seq, last)
		}
		last = f.Seq
		m, err := commit.Decode(f.Kind, f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
		if stop(m) {
			return list
		}
	}
	return list
}

// until stops at the commit with a revision of an account.
func until(did syntax.DID, rev syntax.TID) func(commit.Message) bool {
	return func(m commit.Message) bool {
		e, ok := m.(*commit.Event)
		return ok && e.Repo == did && e.Rev == rev
	}
}

func TestPDS(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	last := alice.Create("com.example.note", map[string]any{"text": "hello"})
	r := &relay.Relay{Store: memory.New(memory.Config{}), Identity: net.Resolver(), HTTP: net.Client()}
	run(t, r)
	if err := r.RequestCrawl(t.Context(), pds.Name); err != nil {
		t.Fatal(err)
	}
	list := next(t, r, 0, until(alice.DID, last.Commit.Rev))
	if len(list) < 4 {
		t.Errorf("%d messages", len(list))
	}
	a, err := r.Account(t.Context(), alice.DID)
	if err != nil || a.Head.Rev != last.Commit.Rev || a.Status != "" || a.Host != pds.Name {
		t.Errorf("%+v, %v", a, err)
	}
}

// A host of the same process is read from its store.
func TestLocal(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	last := alice.Create("com.example.note", map[string]any{"text": "hello"})
	r := &relay.Relay{Store: memory.New(memory.Config{}), Identity: net.Resolver(), HTTP: net.Client()}
	run(t, r)
	if err := r.AddLocal(t.Context(), pds.Name, storage.Store{Repos: pds.Store().Repos, Events: pds.Store().Events}); err != nil {
		t.Fatal(err)
	}
	next(t, r, 0, until(alice.DID, last.Commit.Rev))
	last = alice.Create("com.example.note", map[string]any{"text": "again"})
	next(t, r, 0, until(alice.DID, last.Commit.Rev))
}

// watchedEvents is a log that tells when it is read first.
type watchedEvents struct {
	storage.Events
	once sync.Once
	read chan struct{}
}

func (e *watchedEvents) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	e.once.Do(func() { close(e.read) })
	return e.Events.Since(ctx, seq)
}

// A host that is followed over the network is read from its store from AddLocal on, and AddHost takes
// that back. Nothing is lost, and nothing comes twice.
func TestLocalLater(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	r := &relay.Relay{Store: memory.New(memory.Config{}), Identity: net.Resolver(), HTTP: net.Client()}
	run(t, r)
	events := &watchedEvents{Events: pds.Store().Events, read: make(chan struct{})}
	store := storage.Store{Repos: pds.Store().Repos, Events: events}
	said := 0
	for i, add := range []func() error{
		func() error { return r.AddHost(t.Context(), pds.Name) },
		func() error { return r.AddLocal(t.Context(), pds.Name, store) },
		func() error { return r.AddLocal(t.Context(), pds.Name, store) },
		func() error { return r.AddHost(t.Context(), pds.Name) },
	} {
		if err := add(); err != nil {
			t.Fatal(err)
		}
		last := alice.Create("com.example.note", map[string]any{"n": i})
		list := next(t, r, 0, until(alice.DID, last.Commit.Rev))
		if said++; i == 0 {
			said = len(list)
		}
		if len(list) != said {
			t.Errorf("after change %d: %d messages, want %d", i, len(list), said)
		}
		if i > 0 {
			<-events.read
		}
		h, err := r.Host(t.Context(), pds.Name)
		if local := i == 1 || i == 2; err != nil || h.Local != local {
			t.Errorf("after change %d: %+v, %v", i, h, err)
		}
	}
}

// An account that is repaired although nothing has changed is as it was: its host then answers with a
// repository that has no blocks.
func TestRepairOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := pdstest.New(t)
		pds := net.PDS()
		alice := pds.Account("alice")
		last := alice.Create("com.example.note", map[string]any{"text": "hello"})
		r := &relay.Relay{Store: memory.New(memory.Config{}), Identity: net.Resolver(), HTTP: net.Client()}
		run(t, r)
		if err := r.AddHost(t.Context(), pds.Name); err != nil {
			t.Fatal(err)
		}
		next(t, r, 0, until(alice.DID, last.Commit.Rev))
		if err := r.Repair(t.Context(), alice.DID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		a, err := r.Account(t.Context(), alice.DID)
		if err != nil || a.Head.Rev != last.Commit.Rev || a.Status != "" {
			t.Errorf("%+v, %v", a, err)
		}
	})
}
