package credential

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

const owner = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// newStore returns a store with one account, at a time that tests move.
func newStore(t *testing.T) (s *Store, now *time.Time) {
	t.Helper()
	sealer, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(memory.Config{})
	s = New(store, sealer)
	clock := time.Now()
	s.now = func() time.Time { return clock }
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	host := repo.NewHost(repo.Config{Store: store, Signer: s.Signer})
	a := Account{DID: owner, Handle: "alice.test", Email: "alice@example.com", Created: clock}
	if _, err := s.Create(t.Context(), host, a, key, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	return s, &clock
}

// login opens a session of the owner, without asking for the password.
func login(t *testing.T, s *Store, app *AppPassword) Session {
	t.Helper()
	a, err := s.ByDID(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	_, x, err := s.StartSession(t.Context(), Proof{Account: a, App: app}, false)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// rotate exchanges a refresh token of the owner.
func rotate(t *testing.T, s *Store, id string) (Session, error) {
	_, x, err := s.RotateSession(t.Context(), owner, id)
	return x, err
}

// A token that is used twice within two hours has one successor, however far the
// session has gone meanwhile.
func TestRefreshWithinGrace(t *testing.T) {
	s, now := newStore(t)
	_, app, err := s.CreateAppPassword(t.Context(), Trusted(owner), "phone", true)
	if err != nil {
		t.Fatal(err)
	}
	x := login(t, s, &app)
	ids := []string{x.ID}
	for range 5 {
		*now = now.Add(20 * time.Minute)
		next, err := rotate(t, s, ids[len(ids)-1])
		if err != nil {
			t.Fatal(err)
		}
		if next.AppPassword != "phone" || !next.Privileged {
			t.Errorf("the session became %+v", next)
		}
		ids = append(ids, next.ID)
	}
	for i, id := range ids[:5] {
		if next, err := rotate(t, s, id); err != nil || next.ID != ids[i+1] {
			t.Errorf("token %d once more: %v %v, want %s", i, next, err, ids[i+1])
		}
	}
	if err := s.EndSession(t.Context(), owner, ids[0]); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if _, err := rotate(t, s, id); !errors.Is(err, ErrTokenRevoked) {
			t.Errorf("token %d of a session that has ended: %v", i, err)
		}
	}
}

// Whoever uses a token that somebody used two hours ago ends the session: one of them has
// stolen it.
func TestRefreshTokenStolen(t *testing.T) {
	s, now := newStore(t)
	x := login(t, s, nil)
	other := login(t, s, nil)
	next, err := rotate(t, s, x.ID)
	if err != nil {
		t.Fatal(err)
	}
	*now = now.Add(refreshGrace)
	for _, id := range []string{x.ID, next.ID} {
		if _, err := rotate(t, s, id); !errors.Is(err, ErrTokenRevoked) {
			t.Errorf("a token after its reuse: %v", err)
		}
	}
	if _, err := rotate(t, s, other.ID); err != nil {
		t.Errorf("another session: %v", err)
	}
	for _, id := range []string{"", ".", "nothing", other.ID[:26] + ".nothing"} {
		if _, err := rotate(t, s, id); !errors.Is(err, ErrTokenRevoked) {
			t.Errorf("token %q: %v", id, err)
		}
	}
}

// A session that is not used for ninety days ends, and what it remembers is bounded.
func TestSessionBounds(t *testing.T) {
	s, now := newStore(t)
	x := login(t, s, nil)
	first := x.ID
	for range maxUsed + 1 {
		var err error
		if x, err = rotate(t, s, x.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rotate(t, s, first); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("the first of too many tokens: %v", err)
	}
	x = login(t, s, nil)
	*now = now.Add(RefreshLife)
	if _, err := rotate(t, s, x.ID); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("an old session: %v", err)
	}
}

// A token that was sent by mail is good for a quarter of an hour, and once.
func TestMailTokenExpires(t *testing.T) {
	s, now := newStore(t)
	token, _, err := s.NewMailToken(t.Context(), Trusted(owner), ResetPassword)
	if err != nil {
		t.Fatal(err)
	}
	*now = now.Add(mailTokenLife + time.Second)
	if err := s.SetPasswordByToken(t.Context(), token, "x"); !errors.Is(err, ErrMailTokenOld) {
		t.Errorf("an old token: %v", err)
	}
	if err := s.UseMailToken(t.Context(), Trusted(owner), PLCOperation, token); !errors.Is(err, ErrMailToken) {
		t.Errorf("a token for another purpose: %v", err)
	}
}

// Mail tokens made by a clock that was ahead are as good as expired: they would live for longer.
func TestMailTokensFromTheFuture(t *testing.T) {
	for _, tt := range []struct {
		back time.Duration
		want error
	}{{0, nil}, {30 * time.Second, nil}, {2 * time.Minute, ErrMailTokenOld}, {2 * time.Hour, ErrMailTokenOld}, {20 * 365 * 24 * time.Hour, ErrMailTokenOld}} {
		s, now := newStore(t)
		token, _, err := s.NewMailToken(t.Context(), Trusted(owner), DeleteAccount)
		if err != nil {
			t.Fatal(err)
		}
		*now = now.Add(-tt.back)
		if err := s.CheckMailToken(t.Context(), Trusted(owner), DeleteAccount, token); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.back, err, tt.want)
		}
	}
}

// What is remembered of accounts has a bound in bytes, whatever is stored in them.
func TestParsedAccountsAreBounded(t *testing.T) {
	s, _ := newStore(t)
	for _, n := range []int{10, maxParsedBytes, 1 << 20} {
		if _, err := s.Update(t.Context(), Trusted(owner), func(a *Account, _ *storage.Change) error {
			a.TakedownRef = strings.Repeat("x", n)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		a, err := s.ByDID(t.Context(), owner)
		if err != nil || len(a.TakedownRef) != n {
			t.Fatal(len(a.TakedownRef), err)
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
		if err := s.Reserve(t.Context(), Account{DID: "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", Handle: "bob.test", Email: "bob@example.com"}); err != nil {
			t.Fatal(err)
		}
		*now = now.Add(-back)
		other := Account{DID: "did:plc:cccccccccccccccccccccccc", Handle: "bob.test", Email: "carol@example.com"}
		if err := s.Reserve(t.Context(), other); errors.Is(err, ErrHandleTaken) != (back == 0) {
			t.Errorf("%s: %v", back, err)
		}
		other.Handle = "alice.test"
		if err := s.Reserve(t.Context(), other); !errors.Is(err, ErrHandleTaken) {
			t.Errorf("%s: the name of an account: %v", back, err)
		}
	}
}
