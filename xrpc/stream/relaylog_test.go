//go:build !js

package stream_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// relayLog is the log of a relay: of accounts that it hosts nothing of.
type relayLog struct {
	*network
	mu      sync.Mutex
	skipped []error
}

func newRelayLog(t testing.TB) *relayLog {
	l := &relayLog{network: &network{t: t, store: memory.New(memory.Config{})}}
	l.out = &stream.Outbox{Events: l.store.Events, Skipped: func(_ storage.Event, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.skipped = append(l.skipped, err)
	}}
	t.Cleanup(func() { l.out.Close() })
	return l
}

// add appends an event to the log, which gives it numbers of its own.
func (l *relayLog) add(e storage.Event) {
	l.t.Helper()
	e.Seq = 0
	if _, err := l.store.Repos.Apply(l.t.Context(), e.DID, &storage.Change{Events: []storage.Event{e}}); err != nil {
		l.t.Fatal(err)
	}
}

// forward appends all events of a host, each with a field that nobody here knows.
func (l *relayLog) forward(n *network) {
	l.t.Helper()
	for e, err := range n.store.Events.Since(l.t.Context(), 0) {
		if err != nil {
			l.t.Fatal(err)
		}
		e.Payload = withField(e.Payload)
		l.add(e)
	}
}

// withField adds a member "zzzzzzzzzzzzzzzz" to an encoded map, whose name is the last one in the
// order of DAG-CBOR.
func withField(payload []byte) []byte {
	b := append([]byte{payload[0] + 1}, payload[1:]...)
	return cbor.AppendBytes(cbor.AppendText(b, "zzzzzzzzzzzzzzzz"), []byte("more"))
}

// plain is a message without what differs between the logs of two servers.
func plain(t *testing.T, text string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	var strip func(v any)
	strip = func(v any) {
		if m, ok := v.(map[string]any); ok {
			for _, name := range []string{"seq", "cursor", "time_us", "zzzzzzzzzzzzzzzz"} {
				delete(m, name)
			}
			for _, v := range m {
				strip(v)
			}
		}
	}
	strip(m)
	b, _ := json.Marshal(m)
	return string(b)
}

// The views need nothing of a log but its events: those of foreign hosts, which came through a relay,
// are shown as the hosts themselves show them, under the relay's numbers.
func TestLogOfARelay(t *testing.T) {
	one, two := newNetwork(t), newNetwork(t)
	fill(one)
	two.create(bob, "bob.test")
	two.write(bob, "put com.example.note/1 x", "put com.example.note/2 y", "put com.example.note/3 z")
	relay := newRelayLog(t)
	relay.forward(one)
	relay.forward(two)
	serve := map[string]func(n *network) string{
		"v1": func(n *network) string { _, url := serveJSON(t, n, false); return url },
		"v2": func(n *network) string { _, url := eventsServer(t, n, nil); return url },
	}
	for name, messages := range map[string][2]int{"v1": {5, 5}, "v2": {6, 6}} {
		got := openJSON(t, serve[name](relay.network), "cursor=0", nil)
		var last float64
		for i, n := range []*network{one, two} {
			want := openJSON(t, serve[name](n), "cursor=0", nil)
			for range messages[i] {
				text := got.text()
				same(t, name, plain(t, text), plain(t, want.text()))
				var m struct {
					Cursor  float64
					Payload struct{ Seq float64 }
				}
				if err := json.Unmarshal([]byte(text), &m); err != nil {
					t.Fatal(err)
				}
				if at := max(m.Cursor, m.Payload.Seq); at <= last {
					t.Errorf("%s: %v after %v", name, at, last)
				} else {
					last = at
				}
			}
		}
	}
	if len(relay.skipped) > 0 {
		t.Error(relay.skipped)
	}
}

// evilCommit is a commit event whose blocks and operations are anything.
func evilCommit(did syntax.DID, blocks []byte, ops ...commit.Op) storage.Event {
	e := commit.Event{Repo: did, Commit: cidOf(nil), Rev: "3jzfcijpj2z2a", Time: time.UnixMilli(1_700_000_000_000), Blocks: blocks, Ops: ops}
	return storage.Event{DID: did, Kind: commit.KindCommit, Time: e.Time, Payload: e.Payload(), Weight: max(1, len(ops))}
}

func cidOf(b []byte) cid.Cid {
	c, err := cid.V1Builder{Codec: cid.DagCBOR, MhType: 0x12}.Sum(b)
	if err != nil {
		panic(err)
	}
	return c
}

