package indexer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// watched is a sink that checks positions when they are stored.
type watched struct {
	indexer.Sink
	h     *host
	mu    sync.Mutex
	wrong []string
	n     int
}

func (s *watched) Apply(ctx context.Context, t *indexer.Transaction) error {
	err := s.Sink.Apply(ctx, t)
	text := t.Positions[s.h.url]
	at, _ := strconv.ParseInt(strings.TrimSuffix(text, " listed"), 10, 64)
	if err != nil || at == 0 {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	for e, err := range s.h.store.Events.Since(ctx, 0) {
		if err != nil || e.Seq > at {
			break
		}
		m, err := commit.Decode(e.Kind, e.Payload)
		if err != nil {
			return err
		}
		c, ok := m.(*commit.Event)
		if !ok {
			continue
		}
		a, err := s.Sink.Account(ctx, e.DID)
		if err != nil {
			return err
		}
		if a.Version == 0 || a.Rev < c.Rev && a.Due.IsZero() {
			s.wrong = append(s.wrong, fmt.Sprintf("position %d is stored; %s is at %s, not at %s", at, e.DID, a.Rev, c.Rev))
		}
	}
	return nil
}

// TestI12Position: whenever a position is stored, the effects of all that it covers are stored, or
// the account is to be read.
func TestI12Position(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		var dids []syntax.DID
		for i := range 10 {
			dids = append(dids, h.account(fmt.Sprint("a", i), 2))
		}
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url})
		rnd := rand.New(rand.NewPCG(1, 1))
		s := &watched{Sink: &flaky{Sink: a.sink, rnd: rand.New(rand.NewPCG(1, 2)), mu: make(chan struct{}, 1)}, h: h}
		a.ix.Sink = s
		a.start()
		for i := range 400 {
			h.write(dids[rnd.IntN(len(dids))], create(notes, fmt.Sprint("n", i), "x"))
			time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
		}
		a.long(func() error { return a.compare(nil, dids...) })
		a.halt()
		for _, text := range s.wrong {
			t.Error(text)
		}
		if s.n < 10 {
			t.Errorf("%d positions were stored", s.n)
		}
		a.check()
	})
}

// TestSinkRefuses: the application fails, or panics, with the records of one account. Its error is visible,
// others go on, and when it works again, nothing is missing and nothing came twice.
func TestSinkRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice, bob, carol := h.account("alice", 5), h.account("bob", 5), h.account("carol", 1500)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url})
		refuse := func(op *indexer.Op) error {
			if op.DID == alice && op.RKey == "bad" || op.DID == carol && op.RKey == "r700" {
				if op.RKey == "r700" {
					panic("a fault of the application")
				}
				return errors.New("a fault of the application")
			}
			return nil
		}
		a.refuse = refuse
		a.start()
		a.want(bob, "synchronized", func(x indexer.Account) bool { return x.State == indexer.Synchronized })
		h.write(alice, create(notes, "good", "x"))
		h.write(alice, create(notes, "bad", "x"))
		h.write(alice, create(notes, "later", "x"))
		h.write(bob, create(notes, "other", "x"))
		failed := func(x indexer.Account) bool {
			return strings.Contains(x.Error, "a fault of the application") && x.Tries > 0
		}
		a.want(alice, "failed", failed)
		a.want(carol, "failed", failed)
		a.eventually(func() error { return a.compare(nil, bob) })
		if p := a.progress(); p.Refused == 0 {
			t.Errorf("%+v", p)
		}
		a.amu.Lock()
		a.refuse = nil
		a.amu.Unlock()
		a.long(func() error { return a.compare(nil, alice, bob, carol) })
		a.check()
	})
}

// TestManyWaiting: an account whose events cannot be applied for a while has a bounded number of
// them waiting. It is read instead.
func TestManyWaiting(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice, bob := h.account("alice", 5), h.account("bob", 5)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice, bob)
		hang := make(chan struct{})
		w.mu.Lock()
		w.lookupErr = func(did syntax.DID) error {
			if did == alice {
				w.mu.Unlock()
				<-hang
				w.mu.Lock()
			}
			return nil
		}
		w.mu.Unlock()
		for i := range 1300 {
			h.write(alice, create(notes, fmt.Sprint("n", i), "x"))
		}
		h.write(bob, create(notes, "n", "x"))
		time.Sleep(time.Second)
		if n := a.ix.Progress().Sources[0].Waiting; n > 4096 {
			t.Errorf("%d events wait", n)
		}
		close(hang)
		a.long(func() error { return a.compare(nil, alice, bob) })
		a.check()
	})
}

// TestManyKept: while a repository is read, more is written than is kept.
func TestManyKept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		var once sync.Once
		begun, goOn := make(chan struct{}), make(chan struct{})
		old := h.export(alice)
		h.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
			first := false
			if strings.HasSuffix(r.URL.Path, api.SyncGetRepoNSID) {
				once.Do(func() { close(begun); <-goOn; first = true; rw.Write(old) })
			}
			return first
		})
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		<-begun
		for i := range 30 {
			h.write(alice, create(notes, fmt.Sprint("n", i), strings.Repeat("x", 100_000)))
		}
		time.Sleep(time.Second)
		close(goOn)
		a.settle(nil, alice)
		if p := a.progress(); p.Repaired == 0 {
			t.Errorf("%+v", p)
		}
	})
}

