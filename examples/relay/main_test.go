package main

import (
	"context"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// Two PDSes ask to be followed and write; the relay verifies; a consumer that verifies once more has
// the same records and heads as they.
func TestEndToEnd(t *testing.T) {
	w := newWorld(t)
	p := w.relay()
	one, two := w.host(), w.host()
	alice, bob := one.account("alice"), two.account("bob")
	alice.write(t, 3)
	c := &xrpc.Client{Host: p.url}
	for _, h := range []*host{one, two} {
		if err := api.SyncRequestCrawl(t.Context(), c, api.SyncRequestCrawlInput{Hostname: h.name}); err != nil {
			t.Fatal(err)
		}
	}
	f := w.follow(p.url)
	bob.write(t, 5)
	alice.write(t, 4)
	equal := func() bool { return f.revs[alice.did] == alice.rev && f.revs[bob.did] == bob.rev }
	f.until("all records", equal)
	for _, a := range []*account{alice, bob} {
		if d := cmp.Diff(a.made, f.records[a.did]); d != "" {
			t.Error(d)
		}
		there, err := api.SyncGetLatestCommit(t.Context(), a, api.SyncGetLatestCommitParams{DID: a.did})
		if err != nil {
			t.Fatal(err)
		}
		here, err := api.SyncGetLatestCommit(t.Context(), c, api.SyncGetLatestCommitParams{DID: a.did})
		if d := cmp.Diff(there, here); d != "" || err != nil {
			t.Error(err, d)
		}
	}
	repos, err := api.SyncListReposByCollection(t.Context(), c, api.SyncListReposByCollectionParams{Collection: "com.example.note"})
	if err != nil || len(repos.Repos) != 2 {
		t.Errorf("%+v, %v", repos, err)
	}
	hosts, err := api.SyncListHosts(t.Context(), c, api.SyncListHostsParams{})
	if err != nil || len(hosts.Hosts) != 2 {
		t.Errorf("%+v, %v", hosts, err)
	}
}

// The process is killed again and again while a PDS writes. The consumer, which has a cursor and
// connects again, misses nothing and gets nothing twice.
func TestKill(t *testing.T) {
	w := newWorld(t)
	h := w.host()
	alice := h.account("alice")
	p := w.relay("-hosts", h.name)
	f := w.follow(p.url)
	kills := 3
	if testing.Short() {
		kills = 1
	}
	for range kills {
		before := 0
		f.until("", func() bool { before = f.commits; return true })
		alice.write(t, 10)
		f.until("some of the records", func() bool { return f.commits > before+2 })
		alice.write(t, 5)
		p.kill()
		alice.write(t, 5)
		p.start()
	}
	alice.write(t, 1)
	f.until("all records", func() bool { return f.revs[alice.did] == alice.rev })
	if d := cmp.Diff(alice.made, f.records[alice.did]); d != "" {
		t.Error(d)
	}
	if want := len(alice.made) + 1; f.commits != want && f.commits != want-1 { // the first commit may be an empty one
		t.Errorf("%d commits of %d", f.commits, want)
	}
	// Whoever comes later reads the same.
	again := w.follow(p.url)
	again.until("all records", func() bool { return again.revs[alice.did] == alice.rev })
	if d := cmp.Diff(f.seqs, again.seqs); d != "" {
		t.Error(d)
	}
}

// The same as JSON, in both versions.
func TestJetstream(t *testing.T) {
	w := newWorld(t)
	h := w.host()
	alice := h.account("alice")
	alice.write(t, 2)
	p := w.relay("-hosts", h.name)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	read := func(url string, o *websocket.DialOptions, next func(b []byte) (cid string)) {
		t.Helper()
		conn, _, err := websocket.Dial(ctx, url, o)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		got := map[syntax.CID]bool{}
		for len(got) < len(alice.made) {
			_, b, err := conn.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if c := next(b); c != "" {
				got[syntax.CID(c)] = true
			}
		}
		for path, c := range alice.made {
			if !got[c] {
				t.Errorf("no %s", path)
			}
		}
	}
	testenv.Until(t, "events", func() bool {
		_, err := api.SyncGetLatestCommit(ctx, &xrpc.Client{Host: p.url}, api.SyncGetLatestCommitParams{DID: alice.did})
		return err == nil
	})
	read(p.url+"/subscribe?wantedCollections=com.example.*&cursor=1", nil, func(b []byte) string {
		var m struct {
			Commit struct {
				CID string `json:"cid"`
			} `json:"commit"`
		}
		if err := data.UnmarshalJSON(b, &m); err != nil {
			t.Fatal(err)
		}
		return m.Commit.CID
	})
	read(p.url+"/xrpc/network.bsky.jetstream.subscribeEvents?cursor=0", &websocket.DialOptions{Subprotocols: []string{"xrpc.v1.json"}}, func(b []byte) string {
		for _, c := range alice.made {
			if strings.Contains(string(b), string(c)) {
				return string(c)
			}
		}
		return ""
	})
}

// A signal ends the process in good order: the consumer is told, and all is there at the next start.
func TestStop(t *testing.T) {
	w := newWorld(t)
	h := w.host()
	alice := h.account("alice")
	alice.write(t, 3)
	p := w.relay("-hosts", h.name)
	f := w.follow(p.url)
	f.until("the records", func() bool { return f.revs[alice.did] == alice.rev })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, p.errs.String())
	}
	alice.write(t, 2)
	p.start()
	f.until("the rest", func() bool { return f.revs[alice.did] == alice.rev })
	if d := cmp.Diff(alice.made, f.records[alice.did]); d != "" {
		t.Error(d)
	}
}

// Without settings it serves, makes a password that only its owner can read, and keeps a second
// process out of its folder.
func TestZeroConfig(t *testing.T) {
	testenv.NotOnJS(t, "it has no sockets")
	t.Chdir(t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	out, errs := &lines{}, &lines{}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-listen", "localhost:0"}, nil, out, errs) }()
	testenv.Until(t, "the banner", func() bool { return strings.Contains(out.String(), "/admin\n") })
	for _, want := range []string{"requestCrawl", "subscribeRepos?cursor=0", "/subscribe", "relay-data/admin-password"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	testenv.Private(t, "relay-data")
	if err := run(ctx, []string{"-listen", "localhost:0"}, nil, &lines{}, errs); err == nil || !strings.Contains(err.Error(), "another relay") {
		t.Errorf("a second process: %v", err)
	}
	_, rest, _ := strings.Cut(out.String(), "serves on ")
	address, _, _ := strings.Cut(rest, ",")
	for path, want := range map[string]int{"/": 200, "/xrpc/_health": 200, "/xrpc/com.atproto.sync.listHosts": 200, "/admin": 401, "/metrics": 401, "/nothing": 404} {
		res, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	password, err := os.ReadFile("relay-data/admin-password")
	if err != nil || len(password) < 20 {
		t.Errorf("%q, %v", password, err)
	}
	stop()
	if err := <-ended; err != nil || errs.String() != "" {
		t.Errorf("%v: %s", err, errs)
	}
}
