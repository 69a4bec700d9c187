package pds

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/lease"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// held stops the steps of a node at the moment at which they are given to the store.
type held struct {
	storage.Repos
	come chan struct{} // nil: nothing is stopped
	goOn chan struct{}
}

func (h *held) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	if h.come != nil && c.Head != c.Prev {
		h.come <- struct{}{}
		<-h.goOn
	}
	return h.Repos.Apply(ctx, did, c)
}

// testNodes are two servers with a store of their own each, over one database.
func testNodes(t *testing.T) (a, b *Server, gate *held) {
	t.Helper()
	file, blobs := filepath.Join(t.TempDir(), "pds.sqlite"), memory.New(memory.Config{}).Blobs
	cfg := goodConfig(t)
	cfg.Node.Shared = true
	var nodes []*Server
	for _, id := range []string{"a", "b"} {
		db, err := sqlite.Open(t.Context(), file, sqlite.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		cfg.Store, cfg.Node.ID = db.Store(), id
		cfg.Store.Blobs = blobs
		gate = &held{Repos: cfg.Store.Repos}
		cfg.Store.Repos = gate
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		nodes = append(nodes, s)
	}
	return nodes[0], nodes[1], gate
}

// ask calls a method of a node, and returns the status and the answer.
func ask(s *Server, verb, method, authorization, body string) (int, map[string]any) {
	r := httptest.NewRequest(verb, "/xrpc/"+method, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	var out map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &out)
	return w.Code, out
}

// must is ask for a call that succeeds.
func must(t *testing.T, s *Server, verb, method, authorization, body string) map[string]any {
	t.Helper()
	status, out := ask(s, verb, method, authorization, body)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %v", method, status, out)
	}
	return out
}

var asAdmin = "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:secret"))

// visitor is an account and what its owner has.
type visitor struct {
	did                  string
	access, refresh, app string // Authorization headers; app is that of a session by an app password
	password, record     string
}

// newVisitor makes an account on one node, and uses it on the other one, which then has in memory what
// it keeps of it.
func newVisitor(t *testing.T, a, b *Server, name string) *visitor {
	t.Helper()
	v := &visitor{password: "a long password"}
	out := must(t, a, "POST", "com.atproto.server.createAccount", "", fmt.Sprintf(`{"handle":"%s.test","email":"%s@example.com","password":%q}`, name, name, v.password))
	did := out["did"].(string)
	v.did = did
	v.record = fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","record":{"text":"x"}}`, did)
	login := func(s *Server, password string) (access, refresh string) {
		out := must(t, s, "POST", "com.atproto.server.createSession", "", fmt.Sprintf(`{"identifier":%q,"password":%q}`, did, password))
		return "Bearer " + out["accessJwt"].(string), "Bearer " + out["refreshJwt"].(string)
	}
	v.access, v.refresh = login(a, v.password)
	app := must(t, a, "POST", "com.atproto.server.createAppPassword", v.access, `{"name":"phone"}`)
	v.app, _ = login(b, app["password"].(string))
	for _, token := range []string{v.access, v.app} {
		must(t, b, "GET", "com.atproto.server.getSession", token, "")
		must(t, b, "POST", "com.atproto.repo.createRecord", token, v.record)
	}
	return v
}

// ends are what one node does, after which another one must not let in or write, and what that is.
func ends(t *testing.T) map[string]struct {
	act func(a *Server, v *visitor)
	// ended are the credentials that are over, login whether the old password is.
	ended func(v *visitor) []string
	login bool
} {
	type end = struct {
		act   func(a *Server, v *visitor)
		ended func(v *visitor) []string
		login bool
	}
	all := func(v *visitor) []string { return []string{v.access, v.app} }
	admin := func(method, body string) func(a *Server, v *visitor) {
		return func(a *Server, v *visitor) {
			must(t, a, "POST", method, asAdmin, strings.ReplaceAll(body, "DID", v.did))
		}
	}
	return map[string]end{
		"takedown": {admin("com.atproto.admin.updateSubjectStatus", `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"DID"},"takedown":{"applied":true}}`), all, true},
		"password": {admin("com.atproto.admin.updateAccountPassword", `{"did":"DID","password":"another long password"}`), all, true},
		"deletion": {admin("com.atproto.admin.deleteAccount", `{"did":"DID"}`), all, true},
		"end of a session": {func(a *Server, v *visitor) { must(t, a, "POST", "com.atproto.server.deleteSession", v.refresh, "") },
			func(v *visitor) []string { return []string{v.access} }, false},
		"end of an app password": {func(a *Server, v *visitor) {
			must(t, a, "POST", "com.atproto.server.revokeAppPassword", v.access, `{"name":"phone"}`)
		}, func(v *visitor) []string { return []string{v.app} }, false},
	}
}

