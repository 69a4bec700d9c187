package server

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage/sealed"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// manyUses is a server with invite codes that were used very often.
func manyUses(t *testing.T, codes, uses int) *Service {
	t.Helper()
	store := memory.New(memory.Config{})
	err := store.KV.Write(t.Context(), func(tx storage.KVTx) error {
		for c := range codes {
			inv := account.Invite{Code: fmt.Sprintf("code-%02d", c), Available: uses, Account: "admin", Created: time.UnixMilli(int64(c)), Uses: make(map[syntax.DID]int64)}
			for u := range uses {
				inv.Uses[syntax.DID(fmt.Sprintf("did:web:user-%d-%d.example.com", c, u))] = int64(u)
			}
			text, err := json.Marshal(inv)
			if err == nil {
				err = tx.Set(t.Context(), "invite/"+inv.Code, text, time.Time{})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	accounts := account.Open(repo.Config{Store: store, TempDir: t.TempDir()}, box)
	if err := accounts.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &Service{accounts: accounts}
}

// A page of codes with many uses is short, and the cursor leads through all codes.
func TestInviteCodesWithManyUses(t *testing.T) {
	s := manyUses(t, 9, 5000)
	for _, sort := range []string{"recent", "usage"} {
		seen := make(map[string]bool)
		for cursor := ""; ; {
			out, err := s.getInviteCodes(t.Context(), nil, api.AdminGetInviteCodesParams{Sort: sort, Limit: 500, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Codes) == 0 {
				break
			}
			text, err := json.Marshal(out)
			if err != nil || len(text) > maxInviteBytes+100_000 {
				t.Errorf("%d bytes, %v", len(text), err)
			}
			for _, c := range out.Codes {
				if seen[c.Code] || len(c.Uses) != 5000 {
					t.Errorf("code %s twice, or with %d uses", c.Code, len(c.Uses))
				}
				seen[c.Code] = true
			}
			cursor = out.Cursor
		}
		if len(seen) != 9 {
			t.Errorf("by %s: %d codes", sort, len(seen))
		}
	}
	// A code that alone is more than a page.
	s = manyUses(t, 2, 15_000)
	if out, err := s.getInviteCodes(t.Context(), nil, api.AdminGetInviteCodesParams{}); err != nil || len(out.Codes) != 1 {
		t.Errorf("%d codes, %v", len(out.Codes), err)
	}
}

// Accounts that all came by one code would each show all its uses.
func TestAccountsThatOneCodeInvited(t *testing.T) {
	s := manyUses(t, 1, 2000)
	var list []account.Invite
	for inv, err := range s.accounts.InvitesAfter(t.Context(), account.InvitesByTime, 0, "") {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, inv)
	}
	total, n := 0, 0
	for did := range list[0].Uses {
		if n == 100 {
			break
		}
		v, size, err := s.viewAccount(t.Context(), account.Account{DID: did, Invite: list[0].Code})
		if err != nil || v.InvitedBy == nil || len(v.InvitedBy.Uses) != 2000 {
			t.Fatalf("%+v, %v", v, err)
		}
		if n++; n <= 10 {
			text, err := json.Marshal(v)
			if err != nil || len(text) > size+1000 || len(text) < size/4 {
				t.Errorf("%d bytes, counted as %d, %v", len(text), size, err)
			}
		}
		total += size
	}
	if total < 10*maxInviteBytes {
		t.Errorf("%d bytes in all: no attack", total)
	}
}
