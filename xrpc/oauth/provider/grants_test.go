package provider

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// One account cannot fill the store with what it has granted: the oldest grant is forgotten.
func TestGrantsAreBounded(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	a.login()
	count := func() (n int) {
		err := w.p.accounts.View(t.Context(), account.Trusted(alice), func(_ account.Account, r storage.KVReader) (err error) {
			n, err = storedjson.Count(t.Context(), r, grantPrefix)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	_, err := w.p.accounts.Update(t.Context(), account.Trusted(alice), func(x *account.Account, step *repo.Step) error {
		for i := range maxGrants - 1 {
			doc, err := json.Marshal(grant{version, fmt.Sprint(i), auth.Atproto, x.Credentials, w.p.now().Add(time.Duration(i+1) * time.Second), true})
			if err != nil {
				return err
			}
			step.Set(grantPrefix+digest.Hash(fmt.Sprint(i)), doc, time.Time{})
		}
		return nil
	})
	if n := count(); err != nil || n != maxGrants {
		t.Fatalf("%d grants, %v", n, err)
	}
	grantTo := func(id string) {
		_, err := w.p.accounts.Update(t.Context(), account.Trusted(alice), func(x *account.Account, step *repo.Step) error {
			scopes, _ := auth.ParseScopes(auth.Atproto)
			_, err := remember(t.Context(), step, *x, client{metadata: &metadata{ID: id}, id: id}, scopes, scopes, w.p.now().Add(time.Hour))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"7", "https://new.example/x"} { // one that is there needs no room
		grantTo(id)
		if n := count(); n != maxGrants {
			t.Errorf("%s: %d grants", id, n)
		}
	}
	err = w.p.accounts.View(t.Context(), account.Trusted(alice), func(_ account.Account, r storage.KVReader) error {
		for id, there := range map[string]bool{a.id: false, "0": true, "7": true, "https://new.example/x": true} {
			if g, err := readGrant(t.Context(), r, id); err != nil || (g != nil) != there {
				t.Errorf("%s: %v, %v", id, g, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
