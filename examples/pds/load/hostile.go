package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// memoryLimit is GOMEMLIMIT in the unit file of the server.
const memoryLimit = "500MiB"

// What an attack must not exceed.
const (
	maxMemory = 400     // MiB
	maxSpool  = 2 << 30 // bytes
	maxWrite  = time.Second
)

// The accounts: who notices, who attacks, and whose trees are larger than the cache.
const (
	witness = iota
	mallory
	cold // the first of coldAccounts
)

const coldAccounts = 4

// hostile runs attacks. Each meets a process of its own, over the same data.
type hostile struct {
	*bench
	dir       string
	directory *plctest.Directory
	plc       *httptest.Server
	keys      []*crypto.PrivateKey
	dids      []syntax.DID
}

// prepare makes the data.
func (h *hostile) prepare(ctx context.Context) (err error) {
	if h.dir != "" {
		return nil
	}
	h.dir = filepath.Join(h.bench.dir, "hostile")
	if h.directory, err = plctest.New(plctest.Config{NoRateLimits: true}); err != nil {
		return err
	}
	h.plc = httptest.NewServer(h.directory)
	n := cold + coldAccounts
	h.keys, h.dids = make([]*crypto.PrivateKey, n), make([]syntax.DID, n)
	h.say("hostile: making %d accounts", n)
	return fill(ctx, h.dir, n, func(n int) seed.Seed {
		s := seed.Seed{Records: 100, Service: "http://localhost"}
		switch {
		case n == mallory: // 90 MB
			s.Records, s.Size = h.records/1000, 900_000
		case n >= cold:
			s.Records = h.records / 4
		}
		s.Created = func(a account.Account, key *crypto.PrivateKey, op *identity.PLCOperation) error {
			h.keys[n], h.dids[n] = key, a.DID
			return h.directory.Submit(a.DID, op)
		}
		return s
	})
}

func (h *hostile) close() {
	if h.plc != nil {
		h.plc.Close()
	}
}

// target is a server under attack.
type target struct {
	*hostile
	*process
	sessions []session // of witness and mallory
	addr     string
}

// run starts a server, attacks it, and looks at how others fare meanwhile.
func (h *hostile) run(ctx context.Context, a attack) (_ []result, err error) {
	if err := h.prepare(ctx); err != nil {
		return nil, err
	}
	p, _, err := start(ctx, h.pds, h.dir, "GOMEMLIMIT="+memoryLimit, "PDS_DID_PLC_URL="+h.plc.URL,
		fmt.Sprintf("PDS_TREE_CACHE_SIZE=%d", h.records*20)) // each cold tree is larger than that
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	t := &target{hostile: h, process: p, addr: strings.TrimPrefix(p.url, "http://")}
	if t.sessions, err = p.login(ctx, mallory+1); err != nil {
		return nil, err
	}
	h.say("%s: %s", a.name, a.what)
	ctx, cancel := context.WithTimeout(ctx, h.duration)
	defer cancel()
	var done sync.WaitGroup
	done.Go(func() { a.run(ctx, t) })
	w := watch{target: t}
	for _, look := range []func(context.Context){w.spools, w.writes, w.relay, w.health} {
		done.Go(func() { look(ctx) })
	}
	done.Wait()
	return []result{w.result(a)}, nil
}

// watch is what others see of a server under attack.
type watch struct {
	*target
	spool    int64
	calls    figures
	failures []string // of createRecord, and of health checks
	relays   int      // attempts
	served   int

	mu sync.Mutex // of failures
}

func (w *watch) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

// every calls fn until the context ends, with pauses.
func every(ctx context.Context, pause time.Duration, fn func()) {
	for ctx.Err() == nil {
		fn()
		sleep.For(ctx, pause)
	}
}

// spools measures the temporary files that the process has open, also those that have no name any
// more.
func (w *watch) spools(ctx context.Context) {
	every(ctx, 50*time.Millisecond, func() {
		total := int64(0)
		names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", w.cmd.Process.Pid))
		for _, name := range names {
			to, err := os.Readlink(name)
			if err != nil || !strings.HasPrefix(to, filepath.Join(w.dir, "tmp")+"/") && !strings.HasSuffix(to, " (deleted)") {
				continue
			}
			if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
				total += info.Size()
			}
		}
		w.spool = max(w.spool, total)
	})
}

