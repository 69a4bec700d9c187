package indexer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

var onlyLikes = indexer.Scope{All: true, Collections: []string{string(likes)}}

// TestScopeThereAndBack: what is written while the scope is another one for a moment is in the index when
// it is the old one again, whether the indexer runs on or is started again.
func TestScopeThereAndBack(t *testing.T) {
	for _, other := range []indexer.Scope{onlyLikes, {DIDs: []syntax.DID{"did:web:nobody.example"}}} {
		for _, again := range []bool{false, true} {
			for _, pause := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond, 3 * time.Second} {
				bubble(t, func(t *testing.T, w *world) {
					h := w.host("one.test")
					var dids []syntax.DID
					for i := range 5 {
						dids = append(dids, h.account(fmt.Sprint("a", i), 3))
					}
					dir := t.TempDir()
					a := w.app(dir, all, indexer.Source{Host: h.url}).start()
					a.settle(nil, dids...)
					w.ok(a.ix.SetScope(other))
					time.Sleep(pause)
					for _, did := range dids {
						h.write(did, create(notes, "meanwhile", "x"), create(likes, "meanwhile", "x"))
					}
					time.Sleep(pause)
					if again {
						a.halt()
						a = w.app(dir, all, indexer.Source{Host: h.url})
						a.ix.Relist = -1
						a.start()
					} else {
						w.ok(a.ix.SetScope(all))
					}
					a.settle(nil, dids...)
				})
			}
		}
	}
}

// slowSink holds who asks for the records of an account.
type slowSink struct {
	indexer.Sink
	did  syntax.DID
	hold atomic.Pointer[chan struct{}]
}

func (s *slowSink) Records(ctx context.Context, did syntax.DID, after string, limit int) ([]mst.Entry, error) {
	list, err := s.Sink.Records(ctx, did, after, limit)
	if hold := s.hold.Load(); hold != nil && did == s.did {
		<-*hold
	}
	return list, err
}

// TestScopeBackWhileRemoved: an account is in the scope again before it was removed as it was not. Its
// removal does not count for the scope that has it.
func TestScopeBackWhileRemoved(t *testing.T) {
	for _, other := range []indexer.Scope{{DIDs: []syntax.DID{"did:web:nobody.example"}}, {Signal: []string{"com.example.nothing"}}} {
		bubble(t, func(t *testing.T, w *world) {
			h := w.host("one.test")
			alice, bob := h.account("alice", 3), h.account("bob", 3)
			a := w.app(t.TempDir(), all, indexer.Source{Host: h.url})
			s := &slowSink{Sink: a.ix.Sink, did: alice}
			a.ix.Sink = s
			a.start()
			a.settle(nil, alice, bob)
			hold := make(chan struct{})
			s.hold.Store(&hold)
			release := sync.OnceFunc(func() { s.hold.Store(nil); close(hold) })
			defer release()
			w.ok(a.ix.SetScope(other))
			a.eventually(func() error {
				if n := len(a.rows(bob)); n > 0 {
					return fmt.Errorf("bob has %d rows", n)
				}
				return nil
			})
			w.ok(a.ix.SetScope(all))
			a.eventually(func() error { return a.compare(nil, bob) })
			time.Sleep(time.Minute)
			release()
			a.settle(nil, alice, bob)
		})
	}
}

// TestScopeOfInactive: the records of an account that is not active are deleted with their collection, and
// it does not become active.
func TestScopeOfInactive(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		h.write(alice, create(likes, "l", "x"))
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		h.status(alice, "deactivated")
		a.want(alice, "deactivated", func(x indexer.Account) bool { return x.Status == "deactivated" })
		w.ok(a.ix.SetScope(onlyLikes))
		a.eventually(func() error {
			if rows := a.rows(alice); len(rows) != 1 {
				return fmt.Errorf("%d rows", len(rows))
			}
			return nil
		})
		a.want(alice, "deactivated", func(x indexer.Account) bool { return !x.Active && x.Status == "deactivated" })
		h.status(alice, "")
		a.settle(func(p string) bool { return strings.HasPrefix(p, string(likes)) }, alice)
	})
}

// TestResyncOfSame: a repository is read again though it has not changed.
func TestResyncOfSame(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		for _, q := range []string{"DELETE FROM row WHERE path LIKE '%/r1'", "DELETE FROM ix_record WHERE path LIKE '%/r1'"} {
			_, err := a.db.Exec(q)
			w.ok(err)
		}
		w.ok(a.ix.Resync(ctx, alice))
		a.settle(nil, alice)
	})
}

