package account

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
)

// Lists have their order, their pages and their bounds.
func TestLists(t *testing.T) {
	ctx := t.Context()
	s, now := newStore(t)
	for i := range 25 {
		a := Account{DID: numbered(i), Handle: syntax.Handle(fmt.Sprintf("user%02d.test", i)), Email: fmt.Sprintf("user%02d@example.com", i), Created: now.Add(time.Duration(i%5) * time.Second)}
		newAccount(t, s, a)
		if i%2 == 0 {
			if err := s.Deactivate(ctx, Trusted(a.DID), now.Add(-time.Duration(i)*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		if i%4 == 0 {
			if err := s.TakeDown(ctx, a.DID, Takedown{Applied: true, Ref: "x"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var after time.Time
	var last syntax.DID
	seen := 0
	for {
		page, err := s.ListAccounts(ctx, after, last, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page {
			if seen++; a.Created.Before(after) {
				t.Errorf("%s comes too late", a.DID)
			}
			after, last = a.Created, a.DID
		}
		if len(page) < 10 {
			break
		}
	}
	if seen != 26 {
		t.Errorf("%d accounts are listed", seen)
	}
	all := 0
	for a, err := range s.All(ctx) {
		if err != nil || a.DID == "" {
			t.Error(err)
		}
		all++
	}
	for range s.All(ctx) {
		break
	}
	if all != 26 {
		t.Errorf("there are %d accounts", all)
	}
	for limit, want := range map[int]int{3: 3, 6: 6, 100: 6} {
		due, err := s.DeletionsDue(ctx, limit)
		if err != nil || len(due) != want {
			t.Errorf("%d are due (%v), want %d", len(due), err, want)
		}
	}
	if _, err := s.Account(ctx, "alice@example.com"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an address is no identifier: %v", err)
	}
	if a, err := s.Account(ctx, "ALICE.test"); err != nil || a.DID != owner {
		t.Errorf("%s %v", a.DID, err)
	}
	if _, err := s.Update(ctx, Trusted(owner), func(a *Account, _ *repo.Step) error { a.Handle = "x.test"; return nil }); !errors.Is(err, ErrNameChange) {
		t.Errorf("a name changed by Update: %v", err)
	}
	if err := s.AnnounceStatus(ctx, Trusted(owner)); err != nil {
		t.Error(err)
	}
}

func TestTakedownsOfParts(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	blob := cid.NewCidV1(cid.Raw, dag.Sum(dag.Raw, []byte("x")).Hash())
	if err := s.SetBlobTakedown(ctx, owner, blob, Takedown{Applied: true, Ref: "r"}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRecordTakedown(ctx, owner, "a.b.c/one", Takedown{Applied: true, Ref: "s"}); err != nil {
		t.Fatal(err)
	}
	if d, err := s.BlobTakedown(ctx, owner, blob); err != nil || d != (Takedown{true, "r"}) {
		t.Errorf("%+v %v", d, err)
	}
	if hidden, err := s.HiddenBlob(ctx, owner, blob); err != nil || !hidden {
		t.Errorf("%v %v", hidden, err)
	}
	if hidden, err := s.HiddenRecords(ctx, owner, []string{"a.b.c/one", "a.b.c/two"}); err != nil || len(hidden) != 1 || !hidden["a.b.c/one"] {
		t.Errorf("%v %v", hidden, err)
	}
	if a, err := s.ByDID(ctx, owner); err != nil || !a.Moderated {
		t.Errorf("%+v %v", a, err)
	}
	if _, err := s.BlobTakedown(ctx, other, blob); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's blob: %v", err)
	}
	if err := s.TakeDown(ctx, owner, Takedown{Applied: true}); err == nil {
		t.Error("a takedown without a reference")
	}
	if p := (Preference{"$type": []byte(`"a.b.c"`)}); p.Type() != "a.b.c" {
		t.Error(p.Type())
	}
	broken := errors.New("no")
	if err := s.SetPreferences(ctx, Trusted(owner), func([]Preference) ([]Preference, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}
