package indexer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// history is a random course of events.
type history struct {
	*world
	rnd   *rand.Rand
	where sync.Mutex
	hosts []*host
	dids  []syntax.DID
	at    map[syntax.DID]*host
	state map[syntax.DID]string // "", or why it is not active
	n     int
	ended context.CancelFunc
	relay string

	scope   historyScope
	tracked map[syntax.DID]bool
}

func newHistory(t *testing.T, seed uint64) *history {
	w := newWorld(t)
	x := &history{world: w, rnd: rand.New(rand.NewPCG(seed, 1)), at: make(map[syntax.DID]*host), state: make(map[syntax.DID]string),
		tracked: make(map[syntax.DID]bool)}
	for i := range 3 {
		x.hosts = append(x.hosts, w.host(fmt.Sprintf("host%d.test", i)))
	}
	for range 6 {
		x.newAccount()
	}
	return x
}

func (x *history) newAccount() {
	h := x.hosts[x.rnd.IntN(len(x.hosts))]
	did := h.account(fmt.Sprint("a", len(x.dids)), x.rnd.IntN(30))
	x.dids = append(x.dids, did)
	x.move(did, h)
}

// move notes where an account is.
func (x *history) move(did syntax.DID, h *host) {
	x.where.Lock()
	defer x.where.Unlock()
	x.at[did] = h
}

// hostOf returns where an account is.
func (x *history) hostOf(did syntax.DID) *host {
	x.where.Lock()
	defer x.where.Unlock()
	return x.at[did]
}

// startRelay merges the events of hosts into one log, those of accounts that are elsewhere left
// out.
func (x *history) startRelay() *host {
	relay := x.host("relay.test")
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{}, len(x.hosts))
	for _, h := range x.hosts {
		go func() {
			defer func() { done <- struct{}{} }()
			for at := int64(0); ; {
				for e, err := range h.store.Events.Since(ctx, at) {
					if err != nil {
						return
					}
					at = e.Seq
					x.mu.Lock()
					doc := x.docs[e.DID]
					x.mu.Unlock()
					if doc != nil && !doc.HostedAt(h.url) {
						continue
					}
					e.Seq = 0
					if _, err := relay.store.Repos.Apply(ctx, e.DID, &storage.Change{Events: []storage.Event{e}}); err != nil {
						if ctx.Err() == nil {
							x.Error(err)
						}
						return
					}
				}
				if h.store.Events.Wait(ctx, at) != nil {
					return
				}
			}
		}()
	}
	relay.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, api.SyncListReposNSID) {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		list := []string{}
		x.where.Lock()
		defer x.where.Unlock()
		for did, h := range x.at {
			if head, err := h.repo.Head(ctx, did); err == nil {
				list = append(list, fmt.Sprintf(`{"did":%q,"head":%q,"rev":%q,"active":true}`, did, head.Commit, head.Rev))
			}
		}
		fmt.Fprintf(w, `{"repos":[%s]}`, strings.Join(list, ","))
		return true
	})
	x.ended = func() {
		cancel()
		for range x.hosts {
			<-done
		}
	}
	x.relay = relay.url
	return relay
}

func (x *history) chance(percent int) bool { return x.rnd.IntN(100) < percent }

