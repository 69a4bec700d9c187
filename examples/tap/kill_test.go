package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// TestMain runs a tap in a process that a test has started as one.
func TestMain(m *testing.M) {
	if os.Getenv("TAP_CHILD") != "" {
		child()
		return
	}
	os.Exit(pgtest.Main(m))
}

// child runs a tap that reaches the network of the parent.
func child() {
	failed := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	go func() { // ends with its parent
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	o, err := parse(os.Args[1:], os.Getenv, os.Stderr)
	if err != nil {
		failed(err)
	}
	s := o.settings(slog.New(slog.DiscardHandler))
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", os.Getenv("TAP_CHILD"))
		if err == nil {
			_, err = fmt.Fprintln(conn, address)
		}
		return conn, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DialTLSContext: dial}}
	s.http, s.hosts, s.identity = client, client, &identity.Resolver{PLC: &identity.PLCClient{URL: o.plc, HTTP: client}, HTTP: client, DNS: noDNS{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		failed(err)
	}
	fmt.Println(l.Addr())
	failed(serve(context.Background(), l, s))
}

// noDNS: handles are found over HTTPS.
type noDNS struct{}

func (noDNS) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// tunnel lets other processes reach the sites of a network: the first line of a connection is the
// site, as "pds1.test:443".
func tunnel(t *testing.T, n *pdstest.Network) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	dial := n.DialFrom("192.0.2.1")
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				site, err := r.ReadString('\n')
				if err != nil {
					return
				}
				to, err := dial(context.Background(), "tcp", strings.TrimSpace(site))
				if err != nil {
					return
				}
				defer to.Close()
				go func() {
					io.Copy(to, r)
					to.Close()
				}()
				io.Copy(conn, to)
			}()
		}
	}()
	return l.Addr().String()
}

// taps is a tap that is killed and started again, and what its clients got.
type taps struct {
	*world
	tunnel string

	mu  sync.Mutex
	at  string // its address
	got []message
}

