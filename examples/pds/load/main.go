// Command load measures a server: it fills data directories, runs the program pds as
// a process of its own on them, calls it over HTTP, and prints a table of what it
// saw against the project's targets.
//
//	go run ./examples/pds/load
//
// Clients and server share the machine, so the clients are as cheap as they can be: they write
// prepared requests to kept connections and look only at status and length of the answers. Accounts
// are made directly in the store, and each client logs in once: the cost of hashing passwords is in
// none of the figures. The server is configured as it is by default, with every commit on disk
// before it is answered, and writes its log to a file.
//
// Last table, of 2 processors of a quiet virtual machine (EPYC, Zen 5), on which a K-256 signature
// took 29 µs:
//
//	| createRecord over HTTP, 32 clients, durable | ≥ 4,000/s, p99 ≤ 30 ms              | 6,512/s, p50 4.6 ms, p99 12.2 ms; 200 µs of the server's processors each  |
//	| getRecord                                   | ≥ 15,000/s                          | 36,246/s, p50 0.7 ms, p99 5.0 ms; 32 µs of the server's processors each   |
//	| listRecords, 50                             | ≥ 4,000/s                           | 18,985/s, p50 1.4 ms, p99 7.1 ms; 71 µs of the server's processors each   |
//	| getRepo, 1,000 records                      | ≥ 600/s                             | 2,746/s, p50 11.7 ms, p99 25.2 ms; 618 µs of the server's processors each |
//	| its first byte, of a new connection         | ≤ 20 ms                             | p50 1.1 ms, p99 4.8 ms; 48 ms where the tree is not in memory             |
//	| getRepo, 100,000 records (27 MB)            | ≥ 80 MB/s                           | 453 MB/s                                                                  |
//	| 20 at once                                  | memory flat: ≤ 5 MiB more for each  | 791 MB/s in all; at most 85 MiB (one: 85 MiB; slow clients: 85 MiB)       |
//	| memory at rest with 100,000 accounts        | ≤ 150 MiB; then twice the cache more | 47 MiB; 285 MiB after each of 60,000 was used                             |
//	| cold start with 100,000 accounts            | ≤ 1 s                               | 0.04 s to 0.10 s                                                          |
//
// The last two rows are of -only rest,start -accounts 100000 -cold-accounts 100000. What is in
// memory after the accounts were used is the cache of trees, 128 MiB (PDS_TREE_CACHE_SIZE), and as
// much again until the garbage collector runs. A start reads what is pending, and no account, so it
// takes as long with 10,000.
//
// Another machine, whose speed changed by a third from one run to the next, and whose disk took
// some 0.5 ms for a flush (the first three rows: the least and the most of four runs):
//
//	| createRecord over HTTP, 32 clients, durable | 2,548/s to 3,025/s, p99 28.4 to 24.9 ms; 494 to 410 µs of the server's processors each  |
//	| getRecord                                   | 13,882/s to 16,040/s, p99 9.9 to 8.6 ms; 95 to 79 µs of the server's processors each    |
//	| listRecords, 50                             | 3,933/s to 5,515/s, p99 27.2 to 18.0 ms; 375 to 269 µs of the server's processors each  |
//	| getRepo, 100,000 records (27 MB)            | 147 MB/s                                                                                |
//	| 20 at once                                  | 287 MB/s in all; at most 163 MiB (one: 67 MiB; slow clients: 163 MiB)                   |
//	| memory at rest with 1,000 accounts          | 28 MiB after the start, 66 MiB after each was used                                      |
//
// What calls took of the server's processors (-only read), before and after records were read from
// the store's memory, on a machine with other work:
//
//	| getRecord              | 61 µs    | 50 µs    |
//	| listRecords, 50        | 229 µs   | 128 µs   |
//	| getRepo, 1,000 records | 2,207 µs | 1,149 µs |
//
// How apps are let in by OAuth, and what a call with a proof costs beside one with a bearer token,
// all in one run:
//
//	go run ./examples/pds/load -only oauth -time 5s
//
// A flow is the pushed request, the page, its form, and the exchange of the code: four requests and
// two proofs. The clients make keys and sign proofs, and so take more processor time than the
// server does. A K-256 signature took 50 µs:
//
//	| apps let in: request, page, consent, code | ≥ 100/s, ≤ 10 ms of the server's processors | 415/s, p50 76.7 ms, p99 119.6 ms; 3147 µs of the server's processors each |
//	| getSession with a bearer token            | ≥ 4,000/s                                   | 10,555/s, p50 2.4 ms, p99 13.4 ms; 145 µs of the server's processors each |
//	| getSession with DPoP                      | ≤ 0.5 ms more of the server's processors    | 4,121/s, p50 7.0 ms, p99 28.0 ms; 351 µs of the server's processors each (206 µs more) |
//
// # Attacks
//
//	go run ./examples/pds/load -hostile
//
// attacks the server instead, each time a process of its own with the GOMEMLIMIT of its unit file,
// from several addresses of this machine, and prints what others see of it: the most memory and
// temporary files that the server had, how long another account's createRecord takes, and whether a
// relay gets its subscription and an event. Targets: at most 400 MiB of memory, 2,048 MiB of
// temporary files, p99 of 1 s, and the relay always, without failures of createRecord and of health
// checks.
//
// Last table, of `-hostile -time 15s`, on two processors of a virtual machine on which nothing else
// ran. Attackers and server share the processors.
//
//	| 100 getRepo that nobody reads, from 10 addresses                       | 94 MiB, 1,985 MiB of spools, p99 60 ms, relay 15 of 15  | reached |
//	| the same over HTTP/2                                                   | 90 MiB, 1,795 MiB of spools, p99 121 ms, relay 15 of 15 | reached |
//	| 400 listRecords that nobody reads, over HTTP/2, from 10 addresses      | 153 MiB, p99 81 ms, relay 15 of 15                      | reached |
//	| 400 subscribers with cursor 0 that read nothing, from 8 addresses      | 71 MiB, p99 12 ms, relay 15 of 15                       | reached |
//	| 5,000 subscriptions from one address                                   | 118 MiB, p99 100 ms, relay 14 of 14                     | reached |
//	| 500 logins at a time that hang up                                      | 95 MiB, p99 109 ms, relay 12 of 12                      | reached |
//	| 200 readers of trees above the cache, from 10 addresses                | 107 MiB, 1 MiB of spools, p99 44 ms, relay 15 of 15     | reached |
//	| 1,000 bodies that never come, to all kinds of paths                    | 81 MiB, p99 20 ms, relay 15 of 15                       | reached |
//	| 5,000 connections that say nothing                                     | 127 MiB, p99 9 ms, relay 15 of 15                       | reached |
//	| imports of 1 MB that expand to 300 MB                                  | 66 MiB, p99 10 ms, relay 15 of 15                       | reached |
//	| imports of two million tiny blocks                                     | 67 MiB, 247 MiB of spools, p99 8 ms, relay 15 of 15     | reached |
//	| 64 imports that send 1 byte in 15 s, from 8 addresses                  | 67 MiB, p99 5 ms, relay 15 of 15                        | reached |
//	| listRecords?limit=100 of large records, 64 at a time, from 8 addresses | 172 MiB, p99 45 ms, relay 15 of 15                      | reached |
//	| getBlocks with one CID 900 times, 32 at a time, from 8 addresses       | 74 MiB, 4 MiB of spools, p99 30 ms, relay 15 of 15      | reached |
//	| service tokens with IDs of 40 KB                                       | 67 MiB, p99 46 ms, relay 15 of 15                       | reached |
//
// # Several nodes
//
//	go run ./examples/pds/load -nodes 3 -time 2m
//
// runs three servers on one PostgreSQL and one bucket instead, while they are killed, drained and
// paused, and checks what has become of it. See README.md.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
)

