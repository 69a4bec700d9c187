package main

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/internal/metrics"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// racer is a server with the requests that it is raced with.
type racer struct {
	name, url         string
	create, get, list [][]byte
	repo              [][]byte
	records, accounts int
	pid               int
}

const raceCollection = "app.bsky.feed.post"

// fill makes accounts with records over HTTP, the same on every server, and prepares the requests.
func (r *racer) fill(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	cl := &xrpc.Client{Host: r.url}
	for n := range r.accounts {
		var account struct {
			DID       string `json:"did"`
			Handle    string `json:"handle"`
			AccessJWT string `json:"accessJwt"`
		}
		name := fmt.Sprintf("user%d", n)
		err := cl.Procedure(ctx, "com.atproto.server.createAccount", map[string]any{
			"handle": name + ".test", "email": name + "@example.com", "password": "password of " + name,
		}, &account)
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		const record = `{"$type":"app.bsky.feed.post","text":"A post of the usual length, as people write them all day long.","createdAt":"2026-01-01T00:00:00.000Z","langs":["en"]}`
		c, err := dial(ctx, r.url)
		if err != nil {
			t.Fatal(err)
		}
		did := url.QueryEscape(account.DID)
		for done := 0; done < r.records; {
			writes := ""
			for range min(100, r.records-done) {
				rkey := string(syntax.NewTID(time.UnixMicro(1_700_000_000_000_000+int64(done)), 1))
				if done++; writes != "" {
					writes += ","
				}
				writes += fmt.Sprintf(`{"$type":"com.atproto.repo.applyWrites#create","collection":%q,"rkey":%q,"value":%s}`, raceCollection, rkey, record)
				r.get = append(r.get, request("GET", "/xrpc/com.atproto.repo.getRecord?repo="+did+"&collection="+raceCollection+"&rkey="+rkey, "", ""))
				r.list = append(r.list, request("GET", "/xrpc/com.atproto.repo.listRecords?repo="+did+"&collection="+raceCollection+"&limit=50&cursor="+rkey, "", ""))
			}
			body := fmt.Sprintf(`{"repo":%q,"writes":[%s]}`, account.DID, writes)
			if _, err := c.do(request("POST", "/xrpc/com.atproto.repo.applyWrites", account.AccessJWT, body)); err != nil {
				t.Fatalf("%s: %v", r.name, err)
			}
		}
		c.Close()
		r.create = append(r.create, request("POST", "/xrpc/com.atproto.repo.createRecord", account.AccessJWT, fmt.Sprintf(`{"repo":%q,"collection":%q,"record":%s}`, account.DID, raceCollection, record)))
		r.repo = append(r.repo, request("GET", "/xrpc/com.atproto.sync.getRepo?did="+did, "", ""))
	}
}

// TestRace races this server with the official PDS, the npm package @atproto/pds, on the same
// machine, with the same clients and the same accounts, in turns:
//
//	PDSKIT_RACE=10s PDSKIT_NPM=DIR go test -run TestRace -v ./examples/pds/load
//
// DIR is a folder in which the package was installed; it takes some two minutes. It prints a table,
// with what each call takes of the server's processors, which depends less on what else the machine
// does. Each server is configured as it is by default, and logs to a file or not at all.
func TestRace(t *testing.T) {
	duration, err := time.ParseDuration(os.Getenv("PDSKIT_RACE"))
	if err != nil {
		t.Skip("runs with PDSKIT_RACE=10s, and PDSKIT_NPM naming a folder where @atproto/pds was installed")
	}
	modules := testenv.NodeModules(t, "@atproto/pds")
	program := os.Getenv("PDSKIT_RACE_PDS")
	if program == "" {
		program = filepath.Join(t.TempDir(), "pds")
		if text, err := exec.Command("go", "build", "-o", program, "github.com/pdskit/pdskit/examples/pds").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	plc := testplc.Start(t, plctest.Config{NoRateLimits: true})
	ours, _, err := start(t.Context(), program, t.TempDir(), "PDS_INVITE_REQUIRED=false")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ours.stop(); err != nil {
			t.Error(err)
		}
	}()
	host, pid := testenv.StartOfficialPDS(t, modules, plc.URL)
	racers := []*racer{{name: "pdskit", url: ours.url, pid: ours.cmd.Process.Pid}, {name: "official", url: "http://" + host, pid: pid}}
	for _, r := range racers {
		r.records, r.accounts = 500, 8
		r.fill(t)
	}
	const clients = 32
	table := fmt.Sprintf("%d clients, %d accounts of %d records, best of two rounds of %v each, in turns\n\n| work | pdskit | official | ratio | p99: pdskit / official | processor for each: pdskit / official | ratio |\n|---|---|---|---|---|---|---|\n",
		clients, racers[0].accounts, racers[0].records, duration)
	for _, w := range []struct {
		name     string
		requests func(*racer) [][]byte
	}{
		{"getRecord", func(r *racer) [][]byte { return r.get }},
		{"listRecords, 50", func(r *racer) [][]byte { return r.list }},
		{"getRepo", func(r *racer) [][]byte { return r.repo }},
		{"createRecord", func(r *racer) [][]byte { return r.create }},
	} {
		var best [2]figures
		var each [2]float64 // microseconds of the server's processors, the least of the rounds
		for range 2 {
			for i, r := range racers {
				requests := w.requests(r)
				before, _ := metrics.CPUSeconds(r.pid)
				f, err := hammer(t.Context(), r.url, clients, duration, func(int, int) []byte { return requests[rand.IntN(len(requests))] })
				if err != nil {
					t.Fatalf("%s, %s: %v", w.name, r.name, err)
				}
				after, _ := metrics.CPUSeconds(r.pid)
				if busy := (after - before) * 1e6 / float64(max(f.calls, 1)); each[i] == 0 || busy < each[i] {
					each[i] = busy
				}
				if best[i].took == 0 || f.perSecond() > best[i].perSecond() {
					best[i] = f
				}
			}
		}
		table += fmt.Sprintf("| %s | %s/s | %s/s | %.1f | %v / %v | %s µs / %s µs | %.1f |\n", w.name, thousands(best[0].perSecond()), thousands(best[1].perSecond()),
			best[0].perSecond()/best[1].perSecond(), best[0].percentile(.99).Round(time.Millisecond), best[1].percentile(.99).Round(time.Millisecond),
			thousands(each[0]), thousands(each[1]), each[1]/each[0])
	}
	t.Logf("%s", table)
}