// run runs the process until it is killed.
func (w *taps) run(alive time.Duration) {
	w.Helper()
	errs := new(strings.Builder)
	cmd := exec.Command(os.Args[0], append([]string{"-plc-url", "https://plc.test", "-relay-url", "https://" + w.pds.Name, "-retry-timeout", "1s", "-outbox-capacity", "60"}, w.args...)...)
	cmd.Env = append(os.Environ(), "TAP_CHILD="+w.tunnel)
	cmd.Stderr = errs
	in, err := cmd.StdinPipe()
	w.ok(err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	w.ok(err)
	w.ok(cmd.Start())
	ended := make(chan error, 1)
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { ended <- cmd.Wait() }()
	if err == nil {
		w.mu.Lock()
		w.at = strings.TrimSpace(line)
		w.url = "http://" + w.at
		w.mu.Unlock()
	}
	if alive == 0 {
		w.complete()
	}
	select {
	case <-time.After(alive):
		cmd.Process.Kill()
		<-ended
	case err := <-ended:
		w.Fatalf("the process ended: %v\n%s", err, errs)
	}
	if errs.Len() > 0 {
		w.Fatal(errs)
	}
}

// complete waits until all was delivered.
func (w *taps) complete() {
	w.Helper()
	w.eventually(func() error {
		for _, path := range []string{"/stats/outbox-buffer", "/stats/resync-buffer"} {
			if _, body := w.request("GET", path, ""); !strings.HasSuffix(body, ":0}") {
				return errors.New(body)
			}
		}
		last := make(map[string]string)
		w.mu.Lock()
		for _, m := range w.got {
			if m.Record != nil && m.Record.RKey == "last" {
				last[string(m.Record.DID)] = "there"
			}
		}
		w.mu.Unlock()
		if len(last) != killAccounts {
			return fmt.Errorf("%d accounts are complete", len(last))
		}
		return nil
	})
}

// consume is a client that comes back whenever the tap does, acknowledges most events, and leaves at
// times.
func (w *taps) consume(ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for ctx.Err() == nil {
		w.mu.Lock()
		at := w.at
		w.mu.Unlock()
		conn, _, err := websocket.Dial(ctx, "ws://"+at+"/channel", nil)
		if err != nil {
			pause(ctx, 5*time.Millisecond)
			continue
		}
		conn.SetReadLimit(1 << 20)
		for n := 50 + r.IntN(300); n > 0; n-- {
			_, b, err := conn.Read(ctx)
			if err != nil {
				break
			}
			var m message
			if err := json.Unmarshal(b, &m); err != nil {
				w.Error(err)
			}
			w.mu.Lock()
			w.got = append(w.got, m)
			w.mu.Unlock()
			if r.IntN(60) == 0 {
				continue // and it comes again
			}
			if conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"ack","id":%d}`, m.ID)) != nil {
				break
			}
		}
		conn.CloseNow()
	}
}

const killAccounts = 4

// TestKilled: the process is killed at random moments, while it reads repositories, follows, and
// delivers to two clients that leave at times. Each event comes at least once, none is skipped, and
// those of a repository come in order. PDSKIT_KILLS is how often; the default is 8, or 3 with -short.
func TestKilled(t *testing.T) {
	kills := 8
	if testing.Short() {
		kills = 3
	}
	if n, err := strconv.Atoi(os.Getenv("PDSKIT_KILLS")); err == nil {
		kills = n
	}
	w := &taps{world: newWorld(t)}
	w.tunnel = tunnel(t, w.net)
	w.args = append(w.args, "-full-network")
	var accounts []*pdstest.Account
	for i := range killAccounts {
		acct := w.pds.Account(fmt.Sprint("name", i))
		accounts = append(accounts, acct)
		for k := range 20 * i {
			acct.Put(notes, syntax.RecordKey(fmt.Sprint("old", k)), note("x"))
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	clients, leave := context.WithCancel(t.Context())
	var writing, reading sync.WaitGroup
	var mu sync.Mutex
	written := make(map[string]string) // CIDs of records that were made once, by URI
	for i, acct := range accounts {
		writing.Go(func() {
			k := 0
			for ; ctx.Err() == nil; k++ {
				w.change(acct, k, &mu, written)
				pause(ctx, time.Duration(5+i)*time.Millisecond)
			}
			acct.Put(notes, "last", note("the end"))
		})
	}
	reading.Go(func() { w.consume(clients, 1) })
	reading.Go(func() { w.consume(clients, 2) })
	for k := range kills {
		w.run(time.Duration(60+(k*137)%500) * time.Millisecond)
	}
	stop()
	writing.Wait()
	w.run(0)
	leave()
	reading.Wait()
	w.check(accounts, written)
	t.Logf("%d deliveries of %d records", len(w.got), len(written))
}

// change writes a record that stays, or changes another one.
func (w *taps) change(acct *pdstest.Account, k int, mu *sync.Mutex, written map[string]string) {
	switch k % 5 {
	case 3:
		acct.Put(notes, "changes", note(fmt.Sprint(k)))
	case 4:
		acct.Put(notes, "gone", note(fmt.Sprint(k)))
		_, err := api.RepoDeleteRecord(context.Background(), acct.Client, api.RepoDeleteRecordInput{Repo: syntax.AtIdentifier(acct.DID), Collection: notes, RKey: "gone"})
		if err != nil {
			w.Error(err)
		}
	default:
		out := acct.Put(notes, syntax.RecordKey(fmt.Sprint("new", k)), note(fmt.Sprint(k)))
		mu.Lock()
		defer mu.Unlock()
		written[string(out.URI)] = string(out.CID)
	}
}

// check holds what came against what was written.
func (w *taps) check(accounts []*pdstest.Account, written map[string]string) {
	w.Helper()
	came := make(map[string]bool)
	bodies := make(map[int64]string)
	for _, m := range w.got {
		b, _ := json.Marshal(m)
		if old := bodies[m.ID]; old != "" && old != string(b) {
			w.Fatalf("number %d was given twice:\n%s\n%s", m.ID, old, b)
		}
		bodies[m.ID] = string(b)
		if r := m.Record; r != nil {
			came[fmt.Sprintf("at://%s/%s/%s %s", r.DID, r.Collection, r.RKey, r.CID)] = true
		}
	}
	for uri, cid := range written {
		if !came[uri+" "+cid] {
			w.Errorf("%s never came", uri)
		}
	}
	for _, acct := range accounts {
		w.checkOrder(acct)
	}
}

// checkOrder checks the events of a repository: when one comes for the first time, all before it
// have come if it or they are live. In the order of their numbers, they lead to what is there now.
func (w *taps) checkOrder(acct *pdstest.Account) {
	w.Helper()
	first := make(map[int64]int) // when it came
	all := make(map[int64]message)
	for i, m := range w.got {
		if m.Record != nil && m.Record.DID == acct.DID || m.Identity != nil && m.Identity.DID == acct.DID {
			if _, ok := all[m.ID]; !ok {
				all[m.ID], first[m.ID] = m, i
			}
		}
	}
	var ids []int64
	for id := range all {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	state := make(map[string]string)
	latest, barrier := 0, -1 // of all before; of live ones before
	for _, id := range ids {
		m := all[id]
		live := m.Record == nil || m.Record.Live
		if first[id] < barrier || live && first[id] < latest {
			w.Errorf("%s: event %d came too early", acct.DID, id)
		}
		latest = max(latest, first[id])
		if live {
			barrier = first[id]
		}
		if r := m.Record; r != nil && r.CID != "" {
			state[string(r.RKey)] = r.CID
		} else if r != nil {
			delete(state, string(r.RKey))
		}
	}
	n, cursor := 0, ""
	for more := true; more; more = cursor != "" {
		out, err := api.RepoListRecords(w.Context(), acct.Client, api.RepoListRecordsParams{Repo: syntax.AtIdentifier(acct.DID), Collection: notes, Limit: 100, Cursor: cursor})
		w.ok(err)
		for _, rec := range out.Records {
			rkey := string(rec.URI[strings.LastIndexByte(string(rec.URI), '/')+1:])
			if n++; state[rkey] != string(rec.CID) {
				w.Errorf("%s: events lead to %q", rec.URI, state[rkey])
			}
		}
		cursor = out.Cursor
	}
	if n != len(state) {
		w.Errorf("%s: events lead to %d records, there are %d", acct.DID, len(state), n)
	}
}
