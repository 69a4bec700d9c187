package follow_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// TestBesideAServer feeds an index in the process of a whole server, through the lives of accounts.
func TestBesideAServer(t *testing.T) {
	network := pdstest.New(t)
	pds := network.PDS()
	alice, bob := pds.Account("alice"), pds.Account("bob")
	alice.Create("com.example.note", map[string]any{"text": "hello"})
	bob.Create("com.example.note", map[string]any{"text": "hello"})

	x := newIndex(t)
	store := pds.Store()
	store.Events = drained{store.Events}
	feed := x.feed(store)
	feed.Status = func(ctx context.Context, r storage.Reader) (string, error) {
		a, err := pds.Server().Accounts.AccountIn(ctx, r)
		return string(a.Status()), err
	}
	catchUp := func() {
		t.Helper()
		for s, err := range feed.Steps(t.Context()) {
			if errors.Is(err, errIdle) {
				return
			}
			if err == nil {
				err = x.apply(s)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	// What the index would show: the records of active accounts.
	shown := func(want map[syntax.DID]int) {
		t.Helper()
		catchUp()
		got := map[syntax.DID]int{}
		for key := range x.rows {
			for did := range x.revs {
				if len(key) > len(did) && key[:len(did)+1] == string(did)+" " && x.status[did] == "" {
					got[did]++
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("shown (-want +got):\n%s", diff)
		}
	}
	both := map[syntax.DID]int{alice.DID: 1, bob.DID: 1}
	shown(both)
	alice.Create("com.example.note", map[string]any{"text": "again"})
	both[alice.DID]++
	shown(both)

	if err := api.ServerDeactivateAccount(t.Context(), alice.Client, api.ServerDeactivateAccountInput{}); err != nil {
		t.Fatal(err)
	}
	without := maps.Clone(both)
	delete(without, alice.DID)
	shown(without)
	late := newIndex(t) // begins while one account is not active
	late, x = x, late
	feed.Position = func(context.Context) (string, error) { return x.position, nil }
	feed.Revision = func(_ context.Context, did syntax.DID) (syntax.TID, error) { return x.revs[did], nil }
	shown(without)
	if x.status[alice.DID] != string(account.Deactivated) {
		t.Errorf("status %q", x.status[alice.DID])
	}
	if err := api.ServerActivateAccount(t.Context(), alice.Client); err != nil {
		t.Fatal(err)
	}
	shown(both)
	late, x = x, late
	shown(both)

	pds.Restart()
	if err := api.AdminDeleteAccount(t.Context(), pds.Admin(), api.AdminDeleteAccountInput{DID: alice.DID}); err != nil {
		t.Fatal(err)
	}
	delete(both, alice.DID)
	shown(both)
	x = late
	shown(both)
	if len(x.revs) != 1 {
		t.Errorf("the index has accounts %v", x.revs)
	}
}