// What one node has answered holds on another one at once, whatever that has in memory.
func TestNodesAgree(t *testing.T) {
	a, b, _ := testNodes(t)
	n := 0
	for name, end := range ends(t) {
		n++
		v := newVisitor(t, a, b, fmt.Sprint("visitor", n))
		end.act(a, v)
		for _, token := range end.ended(v) {
			for _, call := range [][3]string{{"POST", "com.atproto.repo.createRecord", v.record}, {"GET", "com.atproto.server.getSession", ""}} {
				if status, out := ask(b, call[0], call[1], token, call[2]); status < 400 || status >= 500 {
					// Who is taken down may still ask what has become of the account.
					if name == "takedown" && call[0] == "GET" && out["active"] == false {
						continue
					}
					t.Errorf("%s: %s on the other node: %d %v", name, call[1], status, out)
				}
			}
		}
		status, out := ask(b, "POST", "com.atproto.server.createSession", "", fmt.Sprintf(`{"identifier":%q,"password":%q}`, v.did, v.password))
		if end.login && status < 400 || !end.login && status != http.StatusOK {
			t.Errorf("%s: a login on the other node: %d %v", name, status, out)
		}
		if name == "takedown" || name == "deletion" {
			if status, _ := ask(b, "GET", "com.atproto.sync.getRepo?did="+v.did, "", ""); status < 400 {
				t.Errorf("%s: the other node exports the repository", name)
			}
		}
	}
}

// A write that is under way on one node, and was let in, writes nothing after another node has ended
// what it was let in by.
func TestWriteUnderWayOnAnotherNode(t *testing.T) {
	a, b, gate := testNodes(t)
	n := 0
	for name, end := range ends(t) {
		n++
		v := newVisitor(t, a, b, fmt.Sprint("visitor", n))
		token := end.ended(v)[0]
		gate.come, gate.goOn = make(chan struct{}), make(chan struct{})
		answer := make(chan int)
		go func() {
			status, _ := ask(b, "POST", "com.atproto.repo.createRecord", token, v.record)
			answer <- status
		}()
		<-gate.come
		end.act(a, v)
		close(gate.goOn)
		for waiting := true; waiting; {
			select {
			case <-gate.come: // it tries again
			case status := <-answer:
				waiting = false
				if status < 400 || status >= 500 {
					t.Errorf("%s: a write that was under way: %d", name, status)
				}
			}
		}
		gate.come = nil
	}
}

