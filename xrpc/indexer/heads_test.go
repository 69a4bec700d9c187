package indexer_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// TestLostForGood: the last event of an account is lost. Some time later it is found all the same, and
// nothing is downloaded of accounts that have not changed. What a clock that was wrong has put off
// for years is found too.
func TestLostForGood(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice, bob, carol := h.account("alice", 5), h.account("bob", 5), h.account("carol", 5)
		a := w.app(t.TempDir(), indexer.Scope{DIDs: []syntax.DID{alice, bob, carol}}, indexer.Source{Host: h.url})
		a.ix.Relist = 10 * time.Minute
		a.start().settle(nil, alice, bob, carol)
		a.halt()
		acct, err := a.sink.Account(ctx, carol)
		w.ok(err)
		change := &indexer.Change{Before: acct.Version, Account: acct}
		change.Account.State, change.Account.Due = indexer.Desynchronized, time.Now().AddDate(5, 0, 0)
		w.ok(a.sink.Apply(ctx, &indexer.Transaction{Changes: []*indexer.Change{change}}))
		a.start()
		downloads := h.requests(api.SyncGetRepoNSID)
		h.silently(alice, create(notes, "lost", "x"))
		a.long(func() error { return a.compare(nil, alice, bob, carol) })
		if n := h.requests(api.SyncGetRepoNSID) - downloads; n > 3 {
			t.Errorf("%d downloads", n)
		}
		downloads, looks := h.requests(api.SyncGetRepoNSID), h.requests(api.SyncGetLatestCommitNSID)
		time.Sleep(30 * time.Minute)
		if n := h.requests(api.SyncGetRepoNSID) - downloads; n > 0 || h.requests(api.SyncGetLatestCommitNSID) == looks {
			t.Errorf("%d downloads of what has not changed", n)
		}
		a.check()
	})
}

// relayOf passes on the events of a host, and has a status of its own for one account.
func (w *world) relayOf(h *host, did syntax.DID) (relay *host, status *atomic.Pointer[string]) {
	relay, status = w.host("relay.test"), new(atomic.Pointer[string])
	status.Store(new(string))
	relay.outbox = h.outbox
	relay.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, api.SyncGetRepoStatusNSID) || r.URL.Query().Get("did") != string(did) {
			return false
		}
		rw.Header().Set("Content-Type", "application/json")
		s := *status.Load()
		fmt.Fprintf(rw, `{"did":%q,"active":%v,"status":%q}`, did, s == "", s)
		return true
	})
	return relay, status
}

// says is an event of the relay alone.
func (h *host) says(did syntax.DID, status string) {
	h.Helper()
	ev := h.repo.AccountEvent(did, status)
	_, err := h.repo.Step(ctx, did, func(s *repo.Step) error { s.Events = []storage.Event{ev}; return nil })
	h.ok(err)
}

// TestRelayTakedown: what a relay takes down stays so, though the account's host gives it out, until
// the relay says otherwise. That an account is deactivated only its host knows.
func TestRelayTakedown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		relay, status := w.relayOf(h, alice)
		a := w.app(t.TempDir(), indexer.Scope{DIDs: []syntax.DID{alice}}, indexer.Source{Relay: relay.url})
		a.ix.Relist = 10 * time.Minute
		a.start().settle(nil, alice)
		say := func(text string) { status.Store(&text); h.says(alice, text) }
		say("takendown")
		is := func(text string) func(indexer.Account) bool {
			return func(x indexer.Account) bool { return x.Status == text && x.Active == (text == "") }
		}
		a.want(alice, "taken down", is("takendown"))
		w.ok(a.ix.Resync(ctx, alice))
		time.Sleep(30 * time.Minute)
		a.want(alice, "still taken down", is("takendown"))
		h.write(alice, create(notes, "new", "x"))
		say("")
		a.want(alice, "active", is(""))
		a.long(func() error { return a.compare(nil, alice) })
		say("deactivated")
		a.want(alice, "deactivated", is("deactivated"))
		time.Sleep(30 * time.Minute) // the event that it is back is lost
		a.want(alice, "active", is(""))
		a.long(func() error { return a.compare(nil, alice) })
		// The application fails for longer than a change is tried.
		a.halt()
		var fails atomic.Bool
		fails.Store(true)
		told := a.sink.OnAccount
		a.sink.OnAccount = func(ctx context.Context, tx *sqlTx, x *indexer.Account) error {
			if fails.Load() {
				return fmt.Errorf("a fault of the application")
			}
			return told(ctx, tx, x)
		}
		a.start()
		a.eventually(func() error {
			if p := a.ix.Progress(); len(p.Sources) == 0 || !p.Sources[0].Connected {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
		say("takendown")
		time.Sleep(5 * time.Minute)
		fails.Store(false)
		a.long(func() error {
			x, err := a.ix.Account(ctx, alice)
			if err == nil && !is("takendown")(x) {
				err = fmt.Errorf("%+v", x)
			}
			return err
		})
		a.check()
	})
}

// TestEndlessLists: hosts of a relay whose lists go in a circle, do not end or hang do not keep those
// of others from being read, and a list in a circle ends.
func TestEndlessLists(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		relay, good := w.host("relay.test"), w.host("good.test")
		alice := good.account("alice", 3)
		names := []string{`{"hostname":"good.test"}`}
		for i := range 7 {
			name := fmt.Sprintf("bad%d.test", i)
			names = append(names, fmt.Sprintf(`{"hostname":%q}`, name))
			n := 0
			w.host(name).setFault(func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, api.SyncListReposNSID) {
					return false
				}
				if i%2 == 0 {
					<-r.Context().Done()
					return true
				}
				n++
				time.Sleep(time.Second)
				rw.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(rw, `{"cursor":"%d","repos":[{"did":"did:web:none%d.example","head":"bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi","rev":"3k2la4bsk2c2x"}]}`, n, n%5)
				return true
			})
		}
		n := 0
		relay.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
			rw.Header().Set("Content-Type", "application/json")
			switch strings.TrimPrefix(r.URL.Path, "/xrpc/") {
			case api.SyncListReposNSID:
				n++
				fmt.Fprintf(rw, `{"cursor":"%d","repos":[{"did":%q,"head":"bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi","rev":"3k2la4bsk2c2x","active":false}]}`, n%3, alice)
			case api.SyncListHostsNSID:
				fmt.Fprintf(rw, `{"hosts":[%s]}`, strings.Join(names, ","))
			default:
				return false
			}
			return true
		})
		a := w.app(t.TempDir(), all, indexer.Source{Relay: relay.url}).start()
		a.eventually(func() error { return a.compare(nil, alice) })
		a.check()
		a.halt()
		time.Sleep(time.Minute) // so that handlers end
	})
}