// TestKept: commits that come while a repository is read are applied after it, without another
// reading.
func TestKept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		begun, goOn := make(chan struct{}), make(chan struct{})
		var old []byte
		h.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, api.SyncGetRepoNSID) {
				return false
			}
			old = h.export(alice)
			close(begun)
			<-goOn
			rw.Write(old)
			return true
		})
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		<-begun
		for i := range 50 {
			h.write(alice, create(notes, fmt.Sprint("n", i), "x"))
			h.write(alice, put(notes, fmt.Sprint("n", i), "y"))
		}
		time.Sleep(time.Second)
		close(goOn)
		a.settle(nil, alice)
		if p := a.progress(); p.Fetched != 1 || p.Gaps != 0 || p.Commits != 100 {
			t.Errorf("%+v", p)
		}
	})
}

// TestNewAccount: an account that begins while it is watched needs no download.
func TestNewAccount(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 1)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		n := h.requests(api.SyncGetRepoNSID)
		bob := h.account("bob", 3)
		a.settle(nil, alice, bob)
		if h.requests(api.SyncGetRepoNSID) != n {
			t.Error("its repository was read")
		}
		a.want(bob, "known by its host and handle", func(x indexer.Account) bool { return x.Host == h.url && x.Handle == "bob.example" })
	})
}

// TestLocal: the log of a store in the process, trusted and not, with repositories in it and
// without, as that of a relay; also when it was trimmed while the indexer was away.
func TestLocal(t *testing.T) {
	for _, kind := range []string{"host", "trusted host", "relay"} {
		t.Run(kind, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				h := w.host("one.test")
				alice, bob := h.account("alice", 1300), h.account("bob", 5)
				store := h.store
				scope := all
				if kind == "relay" {
					store.Repos = nil
					scope = indexer.Scope{DIDs: []syntax.DID{alice, bob}}
				}
				dir := t.TempDir()
				source := indexer.Source{Local: &store, Trusted: kind == "trusted host"}
				a := w.app(dir, scope, source).start()
				a.settle(nil, alice, bob)
				h.write(alice, create(notes, "live", "x"), remove(notes, "r3"))
				a.settle(nil, alice, bob)
				a.halt()
				time.Sleep(time.Hour)
				h.write(alice, remove(notes, "r4"))
				time.Sleep(time.Hour)
				w.ok(h.store.Events.Trim(ctx, time.Now()))
				h.write(bob, create(notes, "after", "x"))
				b := w.app(dir, scope, source).start()
				b.settle(nil, alice, bob)
				h.write(alice, create(notes, "end", "x"))
				b.settle(nil, alice, bob)
			})
		})
	}
}

// TestOtherSources: what is wrong with the configuration is said at once.
func TestOtherSources(t *testing.T) {
	w := newWorld(t)
	a := w.app(t.TempDir(), all)
	for _, sources := range [][]indexer.Source{
		nil, {{}}, {{Host: "pds.example.com"}}, {{Host: "https://a.example", Relay: "https://b.example"}}, {{Host: "https://a.example/path"}},
		{{Host: "https://a.example"}, {Relay: "https://a.example"}}, {{Local: &storage.Store{}}},
	} {
		ix := indexer.Indexer{Sink: a.sink, Sources: sources}
		if err := ix.Run(t.Context()); err == nil || t.Context().Err() != nil {
			t.Errorf("%+v: %v", sources, err)
		}
	}
	for _, scope := range []indexer.Scope{{Collections: []string{"x"}}, {Signal: []string{"a.b.*.c"}}, {DIDs: []syntax.DID{"alice"}}, {Collections: []string{"*"}}} {
		if err := a.ix.SetScope(scope); err == nil {
			t.Errorf("%+v is accepted", scope)
		}
	}
	if err := a.ix.Resync(t.Context(), "did:web:nobody.example"); !errors.Is(err, indexer.ErrUnknown) {
		t.Error(err)
	}
}

// TestRelayLists: accounts that a relay does not list are found at its hosts. One of those that
// fails is left out.
func TestRelayLists(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h, relay := w.host("one.test"), w.host("relay.test")
		alice, bob := h.account("alice", 3), h.account("bob", 3)
		relay.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
			rw.Header().Set("Content-Type", "application/json")
			switch strings.TrimPrefix(r.URL.Path, "/xrpc/") {
			case api.SyncListReposNSID:
				fmt.Fprintf(rw, `{"repos":[{"did":%q,"head":"bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi","rev":"3k2la4bsk2c2x","active":true}]}`, alice)
			case api.SyncListHostsNSID:
				fmt.Fprint(rw, `{"hosts":[{"hostname":"away.test"},{"hostname":"one.test","status":"active"},{"hostname":"bad.test","status":"banned"}]}`)
			default:
				return false
			}
			return true
		})
		a := w.app(t.TempDir(), all, indexer.Source{Relay: relay.url}).start()
		a.eventually(func() error { return a.compare(nil, alice, bob) })
		a.check()
	})
}
