//go:build !js

package stream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// follow reads messages. The last one counts as not dealt with.
func (n *network) follow(f *stream.Follower, count int) (list []stream.Message) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	if f.URL == "" {
		f.URL = n.url
	}
	for m, err := range f.Messages(ctx) {
		if err != nil {
			n.t.Fatalf("after %d messages: %v", len(list), err)
		}
		m.Frame.Payload = nil // not good for longer
		if list = append(list, m); len(list) == count {
			break
		}
	}
	return list
}

func TestFollower(t *testing.T) {
	n := newNetwork(t)
	n.create(alice, "alice.test")
	n.write(alice, "put com.example.note/one x")
	n.write(alice, "delete com.example.note/one")
	start := int64(0)
	f := &stream.Follower{Consumer: stream.Consumer{Cursor: &start}, Verifier: &commit.Verifier{Key: n.verifierKey}}
	var kinds []string
	for _, m := range n.follow(f, 6) {
		kinds = append(kinds, m.Frame.Kind)
		if m.Err != nil || m.Resync || m.DID != alice {
			t.Errorf("%+v", m)
		}
		if m.Commit != nil && len(m.Commit.Ops) > 0 && m.Commit.Ops[0].Action == commit.Create {
			same(t, "records", len(m.Records["com.example.note/one"]) > 0, true)
		}
	}
	same(t, "kinds", kinds, []string{"#identity", "#account", "#commit", "#sync", "#commit", "#commit"})
}

// badly appends an event whose payload was tampered with.
func (n *network) badly(kind string, payload []byte) {
	n.t.Helper()
	head, err := n.host.Head(context.Background(), alice)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.store.Repos.Apply(context.Background(), alice, &storage.Change{Prev: head, Head: head, Events: []storage.Event{
		{DID: alice, Kind: kind, Time: time.Now(), Payload: payload},
	}}); err != nil {
		n.t.Fatal(err)
	}
}

// event returns the last event of the log.
func (n *network) event() (last storage.Event) {
	for e, err := range n.store.Events.Since(context.Background(), n.last()-1) {
		if err != nil {
			n.t.Fatal(err)
		}
		last = e
	}
	return last
}

// What is forged, repeated, cut out or malformed is told apart, and what follows is verified
// against what was believed.
func TestFollowerIsNotFooled(t *testing.T) {
	n := newNetwork(t)
	n.create(alice, "alice.test")
	n.write(alice, "put com.example.note/one x")
	good := n.event()
	n.write(alice, "put com.example.note/two x")
	n.badly(commit.KindCommit, good.Payload) // once more: stale
	forged, err := commit.DecodeEvent(n.eventOf("put com.example.note/three x").Payload)
	if err != nil {
		t.Fatal(err)
	}
	forged.Rev = syntax.NewTID(time.Now(), 0)
	n.badly(commit.KindCommit, forged.Payload()) // its fields are not those of the commit
	n.badly(commit.KindCommit, cbor.AppendMap(nil, 0))
	n.badly("#new", cbor.AppendMap(nil, 0))
	n.write(alice, "put com.example.note/four x")

	start := int64(0)
	f := &stream.Follower{Consumer: stream.Consumer{Cursor: &start}, Verifier: &commit.Verifier{Key: n.verifierKey}}
	var got []string
	for _, m := range n.follow(f, 11)[4:] {
		s := m.Frame.Kind
		switch {
		case errors.Is(m.Err, commit.ErrFields):
			s += " fields"
		case errors.Is(m.Err, commit.ErrMessage):
			s += " malformed"
		case m.Err != nil:
			s += " " + m.Err.Error()
		}
		if m.Resync {
			s += " resync"
		}
		got = append(got, s)
	}
	same(t, "messages", got, []string{"#commit", "#commit", "#commit", "#commit fields", "#commit malformed", "#new", "#commit"})
}

// eventOf writes, and returns the event of that.
func (n *network) eventOf(write string) storage.Event {
	n.write(alice, write)
	return n.event()
}