// options are what the flags say.
type options struct {
	pds      string // program; empty: build it
	dir      string // for data; empty: a temporary directory
	json     bool
	only     string
	profiles string // directory for profiles; empty: none
	duration time.Duration
	clients  int

	accounts     int // at rest
	coldAccounts int
	records      int // of the large repository
	downloads    int // at once

	hostile bool
	nodes   int // several servers on one database; 0: one
}

// result is a row of the table.
type result struct {
	Work     string `json:"work"`
	Target   string `json:"target"`
	Measured string `json:"measured"`
	OK       bool   `json:"ok"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var opt options
	flag.StringVar(&opt.pds, "pds", "", "the `program` to measure (default: build the one of this module)")
	flag.StringVar(&opt.dir, "dir", "", "put data below this `directory`, on the disk that is to be measured (default: the system's for temporary files)")
	flag.BoolVar(&opt.json, "json", false, "write JSON")
	flag.StringVar(&opt.only, "only", "", "measure only these, separated by commas: write, read, repo, oauth, rest, start")
	flag.StringVar(&opt.profiles, "profiles", "", "write profiles of the server to this `directory`")
	flag.DurationVar(&opt.duration, "time", 10*time.Second, "how long to call each method")
	flag.IntVar(&opt.clients, "clients", 32, "how many clients call at once")
	flag.IntVar(&opt.accounts, "accounts", 1000, "how many accounts are at rest")
	flag.IntVar(&opt.coldAccounts, "cold-accounts", 10_000, "how many accounts there are at a cold start")
	flag.IntVar(&opt.records, "records", 100_000, "how many records the large repository has")
	flag.IntVar(&opt.downloads, "downloads", 20, "how many clients download it at once")
	flag.BoolVar(&opt.hostile, "hostile", false, "attack the server instead; -only takes the names of attacks")
	flag.IntVar(&opt.nodes, "nodes", 0, "run so many servers on one PostgreSQL instead, for -time, while they are killed, drained and paused, and check what they have done")
	flag.Parse()
	if opt.nodes > 0 {
		if err := nodes(ctx, opt, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, opt, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// work is something to be measured.
type work struct {
	name string
	run  func(context.Context) ([]result, error)
}

// run measures and prints.
func run(ctx context.Context, opt options, out, notes io.Writer) error {
	dir, err := os.MkdirTemp(opt.dir, "pds-load-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if opt.profiles != "" {
		if err := os.MkdirAll(opt.profiles, 0o755); err != nil {
			return err
		}
	}
	if opt.pds == "" {
		opt.pds = filepath.Join(dir, "pds")
		build := exec.CommandContext(ctx, "go", "build", "-o", opt.pds, "github.com/pdskit/pdskit/examples/pds")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, text)
		}
	}
	b := &bench{options: opt, dir: dir, notes: notes}
	all := []work{{"write", b.write}, {"read", b.read}, {"repo", b.repo}, {"oauth", b.oauth}, {"rest", b.rest}, {"start", b.coldStart}}
	title := "work"
	if opt.hostile {
		title = "attack"
		h := &hostile{bench: b}
		defer h.close()
		all = all[:0]
		for _, a := range attacks {
			all = append(all, work{a.name, func(ctx context.Context) ([]result, error) { return h.run(ctx, a) }})
		}
	}
	var only []string
	for name := range strings.FieldsFuncSeq(opt.only, func(r rune) bool { return r == ',' }) {
		only = append(only, name)
		found := false
		for _, w := range all {
			found = found || w.name == name
		}
		if !found {
			return fmt.Errorf("there is nothing to measure with the name %q", name)
		}
	}
	speed, err := signature()
	if err != nil {
		return err
	}
	var results []result
	for _, w := range all {
		if only != nil && !slices.Contains(only, w.name) {
			continue
		}
		list, err := w.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		results = append(results, list...)
	}
	if opt.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(results)
	}
	fmt.Fprintf(out, "%s, %s/%s, %d processors, on which a K-256 signature took %d µs; %d clients on the same machine, %v each.\nAccounts log in beforehand: no password is hashed while it is measured.\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), speed.Microseconds(), opt.clients, opt.duration)
	fmt.Fprintf(out, "| %s | target | measured | |\n|---|---|---|---|\n", title)
	for _, r := range results {
		mark := "reached"
		if !r.OK {
			mark = "not reached"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", r.Work, r.Target, r.Measured, mark)
	}
	return nil
}

// signature is how long a signature takes just now, by which tables of different machines, or of
// one that had other work to do, can be compared.
func signature() (time.Duration, error) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return 0, err
	}
	const n = 2000
	begin := time.Now()
	for range n {
		if _, err := key.Sign(context.Background(), make([]byte, 100)); err != nil {
			return 0, err
		}
	}
	return time.Since(begin) / n, nil
}