// writes calls createRecord, as the witness.
func (w *watch) writes(ctx context.Context) {
	s := w.sessions[witness]
	body := fmt.Sprintf(`{"repo":%q,"collection":%q,"record":{"$type":%q,"text":"hello"}}`, s.DID, seed.Collection, seed.Collection)
	req := request("POST", "/xrpc/com.atproto.repo.createRecord", s.AccessJWT, body)
	var c *conn
	every(ctx, 20*time.Millisecond, func() {
		begin := time.Now()
		var err error
		if c == nil {
			c, err = dial(ctx, w.url)
		}
		if err == nil {
			deadline, _ := ctx.Deadline()
			c.SetDeadline(deadline)
			_, err = c.do(req)
		}
		// One that has no answer when the time is up took at least that long.
		w.calls.times = append(w.calls.times, time.Since(begin))
		if w.calls.calls++; err != nil {
			// The connection's deadline passes a moment before the context's.
			if end, _ := ctx.Deadline(); ctx.Err() == nil && time.Now().Before(end) {
				w.fail("createRecord: %v", err)
			}
			if c != nil {
				c.Close()
				c = nil
			}
		}
	})
	if c != nil {
		c.Close()
	}
	slices.Sort(w.calls.times)
}

// relay subscribes, from an address of its own, and waits for an event.
func (w *watch) relay(ctx context.Context) {
	every(ctx, time.Second, func() {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		c := &stream.Consumer{
			URL: w.url + "/xrpc/com.atproto.sync.subscribeRepos", HTTP: clientFrom(relayAddress, false),
			Retry: func(err error) error { return err },
		}
		served := false
		for _, err := range c.Frames(one) {
			served = err == nil
			break
		}
		if !served && ctx.Err() != nil {
			return // it was too short for that
		}
		if w.relays++; served {
			w.served++
		}
	})
}

// health asks whether the server is well.
func (w *watch) health(ctx context.Context) {
	cl := clientFrom(healthAddress, false)
	every(ctx, 500*time.Millisecond, func() {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(one, "GET", w.url+"/xrpc/_health", nil)
		if err != nil {
			w.fail("%v", err)
			return
		}
		resp, err := cl.Do(r)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			w.fail("health: %v", err)
		default:
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				w.fail("health: %s", resp.Status)
			}
		}
	})
}

func (w *watch) result(a attack) result {
	memory, p99 := w.peak(), w.calls.percentile(.99)
	relay := fmt.Sprintf("a relay is served %d times of %d", w.served, w.relays)
	text := fmt.Sprintf("%.0f MiB of memory, %d MiB of spools, p99 of %d createRecord %d ms, %s", memory, w.spool>>20, w.calls.calls, p99.Milliseconds(), relay)
	if n := len(w.failures); n > 0 {
		text += fmt.Sprintf("; %d failures, as %s", n, w.failures[0])
	}
	return result{
		Work: a.what, Target: fmt.Sprintf("≤ %d MiB, ≤ %d MiB, ≤ %d ms, always", maxMemory, maxSpool>>20, maxWrite.Milliseconds()), Measured: text,
		OK: memory <= maxMemory && w.spool <= maxSpool && p99 <= maxWrite && w.served == w.relays && w.relays > 0 && len(w.failures) == 0,
	}
}

// Addresses of this machine that clients call from. Attackers use those from 127.0.0.2 on.
const (
	relayAddress  = "127.0.0.250"
	healthAddress = "127.0.0.251"
)

// attacker is the nth address of attackers.
func attacker(n int) string { return fmt.Sprintf("127.0.0.%d", 2+n) }

// dialer connects from an address; from any, where there is no more than one.
func dialer(from string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 20 * time.Second}
}

// clientFrom is an HTTP client that calls from an address, over HTTP/2 if h2.
func clientFrom(from string, h2 bool) *http.Client {
	t := &http.Transport{DialContext: dialer(from).DialContext, DisableCompression: true, DisableKeepAlives: !h2}
	if h2 {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
		t.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 1 << 20}
	}
	return &http.Client{Transport: t}
}

// connect opens a bare connection from an address.
func (t *target) connect(ctx context.Context, from string) (net.Conn, error) {
	c, err := dialer(from).DialContext(ctx, "tcp", t.addr)
	if err == nil {
		c.(*net.TCPConn).SetReadBuffer(4 << 10)
	}
	return c, err
}

// getRepo is the path of a download.
func (t *target) getRepo(n int) string {
	return "/xrpc/com.atproto.sync.getRepo?did=" + url.QueryEscape(string(t.dids[n]))
}
