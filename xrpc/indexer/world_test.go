package indexer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/stream"
)

const notes, likes = syntax.NSID("com.example.note"), syntax.NSID("com.example.like")

// world is a directory of identities and some hosts, reached over pipes.
type world struct {
	testing.TB
	net *pdstest.Network // nil: servers listen on the loopback interface

	mu        sync.Mutex
	docs      map[syntax.DID]*identity.Document
	cached    map[syntax.DID]*identity.Document // what the resolver believes until it is purged
	keys      map[syntax.DID]*crypto.PrivateKey
	lookups   int
	lookupErr func(did syntax.DID) error
	hosts     map[string]*host // by URL
}

// newWorld returns a world without hosts.
func newWorld(t testing.TB) *world {
	w := newLoopback(t)
	w.net = pdstest.New(t)
	return w
}

// newLoopback is newWorld with servers that other processes reach too.
func newLoopback(t testing.TB) *world {
	return &world{TB: t, docs: make(map[syntax.DID]*identity.Document), cached: make(map[syntax.DID]*identity.Document),
		keys: make(map[syntax.DID]*crypto.PrivateKey), hosts: make(map[string]*host)}
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// ResolveDID implements indexer.Resolver, with a cache that never forgets.
func (w *world) ResolveDID(_ context.Context, did syntax.DID) (*identity.Document, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lookupErr != nil {
		if err := w.lookupErr(did); err != nil {
			return nil, err
		}
	}
	if d := w.cached[did]; d != nil {
		return d, nil
	}
	w.lookups++
	d := w.docs[did]
	if d == nil {
		return nil, fmt.Errorf("%w: %s", identity.ErrNotFound, did)
	}
	w.cached[did] = d
	return d, nil
}

func (w *world) Lookup(ctx context.Context, id syntax.AtIdentifier) (*identity.Identity, error) {
	d, err := w.ResolveDID(ctx, syntax.DID(id))
	if err != nil {
		return nil, err
	}
	h, _ := d.Handle()
	return &identity.Identity{DID: d.ID, Handle: h, Document: d}, nil
}

func (w *world) Purge(id syntax.AtIdentifier) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.cached, syntax.DID(id))
}

// setDocument publishes where an account is, and its key.
func (w *world) setDocument(did syntax.DID, host string, key *crypto.PrivateKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys[did] = key
	w.docs[did] = &identity.Document{
		ID: did, AlsoKnownAs: []string{"at://" + strings.TrimPrefix(string(did), "did:web:")},
		VerificationMethods: []identity.VerificationMethod{identity.NewVerificationMethod(did, identity.SigningKeyID, key.PublicKey())},
		Services:            []identity.Service{{ID: "#atproto_pds", Type: "AtprotoPersonalDataServer", Endpoint: host}},
	}
}

func newKey(t testing.TB) *crypto.PrivateKey {
	key, err := crypto.GenerateKey(crypto.P256) // the standard library's is faster than K-256
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// host is a PDS.
type host struct {
	*world
	url    string
	store  storage.Store
	repo   *repo.Host
	outbox *stream.Outbox
	server *httptest.Server

	hmu   sync.Mutex
	keys  map[syntax.DID]*crypto.PrivateKey
	fault func(w http.ResponseWriter, r *http.Request) bool // answers in the host's place if it is true
	asked map[string]int                                    // requests by method
	gone  map[syntax.DID]string                             // errors of accounts that are not active
}

// newOutbox returns an outbox that does not ping. If a server and its client pinged each other at the
// very same moment, which they do in virtual time, the pipes between them, which hold nothing, would
// keep both from reading.
func newOutbox(events storage.Events) *stream.Outbox {
	return &stream.Outbox{Events: events, Ping: 47*time.Minute + 7*time.Second + 1}
}

func (w *world) host(name string) *host {
	h := &host{world: w, store: memory.New(memory.Config{}), keys: make(map[syntax.DID]*crypto.PrivateKey), asked: make(map[string]int), gone: make(map[syntax.DID]string)}
	h.repo = repo.NewHost(repo.Config{Store: h.store, TempDir: w.TempDir(), Signer: func(_ context.Context, did syntax.DID) (crypto.Signer, error) {
		h.hmu.Lock()
		defer h.hmu.Unlock()
		if key := h.keys[did]; key != nil {
			return key, nil
		}
		return nil, errors.New("no key")
	}})
	h.outbox = newOutbox(h.store.Events)
	if w.net != nil {
		h.url = "http://" + name
		w.net.Handle(name, h)
		w.Cleanup(func() { h.outbox.Close() })
	} else {
		h.server = httptest.NewServer(h)
		h.url = h.server.URL
		w.Cleanup(func() { h.outbox.Close(); h.server.Close() })
	}
	w.hosts[h.url] = h
	return h
}

func (h *host) setFault(f func(w http.ResponseWriter, r *http.Request) bool) {
	h.hmu.Lock()
	defer h.hmu.Unlock()
	h.fault = f
}

func (h *host) setGone(did syntax.DID, name string) {
	h.hmu.Lock()
	defer h.hmu.Unlock()
	h.gone[did] = name
}

func (h *host) requests(method string) int {
	h.hmu.Lock()
	defer h.hmu.Unlock()
	return h.asked[method]
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/xrpc/")
	did := syntax.DID(r.URL.Query().Get("did"))
	h.hmu.Lock()
	h.asked[method]++
	fault, gone, outbox, host := h.fault, h.gone[did], h.outbox, h.repo
	h.hmu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	if gone != "" {
		xrpc.WriteError(w, &xrpc.Error{Status: 400, Name: gone})
		return
	}
	switch method {
	case api.SyncSubscribeReposNSID:
		outbox.ServeHTTP(w, r)
	case api.SyncGetRepoNSID:
		var b bytes.Buffer
		if err := host.Export(r.Context(), did, syntax.TID(r.URL.Query().Get("since")), &b); err != nil {
			xrpc.WriteError(w, &xrpc.Error{Status: 400, Name: "RepoNotFound"})
			return
		}
		w.Write(b.Bytes())
	case api.SyncGetLatestCommitNSID:
		head, err := host.Head(r.Context(), did)
		if err != nil {
			xrpc.WriteError(w, &xrpc.Error{Status: 400, Name: "RepoNotFound"})
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"cid": head.Commit.String(), "rev": string(head.Rev)})
	case api.SyncListReposNSID:
		h.listRepos(w, r, host)
	default:
		xrpc.WriteError(w, &xrpc.Error{Status: 501, Name: "MethodNotImplemented"})
	}
}