// TestNewWhileDirectoryIsDown: the first events of an account come while nobody can say whose it is.
func TestNewWhileDirectoryIsDown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		bob := h.account("bob", 1)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url})
		a.ix.Relist = -1
		a.start().settle(nil, bob)
		w.mu.Lock()
		w.lookupErr = func(syntax.DID) error { return identity.ErrUnavailable }
		w.mu.Unlock()
		alice := h.account("alice", 3)
		time.Sleep(time.Minute)
		w.mu.Lock()
		w.lookupErr = nil
		w.mu.Unlock()
		time.Sleep(10 * time.Minute)
		a.settle(nil, alice, bob)
	})
}

// oldSink has an account read long before what was read arrives.
type oldSink struct {
	indexer.Sink
	did  syntax.DID
	mu   sync.Mutex
	hold chan struct{} // nil: reads are not held up
	held chan struct{}
}

func (s *oldSink) Account(ctx context.Context, did syntax.DID) (indexer.Account, error) {
	a, err := s.Sink.Account(ctx, did)
	s.mu.Lock()
	hold := s.hold
	if did == s.did {
		s.hold = nil // the next one is not
	} else {
		hold = nil
	}
	s.mu.Unlock()
	if hold != nil {
		close(s.held)
		<-hold
	}
	return a, err
}

// TestOldRead: an account is named to Track while an event of it is looked at. What was read of the
// account before that is not used for later events.
func TestOldRead(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice, bob := h.account("alice", 5), h.account("bob", 1)
		dir := t.TempDir()
		a := w.app(dir, indexer.Scope{DIDs: []syntax.DID{bob}}, indexer.Source{Host: h.url})
		w.ok(a.ix.Track(ctx, alice))
		a.start().settle(nil, alice, bob)
		a.halt()
		w.ok(a.ix.Untrack(ctx, alice)) // its records stay until it runs
		a = w.app(dir, indexer.Scope{DIDs: []syntax.DID{bob}}, indexer.Source{Host: h.url})
		sink := &oldSink{Sink: blindSink{a.sink}, did: alice, hold: make(chan struct{}), held: make(chan struct{})}
		release := sink.hold
		a.ix.Sink, a.ix.Relist = sink, -1
		a.start()
		h.write(alice, create(notes, "one", "x"))
		<-sink.held // the event, or who looks at all accounts, has read that alice is not tracked
		w.ok(a.ix.Track(ctx, alice))
		close(release)
		time.Sleep(time.Second)
		h.write(alice, create(notes, "two", "x"))
		// If it was the event, that is lost, and the account is known to be behind.
		a.want(alice, "complete, nor known to be behind", func(x indexer.Account) bool {
			return x.Tracked && (x.State == indexer.Desynchronized || a.compare(nil, alice) == nil)
		})
	})
}

// beginningSink calls a function when the indexer notes its scope, as it begins.
type beginningSink struct {
	indexer.Sink
	begin func()
}

func (s *beginningSink) Apply(ctx context.Context, t *indexer.Transaction) error {
	if begin := s.begin; begin != nil && t.Positions["scope"] != "" {
		s.begin = nil
		begin()
	}
	return s.Sink.Apply(ctx, t)
}

// TestScopeAtTheBeginning: a scope that is set while an Indexer begins to run counts, and it is not run
// twice.
func TestScopeAtTheBeginning(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice, bob := h.account("alice", 5), h.account("bob", 3)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url})
		a.ix.Sink = &beginningSink{Sink: a.sink, begin: func() {
			w.ok(a.ix.SetScope(indexer.Scope{DIDs: []syntax.DID{bob}}))
			limited, done := context.WithTimeout(ctx, time.Minute)
			defer done()
			if err := a.ix.Run(limited); err == nil || !strings.Contains(err.Error(), "runs already") {
				t.Error(err)
			}
		}}
		a.start().settle(nil, bob)
		a.eventually(func() error {
			if n := len(a.rows(alice)); n > 0 {
				return fmt.Errorf("alice has %d rows", n)
			}
			return nil
		})
		if _, err := a.ix.Account(ctx, alice); !errors.Is(err, indexer.ErrUnknown) {
			t.Error(err)
		}
	})
}