// After a gap, and when it begins in the middle, a repository is to be fetched again.
func TestFollowerResync(t *testing.T) {
	n := newNetwork(t)
	n.create(alice, "alice.test")
	n.write(alice, "put com.example.note/one x")
	middle := n.last()
	n.write(alice, "put com.example.note/two x")
	f := &stream.Follower{Consumer: stream.Consumer{Cursor: &middle}, Verifier: &commit.Verifier{Key: n.verifierKey}}
	m := n.follow(f, 1)[0]
	same(t, "in the middle", []bool{m.Resync, m.Err == nil}, []bool{true, true})

	n.write(alice, "put com.example.note/three x")
	*f.Cursor = n.last() // which is lost
	n.write(alice, "put com.example.note/four x")
	n.write(alice, "put com.example.note/five x")
	n.badly("#new", cbor.AppendMap(nil, 0))
	list := n.follow(f, 3)
	same(t, "after a gap", []bool{list[0].Resync, list[0].Err == nil, list[1].Resync}, []bool{true, true, false})

	sync, err := n.host.SyncEvent(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	*f.Cursor = n.last()
	n.badly(sync.Kind, sync.Payload)
	m = n.follow(f, 1)[0]
	same(t, "a #sync of what is known", []bool{m.Sync != nil, m.Resync, m.Err == nil}, []bool{true, false, true})
	n.write(alice, "put com.example.note/six x")
	*f.Cursor = n.last() // lost
	if sync, err = n.host.SyncEvent(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	n.badly(sync.Kind, sync.Payload)
	m = n.follow(f, 1)[0]
	same(t, "a #sync of something else", []bool{m.Sync != nil, m.Resync, m.Err == nil}, []bool{true, true, true})
}

// A signature by another key is no reason to believe anything, nor to forget.
func TestFollowerForgedSignature(t *testing.T) {
	n := newNetwork(t)
	n.create(alice, "alice.test")
	start := int64(0)
	states := &failingStates{m: map[syntax.DID]commit.State{}}
	right := n.key
	f := &stream.Follower{Consumer: stream.Consumer{Cursor: &start}, States: states, Verifier: &commit.Verifier{
		Key: func(context.Context, syntax.DID, bool) (*crypto.PublicKey, error) { return right.PublicKey(), nil },
	}}
	n.follow(f, 4)
	*f.Cursor = n.last()
	before := states.m[alice]
	n.key, _ = crypto.GenerateKey(crypto.K256)
	n.write(alice, "put com.example.note/one x")
	m := n.follow(f, 1)[0]
	if !errors.Is(m.Err, commit.ErrBadSignature) || m.Records != nil || m.Resync || states.m[alice] != before {
		t.Errorf("%+v", m)
	}
}

// failingStates is States that fail on demand.
type failingStates struct {
	m        map[syntax.DID]commit.State
	get, set error
}

func (s *failingStates) State(_ context.Context, did syntax.DID) (commit.State, error) {
	return s.m[did], s.get
}

func (s *failingStates) SetState(_ context.Context, did syntax.DID, st commit.State) error {
	if s.set == nil {
		s.m[did] = st
	}
	return s.set
}

// What cannot be remembered ends the stream before the cursor moves.
func TestFollowerStateFaults(t *testing.T) {
	n := newNetwork(t)
	n.create(alice, "alice.test")
	n.write(alice, "put com.example.note/one x")
	fault := errors.New("disk full")
	for _, s := range []*failingStates{{get: fault}, {set: fault}} {
		s.m = map[syntax.DID]commit.State{}
		start := int64(0)
		f := &stream.Follower{Consumer: stream.Consumer{URL: n.url, Cursor: &start}, States: s, Verifier: &commit.Verifier{Key: n.verifierKey}}
		var end error
		for _, err := range f.Messages(t.Context()) {
			end = err
		}
		first := n.last()
		for m := range f.Messages(t.Context()) {
			first = m.Frame.Seq
			break
		}
		if !errors.Is(end, fault) || *f.Cursor >= n.last()-1 || first == n.last() {
			t.Errorf("%v at %d", end, *f.Cursor)
		}
		s.get, s.set = nil, nil
		if list := n.follow(f, 3); list[0].Commit == nil || list[0].Err != nil {
			t.Errorf("after the fault: %+v", list[0])
		}
	}
}

// Without a Verifier, messages are decoded only.
func TestFollowerDecodes(t *testing.T) {
	n := newNetwork(t)
	n.create(alice, "alice.test")
	n.badly(commit.KindCommit, cbor.AppendMap(nil, 0))
	start := int64(0)
	list := n.follow(&stream.Follower{Consumer: stream.Consumer{Cursor: &start}}, 5)
	same(t, "what is there", []bool{list[0].Identity != nil, list[1].Account != nil, list[2].Commit != nil, list[3].Sync != nil, list[4].Err != nil}, []bool{true, true, true, true, true})
}

// A relay in a few lines: follow a host and verify all that it says.
func ExampleFollower() {
	resolver := &identity.Resolver{}
	f := &stream.Follower{
		Consumer: stream.Consumer{URL: "https://pds.example.com/xrpc/com.atproto.sync.subscribeRepos"},
		Verifier: &commit.Verifier{Key: func(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
			if refresh {
				resolver.Purge(syntax.AtIdentifier(did))
			}
			doc, err := resolver.ResolveDID(ctx, did)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", commit.ErrNoKey, err)
			}
			return doc.SigningKey()
		}},
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // in an example, there is no network
	for m, err := range f.Messages(ctx) {
		switch {
		case err != nil:
			fmt.Println(err)
		case m.Err != nil: // do not believe it
		case m.Resync: // fetch the repository again
		default:
			for path := range m.Records {
				fmt.Println(m.DID, path)
			}
		}
	}
	// Output: context canceled
}