// writes are some that the account can carry out.
func (x *history) writes(did syntax.DID) (list []repo.Write) {
	have, _ := x.truth(did, nil)
	paths := make([]string, 0, len(have))
	for p := range have {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for range 1 + x.rnd.IntN(4) {
		x.n++
		collection := []syntax.NSID{notes, likes}[x.rnd.IntN(2)]
		if len(paths) == 0 || x.chance(50) {
			list = append(list, create(collection, fmt.Sprint("n", x.n), "x"))
			continue
		}
		i := x.rnd.IntN(len(paths))
		c, rkey, _ := syntax.ParsePath(paths[i])
		paths = slices.Delete(paths, i, i+1)
		if x.chance(50) {
			list = append(list, remove(c, string(rkey)))
		} else {
			list = append(list, put(c, string(rkey), fmt.Sprint(x.n)))
		}
	}
	return list
}

// step lets something happen, and says what.
func (x *history) step() string {
	did := x.dids[x.rnd.IntN(len(x.dids))]
	h := x.at[did]
	if x.state[did] == "deleted" {
		did = x.dids[0]
		if h = x.at[did]; x.state[did] == "deleted" {
			x.newAccount()
			return "a new account"
		}
	}
	switch n := x.rnd.IntN(100); {
	case n < 45:
		h.write(did, x.writes(did)...)
		return "a write of " + string(did)
	case n < 53:
		h.silently(did, x.writes(did)...)
		return "a lost event of " + string(did)
	case n < 58:
		_, err := h.repo.Apply(ctx, did, repo.Batch{Silent: true, Sync: true, Writes: x.writes(did)})
		x.ok(err)
		return "a #sync of " + string(did)
	case n < 66:
		status := ""
		if x.state[did] == "" {
			status = []string{"deactivated", "takendown", "suspended"}[x.rnd.IntN(3)]
		}
		x.state[did] = status
		h.status(did, status)
		return string(did) + " is " + status
	case n < 70:
		key := newKey(x)
		x.setDocument(did, h.url, key)
		h.setKey(did, key)
		h.write(did, x.writes(did)...) // until then, what it has is signed by the old key
		return "a new key of " + string(did)
	case n < 75:
		return x.migrate(did)
	case n < 78:
		x.newAccount()
		return "a new account"
	case n < 80 && len(x.dids) > 3:
		h.remove(did)
		x.state[did] = "deleted"
		return string(did) + " is deleted"
	case n < 84:
		x.ok(h.store.Events.Trim(ctx, time.Now()))
		return "the log of " + h.url + " is trimmed"
	case n < 92:
		kind := x.rnd.IntN(5)
		h.setFault(x.fault(kind))
		return fmt.Sprint("fault ", kind, " of ", h.url)
	default:
		h.setFault(nil)
		return h.url + " is well"
	}
}

func (x *history) migrate(did syntax.DID) string {
	from, to := x.at[did], x.hosts[x.rnd.IntN(len(x.hosts))]
	if from == to || x.state[did] != "" {
		return "nothing"
	}
	if _, err := to.repo.Head(ctx, did); err == nil {
		return "nothing" // it was there before
	}
	key := newKey(x)
	to.setKey(did, key)
	_, err := to.repo.Import(ctx, did, bytes.NewReader(from.export(did)), repo.Import{Unverified: true})
	x.ok(err)
	x.setDocument(did, to.url, key)
	x.move(did, to)
	for _, ev := range []storage.Event{to.repo.IdentityEvent(did, ""), to.repo.AccountEvent(did, "")} {
		_, err = to.repo.Step(ctx, did, func(s *repo.Step) error { s.Events, s.Sync = []storage.Event{ev}, true; return nil })
		x.ok(err)
	}
	from.status(did, "deactivated")
	return fmt.Sprint(did, " moves to ", to.url)
}

// fault is a way in which a host fails.
func (x *history) fault(kind int) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		isRepo := strings.HasSuffix(r.URL.Path, api.SyncGetRepoNSID)
		switch kind {
		case 0: // all is refused, also the stream
			w.WriteHeader(503)
			return true
		case 1:
			if isRepo {
				w.Header().Set("Retry-After", "30")
				w.WriteHeader(429)
			}
			return isRepo
		case 2:
			if isRepo {
				w.Write([]byte("nonsense"))
			}
			return isRepo
		case 3: // whatever is asked, everything is sent, but for the end
			if isRepo {
				var b bytes.Buffer
				did := syntax.DID(r.URL.Query().Get("did"))
				if h := x.hostOf(did); h != nil && h.repo.Export(ctx, did, "", &b) == nil && b.Len() > 40 {
					w.Write(b.Bytes()[:b.Len()-30])
				}
			}
			return isRepo
		case 4:
			if isRepo {
				<-r.Context().Done()
			}
			return isRepo
		}
		return false
	}
}

// flaky is a sink that fails now and then: before a transaction, or after it.
type flaky struct {
	indexer.Sink
	rnd  *rand.Rand
	mu   chan struct{}
	well bool
}

var errFlaky = errors.New("the database is away")

func (f *flaky) Apply(ctx context.Context, t *indexer.Transaction) error {
	f.mu <- struct{}{}
	n := f.rnd.IntN(100)
	if f.well {
		n = 100
	}
	<-f.mu
	if n < 3 {
		return errFlaky
	}
	err := f.Sink.Apply(ctx, t)
	if n < 6 && err == nil {
		return errFlaky
	}
	return err
}

