package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/internal/metrics"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// bench is what the works share.
type bench struct {
	options
	dir   string
	notes io.Writer
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.notes, format+"\n", args...) }

// server fills a data directory and starts the server on it.
func (b *bench) server(ctx context.Context, name string, n int, of func(int) seed.Seed) (*process, error) {
	dir := filepath.Join(b.dir, name)
	b.say("%s: making %d accounts", name, n)
	if err := fill(ctx, dir, n, of); err != nil {
		return nil, err
	}
	var env []string
	metrics := ""
	if b.profiles != "" {
		port, err := testenv.FreePort("localhost")
		if err != nil {
			return nil, err
		}
		metrics = fmt.Sprintf("localhost:%d", port)
		env = append(env, "PDS_METRICS_ADDRESS="+metrics)
	}
	p, _, err := start(ctx, b.pds, dir, env...)
	if err == nil {
		p.metrics = metrics
	}
	return p, err
}

// hammer lets clients call a server for the time that is given, and adds to what they saw how busy
// the server was.
func (b *bench) hammer(ctx context.Context, p *process, name string, clients int, next func(client, n int) []byte) (figures, error) {
	b.say("%s", name)
	profiled := p.profile(b.profiles, name, b.duration)
	before, _ := metrics.CPUSeconds(p.cmd.Process.Pid)
	f, err := hammer(ctx, p.url, clients, b.duration, next)
	after, _ := metrics.CPUSeconds(p.cmd.Process.Pid)
	f.busy = time.Duration((after - before) * float64(time.Second))
	return f, errors.Join(err, <-profiled)
}

func same(s seed.Seed) func(int) seed.Seed { return func(int) seed.Seed { return s } }

