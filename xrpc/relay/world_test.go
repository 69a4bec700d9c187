package relay_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// world has hosts that say what a test makes them say, a directory, and relays, in virtual time.
type world struct {
	t    testing.TB
	net  *pdstest.Network
	dir  *directory
	ctx  context.Context
	stop []func()
}

// inWorld runs a test in a bubble.
func inWorld(t *testing.T, fn func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: pdstest.New(t), dir: newDirectory(), ctx: t.Context()}
		defer w.close()
		fn(w)
	})
}

func (w *world) close() {
	for _, stop := range slices.Backward(w.stop) {
		stop()
	}
	w.stop = nil
}

// settle waits until nothing happens without time passing.
func (w *world) settle() { synctest.Wait() }

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// must ends the test.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// directory is a relay.Identity with a cache that keeps everything until it is purged.
type directory struct {
	mu     sync.Mutex
	docs   map[syntax.DID]*identity.Document
	cached map[syntax.DID]*identity.Document
	down   bool
	gone   map[syntax.DID]bool // cannot be had now
	asked  int
}

func (d *directory) unavailable(did syntax.DID, gone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone == nil {
		d.gone = make(map[syntax.DID]bool)
	}
	d.gone[did] = gone
	delete(d.cached, did)
}

func newDirectory() *directory {
	return &directory{docs: make(map[syntax.DID]*identity.Document), cached: make(map[syntax.DID]*identity.Document)}
}

func (d *directory) ResolveDID(_ context.Context, did syntax.DID) (*identity.Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doc := d.cached[did]; doc != nil {
		return doc, nil
	}
	d.asked++
	switch doc := d.docs[did]; {
	case d.down, d.gone[did]:
		return nil, identity.ErrUnavailable
	case doc == nil:
		return nil, identity.ErrNotFound
	default:
		d.cached[did] = doc
		return doc, nil
	}
}

func (d *directory) Purge(id syntax.AtIdentifier) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if did, ok := id.DID(); ok {
		delete(d.cached, did)
	}
}

// set publishes an account's key and host.
func (d *directory) set(a *account) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.docs[a.did] = &identity.Document{
		ID:                  a.did,
		VerificationMethods: []identity.VerificationMethod{identity.NewVerificationMethod(a.did, identity.SigningKeyID, a.key.PublicKey())},
		Services:            []identity.Service{{ID: string(a.did) + "#" + identity.PDSID, Type: identity.PDSType, Endpoint: "https://" + a.home}},
	}
}

func (d *directory) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
	clear(d.cached)
}

// account is a repository in memory that commits and announces as a PDS does.
type account struct {
	did     syntax.DID
	home    string
	key     *crypto.PrivateKey
	tree    *mst.Tree
	records map[string]car.Block
	commit  commit.Commit
	block   car.Block // of the commit
	clock   int64
}

