package serviceauth

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
)

// failing is a KV that cannot be written.
type failing struct{ storage.KV }

var errBroken = errors.New("broken")

func (failing) Write(context.Context, func(storage.KVTx) error) error { return errBroken }

// A token that was used at one node is refused by another one, which also refuses what it cannot ask.
func TestReplayOnAnotherNode(t *testing.T) {
	now, kv := time.Now(), memory.New(memory.Config{}).KV
	one, two := &Replays{KV: kv, Prefix: "used/"}, &Replays{KV: kv, Prefix: "used/"}
	u := useOf("did:web:a.test", "id", nil)
	if err := one.use(t.Context(), u, now.Add(time.Minute), now); err != nil {
		t.Fatal(err)
	}
	for i, x := range []*Replays{one, two} {
		if err := x.use(t.Context(), u, now.Add(time.Minute), now); !errors.Is(err, &xrpc.Error{Name: "JwtReplayed"}) {
			t.Errorf("node %d: %v", i, err)
		}
	}
	if err := two.use(t.Context(), useOf("did:web:b.test", "id", nil), now.Add(time.Minute), now); err != nil {
		t.Errorf("a token of the same ID of somebody else: %v", err)
	}
	three := &Replays{KV: failing{kv}}
	if err := three.use(t.Context(), u, now.Add(time.Minute), now); !errors.Is(err, errBroken) {
		t.Errorf("while the store fails: %v", err)
	}
}

// Of issuers whose tokens have expired, nothing is remembered.
func TestReplaysForgetIssuers(t *testing.T) {
	var x Replays
	now := time.Unix(1_800_000_000, 0)
	for i := range 1000 {
		if err := x.use(t.Context(), useOf(syntax.DID(fmt.Sprintf("did:web:i%d.test", i)), "id", nil), now.Add(time.Minute), now); err != nil {
			t.Fatal(err)
		}
	}
	if x.n != 1000 || len(x.issuers) != 1000 {
		t.Errorf("%d tokens of %d issuers", x.n, len(x.issuers))
	}
	now = now.Add(3 * time.Minute)
	if err := x.use(t.Context(), useOf("did:web:a.test", "id", nil), now.Add(time.Minute), now); err != nil {
		t.Fatal(err)
	}
	if x.n != 1 || len(x.issuers) != 1 || len(x.minutes) != 1 {
		t.Errorf("%d tokens of %d issuers in %d minutes", x.n, len(x.issuers), len(x.minutes))
	}
}

// Two tokens without IDs are two uses, unless they are the same text; a text is never an ID.
func TestUsesOfTokensWithoutIDs(t *testing.T) {
	const issuer = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	a, b := useOf(issuer, "", []byte("a")), useOf(issuer, "", []byte("b"))
	if a == b || a != useOf(issuer, "", []byte("a")) || a == useOf(issuer, "a", nil) || a == useOf("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "", []byte("a")) {
		t.Error("they are mixed up")
	}
	if useOf(issuer, "a", []byte("a")) != useOf(issuer, "a", []byte("b")) {
		t.Error("one ID is two uses")
	}
}