// historyScope is a scope, and the collections that it has.
type historyScope struct {
	indexer.Scope
	has func(path string) bool
}

// anyScope returns a scope.
func (x *history) anyScope() historyScope {
	s := historyScope{has: func(string) bool { return true }}
	switch x.rnd.IntN(5) {
	case 0, 1:
		s.All = true
	case 2:
		s.DIDs = []syntax.DID{x.someone(), x.someone(), x.someone()}
	case 3:
		s.Signal = []string{string(likes)}
	case 4: // those that are tracked
		s.DIDs = []syntax.DID{x.someone()}
	}
	if x.chance(30) {
		s.Collections = []string{string(likes)}
		s.has = func(p string) bool { return strings.HasPrefix(p, string(likes)) }
	}
	return s
}

// someone is an account, or one that may come to be.
func (x *history) someone() syntax.DID {
	return syntax.DID(fmt.Sprintf("did:web:a%d.example", x.rnd.IntN(len(x.dids)+2)))
}

// wants reports whether an account is in the scope, and whether that is sure: it is not where it
// depends on what records the account has had.
func (x *history) wants(did syntax.DID) (wanted, sure bool) {
	if x.scope.All || x.tracked[did] || slices.Contains(x.scope.DIDs, did) {
		return true, true
	}
	if len(x.scope.Signal) == 0 {
		return false, true
	}
	have, _ := x.truth(did, func(p string) bool { return strings.HasPrefix(p, string(likes)) })
	return true, len(have) > 0 && x.state[did] != "deleted"
}

// control asks something of the indexer.
func (x *history) control(ix *indexer.Indexer) string {
	did := x.someone()
	again := func(f func() error) {
		for f() != nil { // the sink fails at times
			time.Sleep(time.Millisecond)
		}
	}
	switch n := x.rnd.IntN(100); {
	case n < 30:
		again(func() error { return ix.Track(ctx, did) })
		x.tracked[did] = true
		return string(did) + " is tracked"
	case n < 45:
		again(func() error { return ix.Untrack(ctx, did) })
		x.tracked[did] = false
		return string(did) + " is tracked no more"
	case n < 65:
		if err := ix.Resync(ctx, did); err != nil {
			return err.Error()
		}
		return string(did) + " is to be read"
	default:
		var log []string
		for range 1 + x.rnd.IntN(3) {
			x.scope = x.anyScope()
			x.ok(ix.SetScope(x.scope.Scope))
			log = append(log, fmt.Sprintf("the scope is %+v", x.scope.Scope))
			if x.chance(50) {
				time.Sleep(time.Duration(x.rnd.Int64N(int64(50 * time.Millisecond))))
				log = append(log, x.step())
			}
		}
		return strings.Join(log, "\n")
	}
}

