//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/workerd"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// deployMany starts the Worker with a server that has an object for each account.
func deployMany(t *testing.T, names ...string) *edgeWorld {
	t.Helper()
	hosts := []string{"pds.test"}
	for _, name := range names {
		hosts = append(hosts, name+".pds.test")
	}
	return deployWith(t, map[string]string{"PDS_HOSTNAME": "pds.test", "PDS_ACCOUNT_OBJECTS": "true", "PDS_INVITE_REQUIRED": "false"}, hosts...)
}

// try makes an account of the server.
func (w *edgeWorld) try(ctx context.Context, name string) (syntax.DID, *xrpc.Client, error) {
	c := w.client("pds.test")
	out, err := api.ServerCreateAccount(ctx, c, api.ServerCreateAccountInput{
		Handle: syntax.Handle(name + ".pds.test"), Email: name + "@example.com", Password: "alice's password",
	})
	if err != nil {
		return "", nil, err
	}
	c.Authorize = xrpc.Bearer(out.AccessJWT)
	return out.DID, c, nil
}

func (w *edgeWorld) join(name string) (syntax.DID, *xrpc.Client) {
	w.t.Helper()
	did, c, err := w.try(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return did, c
}

func (w *edgeWorld) write(c *xrpc.Client, did syntax.DID, n int) error {
	_, err := api.RepoCreateRecord(w.t.Context(), c, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(did), Collection: "com.example.note", Record: note(w.t, n)})
	return err
}

