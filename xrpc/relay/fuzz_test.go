package relay

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// What strip leaves of a payload gives, with the number, the same frame again, and is about the account
// that the decoder finds.
func FuzzStrip(f *testing.F) {
	at := time.UnixMilli(1_700_000_000_000)
	block := []byte{0xa0}
	sum := dag.Sum(dag.CBOR, block)
	for _, m := range []commit.Message{
		&commit.Identity{DID: "did:web:x.example", Handle: "x.example", Time: at}, &commit.Account{DID: "did:web:x.example", Status: "deleted", Time: at},
		&commit.Event{Repo: "did:web:x.example", Commit: sum, Rev: "3jzfcijpj2z2a", Time: at, Blocks: car.Append(nil, []cid.Cid{sum}, car.Block{CID: sum, Data: block})},
		&commit.Sync{DID: "did:web:x.example", Rev: "3jzfcijpj2z2a", Time: at, Commit: car.Block{CID: sum, Data: block}},
	} {
		b, err := stream.EncodeEvent(storage.Event{Seq: 7, Kind: m.Kind(), Payload: m.Payload()})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := stream.Decode(b)
		if err != nil {
			return
		}
		if frame.Kind == commit.KindInfo {
			infoName(frame.Payload)
		}
		payload, did, err := strip(frame.Kind, frame.Payload)
		if err != nil {
			return
		}
		if m, err := commit.Decode(frame.Kind, payload); err == nil && m.About() != did {
			t.Fatalf("it is about %s, not %s", m.About(), did)
		}
		if frame.Seq == 0 {
			if !bytes.Equal(payload, frame.Payload) {
				t.Fatal("changed")
			}
			return
		}
		again, err := stream.EncodeEvent(storage.Event{Seq: frame.Seq, Kind: frame.Kind, Payload: payload})
		if err != nil {
			t.Fatal(err)
		}
		if f2, err := stream.Decode(again); err != nil || f2.Seq != frame.Seq || !bytes.Equal(f2.Payload, frame.Payload) {
			t.Fatalf("%q becomes %q: %v", frame.Payload, f2.Payload, err)
		}
	})
}

// The commit is found where the CAR reader finds it.
func FuzzCommitBlock(f *testing.F) {
	a, b := []byte{0xa0}, cbor.AppendText(nil, "b")
	one, two := dag.Sum(dag.CBOR, a), dag.Sum(dag.CBOR, b)
	f.Add(car.Append(nil, []cid.Cid{one}, car.Block{CID: one, Data: a}, car.Block{CID: two, Data: b}))
	f.Add(car.Append(nil, []cid.Cid{two}, car.Block{CID: one, Data: a}, car.Block{CID: two, Data: b}))
	f.Fuzz(func(t *testing.T, file []byte) {
		commitBlock(file, one) // of what was not verified: no panic
		roots, all, err := car.ReadAll(file, car.Limits{})
		if err != nil || len(roots) == 0 {
			return
		}
		for _, block := range all {
			if block.CID != roots[0] {
				continue
			}
			if got := commitBlock(file, roots[0]); !bytes.Equal(got, block.Data) {
				t.Fatalf("%q, want %q", got, block.Data)
			}
			return
		}
	})
}

// A name that is taken for a host's is one that can stand in an address, and no more than that.
func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"pds.example.com", "https://PDS.example.com/", "localhost:2583", "10.0.0.1", "[::1]", "a.b@c.d", "pds.example.com:443", "pds.example.com."} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, development bool) {
		r := &Relay{Development: development}
		name, err := r.parseHost(s)
		if err != nil {
			return
		}
		req, err := http.NewRequest(http.MethodGet, r.url(name)+"x", nil)
		if err != nil || req.URL.Host != name || req.URL.User != nil || req.URL.Path != "/xrpc/x" {
			t.Fatalf("%q: %q: %+v, %v", s, name, req, err)
		}
		if again, err := r.parseHost(name); err != nil || again != name {
			t.Fatalf("%q: %q, then %q, %v", s, name, again, err)
		}
		if got, ok := r.hostOf("https://" + name); !ok || got != name {
			t.Fatalf("%q: %q", name, got)
		}
	})
}