// runHistory runs one, and compares the index with the repositories after it.
func runHistory(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		x := newHistory(t, seed)
		x.scope = x.anyScope()
		var sources []indexer.Source
		if x.chance(50) {
			relay := x.startRelay()
			defer x.ended()
			sources = append(sources, indexer.Source{Relay: relay.url})
		}
		if len(sources) == 0 || x.chance(50) {
			for _, h := range x.hosts {
				sources = append(sources, indexer.Source{Host: h.url})
			}
		}
		dir := t.TempDir()
		var sink *flaky
		open := func() *app {
			a := x.app(dir, x.scope.Scope, sources...)
			sink = &flaky{Sink: a.sink, rnd: rand.New(rand.NewPCG(seed, x.rnd.Uint64())), mu: make(chan struct{}, 1)}
			a.ix.Sink, a.ix.Relist = sink, 10*time.Minute
			return a.start()
		}
		a := open()
		var log []string
		for range 60 {
			if x.chance(4) {
				a.halt()
				a.check()
				log = append(log, "the indexer is started again")
				if x.chance(50) {
					log = append(log, x.step(), x.step())
					time.Sleep(time.Duration(x.rnd.Int64N(int64(time.Minute))))
				}
				if x.chance(40) {
					x.scope = x.anyScope()
					log = append(log, fmt.Sprintf("the scope is %+v", x.scope))
				}
				a = open()
			}
			if x.chance(20) {
				log = append(log, x.control(a.ix))
			}
			log = append(log, x.step())
			if x.chance(70) {
				time.Sleep(time.Duration(x.rnd.Int64N(int64(5 * time.Second))))
			}
		}
		for _, h := range x.hosts {
			h.setFault(nil)
		}
		sink.mu <- struct{}{}
		sink.well = true
		<-sink.mu
		var active, without []syntax.DID
		for _, did := range x.dids {
			if x.state[did] != "" && x.state[did] != "deleted" {
				x.at[did].status(did, "") // what was written meanwhile is read now
			}
			switch wanted, sure := x.wants(did); {
			case sure && wanted && x.state[did] != "deleted":
				active = append(active, did)
			case sure:
				without = append(without, did)
			}
		}
		has := x.scope.has
		defer func() {
			if t.Failed() || os.Getenv("PDSKIT_LOG") != "" {
				t.Logf("seed %d:\n%s", seed, strings.Join(log, "\n"))
			}
		}()
		var err error
		for range 26 * 60 { // lost events of accounts that say nothing more are found when they are compared again
			time.Sleep(time.Minute)
			if err = a.compare(has, active...); err == nil {
				for _, did := range without {
					if n := len(a.rows(did)); n > 0 {
						err = fmt.Errorf("%s should have no rows, and has %d", did, n)
					}
				}
			}
			if err == nil {
				break
			}
		}
		a.check()
		if err != nil {
			for _, did := range x.dids {
				acct, _ := a.ix.Account(ctx, did)
				log = append(log, fmt.Sprintf("%+v", acct))
			}
			t.Fatalf("seed %d: %v\n%+v\n%s", seed, err, a.ix.Progress(), a.tail())
		}
	})
}

// TestHistories runs random histories: hosts that fail, lie, forget events and move accounts; an
// indexer that is started again, over a sink that fails. After each, the index is that of the
// repositories, and each operation has led from what its row was to what it was then. PDSKIT_SEEDS
// is how many, PDSKIT_FIRST_SEED the first; PDSKIT_SEED is one to run alone.
func TestHistories(t *testing.T) {
	if n, err := strconv.ParseUint(os.Getenv("PDSKIT_SEED"), 10, 64); err == nil {
		runHistory(t, n)
		return
	}
	first, _ := strconv.ParseUint(os.Getenv("PDSKIT_FIRST_SEED"), 10, 64)
	seeds := 8
	if testing.Short() {
		seeds = 3
	}
	if n, err := strconv.Atoi(os.Getenv("PDSKIT_SEEDS")); err == nil {
		seeds = n
	}
	for seed := first; seed < first+uint64(seeds); seed++ {
		if t.Run(fmt.Sprint(seed), func(t *testing.T) { runHistory(t, seed) }); t.Failed() {
			return
		}
	}
}

// TestResetHost: a host was restored from an older copy of its log. It is followed from what it has
// now, and all its accounts are compared.
func TestResetHost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		h.write(alice, create(notes, "before", "x"))
		a.settle(nil, alice)
		again := memory.New(memory.Config{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
		old := newOutbox(again.Events)
		defer old.Close()
		car := h.export(alice)
		x := w.host("copy.test")
		x.store = again
		x.repo = repo.NewHost(repo.Config{Store: again, TempDir: t.TempDir(), Signer: h.repo.Signer})
		_, err := x.repo.Import(ctx, alice, bytes.NewReader(car), repo.Import{Unverified: true})
		w.ok(err)
		x.write(alice, remove(notes, "r1"))
		h.outbox.Close() // the server is started again, with the copy
		h.hmu.Lock()
		h.outbox, h.repo, h.store = old, x.repo, again
		h.hmu.Unlock()
		time.Sleep(5 * time.Minute)
		x.write(alice, create(notes, "after", "x"))
		a.settle(nil, alice)
	})
}

// TestQuietHostBreaks: a host that has said nothing yet, so that there is no position, writes while the
// connection is broken.
func TestQuietHostBreaks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		h.outbox.Close() // the server is started again
		h.write(alice, create(notes, "meanwhile", "x"))
		next := newOutbox(h.store.Events)
		defer next.Close()
		h.hmu.Lock()
		h.outbox = next
		h.hmu.Unlock()
		a.settle(nil, alice)
	})
}