func note(t *testing.T, n int) data.Raw {
	t.Helper()
	raw, err := data.MarshalJSON(map[string]any{"$type": "com.example.note", "text": "a note of some length, as people write them", "n": n})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// notes counts the records of an account.
func (w *edgeWorld) notes(did syntax.DID) int {
	w.t.Helper()
	n, cursor := 0, ""
	for {
		out, err := api.RepoListRecords(w.t.Context(), w.client("pds.test"), api.RepoListRecordsParams{
			Repo: syntax.AtIdentifier(did), Collection: "com.example.note", Limit: 100, Cursor: cursor,
		})
		if err != nil {
			w.t.Fatal(err)
		}
		n += len(out.Records)
		if cursor = out.Cursor; cursor == "" || len(out.Records) == 0 {
			return n
		}
	}
}

// state is what the Worker of the tests tells: how many calls are left until an object is ended, and how
// often objects were started.
func (w *edgeWorld) state(path string) (s struct {
	Left   int
	Starts map[string]int
}) {
	w.t.Helper()
	res, err := workerd.Client.Get(w.workerd.URL + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if path == "/test/state" {
		if err := json.Unmarshal(text, &s); err != nil {
			w.t.Fatalf("%v: %s", err, text)
		}
	}
	return s
}

// The official client and the official verifier of streams use an account of many; then an app is let in,
// the process is killed, and an account is deleted.
func TestManyOfficialClient(t *testing.T) {
	w := deployMany(t, "alice", "bob")
	did, c := w.join("alice")
	bob, bobs := w.join("bob")
	w.officialClient("pds.test", "alice.pds.test", did, c)
	w.lets("pds.test", &pdstest.Account{DID: did, Handle: "alice.pds.test", Password: "alice's password"})
	if err := w.write(bobs, bob, 1); err != nil {
		t.Fatal(err)
	}
	// The name of an account leads to it, and its pages are at the server's own name.
	if text := w.get("https://bob.pds.test/.well-known/atproto-did"); text != string(bob) {
		t.Errorf("bob's name leads to %q", text)
	}
	admin := w.client("pds.test")
	admin.Authorize = func(r *http.Request) error {
		r.SetBasicAuth("admin", adminPassword)
		return nil
	}
	if err := api.AdminDeleteAccount(t.Context(), admin, api.AdminDeleteAccountInput{DID: bob}); err != nil {
		t.Fatal(err)
	}
	if text := w.get("https://bob.pds.test/.well-known/atproto-did"); text == string(bob) {
		t.Error("the name of a deleted account leads to it")
	}
	if _, err := api.SyncGetLatestCommit(t.Context(), w.client("pds.test"), api.SyncGetLatestCommitParams{DID: bob}); err == nil {
		t.Error("the repository of a deleted account is there")
	}
	if again, _ := w.join("bob"); again == bob {
		t.Error("the same DID")
	}
	// Nobody makes an object of an account that is not there.
	before := w.state("/test/state").Starts
	for _, path := range []string{"sync.getRepo?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "repo.describeRepo?repo=mallory.pds.test"} {
		w.get("https://pds.test/xrpc/com.atproto." + path)
	}
	after := w.state("/test/state").Starts
	if len(after) != len(before) {
		t.Errorf("objects %v, before that %v", after, before)
	}
}

// get reads an address.
func (w *edgeWorld) get(address string) string {
	w.t.Helper()
	res, err := w.net.Client().Get(address)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// An account moves from a native server to the Worker and on.
func TestManyAccountMovesInAndOut(t *testing.T) {
	deployMany(t).moves("pds.test")
}

// aborted says which calls an abort is at: the first one, and how many are between two. All of them take
// minutes, and are tried with PDSKIT_LONG=1, or by parts with PDSKIT_LONG=1/4 to 4/4.
func aborted() (first, step int) {
	long := os.Getenv("PDSKIT_LONG")
	if _, err := fmt.Sscanf(long, "%d/%d", &first, &step); err == nil && first > 0 && step > 0 {
		return first, step
	}
	if long != "" {
		return 1, 1
	}
	return 1, 11
}

// Objects end before and after calls of their stores and of each other, while records are written and
// accounts are made. What was answered is there, nothing is there twice or by half, and the log of all
// accounts verifies, with numbers that grow.
func TestManyAborts(t *testing.T) {
	w := deployMany(t)
	did, c := w.join("alice")
	answered, made, failed := 0, map[string]bool{}, 0
	first, step := aborted()
	// each ends an object at its calls, one after the other, while something is done.
	each := func(object, when string, do func() error) {
		for n := first; n < 200; n += step {
			w.state("/test/abort?" + url.Values{"object": {object}, "when": {when}, "n": {fmt.Sprint(n)}}.Encode())
			err := do()
			if w.state("/test/state").Left > 0 {
				w.state("/test/abort?n=0")
				return
			}
			if err != nil {
				failed++
			}
		}
		t.Errorf("%s: more than 200 calls", object)
	}
	for _, when := range []string{"before", "after"} {
		for _, object := range []string{string(did), "directory"} {
			each(object, when, func() error {
				err := w.write(c, did, 0)
				if err == nil {
					answered++
				}
				return err
			})
		}
		for _, object := range []string{"directory", "desk"} {
			each(object, when, func() error {
				name := fmt.Sprintf("name%d", len(made))
				_, _, err := w.try(t.Context(), name)
				made[name] = err == nil
				return err
			})
		}
	}
	t.Logf("%d objects were ended in the midst of a request that failed", failed)
	if failed < 4 {
		t.Errorf("only %d requests failed", failed)
	}
	records := w.notes(did)
	if records < answered {
		t.Errorf("%d records, %d answers", records, answered)
	}
	accounts := w.accounts()
	for name, there := range made {
		if there && accounts[syntax.Handle(name+".pds.test")] == "" {
			t.Errorf("%s was answered and is not there", name)
		}
	}
	w.verify(map[syntax.DID]int{did: records})
}

// accounts are all that are listed, by their handles, as the accounts themselves tell them.
func (w *edgeWorld) accounts() map[syntax.Handle]syntax.DID {
	w.t.Helper()
	list, err := api.SyncListRepos(w.t.Context(), w.client("pds.test"), api.SyncListReposParams{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[syntax.Handle]syntax.DID{}
	for _, r := range list.Repos {
		head, err := api.SyncGetLatestCommit(w.t.Context(), w.client("pds.test"), api.SyncGetLatestCommitParams{DID: r.DID})
		if err != nil || head.Rev != r.Rev {
			w.t.Errorf("%s is at %v, and listed at %v: %v", r.DID, head.Rev, r.Rev, err)
		}
		about, err := api.RepoDescribeRepo(w.t.Context(), w.client("pds.test"), api.RepoDescribeRepoParams{Repo: syntax.AtIdentifier(r.DID)})
		if err != nil {
			w.t.Errorf("%s: %v", r.DID, err)
		}
		all[about.Handle] = r.DID
	}
	return all
}

// verify reads the log of all accounts from its start, up to a record that is written last: everything
// verifies, and each record is there once.
func (w *edgeWorld) verify(want map[syntax.DID]int) {
	t := w.t
	t.Helper()
	last, c := w.join("last")
	if err := w.write(c, last, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	got, seq := map[syntax.DID]int{}, int64(0)
	for m, err := range w.follow(ctx, "pds.test") {
		if err != nil || m.Err != nil {
			t.Fatal(err, m.Err)
		}
		if m.Frame.Seq <= seq {
			t.Errorf("number %d after %d", m.Frame.Seq, seq)
		}
		seq = m.Frame.Seq
		got[m.DID] += len(m.Records)
		if m.DID == last && len(m.Records) > 0 {
			break
		}
	}
	for did, n := range want {
		if got[did] != n {
			t.Errorf("%s has %d records, and %d in the log", did, n, got[did])
		}
	}
}

// The directory and an account are evicted while somebody reads the log: the socket stays open, and the
// frames of what is written later come. workerd evicts after ten seconds of rest.
func TestManyEviction(t *testing.T) {
	if os.Getenv("PDSKIT_LONG") == "" {
		t.Skip("PDSKIT_LONG is not set: this waits until objects are evicted")
	}
	w := deployMany(t)
	did, c := w.join("alice")
	if err := w.write(c, did, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	seen := make(chan int, 1000)
	ended := make(chan error, 1)
	go func() {
		n := 0
		for m, err := range w.followOn(ctx, "pds.test", func(err error) error { return fmt.Errorf("the socket has closed: %w", err) }) {
			if err != nil || m.Err != nil {
				ended <- fmt.Errorf("%w %w", err, m.Err)
				return
			}
			if n += len(m.Records); len(m.Records) > 0 {
				seen <- n
			}
		}
	}()
	wait := func(records int) {
		t.Helper()
		for n := 0; n < records; {
			select {
			case n = <-seen:
			case err := <-ended:
				t.Fatal(err)
			}
		}
	}
	wait(1)
	before := w.state("/test/state").Starts
	for records, idle := 2, 11*time.Second; ; records, idle = records+1, idle+5*time.Second {
		time.Sleep(idle)
		if err := w.write(c, did, records); err != nil {
			t.Fatal(err)
		}
		wait(records)
		if after := w.state("/test/state").Starts; after["directory"] > before["directory"] && after[string(did)] > before[string(did)] {
			return
		} else if idle > time.Minute {
			t.Fatalf("the objects are not evicted: %v", after)
		}
	}
}
