package account_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

func keyring(t *testing.T, keys ...byte) *sealed.Box {
	t.Helper()
	var list [][]byte
	for _, k := range keys {
		list = append(list, bytes.Repeat([]byte{k}, 32))
	}
	ring, err := sealed.New(list...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// Whenever a rotation is interrupted, every key can be opened with the two master
// keys, and after the next try with the new one alone.
func TestResealInterrupted(t *testing.T) {
	const n = 5
	for stopAt := range n + 2 {
		store := memory.New(memory.Config{})
		old := account.Open(repo.Config{Store: store}, keyring(t, 1))
		public := make(map[syntax.DID]string)
		for i := range n {
			a, err := seed.Seed{}.Account(t.Context(), old, i)
			if err != nil {
				t.Fatal(err)
			}
			key, err := old.Signer(t.Context(), a.DID)
			if err != nil {
				t.Fatal(err)
			}
			public[a.DID] = key.PublicKey().DIDKey()
		}
		reserved, err := old.Keys().Reserve(t.Context(), "did:plc:comes")
		if err != nil {
			t.Fatal(err)
		}
		opens := func(keys ...byte) {
			t.Helper()
			s := account.Open(repo.Config{Store: store}, keyring(t, keys...))
			for did, want := range public {
				key, err := s.Signer(t.Context(), did)
				if err != nil || key.PublicKey().DIDKey() != want {
					t.Errorf("stopped at %d, with %v: %v", stopAt, keys, err)
				}
			}
			if key, err := s.Keys().Reserved(t.Context(), "did:plc:comes"); err != nil || key.PublicKey().DIDKey() != reserved {
				t.Errorf("stopped at %d, with %v: reserved: %v", stopAt, keys, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		first, err := account.Open(repo.Config{Store: store}, keyring(t, 2, 1)).Reseal(ctx, func(accounts int) {
			if accounts == stopAt {
				cancel()
			}
		})
		if interrupted := stopAt >= 1 && stopAt <= n; interrupted != errors.Is(err, context.Canceled) {
			t.Errorf("stopped at %d: %v", stopAt, err)
		}
		cancel()
		opens(2, 1)
		second, err := account.Open(repo.Config{Store: store}, keyring(t, 2, 1)).Reseal(t.Context(), nil)
		if err != nil || first+second != n+1 {
			t.Errorf("stopped at %d: sealed %d and %d, %v", stopAt, first, second, err)
		}
		opens(2)
		if again, err := account.Open(repo.Config{Store: store}, keyring(t, 2)).Reseal(t.Context(), nil); err != nil || again != 0 {
			t.Errorf("again: %d, %v", again, err)
		}
	}
}

func TestResealWithoutTheOldKey(t *testing.T) {
	store := memory.New(memory.Config{})
	old := account.Open(repo.Config{Store: store}, keyring(t, 1))
	if _, err := (seed.Seed{}).Account(t.Context(), old, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := account.Open(repo.Config{Store: store}, keyring(t, 2)).Reseal(t.Context(), nil); !errors.Is(err, sealed.ErrUnknownKey) {
		t.Errorf("%v", err)
	}
}
