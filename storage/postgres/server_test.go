//go:build unix

package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/postgres"
)

// acks are the steps that were acknowledged.
type acks struct {
	mu   sync.Mutex
	list map[int64]syntax.DID
	fail map[string]int
}

// busyHost writes to accounts at once until stop is closed, and notes what was acknowledged.
func (a *acks) write(host *repo.Host, node string, accounts int, stop chan struct{}) (wait func()) {
	var wg sync.WaitGroup
	for i := range accounts {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				res, err := host.Apply(testContext, didOf(i), post(fmt.Sprint(node, n%20), fmt.Sprint(node, " ", n)))
				a.mu.Lock()
				if err != nil {
					a.fail[err.Error()]++
				} else if res.Changed {
					a.list[res.Seq] = didOf(i)
				}
				a.mu.Unlock()
			}
		})
	}
	return wg.Wait
}

func (a *acks) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.list)
}

// examine compares the log with what was acknowledged, through two nodes.
func (a *acks) examine(t *testing.T, nodes ...*postgres.DB) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	events := map[int64]syntax.DID{}
	one := replay(t, nodes[0].Store())
	for _, e := range one {
		events[e.Seq] = e.DID
	}
	for seq, did := range a.list {
		if events[seq] != did {
			t.Errorf("event %d of %s was acknowledged, but the log has %q there", seq, did, events[seq])
		}
	}
	for _, node := range nodes[1:] {
		other := replay(t, node.Store())
		if len(other) != len(one) {
			t.Fatalf("two nodes have logs of %d and %d events", len(one), len(other))
		}
		for i := range one {
			if one[i].Seq != other[i].Seq || one[i].DID != other[i].DID || string(one[i].Payload) != string(other[i].Payload) {
				t.Fatalf("event %d is another in the log of another node", one[i].Seq)
			}
		}
	}
	checkStore(t, nodes[0].Store())
	t.Logf("%d steps acknowledged, %d events, errors: %v", len(a.list), len(one), a.fail)
}

// The server is killed, and is stopped for longer than every timeout, while two nodes write: what was
// acknowledged is there, once, and nodes go on by themselves.
func TestServerKilledAndStopped(t *testing.T) {
	server := pgtest.Start(t)
	dir := t.TempDir()
	cfg := postgres.Config{Timeout: 300 * time.Millisecond, Poll: 50 * time.Millisecond, Wait: 20 * time.Second}
	one, two := open(t, server.URL(), dir, cfg), open(t, server.URL(), dir, cfg)
	defer one.Close()
	defer two.Close()
	hosts := []*repo.Host{newHost(t, one.Store()), newHost(t, two.Store())}
	const accounts = 4
	for i := range accounts {
		if _, err := hosts[i%2].Create(testContext, didOf(i), repo.Batch{}); err != nil {
			t.Fatal(err)
		}
	}
	a := &acks{list: map[int64]syntax.DID{}, fail: map[string]int{}}
	stop := make(chan struct{})
	waits := []func(){a.write(hosts[0], "one", accounts, stop), a.write(hosts[1], "two", accounts, stop)}
	for i := range 4 {
		n := a.count()
		testenv.Until(t, "steps", func() bool { return a.count() > n+20 })
		if i%2 == 0 {
			server.Kill()
			if err := server.Restart(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		server.Signal(syscall.SIGSTOP)
		time.Sleep(1500 * time.Millisecond)
		server.Signal(syscall.SIGCONT)
	}
	n := a.count()
	testenv.Until(t, "steps afterwards", func() bool { return a.count() > n+20 })
	close(stop)
	for _, wait := range waits {
		wait()
	}
	a.examine(t, one, two)
}

// A standby answers Lagging. When it takes over without having received all, the nodes are told,
// and numbers go on beyond those that were served.
func TestStandby(t *testing.T) {
	primary := pgtest.Start(t)
	dir := t.TempDir()
	db := open(t, primary.URL(), dir, postgres.Config{})
	host := newHost(t, db.Store())
	if _, err := host.Create(testContext, didOf(0), post("a", "before")); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	standby := pgtest.StartStandby(t, primary)
	behind := make(chan [2]int64, 10)
	p := newProxy(t, primary.URL()) // it stands for a name that leads to the primary
	db = open(t, p.url(primary.URL()), dir, postgres.Config{Replica: standby.URL(), Poll: 50 * time.Millisecond, Timeout: 500 * time.Millisecond,
		Behind: func(newest, served int64) { behind <- [2]int64{newest, served} }})
	defer db.Close()
	host = newHost(t, db.Store())
	lagging, ok := db.Lagging()
	if !ok {
		t.Fatal("no standby")
	}
	write := func(text string) int64 {
		t.Helper()
		res, err := host.Apply(testContext, didOf(0), post("a", text))
		if err != nil {
			t.Fatal(err)
		}
		return res.Seq
	}
	seq := write("received")
	if err := lagging.Events.Wait(testContext, seq-1); err != nil {
		t.Fatal(err)
	}
	if a, b := replay(t, db.Store()), replay(t, lagging); len(a) != len(b) || b[len(b)-1].Seq != seq {
		t.Errorf("the standby has %d events, the primary %d", len(b), len(a))
	}
	lagging.Blobs = openBlobs(t, t.TempDir())
	checkStore(t, lagging)

	// It receives no more.
	exec(t, standby.URL(), "ALTER SYSTEM SET primary_conninfo = ''")
	exec(t, standby.URL(), "SELECT pg_reload_conf()")
	testenv.Until(t, "the standby is on its own", func() bool {
		return query(t, standby.URL(), "SELECT count(*)::text FROM pg_stat_wal_receiver") == "0"
	})
	lost := write("lost")
	primary.Kill()
	exec(t, standby.URL(), "SELECT pg_promote()")
	p.lead(standby.URL())
	p.cutAll()
	select {
	case b := <-behind:
		if b[1] != lost || b[0] >= lost {
			t.Errorf("told of %v, served was %d", b, lost)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told that the log has lost events")
	}
	fresh := newHost(t, db.Store()) // with no tree in memory
	if rec, err := fresh.Record(testContext, didOf(0), "com.example.note", "a"); err != nil || !strings.Contains(string(rec.Data), "received") {
		t.Errorf("the record after the failover: %q, %v", rec.Data, err)
	}
	res, err := fresh.Apply(testContext, didOf(0), post("a", "afterwards"))
	if err != nil {
		t.Fatal(err)
	}
	if res.Seq <= lost {
		t.Errorf("number %d after the failover; %d was served before", res.Seq, lost)
	}
}