// An event that a host made such that it cannot be shown, or not in a reasonable size, costs the other
// events nothing: what of it can be shown is, and the rest is reported.
func TestEventsThatCannotBeShown(t *testing.T) {
	relay := newRelayLog(t)
	good := cbor.AppendText(cbor.AppendText(cbor.AppendMap(nil, 1), "$type"), "com.example.note")
	broken := []byte{0xa1, 0x61}
	blocks := car.Append(nil, []cid.Cid{cidOf(good)}, car.Block{CID: cidOf(good), Data: good}, car.Block{CID: cidOf(broken), Data: broken})
	op := func(path string, b []byte) commit.Op {
		return commit.Op{Action: commit.Create, Path: path, CID: cidOf(b)}
	}
	huge := cbor.AppendText(cbor.AppendText(cbor.AppendMap(nil, 1), "text"), strings.Repeat("\x01", 900_000)) // 5.4 MB of JSON
	var repeated []commit.Op
	for i := range 200 {
		repeated = append(repeated, op(fmt.Sprint("com.example.huge/", 100+i), huge))
	}
	for _, e := range []storage.Event{
		evilCommit(alice, blocks, op("com.example.note/1", good), op("com.example.note/absent", []byte("absent")), op("com.example.note/broken", broken),
			op("no path", good), commit.Op{Action: commit.Delete, Path: "com.example.note/5", Prev: cidOf(good)}),
		evilCommit(alice, nil, op("com.example.note/6", good)),
		evilCommit(alice, []byte("no CAR"), op("com.example.note/7", good), commit.Op{Action: commit.Delete, Path: "com.example.note/8", Prev: cidOf(good)}),
		{DID: alice, Kind: commit.KindSync, Time: time.UnixMilli(1), Payload: cbor.AppendMap(nil, 0), Weight: 1},
		{DID: alice, Kind: commit.KindIdentity, Time: time.UnixMilli(1), Payload: cbor.AppendMap(nil, 0), Weight: 1},
		{DID: alice, Kind: "#future", Time: time.UnixMilli(1), Payload: cbor.AppendMap(nil, 0), Weight: 1},
		evilCommit(alice, car.Append(nil, []cid.Cid{cidOf(huge)}, car.Block{CID: cidOf(huge), Data: huge}), repeated...),
		evilCommit(bob, blocks, op("com.example.note/last", good)),
	} {
		relay.add(e)
	}
	want := []string{
		"a create com.example.note/1", "a delete com.example.note/5", "a delete com.example.note/8",
		"a create com.example.huge/100", "a create com.example.huge/101", "a create com.example.huge/102",
		"b create com.example.note/last",
	}
	_, first := serveJSON(t, relay.network, false)
	j := openJSON(t, first, "cursor=0", nil)
	j.c.SetReadLimit(16 << 20)
	same(t, "v1", j.shorts(len(want)), want)
	if len(relay.skipped) != 5 { // v1 never looks at a #sync
		t.Errorf("%d reports: %.200v", len(relay.skipped), relay.skipped)
	}
	_, second := eventsServer(t, relay.network, nil)
	j = openJSON(t, second, "cursor=0", nil)
	j.c.SetReadLimit(16 << 20)
	same(t, "v2", j.events(len(want)), want)
	if len(relay.skipped) != 11 {
		t.Errorf("%d reports", len(relay.skipped))
	}
	for _, err := range relay.skipped {
		if len(err.Error()) > 8192 {
			t.Errorf("a report of %d bytes", len(err.Error()))
		}
	}
}

// However many read a view, live and from the past, an event is encoded once for all of them. What
// cannot be shown is reported when it is encoded, so that the reports count.
func TestJSONIsEncodedOnce(t *testing.T) {
	relay := newRelayLog(t)
	_, first := serveJSON(t, relay.network, false)
	_, second := eventsServer(t, relay.network, nil)
	relay.add(post(0, 10))
	var all []*jsonClient
	for i := range 40 {
		all = append(all, openJSON(t, []string{first, second}[i%2], "", nil))
	}
	testenv.Until(t, "subscribers", func() bool {
		list := relay.out.Subscriptions()
		return len(list) >= len(all) && !slices.ContainsFunc(list, func(s stream.Subscription) bool { return s.Seq == 0 })
	})
	relay.add(evilCommit(alice, nil, commit.Op{Action: commit.Create, Path: "com.example.note/1", CID: cidOf(nil)}, commit.Op{Action: commit.Delete, Path: "com.example.note/2", Prev: cidOf(nil)}))
	for _, j := range all {
		j.text()
	}
	if len(relay.skipped) != 2 {
		t.Errorf("encoded %d times for %d subscribers of two views", len(relay.skipped), len(all))
	}
}
