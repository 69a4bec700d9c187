package rate

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// brittle is a KV that can fail, and counts calls.
type brittle struct {
	storage.KV
	err           error
	reads, writes int
}

func (k *brittle) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	if k.reads++; k.err != nil {
		return k.err
	}
	return k.KV.Read(ctx, fn)
}

func (k *brittle) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if k.writes++; k.err != nil {
		return k.err
	}
	return k.KV.Write(ctx, fn)
}

// testNodes are the limiters of n nodes, whose clocks a test sets together, and their store.
func testNodes(n int, cfg Config) (nodes []*Limiter, c *clock, kv *brittle) {
	c = &clock{time.Unix(1_700_000_000, 0)}
	now := func() time.Time { return c.now }
	kv = &brittle{KV: memory.New(memory.Config{Now: now}).KV}
	cfg.Now, cfg.Shared = now, &Shared{KV: kv, Secret: []byte("the secret of all nodes")}
	for range n {
		nodes = append(nodes, New(cfg))
	}
	return nodes, c, kv
}

// Whoever goes from node to node can do as much as on one of them, of what is dear.
func TestNodesCountTogether(t *testing.T) {
	for nsid, want := range map[string]int{
		"com.atproto.server.createAccount":        100,
		"com.atproto.server.resetPassword":        50,
		"com.atproto.server.requestPasswordReset": 15,
		"com.atproto.server.requestEmailUpdate":   5,
		"com.atproto.repo.uploadBlob":             1000,
	} {
		nodes, clock, kv := testNodes(3, Config{})
		n := 0
		call := func() error {
			n++
			_, err := call(nodes[n%3], request(nsid, "192.0.2.1:4", "did:plc:a"))
			return err
		}
		for range want {
			if err := call(); err != nil {
				t.Fatalf("%s: call %d: %v", nsid, n, err)
			}
		}
		for range 6 {
			if err := call(); err == nil {
				t.Errorf("%s: call %d succeeds", nsid, n)
			}
		}
		// Who is refused costs the store nothing any more.
		kv.reads, kv.writes = 0, 0
		for range 30 {
			if err := call(); err == nil || kv.reads+kv.writes > 0 {
				t.Fatalf("%s: %v, %d calls of the store", nsid, err, kv.reads+kv.writes)
			}
		}
		clock.now = clock.now.Add(24 * time.Hour)
		if err := call(); err != nil {
			t.Errorf("%s: a day later: %v", nsid, err)
		}
	}
}