// A node whose memory has the key of an account signs with the new one after another node has rotated
// it.
func TestKeyIsRotatedOnAnotherNode(t *testing.T) {
	a, b, _ := testNodes(t)
	v := newVisitor(t, a, b, "alice")
	did := syntax.DID(v.did)
	var key *crypto.PublicKey
	err := a.Accounts.RotateKey(t.Context(), account.Trusted(did), func(_ context.Context, k *crypto.PublicKey) error {
		key = k
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := b.Accounts.Signer(t.Context(), did)
	if err != nil || signer.PublicKey().DIDKey() != key.DIDKey() {
		t.Errorf("the other node has another key: %v", err)
	}
	must(t, b, "POST", "com.atproto.repo.createRecord", v.access, v.record)
	err = b.Host.View(t.Context(), did, func(r storage.Reader) error {
		block, err := r.Commit(t.Context())
		if err != nil {
			return err
		}
		c, err := commit.Parse(block)
		if err != nil {
			return err
		}
		return c.Verify(key)
	})
	if err != nil {
		t.Error(err)
	}
}

// Of two nodes one leads; the other one does when it drains. Both are listed until they end.
func TestLeaderDrains(t *testing.T) {
	a, b, _ := testNodes(t)
	ends := make(map[*Server]func())
	for _, s := range []*Server{a, b} {
		s.cfg.Node.Lease = 2 * time.Second
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Run(ctx)
		}()
		ends[s] = func() { cancel(); <-done }
		t.Cleanup(ends[s])
	}
	until := func(what string, ok func(list []NodeStatus) bool) {
		t.Helper()
		for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			list, err := b.Nodes(t.Context())
			if err == nil && ok(list) {
				return
			}
			if time.Since(begin) > time.Minute {
				t.Fatalf("%s: not within a minute: %+v, %v", what, list, err)
			}
		}
	}
	leader := ""
	until("a leader among two nodes", func(list []NodeStatus) bool {
		leader = ""
		n := 0
		for _, x := range list {
			if slices.Contains(x.Leads, leaseMaintenance) {
				leader = x.ID
				n++
			}
		}
		return len(list) == 2 && n == 1
	})
	one, two := a, b
	if leader == "b" {
		one, two = b, a
	}
	if status, out := ask(one, "GET", "_health", "", ""); status != 200 || out["node"] != leader {
		t.Errorf("%d %v", status, out)
	}
	one.Drain(t.Context())
	if status, out := ask(one, "GET", "_health", "", ""); status != 503 || out["message"] != "The server is shutting down" {
		t.Errorf("the health of a node that drains: %d %v", status, out)
	}
	until("another leader", func(list []NodeStatus) bool {
		ok := 0
		for _, x := range list {
			if x.ID == leader && x.Draining && len(x.Leads) == 0 || x.ID == two.Node() && slices.Contains(x.Leads, leaseMaintenance) {
				ok++
			}
		}
		return ok == 2
	})
	if status, _ := ask(one, "GET", "com.atproto.server.describeServer", "", ""); status != 200 {
		t.Errorf("a node that drains does not serve: %d", status)
	}
	ends[one]()
	list, err := two.Nodes(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != two.Node() {
		t.Errorf("%+v, %v", list, err)
	}
}

// What a node that was paused writes as the leader is refused when another one leads.
func TestLateMaintenanceIsFencedOff(t *testing.T) {
	a, b, _ := testNodes(t)
	terms := make(chan term, 2)
	run := func(ctx context.Context, s *Server) {
		l, err := lease.New(lease.Config{KV: s.cfg.Store.KV, Name: leaseMaintenance, Holder: s.Node(), Term: time.Second})
		if err != nil {
			t.Error(err)
			return
		}
		_ = l.Run(ctx, func(ctx context.Context, h *lease.Held) error {
			terms <- term{s.cfg.Store.KV, h}
			<-ctx.Done()
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	go run(ctx, a)
	late := <-terms
	cancel()
	go run(t.Context(), b)
	now := <-terms
	if err := b.setSweepPosition(t.Context(), "did:plc:new", now); err != nil {
		t.Fatal(err)
	}
	if err := a.setSweepPosition(t.Context(), "did:plc:old", late); err == nil {
		t.Error("a late write of the place of maintenance succeeds")
	}
	if err := a.swept(t.Context(), &pass{complete: true}, late); err == nil {
		t.Error("a late write of what was found succeeds")
	}
	if did, err := b.sweepPosition(t.Context()); err != nil || did != "did:plc:new" {
		t.Errorf("%s %v", did, err)
	}
}

// A row of a node that cannot be read is replaced by that of the next process of the same name, and
// does not keep others from being listed.
func TestBrokenRowOfNode(t *testing.T) {
	a, b, _ := testNodes(t)
	for _, text := range []string{`{`, `{"version":"two","seen":[]}`, ``} {
		err := a.cfg.Store.KV.Write(t.Context(), func(tx storage.KVTx) error {
			return tx.Set(t.Context(), a.nodeKey(), []byte(text), time.Time{})
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Server{b, a} {
			if err := s.writeNode(t.Context()); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if list, err := s.Nodes(t.Context()); err != nil || list[len(list)-1].ID != "b" {
				t.Errorf("%q: %v %v", text, list, err)
			}
		}
		if list, err := b.Nodes(t.Context()); err != nil || len(list) != 2 {
			t.Errorf("%q: %v %v", text, list, err)
		}
	}
}

func TestNodeIDs(t *testing.T) {
	if one, two := NodeID(), NodeID(); one == two || (Node{ID: one}).check() != nil {
		t.Errorf("%q, %q", one, two)
	}
	for _, bad := range []string{"a/b", "a b", strings.Repeat("a", 65)} {
		if (Node{ID: bad}).check() == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
