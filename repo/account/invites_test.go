package account

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// codes lists codes in an order, page by page.
func codes(t *testing.T, s *Store, o InviteOrder, page int) (list []string) {
	t.Helper()
	rank, code := int64(0), ""
	for {
		n := 0
		for inv, err := range s.InvitesAfter(t.Context(), o, rank, code) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n > page {
				break
			}
			list = append(list, inv.Code)
			rank, code = o.Rank(inv), inv.Code
		}
		if n <= page {
			return list
		}
	}
}

func TestInvitesInOrder(t *testing.T) {
	s, now := newStore(t)
	var made []string // the oldest first
	for range 7 {
		list, err := s.CreateInvites(t.Context(), "pds.example.com", "admin", "admin", 1, 5)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, list...)
		*now = now.Add(time.Second)
	}
	use := func(code string, by int) {
		err := s.store.KV.Write(t.Context(), func(tx storage.KVTx) error {
			return useInvite(t.Context(), tx, code, syntax.DID(fmt.Sprintf("did:web:user%d.example.com", by)), *now)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		use(made[2], i)
	}
	use(made[4], 9)
	newest := slices.Clone(made)
	slices.Reverse(newest)
	for page := 1; page <= 8; page++ {
		if got := codes(t, s, InvitesByTime, page); !slices.Equal(got, newest) {
			t.Errorf("by time, %d a page: %v, want %v", page, got, newest)
		}
		got := codes(t, s, InvitesByUse, page)
		if len(got) != 7 || got[0] != made[2] || got[1] != made[4] || !slices.IsSortedFunc(got[2:], func(a, b string) int { return -compare(a, b) }) {
			t.Errorf("by use, %d a page: %v", page, got)
		}
	}
	// A use that is taken back moves the code back, and leaves no second entry.
	err := s.store.KV.Write(t.Context(), func(tx storage.KVTx) error {
		return returnInvite(t.Context(), tx, made[4], "did:web:user9.example.com")
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := codes(t, s, InvitesByUse, 3); len(got) != 7 || got[0] != made[2] {
		t.Errorf("%v", got)
	}
	for _, rank := range []int64{-1, maxRank + 1, 1 << 62} {
		for _, err := range s.InvitesAfter(t.Context(), InvitesByTime, rank, "x") {
			if err != nil {
				t.Errorf("rank %d: %v", rank, err)
			}
		}
	}
}

// The codes of an account are no good while it is taken down, as those of a spammer who made many.
func TestInvitesOfAnAccountThatIsTakenDown(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	list, err := s.CreateInvites(ctx, "pds.example.com", owner, "admin", 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	come := func(name, code string, want error) {
		t.Helper()
		if err := s.CheckInvite(ctx, code); !errors.Is(err, want) {
			t.Errorf("%s asks: %v, want %v", name, err, want)
		}
		a := Account{DID: syntax.DID("did:web:" + name), Handle: syntax.Handle(name), Invite: code}
		if _, err := s.Create(ctx, a, key, repo.Batch{}); !errors.Is(err, want) {
			t.Errorf("%s comes: %v, want %v", name, err, want)
		}
	}
	down := func(ref string) {
		t.Helper()
		if err := s.TakeDown(ctx, owner, Takedown{Applied: ref != "", Ref: ref}); err != nil {
			t.Fatal(err)
		}
	}
	down("x")
	come("one.example.com", list[0], ErrInvite)
	if n := pendingOperations(t, s); n != 0 {
		t.Errorf("%d operations are pending", n)
	}
	down("")
	come("two.example.com", list[0], nil)
	if err := s.Delete(ctx, Trusted(owner)); err != nil {
		t.Fatal(err)
	}
	come("three.example.com", list[1], nil)
	sound(t, s)
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
