package indexer_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"

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
	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/indexer/sqlindex"
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
	h.outbox = &stream.Outbox{Events: h.store.Events}
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
	fault, gone := h.fault, h.gone[did]
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
		h.outbox.ServeHTTP(w, r)
	case api.SyncGetRepoNSID:
		var b bytes.Buffer
		if err := h.repo.Export(r.Context(), did, syntax.TID(r.URL.Query().Get("since")), &b); err != nil {
			xrpc.WriteError(w, &xrpc.Error{Status: 400, Name: "RepoNotFound"})
			return
		}
		w.Write(b.Bytes())
	case api.SyncGetLatestCommitNSID:
		head, err := h.repo.Head(r.Context(), did)
		if err != nil {
			xrpc.WriteError(w, &xrpc.Error{Status: 400, Name: "RepoNotFound"})
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"cid": head.Commit.String(), "rev": string(head.Rev)})
	case api.SyncListReposNSID:
		h.listRepos(w, r)
	default:
		xrpc.WriteError(w, &xrpc.Error{Status: 501, Name: "MethodNotImplemented"})
	}
}

func (h *host) listRepos(w http.ResponseWriter, r *http.Request) {
	var out struct {
		Repos  []map[string]any `json:"repos"`
		Cursor string           `json:"cursor,omitempty"`
	}
	for info, err := range h.repo.Repos(r.Context(), syntax.DID(r.URL.Query().Get("cursor"))) {
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
	h.ok(h.repo.Delete(context.Background(), did, h.repo.AccountEvent(did, commit.Deleted)))
}

// app is an application with an index.
type app struct {
	*world
	db   *sql.DB
	sink *sqlindex.Sink
	ix   *indexer.Indexer

	amu    sync.Mutex
	faults []string
	refuse func(op *indexer.Op) error
	log    bytes.Buffer
	stop   func()
}

const appTables = `
CREATE TABLE IF NOT EXISTS row (uri TEXT PRIMARY KEY, did TEXT NOT NULL, path TEXT NOT NULL, cid TEXT NOT NULL, live BOOLEAN NOT NULL);
CREATE TABLE IF NOT EXISTS effect (n BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS told (did TEXT NOT NULL, state TEXT NOT NULL, active BOOLEAN NOT NULL, status TEXT NOT NULL, host TEXT NOT NULL, handle TEXT NOT NULL);`

func openDB(t testing.TB, dir string) *sql.DB {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "index.sqlite")+"?_txlock=immediate&_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range strings.Split(appTables, ";") {
		if strings.TrimSpace(q) == "" {
			continue
		}
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func (w *world) app(dir string, scope indexer.Scope, sources ...indexer.Source) *app {
	w.Helper()
	a := &app{world: w, db: openDB(w, dir)}
	a.sink = &sqlindex.Sink{DB: a.db, OnRecord: a.record, OnAccount: a.account}
	w.ok(a.sink.Create(context.Background()))
	a.ix = &indexer.Indexer{Sources: sources, Scope: scope, Sink: a.sink, Identity: w, Handles: true, HTTP: w.client(), Hosts: w.client(),
		Log: slog.New(slog.NewTextHandler(a, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	w.Cleanup(func() {
		a.halt()
		a.sink.Close()
		a.db.Close()
		if os.Getenv("PDSKIT_LOG") != "" {
			w.Log(a.log.String())
		}
	})
	return a
}

// Write takes the log.
func (a *app) Write(b []byte) (int, error) {
	a.amu.Lock()
	defer a.amu.Unlock()
	return a.log.Write(b)
}

func (w *world) client() *http.Client {
	if w.net == nil {
		return &http.Client{Transport: &http.Transport{}}
	}
	return w.net.Client()
}

func (a *app) wrong(format string, args ...any) {
	a.amu.Lock()
	defer a.amu.Unlock()
	if len(a.faults) < 20 {
		a.faults = append(a.faults, fmt.Sprintf(format, args...))
	}
}

// record carries out an operation, and checks that it leads from what there is to something else.
func (a *app) record(ctx context.Context, tx *sql.Tx, op *indexer.Op) error {
	a.amu.Lock()
	refuse := a.refuse
	a.amu.Unlock()
	if refuse != nil {
		if err := refuse(op); err != nil {
			return err
		}
	}
	fault, err := applyRow(ctx, tx, op)
	if fault != "" {
		a.wrong("%s", fault)
	}
	return err
}

// applyRow carries out an operation on the tables of the application.
func applyRow(ctx context.Context, tx *sql.Tx, op *indexer.Op) (fault string, err error) {
	var have string
	err = tx.QueryRowContext(ctx, "SELECT cid FROM row WHERE uri = ?", op.URI()).Scan(&have)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	want := ""
	if op.Prev.Defined() {
		want = op.Prev.String()
	}
	if have != want || op.Prev == op.CID {
		fault = fmt.Sprintf("%s of %s at %s (live: %v) follows %q; there is %q", op.Action, op.URI(), op.Rev, op.Live, want, have)
	}
	if op.Action == commit.Delete {
		_, err = tx.ExecContext(ctx, "DELETE FROM row WHERE uri = ?", op.URI())
	} else {
		if op.CID != data.CID(op.Record) {
			fault = "the record of " + op.URI() + " is another one"
		}
		_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO row VALUES (?, ?, ?, ?, ?)", op.URI(), string(op.DID), op.Path(), op.CID.String(), op.Live)
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, "INSERT INTO effect VALUES (1)")
	}
	return fault, err
}

func (a *app) account(ctx context.Context, tx *sql.Tx, acct *indexer.Account) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO told VALUES (?, ?, ?, ?, ?, ?)", string(acct.DID), string(acct.State), acct.Active, acct.Status, acct.Host, string(acct.Handle))
	return err
}

// start runs the indexer.
func (a *app) start() *app {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.ix.Run(ctx); !errors.Is(err, context.Canceled) {
			a.wrong("Run: %v", err)
		}
	}()
	a.stop = func() { cancel(); <-done }
	return a
}

func (a *app) halt() {
	if a.stop != nil {
		a.stop()
		a.stop = nil
	}
}

// eventually waits until f returns nil.
func (a *app) eventually(f func() error) {
	a.Helper()
	step, limit := 10*time.Millisecond, 30*time.Second
	for start := time.Now(); ; time.Sleep(step) {
		err := f()
		if err == nil {
			return
		}
		if time.Since(start) > limit {
			a.Fatalf("%v\n%+v\n%s", err, a.ix.Progress(), a.tail())
		}
	}
}

func (a *app) tail() string {
	a.amu.Lock()
	defer a.amu.Unlock()
	text := a.log.String()
	return text[max(0, len(text)-3000):]
}

// settle waits until all that hosts have said is done, and checks the index against them.
func (a *app) settle(has func(path string) bool, dids ...syntax.DID) {
	a.Helper()
	a.eventually(func() error {
		p := a.ix.Progress()
		for _, s := range p.Sources {
			h := a.hosts[s.Name]
			if h == nil {
				continue
			}
			if _, newest, err := h.store.Events.Bounds(context.Background()); err != nil || s.Done < newest && s.Done != 0 {
				return fmt.Errorf("%s: done to %d of %d, %v", s.Name, s.Done, newest, err)
			}
		}
		if ok, err := a.ix.Settled(context.Background()); !ok {
			return fmt.Errorf("not settled, %v", err)
		}
		return a.compare(has, dids...)
	})
	a.check()
}

// check fails the test if something was wrong.
func (a *app) check() {
	a.Helper()
	a.amu.Lock()
	defer a.amu.Unlock()
	for _, f := range a.faults {
		a.Error(f)
	}
	a.faults = nil
}

// rows are those of an account, by path.
func (a *app) rows(did syntax.DID) map[string]string {
	a.Helper()
	m := make(map[string]string)
	rows, err := a.db.Query("SELECT path, cid FROM row WHERE did = ?", string(did))
	a.ok(err)
	defer rows.Close()
	for rows.Next() {
		var path, c string
		a.ok(rows.Scan(&path, &c))
		m[path] = c
	}
	a.ok(rows.Err())
	return m
}

// truth are the records that an account's host has.
func (w *world) truth(did syntax.DID, has func(string) bool) (map[string]string, storage.Head) {
	w.mu.Lock()
	doc := w.docs[did]
	w.mu.Unlock()
	m := make(map[string]string)
	if doc == nil {
		return m, storage.Head{}
	}
	url, _ := doc.PDS()
	h := w.hosts[url]
	var head storage.Head
	if err := h.repo.View(context.Background(), did, func(r storage.Reader) error {
		head = r.Head()
		for rec, err := range r.Records(context.Background(), storage.Range{}) {
			if err != nil {
				return err
			}
			if has == nil || has(rec.Path) {
				m[rec.Path] = rec.CID.String()
			}
		}
		return nil
	}); err != nil && !errors.Is(err, storage.ErrNotFound) {
		w.Fatal(err)
	}
	return m, head
}

// compare compares the index with the repositories.
func (a *app) compare(has func(string) bool, dids ...syntax.DID) error {
	for _, did := range dids {
		want, head := a.truth(did, has)
		if got := a.rows(did); !equal(got, want) {
			return fmt.Errorf("%s has %d rows, not %d: %s", did, len(got), len(want), differ(got, want))
		}
		entries, err := a.sink.Records(context.Background(), did, "", 1<<30)
		if err != nil {
			return err
		}
		got := make(map[string]string)
		for _, e := range entries {
			got[e.Key] = e.Value.String()
		}
		if !equal(got, want) {
			return fmt.Errorf("the sink has other records of %s", did)
		}
		acct, err := a.ix.Account(context.Background(), did)
		if err != nil {
			return err
		}
		if head.Rev != "" && (acct.Rev != head.Rev || acct.Data != head.Data || acct.State != indexer.Synchronized) {
			return fmt.Errorf("%s is %s at %s, not at %s", did, acct.State, acct.Rev, head.Rev)
		}
	}
	return nil
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func differ(got, want map[string]string) string {
	var list []string
	for k := range got {
		if want[k] != got[k] {
			list = append(list, k)
		}
	}
	for k := range want {
		if got[k] == "" {
			list = append(list, k)
		}
	}
	slices.Sort(list)
	return fmt.Sprint(list[:min(len(list), 8)])
}

// effects is how many operations were carried out.
func (a *app) effects() (n int) {
	a.Helper()
	a.ok(a.db.QueryRow("SELECT count(*) FROM effect").Scan(&n))
	return n
}

// want waits for an account to be so.
func (a *app) want(did syntax.DID, what string, f func(indexer.Account) bool) {
	a.Helper()
	a.eventually(func() error {
		acct, err := a.ix.Account(context.Background(), did)
		if err == nil && !f(acct) {
			err = fmt.Errorf("%s is not %s: %+v", did, what, acct)
		}
		return err
	})
}

type sqlTx = sql.Tx