// Rules of the verifier that have no rule here would be taken for something else.
func TestAllRulesAreJudged(t *testing.T) {
	for _, err := range []error{commit.ErrSize, commit.ErrBlocks, commit.ErrCommitBlock, commit.ErrFields, commit.ErrNoKey, commit.ErrBadSignature, commit.ErrStale,
		commit.ErrFuture, commit.ErrOp, commit.ErrRecord, commit.ErrTree, commit.ErrInversion, commit.ErrOutOfSync} {
		for _, p := range []Policy{Strict, Lenient, Observe} {
			rule, v := p.judge(&commit.RuleError{Rule: err})
			if rule == RuleMalformed {
				t.Errorf("%v has no rule", err)
			}
			if p == Strict && v == pass {
				t.Errorf("%v is passed on", err)
			}
			if (err == commit.ErrBadSignature || err == commit.ErrNoKey || err == commit.ErrStale || err == commit.ErrFuture) && v != drop {
				t.Errorf("%v under %q: %v", err, p, v)
			}
		}
	}
}

// The cursor stays before the first message that is not done, and comes to the last.
func TestCursorIsLowWater(t *testing.T) {
	q := newQueue(&Relay{HostMemory: 1 << 20, Parallel: 1}, 5)
	var items []*item
	for _, seq := range []int64{7, 9, 12, 13} {
		it := &item{seq: seq}
		q.ticketLocked(it)
		items = append(items, it)
	}
	for i, want := range []struct {
		done   int
		cursor int64
	}{{2, 5}, {1, 5}, {0, 12}, {3, 13}} {
		q.doneLocked(items[want.done])
		if done, read := q.position(); done != want.cursor || read != 13 {
			t.Errorf("step %d: %d, %d", i, done, read)
		}
	}
	old := &item{seq: 20}
	q.ticketLocked(old)
	q.restart(0)
	q.doneLocked(old)
	if done, read := q.position(); done != 0 || read != 0 {
		t.Errorf("after a restart: %d, %d", done, read)
	}
}

// A message that waits costs no memory for those that come after it and are done.
func TestTicketsAreThinnedOut(t *testing.T) {
	q := newQueue(&Relay{HostMemory: 1 << 20, Parallel: 1}, 0)
	first, middle := &item{seq: 1}, &item{seq: 100_000}
	q.ticketLocked(first)
	for seq := int64(2); seq < 200_000; seq++ {
		if seq == middle.seq {
			q.ticketLocked(middle)
			continue
		}
		q.skip(seq)
	}
	if n := len(q.tickets); n > 2*thinTickets {
		t.Errorf("%d tickets for two messages", n)
	}
	q.doneLocked(first)
	if done, read := q.position(); done != middle.seq-1 || read != 199_999 {
		t.Errorf("cursor %d, read %d", done, read)
	}
	q.doneLocked(middle)
	if done, _ := q.position(); done != 199_999 || len(q.tickets) != 0 {
		t.Errorf("cursor %d, %d tickets", done, len(q.tickets))
	}
}

func TestBucketFills(t *testing.T) {
	var b bucket
	now := time.Unix(1_000_000, 0)
	for range 10 {
		if wait := b.take(now, 2, 10); wait != 0 {
			t.Fatal(wait)
		}
	}
	if wait := b.take(now, 2, 10); wait != time.Second/2 {
		t.Error(wait)
	}
	if wait := b.take(now.Add(time.Hour), 2, 10); wait != 0 {
		t.Error(wait)
	}
	if wait := b.take(now, -1, 10); wait != 0 { // no bound
		t.Error(wait)
	}
	if wait := b.take(now.Add(-time.Hour), 2, 10); wait != 0 { // the clock went back
		t.Error(wait)
	}
}
