package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/storage/storagetest"
)

func testBox(t *testing.T) *sealed.Box {
	t.Helper()
	box, err := sealed.New(make([]byte, sealed.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// numbered is the DID of a number.
func numbered(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:user%04d.example.com", i)) }

// earlier makes a store as an earlier version has left it, killed in the midst of its work: some
// accounts have names that are only reserved, and some names belong to nobody.
func earlier(t *testing.T, n int) storage.Store {
	t.Helper()
	ctx := t.Context()
	store := memory.New(memory.Config{})
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	host := repo.NewHost(repo.Config{Store: store, TempDir: t.TempDir(), Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	soon := time.Now().Add(10 * time.Minute)
	err = store.KV.Write(ctx, func(tx storage.KVTx) error {
		for i := range n {
			a := Account{DID: numbered(i), Handle: syntax.Handle(fmt.Sprintf("user%04d.test", i)), Email: fmt.Sprintf("User%04d@example.com", i), Created: created.Add(time.Duration(i) * time.Second)}
			if i%10 == 3 {
				a.DeactivatedAt, a.DeleteAfter = created, created.Add(time.Hour)
			}
			if i == 7 {
				a.Email = ""
			}
			var expires time.Time
			if i%5 == 0 {
				expires = soon // reserved, and not confirmed
			}
			for key, expires := range map[string]time.Time{
				"handle/" + string(a.Handle): expires, emailKey(a.Email): expires, timeKey(createdPrefix, a.Created, a.DID): {},
			} {
				if err := tx.Set(ctx, key, []byte(a.DID), expires); err != nil {
					return err
				}
			}
		}
		for key, expires := range map[string]time.Time{
			"handle/gone.test": {}, "email/gone@example.com": {}, "handle/reserved.test": soon, "handle/old0001.test": {},
		} {
			did := syntax.DID("did:web:gone.example.com")
			if key == "handle/old0001.test" {
				did = numbered(1)
			}
			if err := tx.Set(ctx, key, []byte(did), expires); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range n {
		if err != nil {
			t.Fatal(err)
		}
		a := Account{DID: numbered(i), Handle: syntax.Handle(fmt.Sprintf("user%04d.test", i)), Email: fmt.Sprintf("User%04d@example.com", i), Created: created.Add(time.Duration(i) * time.Second)}
		if i%10 == 3 {
			a.DeactivatedAt, a.DeleteAfter = created, created.Add(time.Hour)
		}
		if i == 7 {
			a.Email = ""
		}
		var doc []byte
		if doc, err = json.Marshal(a); err == nil {
			_, err = host.Create(ctx, a.DID, repo.Batch{KV: []storage.KVWrite{{Key: accountKey, Value: doc}}})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// The data of an earlier version is brought up to date once, also if that is interrupted at any call.
func TestMigrate(t *testing.T) {
	const n = 450 // more than two pages
	died := errors.New("the process has died")
	deaths := 0
	for at := 1; ; at += 1 + at/3 {
		store := earlier(t, n)
		calls := 0
		f := storagetest.Faults{Before: func(string) error {
			if calls++; calls >= at {
				return died
			}
			return nil
		}}
		err := Open(repo.Config{Store: f.Wrap(store), TempDir: t.TempDir()}, testBox(t)).Repair(t.Context())
		if err != nil && !errors.Is(err, died) {
			t.Fatal(err)
		}
		s := Open(repo.Config{Store: store, TempDir: t.TempDir()}, testBox(t))
		if err != nil {
			deaths++
			if problems, err := Open(repo.Config{Store: store, TempDir: t.TempDir()}, testBox(t)).checkAllProblems(t.Context()); err != nil {
				t.Fatal(problems, err)
			}
		}
		for range 2 { // the second time there is nothing to do
			if err := s.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if problems, err := s.Check(t.Context()); err != nil || len(problems) > 0 {
			t.Fatalf("interrupted at call %d: %v %v", at, problems, err)
		}
		if count, err := s.Count(t.Context()); err != nil || count != n {
			t.Errorf("interrupted at call %d: %d accounts were counted (%v)", at, count, err)
		}
		for id, want := range map[string]syntax.DID{"user0000.test": numbered(0), "USER0009@example.com": numbered(9), "gone.test": "", "reserved.test": "", "old0001.test": ""} {
			if a, err := s.Find(t.Context(), id); a.DID != want || (err == nil) != (want != "") {
				t.Errorf("%s is %s (%v)", id, a.DID, err)
			}
		}
		if due, err := s.DeletionsDue(t.Context(), 1000); err != nil || len(due) != n/10 {
			t.Errorf("%d deletions are due (%v)", len(due), err)
		}
		if _, err := s.Reserve(t.Context(), Account{DID: "did:web:new.example.com", Handle: "reserved.test", Email: "gone@example.com"}); err != nil {
			t.Errorf("names that nobody has: %v", err)
		}
		if err == nil {
			break
		}
	}
	if deaths < 10 {
		t.Errorf("only %d interruptions", deaths)
	}
}

// checkAllProblems is Check without looking again.
func (s *Store) checkAllProblems(ctx context.Context) (int, error) {
	problems, _, err := s.checkAll(ctx)
	return len(problems), err
}