func testKey(t testing.TB, name string) *crypto.PrivateKey {
	scalar := sha256.Sum256([]byte(name))
	key, err := crypto.ParsePrivateKey(crypto.K256, scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAccount(t testing.TB, did syntax.DID, home string) *account {
	return &account{did: did, home: home, key: testKey(t, string(did)), tree: mst.Empty(), records: make(map[string]car.Block)}
}

func record(text string) car.Block {
	b := cbor.AppendText(cbor.AppendText(cbor.AppendMap(nil, 1), "text"), text)
	return car.Block{CID: dag.Sum(dag.CBOR, b), Data: b}
}

// reposMu is held while an account is changed, or read by what its host answers.
var reposMu sync.Mutex

// write makes a commit that sets records to texts, or deletes those whose text is empty.
func (a *account) write(t testing.TB, texts map[string]string) *commit.Event {
	t.Helper()
	reposMu.Lock()
	defer reposMu.Unlock()
	e := &commit.Event{Repo: a.did, Since: a.commit.Rev, PrevData: a.commit.Data, Time: time.Now()}
	var ops []mst.Op
	var records []car.Block
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		op := commit.Op{Action: commit.Update, Path: path, Prev: a.records[path].CID}
		if text := texts[path]; text == "" {
			op.Action = commit.Delete
			delete(a.records, path)
		} else {
			r := record(text)
			a.records[path] = r
			records = append(records, r)
			if op.CID = r.CID; !op.Prev.Defined() {
				op.Action = commit.Create
			}
		}
		e.Ops = append(e.Ops, op)
		ops = append(ops, mst.Op{Key: path, Value: op.CID})
	}
	change, err := a.tree.Apply(ops)
	if err != nil {
		t.Fatal(err)
	}
	a.tree = change.Tree
	a.sign(t, a.nextRev(), change.Root)
	e.Rev, e.Commit = a.commit.Rev, a.block.CID
	if err := e.SetBlocks(a.block, change, records, commit.Limits{}); err != nil {
		t.Fatal(err)
	}
	return e
}

// nextRev is a revision after the last one, and the time's if that is later.
func (a *account) nextRev() syntax.TID {
	a.clock = max(a.clock+1, time.Now().UnixMicro())
	return syntax.NewTID(time.UnixMicro(a.clock), 1)
}

func (a *account) sign(t testing.TB, rev syntax.TID, data cid.Cid) {
	t.Helper()
	var err error
	if a.commit, a.block, err = commit.Sign(context.Background(), a.did, rev, data, a.key); err != nil {
		t.Fatal(err)
	}
}

// resign signs the same tree again with another revision, and returns the #sync that tells of it.
func (a *account) resign(t testing.TB) *commit.Sync {
	reposMu.Lock()
	defer reposMu.Unlock()
	a.sign(t, a.nextRev(), a.tree.Root())
	return a.sync()
}

func (a *account) sync() *commit.Sync {
	return &commit.Sync{DID: a.did, Rev: a.commit.Rev, Commit: a.block, Time: time.Now()}
}

// export is the whole repository's CAR file.
func (a *account) export(t testing.TB) []byte {
	list := []car.Block{a.block}
	for it, err := range a.tree.PreOrder() {
		if err != nil {
			t.Fatal(err)
		}
		if it.Node.CID.Defined() {
			list = append(list, it.Node)
		} else {
			list = append(list, a.records[it.Key])
		}
	}
	return car.Append(nil, []cid.Cid{a.block.CID}, list...)
}

// noPings is the time between the pings of servers. If they and their clients pinged each other at
// the very same moment, the pipes between them, which hold nothing, would keep both from reading.
const noPings = 47*time.Minute + 7*time.Second + 1

func newOutbox(events storage.Events) *stream.Outbox {
	return &stream.Outbox{Events: events, Ping: noPings}
}

// fakeHost is a host that says what it is told to.
type fakeHost struct {
	w    *world
	name string

	mu       sync.Mutex
	store    storage.Store
	outbox   *stream.Outbox
	accounts map[syntax.DID]*account
	status   map[syntax.DID]string // of accounts that are not active
	down     bool                  // nothing is answered
	broken   bool                  // getRepo is not
	unlisted bool                  // listRepos is not
	server   string                // the Server header
	asked    map[string]int        // requests by method
	cursors  []string              // of subscriptions
}

// host puts a host into the network.
func (w *world) host(name string) *fakeHost {
	h := &fakeHost{w: w, name: name, accounts: make(map[syntax.DID]*account), status: make(map[syntax.DID]string), asked: make(map[string]int)}
	h.reset()
	w.net.Handle(name, h)
	w.stop = append(w.stop, func() { h.setDown(true) })
	return h
}

// reset gives the host a new log, whose numbers begin with 1.
func (h *fakeHost) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outbox != nil {
		go h.outbox.Close()
	}
	h.store = memory.New(memory.Config{Now: func() time.Time { return time.UnixMicro(0) }})
	h.outbox = newOutbox(h.store.Events)
}

func (h *fakeHost) setDown(down bool) {
	h.mu.Lock()
	outbox := h.outbox
	h.down = down
	if down {
		h.outbox = newOutbox(h.store.Events)
	}
	h.mu.Unlock()
	if down {
		outbox.Close()
	}
}

// account makes an account that the directory knows.
func (h *fakeHost) account(name string) *account {
	a := newAccount(h.w.t, syntax.DID("did:web:"+name+".example"), h.name)
	h.take(a)
	h.w.dir.set(a)
	return a
}

