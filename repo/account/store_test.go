package account

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

const owner = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// newStore returns a store with one account, at a time that tests move.
func newStore(t *testing.T) (s *Store, now *time.Time) {
	t.Helper()
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Now()
	s = Open(repo.Config{Store: memory.New(memory.Config{}), TempDir: t.TempDir(), Now: func() time.Time { return clock }}, box)
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	a := Account{DID: owner, Handle: "alice.test", Email: "alice@example.com", Created: clock}
	if _, err := s.Create(t.Context(), a, key, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	return s, &clock
}

// What is remembered of accounts has a bound in bytes, whatever is stored in them.
func TestParsedAccountsAreBounded(t *testing.T) {
	s, _ := newStore(t)
	for _, n := range []int{10, maxParsedBytes, 1 << 20} {
		if _, err := s.Update(t.Context(), Trusted(owner), func(a *Account, _ *repo.Step) error {
			a.Password = strings.Repeat("x", n)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		a, err := s.ByDID(t.Context(), owner)
		if err != nil || len(a.Password) != n {
			t.Fatal(len(a.Password), err)
		}
		doc, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if kept := s.parsed.Has(doc); kept != (n == 10) {
			t.Errorf("an account of %d bytes is remembered: %v", len(doc), kept)
		}
	}
}

// A name that was reserved by a clock that was ahead, for an account that was never made, is free
// again when the clock is right; one that an account has is not.
func TestReservationsFromTheFuture(t *testing.T) {
	for _, back := range []time.Duration{0, time.Hour, 20 * 365 * 24 * time.Hour} {
		s, now := newStore(t)
		if _, err := s.Reserve(t.Context(), Account{DID: "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", Handle: "bob.test", Email: "bob@example.com"}); err != nil {
			t.Fatal(err)
		}
		*now = now.Add(-back)
		other := Account{DID: "did:plc:cccccccccccccccccccccccc", Handle: "bob.test", Email: "carol@example.com"}
		if _, err := s.Reserve(t.Context(), other); errors.Is(err, ErrHandleTaken) != (back == 0) {
			t.Errorf("%s: %v", back, err)
		}
		other.Handle = "alice.test"
		if _, err := s.Reserve(t.Context(), other); !errors.Is(err, ErrHandleTaken) {
			t.Errorf("%s: the name of an account: %v", back, err)
		}
	}
}