func TestGuessesOnSeveralNodes(t *testing.T) {
	nodes, _, _ := testNodes(3, Config{})
	try := func(i int, from string, right bool) error {
		done, err := nodes[i%3].Password(request("com.atproto.server.createSession", from, ""), "did:plc:a")
		if err == nil {
			done(right)
		}
		return err
	}
	if err := try(0, "203.0.113.9:1", true); err != nil {
		t.Fatal(err)
	}
	// One stranger.
	for i := range 30 {
		if err := try(i, "198.51.100.7:1", false); err != nil {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	for i := range 3 {
		if try(i, "198.51.100.7:1", false) == nil {
			t.Errorf("guess 31 on node %d", i)
		}
	}
	// Strangers from everywhere: 300 wrong ones in all, 30 of which have been.
	for i := range 270 {
		if err := try(i, fmt.Sprintf("192.0.%d.%d:1", i/200, i%200), false); err != nil {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	for i := range 3 {
		if try(i, "192.1.0.0:1", false) == nil {
			t.Errorf("guess 301 on node %d", i)
		}
		if err := try(i, "203.0.113.9:1", true); err != nil {
			t.Errorf("the owner, who was let in by another node, on node %d: %v", i, err)
		}
	}
}

// Who makes up names of accounts does not fill the store with counters, and learns nothing: accounts that
// there are, and others, are refused alike. Those who were let in before are not refused.
func TestMadeUpNamesFillNoStore(t *testing.T) {
	nodes, _, kv := testNodes(1, Config{})
	try := func(from, name string, right bool) error {
		done, err := nodes[0].Password(request("com.atproto.server.createSession", from, ""), name)
		if err == nil {
			done(right)
		}
		return err
	}
	if err := try("198.51.100.7:1", "did:plc:owner", true); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 3500 {
		if try("198.51.100.7:1", fmt.Sprint("nobody", i), false) != nil {
			refused++
		}
	}
	if refused < 500 || try("198.51.100.7:1", "did:plc:other", true) == nil {
		t.Errorf("%d of 3500 names are refused", refused)
	}
	if err := try("198.51.100.7:1", "did:plc:owner", true); err != nil {
		t.Errorf("who was let in before: %v", err)
	}
	if err := try("198.51.100.8:1", "did:plc:other", true); err != nil {
		t.Errorf("who is elsewhere: %v", err)
	}
	rows := 0
	err := kv.KV.Read(t.Context(), func(r storage.KVReader) error {
		for _, err := range r.Keys(t.Context(), storage.Prefix("rate/")) {
			if rows++; err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || rows > 6100 {
		t.Errorf("%d counters are kept: %v", rows, err)
	}
}

func TestGuessesOfTheAdministratorOnSeveralNodes(t *testing.T) {
	nodes, _, _ := testNodes(3, Config{})
	for i := range 30 {
		if err := nodes[i%3].Admin(request("com.atproto.admin.getAccountInfo", "198.51.100.7:1", ""), false); err != nil {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	for i, l := range nodes {
		if l.Admin(request("com.atproto.admin.getAccountInfo", "198.51.100.7:1", ""), true) == nil {
			t.Errorf("the right password after 30 wrong ones, on node %d", i)
		}
	}
}

// What an account writes is added up between nodes: it may be more than on one, by no more than each
// of the nodes keeps for itself, and lets through between two exchanges.
func TestWritesOnSeveralNodes(t *testing.T) {
	nodes, clock, kv := testNodes(3, Config{})
	points, tick := 0, 0
	for i := 0; ; i++ {
		r := request("com.atproto.repo.applyWrites", "192.0.2.1:4", "did:plc:a")
		if err := nodes[i%3].Writes(r, 1, 0, 0); err != nil {
			break
		}
		points += 3
		if i%20 == 0 { // twenty writes a second
			tick++
			clock.now = clock.now.Add(time.Second)
			for _, l := range nodes {
				l.exchange(t.Context(), clock.now)
			}
		}
	}
	if most := 5000 + 3*(5000/50+60); points < 5000-3 || points > most {
		t.Errorf("%d points, which should be 5,000 to %d", points, most)
	}
	if kv.writes > 5000/100+3*tick/180+10 {
		t.Errorf("%d writes of the store for %d calls", kv.writes, points/3)
	}
	// A node that has just started knows of it after its first exchange.
	late := New(Config{Now: nodes[0].cfg.Now, Shared: nodes[0].cfg.Shared})
	for range 34 { // its share
		_ = late.Writes(request("com.atproto.repo.applyWrites", "192.0.2.1:4", "did:plc:a"), 1, 0, 0)
	}
	late.exchange(t.Context(), clock.now)
	if late.Writes(request("com.atproto.repo.applyWrites", "192.0.2.1:4", "did:plc:a"), 1, 0, 0) == nil {
		t.Error("a node that has just started lets the account write on")
	}
}

// While the store fails, nobody gets in by a password, and nobody makes an account or sends mail; what
// is only counted by exchange goes on by the counters of each node.
func TestStoreFails(t *testing.T) {
	nodes, clock, kv := testNodes(1, Config{})
	l, broken := nodes[0], errors.New("broken")
	var told error
	l.cfg.Shared.Failed = func(err error) { told = err }
	kv.err = broken
	closed := func(what string, err error) {
		t.Helper()
		var u interface{ Unavailable() bool }
		if !errors.Is(err, broken) || !errors.As(err, &u) || !u.Unavailable() || told != broken {
			t.Errorf("%s: %v", what, err)
		}
		told = nil
	}
	_, err := call(l, request("com.atproto.server.createAccount", "192.0.2.1:4", ""))
	closed("an account", err)
	_, err = l.Password(request("com.atproto.server.createSession", "192.0.2.1:4", ""), "did:plc:a")
	closed("a password", err)
	closed("the administrator", l.Admin(request("com.atproto.admin.getAccountInfo", "192.0.2.1:4", ""), true))
	var refused *limit.Error
	if err := l.Endpoint(request("x.y.z", "192.0.2.1:4", "").Request, "password-request", ""); !errors.As(err, &refused) || refused.Status() != 503 {
		t.Error(err)
	}
	if err := l.Endpoint(request("x.y.z", "192.0.2.1:4", "").Request, "token", ""); err != nil {
		t.Error(err)
	}
	n := 0
	for ; l.Writes(request("com.atproto.repo.applyWrites", "192.0.2.1:4", "did:plc:a"), 1, 0, 0) == nil; n++ {
		l.exchange(t.Context(), clock.now)
	}
	if n != 1666 {
		t.Errorf("%d writes", n)
	}
	kv.err = nil // nothing of what was counted is lost
	l.exchange(t.Context(), clock.now)
	other := New(Config{Now: l.cfg.Now, Shared: l.cfg.Shared})
	_ = other.Writes(request("com.atproto.repo.applyWrites", "192.0.2.1:4", "did:plc:a"), 40, 0, 0)
	other.exchange(t.Context(), clock.now)
	if other.Writes(request("com.atproto.repo.applyWrites", "192.0.2.1:4", "did:plc:a"), 1, 0, 0) == nil {
		t.Error("what was counted while the store failed was not told")
	}
}

// A node whose clock is ahead or behind does not make the others forget what they have counted.
func TestClocksOfNodesDiffer(t *testing.T) {
	for _, ahead := range []time.Duration{-30 * time.Second, 30 * time.Second} {
		nodes, clock, _ := testNodes(2, Config{})
		nodes[1].cfg.Now = func() time.Time { return clock.now.Add(ahead) }
		n := 0
		for i := range 300 {
			if _, err := call(nodes[i%2], request("com.atproto.server.resetPassword", "192.0.2.1:4", "")); err == nil {
				n++
			}
		}
		if n != 50 {
			t.Errorf("%s ahead: %d calls", ahead, n)
		}
	}
}

// Run tells of what is left when it ends.
func TestRunTellsAtItsEnd(t *testing.T) {
	nodes, _, _ := testNodes(2, Config{})
	_ = nodes[0].Writes(request("com.atproto.repo.applyWrites", "192.0.2.1:4", "did:plc:a"), 20, 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	nodes[0].Run(ctx)
	b := nodes[1].writes
	err := nodes[1].cfg.Shared.KV.Read(t.Context(), func(r storage.KVReader) error {
		u, err := b.read(t.Context(), r, nodes[1].hash(b, "did:plc:a"), nodes[1].cfg.Now())
		if u[0].used != 60 || u[1].used != 60 {
			t.Errorf("%+v", u)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// What a store returns is counters, whatever it is.
func FuzzUsage(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	b := &bucket{windows: []Window{{5, time.Minute}, {8, time.Hour}}, max: 10}
	f.Add([]byte{1})
	f.Add(append([]byte{1}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, text []byte) {
		u := b.parse(text, now)
		if st, _ := b.apply(u, 1, now.Add(2*time.Hour+2*sharedSkew)); !st.ok && b.ended(u, now.Add(2*time.Hour+2*sharedSkew)) {
			t.Errorf("%+v: refused after all windows", u)
		}
	})
}