// take gives the host an account.
func (h *fakeHost) take(a *account) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accounts[a.did] = a
}

func (h *fakeHost) setUnlisted(unlisted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unlisted = unlisted
}

func (h *fakeHost) setStatus(a *account, status string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status[a.did] = status
}

// say puts messages into the log.
func (h *fakeHost) say(list ...commit.Message) {
	for _, m := range list {
		h.sayRaw(m.About(), m.Kind(), m.Payload())
	}
}

func (h *fakeHost) sayRaw(did syntax.DID, kind string, payload []byte) {
	h.w.t.Helper()
	h.mu.Lock()
	store := h.store
	h.mu.Unlock()
	e := storage.Event{DID: did, Kind: kind, Time: time.Now(), Payload: payload}
	if _, err := store.Repos.Apply(context.Background(), did, &storage.Change{Events: []storage.Event{e}}); err != nil {
		h.w.t.Fatal(err)
	}
}

// write commits and says so.
func (h *fakeHost) write(a *account, texts map[string]string) *commit.Event {
	h.w.t.Helper()
	e := a.write(h.w.t, texts)
	h.say(e)
	return e
}

// post writes one more record.
func (h *fakeHost) post(a *account) *commit.Event {
	h.w.t.Helper()
	return h.write(a, map[string]string{fmt.Sprintf("com.example.note/%013d", len(a.records)): fmt.Sprint("note ", len(a.records))})
}

// setActive tells the status of an account.
func (h *fakeHost) setActive(a *account, active bool, status string) {
	h.setStatus(a, status)
	h.say(&commit.Account{DID: a.did, Active: active, Status: status, Time: time.Now()})
}

func (h *fakeHost) count(method string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[method]
}

func (h *fakeHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/xrpc/com.atproto.")
	h.mu.Lock()
	h.asked[method]++
	outbox, down, broken, unlisted := h.outbox, h.down, h.broken, h.unlisted
	if h.server != "" {
		w.Header().Set("Server", h.server)
	}
	if method == "sync.subscribeRepos" && !down {
		h.cursors = append(h.cursors, r.URL.Query().Get("cursor"))
	}
	h.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	switch method {
	case "sync.subscribeRepos":
		outbox.ServeHTTP(w, r)
	case "server.describeServer":
		answer(map[string]any{"did": "did:web:" + h.name, "availableUserDomains": []string{}})
	case "sync.listRepos":
		if unlisted {
			xrpc.WriteError(w, errors.New("broken"))
			return
		}
		answer(map[string]any{"repos": h.repos()})
	case "repo.describeRepo", "sync.getRepo":
		did := syntax.DID(r.URL.Query().Get("did"))
		if did == "" {
			did = syntax.DID(r.URL.Query().Get("repo"))
		}
		h.mu.Lock()
		a, status := h.accounts[did], h.status[did]
		h.mu.Unlock()
		reposMu.Lock()
		defer reposMu.Unlock()
		switch {
		case broken:
			xrpc.WriteError(w, errors.New("broken"))
		case a == nil || a.commit.Rev == "":
			xrpc.WriteError(w, &xrpc.Error{Name: "RepoNotFound"})
		case status != "":
			xrpc.WriteError(w, &xrpc.Error{Name: "Repo" + strings.ToUpper(status[:1]) + status[1:]})
		case method == "sync.getRepo":
			file := a.export(h.w.t)
			reposMu.Unlock()
			w.Write(file) // to a pipe
			reposMu.Lock()
		default:
			names := []string{}
			for path := range a.records {
				if name, _, _ := strings.Cut(path, "/"); !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
			answer(map[string]any{"collections": names, "did": did})
		}
	default:
		http.NotFound(w, r)
	}
}

func (h *fakeHost) repos() (list []map[string]any) {
	reposMu.Lock()
	defer reposMu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for did, a := range h.accounts {
		if a.commit.Rev != "" {
			list = append(list, map[string]any{"did": did, "rev": a.commit.Rev, "head": a.block.CID.String(), "active": h.status[did] == ""})
		}
	}
	return list
}
