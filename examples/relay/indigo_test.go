package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/indexer/sqlindex"
)

// indigoVariable names the program of indigo's relay.
const indigoVariable = "PDSKIT_INDIGO_RELAY"

// indigoProgram returns the program of indigo's relay, or skips the test.
func indigoProgram(t *testing.T) string {
	t.Helper()
	program := os.Getenv(indigoVariable)
	if program == "" {
		t.Skip("needs indigo's relay, which is built outside of this module (and with cgo, for its SQLite): " +
			"GOBIN=/some/folder go install github.com/bluesky-social/indigo/cmd/relay@latest; then " + indigoVariable + "=/some/folder/relay")
	}
	return program
}

// indigo is indigo's relay, as a process of its own.
type indigo struct {
	w    *world
	cmd  *exec.Cmd
	exec string
	dir  string
	name string // as relays call it
	url  string
	logs lines
}

// indigo starts indigo's relay and has it follow hosts from their oldest events on.
func (w *world) indigo(exec string, hosts ...*host) *indigo {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	i := &indigo{w: w, exec: exec, dir: w.t.TempDir(), name: "localhost:" + port, url: "http://localhost:" + port}
	// Its requestCrawl reaches public addresses only. Rows of its table of hosts are followed when it
	// starts, on localhost too.
	i.start()
	i.stop()
	db, err := sql.Open("sqlite3", "file:"+i.database())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range hosts {
		if _, err := db.Exec("INSERT INTO host (hostname, no_ssl, account_limit, trusted, status, last_seq) VALUES (?, TRUE, 1000, TRUE, 'active', 1)", h.name); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
	i.start()
	return i
}

func (i *indigo) database() string { return filepath.Join(i.dir, "relay.sqlite") }

func (i *indigo) start() {
	i.w.t.Helper()
	i.cmd = exec.Command(i.exec, "--plc-host", i.w.plc, "--log-level", "warn", "--admin-password", testPassword, "serve",
		"--db-url", "sqlite://"+i.database(), "--persist-dir", filepath.Join(i.dir, "events"), "--bind", "127.0.0.1:"+strings.TrimPrefix(i.name, "localhost:"),
		"--metrics-listen", "127.0.0.1:0", "--ident-cache-size", "1000")
	i.cmd.Dir = i.dir // it reads .env
	i.cmd.Stdout, i.cmd.Stderr = &i.logs, &i.logs
	if err := i.cmd.Start(); err != nil {
		i.w.t.Fatal(err)
	}
	cmd := i.cmd
	i.w.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	testenv.Until(i.w.t, "indigo's relay answers", func() bool {
		res, err := http.Get(i.url + "/xrpc/_health")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// stop ends it in good order: it keeps its place in the streams.
func (i *indigo) stop() {
	i.w.t.Helper()
	i.cmd.Process.Signal(os.Interrupt)
	i.cmd.Wait()
}

// log is what it has written, without the requests.
func (i *indigo) log() string {
	var b strings.Builder
	for line := range strings.Lines(i.logs.String()) {
		if !strings.Contains(line, `"remote_ip"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// takedown takes an account down at indigo's relay, or lifts that.
func (i *indigo) takedown(act string, did syntax.DID) {
	i.w.t.Helper()
	req, err := http.NewRequestWithContext(i.w.t.Context(), "POST", i.url+"/admin/repo/"+act, strings.NewReader(`{"did":"`+string(did)+`"}`))
	if err != nil {
		i.w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth("admin", testPassword)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		i.w.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		i.w.t.Fatalf("%s: %s", act, res.Status)
	}
}

// index indexes all that a relay passes on, until the test ends.
func (w *world) index(url string) *indexer.Indexer {
	w.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(w.t.TempDir(), "index.sqlite")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
	if err != nil {
		w.t.Fatal(err)
	}
	sink := &sqlindex.Sink{DB: db}
	if err := sink.Create(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	ix := &indexer.Indexer{
		Sources: []indexer.Source{{Relay: url}}, Scope: indexer.Scope{All: true}, Sink: sink,
		Identity: &identity.Resolver{PLC: w.directory.Client(), Development: true}, HTTP: new(http.Client), Hosts: new(http.Client),
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- ix.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != context.Canceled {
			w.t.Error(err)
		}
		if err := errors.Join(sink.Close(), db.Close()); err != nil {
			w.t.Error(err)
		}
	})
	return ix
}

// state is what a server says of an account: revision and status.
func state(t *testing.T, url string, did syntax.DID) string {
	out, err := api.SyncGetRepoStatus(t.Context(), &xrpc.Client{Host: url}, api.SyncGetRepoStatusParams{DID: did})
	if err != nil {
		return err.Error()
	}
	return statusText(out.Rev, out.Active, out.Status)
}

// statusText leaves the revision out if it does not matter.
func statusText(rev syntax.TID, active bool, status string) string {
	if !active {
		return status
	}
	return "active at " + string(rev)
}

// indexed is what an indexer knows of an account, as state returns it.
func indexed(t *testing.T, ix *indexer.Indexer, did syntax.DID) string {
	a, err := ix.Account(t.Context(), did)
	if err != nil {
		return err.Error()
	}
	if a.Error != "" {
		return a.Error
	}
	return statusText(a.Rev, a.Active, a.Status)
}

// chain is a chain of relays, with an index at each.
type chain struct {
	*world
	indigo   *indigo
	ours     *program
	ix       []*indexer.Indexer
	accounts []*account
}

// settle waits until all know the state of the accounts' hosts.
func (c *chain) settle(what string) {
	c.t.Helper()
	for n, a := range c.accounts {
		var have []string
		all := func() bool {
			have = []string{state(c.t, a.Host, a.did), state(c.t, c.indigo.url, a.did), state(c.t, c.ours.url, a.did), indexed(c.t, c.ix[0], a.did), indexed(c.t, c.ix[1], a.did)}
			return !slices.ContainsFunc(have, func(s string) bool { return s != have[0] })
		}
		for deadline := time.Now().Add(30 * time.Second); !all(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				c.t.Fatalf("%s, account %d: host, indigo's relay, ours, their indexes:\n%s\nindigo's relay wrote:\n%s", what, n, strings.Join(have, "\n"), c.indigo.log())
			}
		}
	}
	for n, ix := range c.ix {
		have := map[string]string{}
		for _, a := range c.accounts {
			entries, err := ix.Sink.Records(c.t.Context(), a.did, "", 1000)
			if err != nil {
				c.t.Fatal(err)
			}
			for _, e := range entries {
				have[string(a.did)+"/"+e.Key] = e.Value.String()
			}
		}
		if d := cmp.Diff(recordsOf(c.accounts...), have); d != "" {
			c.t.Errorf("%s, index %d: %s", what, n, d)
		}
	}
}

// kept makes sure that indigo's relay has kept all rules but some.
func (c *chain) kept(but ...string) {
	c.t.Helper()
	for rule, n := range c.ours.host(c.indigo.name).Rules {
		if !slices.Contains(but, rule) {
			c.t.Errorf("the rule %s was broken %d times", rule, n)
		}
	}
}

// rework changes a record, deletes another one, and makes many in one commit.
func (a *account) rework(t *testing.T) {
	t.Helper()
	paths := slices.Sorted(maps.Keys(a.made))
	var writes []api.RepoApplyWritesInput_Writes
	record := func(kind string, n int) []byte {
		return fmt.Appendf(nil, `{"$type":"com.example.%s","again":%d}`, kind, n)
	}
	_, edited, _ := strings.Cut(paths[0], "/")
	writes = append(writes, api.RepoApplyWritesInput_Writes{Update: &api.RepoApplyWritesUpdate{Collection: "com.example.note", RKey: syntax.RecordKey(edited), Value: record("note", -1)}})
	_, gone, _ := strings.Cut(paths[1], "/")
	writes = append(writes, api.RepoApplyWritesInput_Writes{Delete: &api.RepoApplyWritesDelete{Collection: "com.example.note", RKey: syntax.RecordKey(gone)}})
	for n := range 40 {
		writes = append(writes, api.RepoApplyWritesInput_Writes{Create: &api.RepoApplyWritesCreate{Collection: "com.example.other", Value: record("other", n)}})
	}
	out, err := api.RepoApplyWrites(t.Context(), a, api.RepoApplyWritesInput{Repo: syntax.AtIdentifier(a.did), Writes: writes})
	if err != nil {
		t.Fatal(err)
	}
	delete(a.made, paths[1])
	take := func(uri syntax.ATURI, cid syntax.CID) {
		a.made[strings.TrimPrefix(string(uri), "at://"+string(a.did)+"/")] = cid
	}
	for _, r := range out.Results {
		switch {
		case r.CreateResult != nil:
			take(r.CreateResult.URI, r.CreateResult.CID)
		case r.UpdateResult != nil:
			take(r.UpdateResult.URI, r.UpdateResult.CID)
		}
	}
	a.rev = out.Commit.Rev
}

// Indigo's relay follows PDSes of this library, and the relay and the indexer of this library follow
// indigo's. All know the state of the hosts in the end, also if each relay is started anew.
func TestIndigoRelay(t *testing.T) {
	program := indigoProgram(t)
	w := newWorld(t)
	one, two := w.host(), w.host()
	c := &chain{world: w, accounts: []*account{one.account("alice"), two.account("bob"), one.account("carol")}}
	for _, a := range c.accounts {
		a.write(t, 5)
	}
	c.indigo = w.indigo(program, one, two)
	c.ours = w.relay("-relays", c.indigo.name, "-accounts", "-1", "-rate", "-1")
	c.ix = []*indexer.Indexer{w.index(c.indigo.url), w.index(c.ours.url)}
	f := w.follow(c.indigo.url) // it verifies each commit, and that none is missing
	c.settle("what was there before")

	alice, bob, carol := c.accounts[0], c.accounts[1], c.accounts[2]
	for _, a := range c.accounts {
		a.write(t, 20)
		a.rework(t)
	}
	if err := api.IdentityUpdateHandle(t.Context(), bob, api.IdentityUpdateHandleInput{Handle: "robert.test"}); err != nil {
		t.Fatal(err)
	}
	if err := api.ServerDeactivateAccount(t.Context(), carol, api.ServerDeactivateAccountInput{}); err != nil {
		t.Fatal(err)
	}
	c.settle("what came")
	c.kept("repeated") // as a #sync of the head that a #commit had before

	c.indigo.stop()
	alice.write(t, 5)
	if err := api.ServerActivateAccount(t.Context(), carol); err != nil {
		t.Fatal(err)
	}
	carol.write(t, 5)
	c.indigo.start()
	c.ours.kill()
	bob.rework(t)
	c.ours.start()
	c.settle("after the relays were away")

	// After the kill messages come again, those of before a deactivation too.
	c.kept("repeated", "stale", "inactive")
	f.until("all was verified", func() bool {
		return f.revs[alice.did] == alice.rev && f.revs[bob.did] == bob.rev && f.revs[carol.did] == carol.rev
	})
	for n, a := range c.accounts {
		if d := cmp.Diff(a.made, f.records[a.did]); d != "" {
			t.Errorf("account %d: %s", n, d)
		}
	}

	c.indigo.takedown("takeDown", bob.did)
	testenv.Until(t, "indigo's takedown is known", func() bool {
		return state(t, c.ours.url, bob.did) == "takendown" && indexed(t, c.ix[1], bob.did) == "takendown"
	})
	c.indigo.takedown("reverseTakedown", bob.did)
	bob.write(t, 1)
	c.settle("after a takedown was lifted")
}
