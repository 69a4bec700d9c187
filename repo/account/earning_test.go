package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

func TestEarnInvites(t *testing.T) {
	const day = 24 * time.Hour
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	own := func(at time.Duration, used, disabled bool) Invite {
		inv := Invite{Available: 1, CreatedBy: owner, Created: start.Add(at), Disabled: disabled}
		if used {
			inv.Uses = map[syntax.DID]int64{"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb": 1}
		}
		return inv
	}
	gift := own(0, false, false)
	gift.CreatedBy = createdByAdmin
	for _, tt := range []struct {
		name  string
		e     Earning
		since time.Duration
		have  []Invite
		want  int
	}{
		{"nothing is given", Earning{}, 100 * day, nil, 0},
		{"too early", Earning{Interval: 7 * day}, 6 * day, nil, 0},
		{"one", Earning{Interval: 7 * day}, 7 * day, nil, 1},
		{"not more than five", Earning{Interval: day}, 100 * day, nil, 5},
		{"a gift does not count", Earning{Interval: 7 * day}, 8 * day, []Invite{gift}, 1},
		{"one it has", Earning{Interval: 7 * day}, 15 * day, []Invite{own(7*day, false, false)}, 1},
		{"one that was used counts as earned", Earning{Interval: 7 * day}, 8 * day, []Invite{own(7*day, true, false)}, 0},
		{"one that was disabled too", Earning{Interval: 7 * day}, 8 * day, []Invite{own(7*day, false, true)}, 0},
		{"five that were used are not open", Earning{Interval: day}, 100 * day, slices.Repeat([]Invite{own(7*day, true, false)}, 5), 5},
		{"not from before the epoch", Earning{Interval: 7 * day, Epoch: start.Add(14 * day)}, 22 * day, nil, 1},
		{"a code from before the epoch", Earning{Interval: 7 * day, Epoch: start.Add(14 * day)}, 22 * day, []Invite{own(7*day, true, false)}, 1},
		{"an account from after the epoch", Earning{Interval: 7 * day, Epoch: start.Add(-14 * day)}, 15 * day, nil, 2},
	} {
		if got := tt.e.due(start, start.Add(tt.since), tt.have); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// Codes that are earned are made once.
func TestEarnInvitesOnce(t *testing.T) {
	s, now := newStore(t)
	e := Earning{Interval: time.Hour}
	*now = now.Add(3*time.Hour + time.Minute)
	for range 3 {
		if list, err := s.AccountInvites(t.Context(), "pds.example.com", Trusted(owner), e); err != nil || len(list) != 3 {
			t.Fatalf("%d codes %v", len(list), err)
		}
	}
	if _, err := s.Update(t.Context(), Trusted(owner), func(a *Account, _ *repo.Step) error { a.InvitesDisabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Hour)
	list, err := s.AccountInvites(t.Context(), "pds.example.com", Trusted(owner), e)
	if err != nil || len(list) != 4 {
		t.Fatalf("%d codes %v", len(list), err)
	}
	disabled := 0
	for _, inv := range list {
		if inv.Disabled {
			disabled++
		}
	}
	if disabled != 1 {
		t.Errorf("%d codes are disabled", disabled)
	}
}

// An account's codes are found without a look at those of all others, whether this version made
// them or an earlier one, and are listed and disabled alike.
func TestInvitesOfEarlierVersions(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	const other = "did:plc:cccccccccccccccccccccccc"
	err := s.store.KV.Write(ctx, func(tx storage.KVTx) error { // as they were kept before there was an index
		for i := range 1200 {
			inv := Invite{Code: fmt.Sprintf("old-%04d", i), Available: 1, Account: other, CreatedBy: createdByAdmin}
			if i%400 == 0 {
				inv.Account = owner
			}
			doc, err := json.Marshal(inv)
			if err == nil {
				err = tx.Set(ctx, invitePrefix+inv.Code, doc, time.Time{})
			}
			if err != nil {
				return err
			}
		}
		return tx.Delete(ctx, invitesIndexed)
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := s.Repair(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CreateInvites(ctx, "pds.example.com", owner, createdByAdmin, 2, 1); err != nil {
		t.Fatal(err)
	}
	list, err := s.AccountInvites(ctx, "pds.example.com", Trusted(owner), Earning{})
	if err != nil || len(list) != 5 {
		t.Fatalf("%d codes (%v)", len(list), err)
	}
	for _, wrong := range [][]string{{"old-0001", "nocode"}, {"old-0001", ""}} {
		if err := s.DisableInvites(ctx, wrong, []string{owner}, nil); !errors.Is(err, ErrNoInvite) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if err := s.DisableInvites(ctx, nil, []string{owner, "did:plc:nobody"}, []string{owner}); !errors.Is(err, ErrNoInvite) {
		t.Errorf("an account without codes: %v", err)
	}
	disabled := func() (n int) {
		all := 0
		for inv, err := range s.InvitesAfter(ctx, InvitesByTime, 0, "") {
			if err != nil {
				t.Fatal(err)
			}
			if all++; inv.Disabled {
				n++
			}
		}
		if all != 1202 {
			t.Fatalf("%d codes in all", all)
		}
		return n
	}
	if n := disabled(); n != 0 {
		t.Errorf("%d codes are disabled although a name was wrong", n)
	}
	if err := s.DisableInvites(ctx, []string{"old-0001", "old-0400"}, []string{owner, "did:plc:nobody"}, []string{"did:plc:nobody"}); err != nil {
		t.Fatal(err)
	}
	if n := disabled(); n != 6 {
		t.Errorf("%d codes are disabled", n)
	}
}
