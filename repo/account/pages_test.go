package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
)

// put writes keys of the host's namespace; empty: it deletes them.
func put(t *testing.T, s *Store, pairs ...string) {
	t.Helper()
	err := s.store.KV.Write(t.Context(), func(tx storage.KVTx) (err error) {
		for i := 0; i < len(pairs) && err == nil; i += 2 {
			if err = tx.Set(t.Context(), pairs[i], []byte(pairs[i+1]), time.Time{}); pairs[i+1] == "" {
				err = tx.Delete(t.Context(), pairs[i])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Deletions that are due come earliest first, no more than were asked for, whatever the list says of
// accounts that are not deactivated any more or are gone.
func TestPagesOfDeletions(t *testing.T) {
	s, now := newVillage(t)
	ctx := t.Context()
	var want []string
	for i := range 6 {
		did := syntax.DID(fmt.Sprintf("did:web:u%02d.example.com", i))
		if err := s.Deactivate(ctx, Trusted(did), now.Add(-time.Duration(6-i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
		want = append(want, string(did))
	}
	if err := s.Deactivate(ctx, Trusted("did:web:u06.example.com"), now.Add(time.Hour)); err != nil { // not yet
		t.Fatal(err)
	}
	put(t, s, timeKey(deleteAfterPrefix, now.Add(-10*time.Hour), "did:web:u07.example.com"), "did:web:u07.example.com",
		timeKey(deleteAfterPrefix, now.Add(-9*time.Hour), "did:web:gone"), "did:web:gone",
		timeKey(deleteAfterPrefix, now.Add(-8*time.Hour), "did:web:u06.example.com"), "did:web:u06.example.com")
	for limit := 1; limit <= 8; limit++ {
		list, err := s.DeletionsDue(ctx, limit)
		var got []string
		for _, a := range list {
			got = append(got, string(a.DID))
		}
		if err != nil || !slices.Equal(got, want[:min(limit, 6)]) {
			t.Errorf("limit %d: %v, %v", limit, got, err)
		}
	}
}

// Accounts that are counted a few at a time are each counted once.
func TestPagesOfStatuses(t *testing.T) {
	s, _ := newVillage(t) // 13 accounts
	var sums []int
	for last, n := syntax.DID(""), 0; n < 9; n++ {
		into := Statuses{}
		var err error
		if last, err = s.CountStatuses(t.Context(), into, last, 5); err != nil {
			t.Fatal(err)
		}
		if sums = append(sums, into[Active]); last == "" {
			break
		}
	}
	if !slices.Equal(sums, []int{5, 5, 3}) {
		t.Errorf("%v", sums)
	}
	ctx := t.Context()
	for i := range 5 {
		if err := s.SetRecordTakedown(ctx, owner, fmt.Sprintf("a.b.c/%d", i), Takedown{Applied: true, Ref: "r"}); err != nil {
			t.Fatal(err)
		}
	}
	sums = nil
	for cursor, n := "", 0; n < 9; n++ {
		list, next, err := s.Takedowns(ctx, owner, cursor, 2)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, len(list))
		if cursor = next; next == "" {
			break
		}
	}
	if !slices.Equal(sums, []int{2, 2, 1}) {
		t.Errorf("%v", sums)
	}
	if list, next, err := s.Takedowns(ctx, owner, "", 5); err != nil || len(list) != 5 || next != "" {
		t.Errorf("%v %q %v", list, next, err)
	}
	_, err := s.host.Step(ctx, owner, func(step *repo.Step) error {
		step.Set(takedownPrefix+"blob/rubbish", []byte("r"), time.Time{})
		return nil
	})
	if _, _, listErr := s.Takedowns(ctx, owner, "", 9); err != nil || listErr == nil {
		t.Errorf("a blob whose name is rubbish: %v, %v", err, listErr)
	}
}

// A repository without an account, and names of nobody, are in no list, and stand in the way of none.
func TestListsWithoutAccounts(t *testing.T) {
	s, _ := newVillage(t)
	ctx := t.Context()
	_, err := s.host.Step(ctx, "did:web:u03.example.com", func(step *repo.Step) error { step.Remove(accountKey); return nil })
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for a, err := range s.All(ctx) {
		if n++; err != nil || a.DID == "" {
			t.Errorf("%+v, %v", a, err)
		}
	}
	list, err := s.ListAccounts(ctx, time.Time{}, "", 100)
	if n != 12 || len(list) != 12 || err != nil {
		t.Errorf("%d and %d accounts, %v", n, len(list), err)
	}
	if got := handles(t, s, Search{Text: "user0"}); len(got) != 9 || slices.Contains(got, "user03") {
		t.Errorf("%v", got)
	}
	if a, err := s.Find(ctx, owner); err != nil || a.DID != owner {
		t.Errorf("by its DID: %+v, %v", a, err)
	}
	put(t, s, "handle/user00.test", owner, "handle/usher.test", owner)
	if got := handles(t, s, Search{Text: "us"}); slices.Contains(got, "alice") {
		t.Errorf("names of another account: %v", got)
	}
}

// Names that authenticators use are of up to 64 bytes, and find the account that has them.
func TestUserHandlesOfOtherAccounts(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	put(t, s, userHandlePrefix, owner, userHandlePrefix+"another", owner)
	for _, handle := range []string{"", "another"} {
		if a, err := s.ByUserHandle(ctx, handle); !errors.Is(err, ErrNotFound) || a.DID != "" {
			t.Errorf("%q: %+v, %v", handle, a, err)
		}
	}
	for n, want := range map[int]error{64: nil, 65: ErrNotFound} {
		handle := strings.Repeat("x", n)
		put(t, s, userHandlePrefix+handle, owner)
		_, err := s.host.Step(ctx, owner, func(step *repo.Step) error {
			a, err := s.AccountIn(ctx, step)
			if err != nil {
				return err
			}
			a.UserHandle = handle
			doc, err := json.Marshal(a)
			step.Set(accountKey, doc, time.Time{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if a, err := s.ByUserHandle(ctx, handle); !errors.Is(err, want) || (a.DID == owner) != (want == nil) {
			t.Errorf("%d bytes: %+v, %v", n, a, err)
		}
	}
}

// Problems are listed by account. Pending operations excuse a wrong count, and a store of the first
// version is not blamed for what it never had.
func TestOrderOfProblems(t *testing.T) { synctest.Test(t, orderOfProblems) }

func orderOfProblems(t *testing.T) {
	s, now := newVillage(t)
	ctx := t.Context()
	put(t, s, "handle/user07.test", "", "handle/user02.test", "", "handle/user05.test", "", "handle/user11.test", "")
	wrong := func() (list []check.Problem) {
		t.Helper()
		list, doubtful, err := s.checkAll(ctx)
		if err != nil || len(doubtful) != len(list) {
			t.Fatal(doubtful, err)
		}
		return list
	}
	if list := wrong(); len(list) != 4 {
		t.Errorf("%v", list)
	}
	put(t, s, layoutKey, `{"version":2,"count":5}`)
	list, err := s.Check(ctx)
	if err != nil || len(list) != 5 || !slices.IsSortedFunc(list, func(a, b check.Problem) int { return strings.Compare(string(a.DID), string(b.DID)) }) {
		t.Errorf("%v, %v", list, err)
	}
	r, err := s.Reserve(ctx, Account{DID: "did:web:new", Handle: "new.test", Created: *now})
	if err != nil {
		t.Fatal(err)
	}
	if list := wrong(); len(list) != 4 {
		t.Errorf("a wrong count while an operation is pending: %v", list)
	}
	if err := r.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Deactivate(ctx, Trusted("did:web:u01.example.com"), *now); err != nil {
		t.Fatal(err)
	}
	put(t, s, timeKey(deleteAfterPrefix, *now, "did:web:u01.example.com"), "")
	if list := wrong(); len(list) != 6 {
		t.Errorf("without the time of a deletion: %v", list)
	}
	put(t, s, layoutKey, "")
	if list := wrong(); len(list) != 4 {
		t.Errorf("in the first version: %v", list)
	}
	if key := timeKey(createdPrefix, time.Time{}, owner); key != "created/000000000000000/"+owner {
		t.Error(key)
	}
}