func (h *host) listRepos(w http.ResponseWriter, r *http.Request, host *repo.Host) {
	var out struct {
		Repos  []map[string]any `json:"repos"`
		Cursor string           `json:"cursor,omitempty"`
	}
	for info, err := range host.Repos(r.Context(), syntax.DID(r.URL.Query().Get("cursor"))) {
		if err != nil {
			xrpc.WriteError(w, err)
			return
		}
		if info.Head.Rev == "" {
			continue
		}
		h.hmu.Lock()
		active := h.gone[info.DID] == ""
		h.hmu.Unlock()
		out.Repos = append(out.Repos, map[string]any{"did": info.DID, "head": info.Head.Commit.String(), "rev": info.Head.Rev, "active": active})
		if len(out.Repos) == 50 {
			out.Cursor = string(info.DID)
			break
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(out)
}

// account makes an account with some notes.
func (h *host) account(name string, n int) syntax.DID {
	h.Helper()
	did := syntax.DID("did:web:" + name + ".example")
	key := newKey(h)
	h.setDocument(did, h.url, key)
	h.setKey(did, key)
	_, err := h.repo.Create(context.Background(), did, repo.Batch{})
	h.ok(err)
	for first := 0; first < n; first += 100 {
		var writes []repo.Write
		for i := first; i < min(first+100, n); i++ {
			writes = append(writes, create(notes, fmt.Sprint("r", i), fmt.Sprint("first of ", i)))
		}
		h.write(did, writes...)
	}
	return did
}

func (h *host) setKey(did syntax.DID, key *crypto.PrivateKey) {
	h.hmu.Lock()
	defer h.hmu.Unlock()
	h.keys[did] = key
}

func record(collection syntax.NSID, text string) []byte {
	b, err := data.Encode(map[string]any{"$type": string(collection), "text": text})
	if err != nil {
		panic(err)
	}
	return b
}

func create(collection syntax.NSID, rkey, text string) repo.Write {
	return repo.Write{Action: repo.Create, Collection: collection, RKey: syntax.RecordKey(rkey), Record: record(collection, text)}
}

func put(collection syntax.NSID, rkey, text string) repo.Write {
	return repo.Write{Action: repo.Update, Collection: collection, RKey: syntax.RecordKey(rkey), Record: record(collection, text)}
}

func remove(collection syntax.NSID, rkey string) repo.Write {
	return repo.Write{Action: repo.Delete, Collection: collection, RKey: syntax.RecordKey(rkey)}
}

func (h *host) write(did syntax.DID, writes ...repo.Write) {
	h.Helper()
	_, err := h.repo.Apply(context.Background(), did, repo.Batch{Writes: writes})
	h.ok(err)
}

// silently writes without an event, as if it had been lost.
func (h *host) silently(did syntax.DID, writes ...repo.Write) {
	h.Helper()
	_, err := h.repo.Apply(context.Background(), did, repo.Batch{Silent: true, Writes: writes})
	h.ok(err)
}

// status makes an account active or not.
func (h *host) status(did syntax.DID, status string) {
	h.Helper()
	names := map[string]string{"deactivated": "RepoDeactivated", "takendown": "RepoTakendown", "suspended": "RepoSuspended", "": ""}
	h.setGone(did, names[status])
	ev := h.repo.AccountEvent(did, status)
	_, err := h.repo.Step(context.Background(), did, func(s *repo.Step) error { s.Events = []storage.Event{ev}; return nil })
	h.ok(err)
}

// remove deletes an account.
func (h *host) remove(did syntax.DID) {
	h.Helper()
	h.setGone(did, "")
	h.ok(h.repo.Delete(context.Background(), did, h.repo.AccountEvent(did, commit.Deleted)))
}