// write measures createRecord.
func (b *bench) write(ctx context.Context) (_ []result, err error) {
	p, err := b.server(ctx, "write", b.clients, same(seed.Seed{Records: 1000}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	sessions, err := p.login(ctx, b.clients)
	if err != nil {
		return nil, err
	}
	requests := make([][]byte, len(sessions))
	for i, s := range sessions {
		body := fmt.Sprintf(`{"repo":%q,"collection":"app.bsky.feed.post","record":{"$type":"app.bsky.feed.post","text":"A post of the usual length, as people write them all day long.","createdAt":"2026-01-01T00:00:00.000Z","langs":["en"]}}`, s.DID)
		requests[i] = request("POST", "/xrpc/com.atproto.repo.createRecord", s.AccessJWT, body)
	}
	f, err := b.hammer(ctx, p, "createRecord", b.clients, func(client, _ int) []byte { return requests[client] })
	if err != nil {
		return nil, err
	}
	return []result{{
		fmt.Sprintf("createRecord over HTTP, %d clients, durable", b.clients), "≥ 4,000/s, p99 ≤ 30 ms", f.String(),
		f.perSecond() >= 4000 && f.percentile(.99) <= 30*time.Millisecond,
	}}, nil
}

// read measures getRecord, listRecords, and getRepo of small repositories.
func (b *bench) read(ctx context.Context) (_ []result, err error) {
	p, err := b.server(ctx, "read", b.clients, same(seed.Seed{Records: 1000}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	// Requests for any of the records, in turns.
	var gets, lists, repos [][]byte
	for i := range b.clients {
		repo := syntax.AtIdentifier(fmt.Sprintf("user%d.test", i))
		page, err := api.RepoListRecords(ctx, &xrpc.Client{Host: p.url}, api.RepoListRecordsParams{Repo: repo, Collection: seed.Collection, Limit: 100})
		if err != nil {
			return nil, err
		}
		var did, rkey string
		for _, rec := range page.Records {
			if did, rkey, err = splitURI(rec.URI); err != nil {
				return nil, err
			}
			gets = append(gets, request("GET", "/xrpc/com.atproto.repo.getRecord?repo="+did+"&collection="+seed.Collection+"&rkey="+rkey, "", ""))
			lists = append(lists, request("GET", "/xrpc/com.atproto.repo.listRecords?repo="+did+"&collection="+seed.Collection+"&limit=50&cursor="+rkey, "", ""))
		}
		repos = append(repos, request("GET", "/xrpc/com.atproto.sync.getRepo?did="+did, "", ""))
	}
	var results []result
	for _, w := range []struct {
		name     string
		target   float64
		requests [][]byte
	}{{"getRecord", 15_000, gets}, {"listRecords, 50", 4_000, lists}, {"getRepo, 1,000 records", 600, repos}} {
		f, err := b.hammer(ctx, p, w.name, b.clients, func(int, int) []byte { return w.requests[rand.IntN(len(w.requests))] })
		if err != nil {
			return nil, err
		}
		results = append(results, result{w.name, fmt.Sprintf("≥ %s/s", thousands(w.target)), f.String(), f.perSecond() >= w.target})
	}
	return results, nil
}

// flat is how many MiB a download may take, however large the repository is: a connection to the
// database with its cache, and what was read ahead.
const flat = 5

// repo measures getRepo: one download, and many at once.
func (b *bench) repo(ctx context.Context) (_ []result, err error) {
	p, err := b.server(ctx, "repo", 1, same(seed.Seed{Records: b.records}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	sessions, err := p.login(ctx, 1)
	if err != nil {
		return nil, err
	}
	get := request("GET", "/xrpc/com.atproto.sync.getRepo?did="+string(sessions[0].DID), "", "")
	one := func(int, int) []byte { return get }
	// The first download finds no tree in memory.
	cold, err := firstByte(ctx, p.url, get)
	if err != nil {
		return nil, err
	}
	var warm figures
	for range 50 {
		took, err := firstByte(ctx, p.url, get)
		if err != nil {
			return nil, err
		}
		warm.times = append(warm.times, took)
	}
	slices.Sort(warm.times)
	single, err := b.hammer(ctx, p, "getRepo", 1, one)
	if err != nil {
		return nil, err
	}
	rate := func(f figures) float64 { return float64(f.bytes) / f.took.Seconds() / 1e6 }
	size := float64(single.bytes) / float64(single.calls) / 1e6
	alone := p.peak()
	many, err := b.hammer(ctx, p, fmt.Sprintf("getRepo, %d at once", b.downloads), b.downloads, one)
	if err != nil {
		return nil, err
	}
	fast := p.peak()
	b.say("repo: %d at once, by slow clients", b.downloads)
	if err := b.slowly(ctx, p, get); err != nil {
		return nil, err
	}
	slow := p.peak()
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return []result{
		{
			"its first byte, of a new connection", "≤ 20 ms",
			fmt.Sprintf("p50 %.1f ms, p99 %.1f ms; %.0f ms where the tree is not in memory", ms(warm.percentile(.5)), ms(warm.percentile(.99)), ms(cold)),
			warm.percentile(.99) <= 20*time.Millisecond,
		},
		{fmt.Sprintf("getRepo, %s records (%.0f MB)", thousands(float64(b.records)), size), "≥ 80 MB/s", fmt.Sprintf("%.0f MB/s", rate(single)), rate(single) >= 80},
		{fmt.Sprintf("%d at once", b.downloads), fmt.Sprintf("memory flat: ≤ %d MiB more for each", flat),
			fmt.Sprintf("%.0f MB/s in all; at most %.0f MiB (one: %.0f MiB; slow clients: %.0f MiB)", rate(many), fast, alone, slow), max(fast, slow) <= alone+float64(flat*b.downloads)},
	}, nil
}

// firstByte is how long a server takes, from a connection's start, to the first byte of a body.
func firstByte(ctx context.Context, base string, request []byte) (time.Duration, error) {
	begin := time.Now()
	c, err := dial(ctx, base)
	if err != nil {
		return 0, err
	}
	defer c.Close() // the rest of the body is not read
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %s", resp.Status)
	}
	_, err = resp.Body.Read(make([]byte, 1))
	return time.Since(begin), err
}

// slowly downloads with clients that take what they get in small parts, with pauses.
func (b *bench) slowly(ctx context.Context, p *process, get []byte) error {
	ctx, cancel := context.WithTimeout(ctx, b.duration)
	defer cancel()
	errs := make([]error, b.downloads)
	var done sync.WaitGroup
	for i := range errs {
		done.Go(func() {
			c, err := dial(ctx, p.url)
			if err != nil {
				errs[i] = err
				return
			}
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			if _, err := c.Write(get); err != nil {
				errs[i] = err
				return
			}
			buf := make([]byte, 16<<10)
			for {
				if _, err := io.ReadFull(c.r, buf); err != nil {
					return // the time is up
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	done.Wait()
	return errors.Join(errs...)
}

// rest measures memory with accounts that do nothing.
func (b *bench) rest(ctx context.Context) (_ []result, err error) {
	p, err := b.server(ctx, "rest", b.accounts, same(seed.Seed{Records: 50, Blobs: 1}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	settle := min(b.duration, 10*time.Second)
	time.Sleep(settle)
	fresh := p.memory()
	// Then each account is used: a record is written, read and proved.
	b.say("rest: using each account once")
	cl := &xrpc.Client{Host: p.url}
	for i := range b.accounts {
		repo := syntax.AtIdentifier(fmt.Sprintf("user%d.test", i))
		page, err := api.RepoListRecords(ctx, cl, api.RepoListRecordsParams{Repo: repo, Collection: seed.Collection})
		if err != nil {
			return nil, err
		}
		did, _, err := splitURI(page.Records[0].URI)
		if err != nil {
			return nil, err
		}
		resp, err := cl.Get(ctx, api.SyncGetRepoNSID, api.SyncGetRepoParams{DID: syntax.DID(did)})
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return nil, err
		}
		resp.Body.Close()
	}
	time.Sleep(settle)
	used := p.memory()
	return []result{{
		fmt.Sprintf("memory at rest with %s accounts", thousands(float64(b.accounts))), "≤ 150 MiB after the start; then twice the cache of trees more",
		fmt.Sprintf("%.0f MiB; %.0f MiB after each was used", fresh, used), fresh <= 150 && used <= fresh+2*128,
	}}, nil
}

// coldStart measures the time from the start of the process to its first answer.
func (b *bench) coldStart(ctx context.Context) ([]result, error) {
	dir := filepath.Join(b.dir, "start")
	b.say("start: making %d accounts", b.coldAccounts)
	if err := fill(ctx, dir, b.coldAccounts, same(seed.Seed{Records: 5})); err != nil {
		return nil, err
	}
	best, worst := time.Duration(1<<62), time.Duration(0)
	for range 5 {
		p, took, err := start(ctx, b.pds, dir)
		if err != nil {
			return nil, err
		}
		best, worst = min(best, took), max(worst, took)
		if err := p.stop(); err != nil {
			return nil, err
		}
	}
	return []result{{
		fmt.Sprintf("cold start with %s accounts", thousands(float64(b.coldAccounts))), "≤ 1 s",
		fmt.Sprintf("%.2f s to %.2f s", best.Seconds(), worst.Seconds()), worst <= time.Second,
	}}, nil
}

// splitURI returns the DID and the record key of an AT-URI.
func splitURI(uri syntax.ATURI) (did, rkey string, err error) {
	parts := strings.Split(strings.TrimPrefix(string(uri), "at://"), "/")
	if len(parts) != 3 {
		return "", "", fmt.Errorf("%q is not the URI of a record", uri)
	}
	return parts[0], parts[2], nil
}

// thousands writes a whole number with separators.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
