package repo_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// A commit takes a sequence number for each of its operations, one at least, and no more than an
// event may.
func TestWeightOfCommits(t *testing.T) {
	for ops, want := range map[int]int{0: 1, 1: 1, 2: 2, 200: 200, storage.MaxWeight: storage.MaxWeight, storage.MaxWeight + 1: storage.MaxWeight} {
		if got := repo.EventOf(&commit.Event{Ops: make([]commit.Op, ops)}).Weight; got != want {
			t.Errorf("%d operations take %d numbers, want %d", ops, got, want)
		}
	}
}

// Events carry the time of the host's clock, in the event and in its payload, and what was asked
// for.
func TestEventsOfTheHost(t *testing.T) {
	at := time.Date(2031, 2, 3, 4, 5, 6, 7_000_000, time.UTC)
	var k keys
	h := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer, Now: func() time.Time { return at }})
	if _, err := h.Create(ctx, alice, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	sync, err := h.SyncEvent(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		event storage.Event
		want  commit.Message
	}{
		{h.IdentityEvent(alice, "alice.test"), &commit.Identity{DID: alice, Handle: "alice.test", Time: at}},
		{h.IdentityEvent(alice, ""), &commit.Identity{DID: alice, Time: at}},
		{h.AccountEvent(alice, ""), &commit.Account{DID: alice, Active: true, Time: at}},
		{h.AccountEvent(alice, "takendown"), &commit.Account{DID: alice, Status: "takendown", Time: at}},
		{h.AccountEvent(alice, commit.Deleted), &commit.Account{DID: alice, Status: "deleted", Time: at}},
		{sync, nil},
	} {
		m, err := commit.Decode(c.event.Kind, c.event.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if c.event.DID != alice || !c.event.Time.Equal(at) || m.About() != alice || !m.At().Equal(at) {
			t.Errorf("%s is about %s at %s; its payload about %s at %s", c.event.Kind, c.event.DID, c.event.Time, m.About(), m.At())
		}
		if c.want != nil && !cmp.Equal(m, c.want) {
			t.Error(cmp.Diff(c.want, m))
		}
		if again := repo.EventOf(m); !cmp.Equal(again, c.event) {
			t.Error(cmp.Diff(c.event, again))
		}
	}
}
