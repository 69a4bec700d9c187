package credential

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
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
	read := func() time.Time { return clock }
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{}), TempDir: t.TempDir(), Now: read}, box)
	s = New(Config{Accounts: accounts, Now: read})
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	a := account.Account{DID: owner, Handle: "alice.test", Email: "alice@example.com", Created: clock}
	if _, err := accounts.Create(t.Context(), a, key, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	return s, &clock
}

// login opens a session of the owner, without asking for the password.
func login(t *testing.T, s *Store, app *AppPassword) Session {
	t.Helper()
	a, err := s.accounts.ByDID(t.Context(), owner)
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
	_, app, err := s.CreateAppPassword(t.Context(), account.Trusted(owner), "phone", true)
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
		if _, err := rotate(t, s, id); !errors.Is(err, account.ErrTokenRevoked) {
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
		if _, err := rotate(t, s, id); !errors.Is(err, account.ErrTokenRevoked) {
			t.Errorf("a token after its reuse: %v", err)
		}
	}
	if _, err := rotate(t, s, other.ID); err != nil {
		t.Errorf("another session: %v", err)
	}
	for _, id := range []string{"", ".", "nothing", other.ID[:26] + ".nothing"} {
		if _, err := rotate(t, s, id); !errors.Is(err, account.ErrTokenRevoked) {
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
	if _, err := rotate(t, s, first); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("the first of too many tokens: %v", err)
	}
	x = login(t, s, nil)
	*now = now.Add(RefreshLife)
	if _, err := rotate(t, s, x.ID); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("an old session: %v", err)
	}
}

// A token that was sent by mail is good for a quarter of an hour, and once.
func TestMailTokenExpires(t *testing.T) {
	s, now := newStore(t)
	token, _, err := s.NewMailToken(t.Context(), account.Trusted(owner), ForPasswordReset)
	if err != nil {
		t.Fatal(err)
	}
	*now = now.Add(mailTokenLife + time.Second)
	if err := s.ResetPassword(t.Context(), token, "x"); !errors.Is(err, ErrMailTokenExpired) {
		t.Errorf("an old token: %v", err)
	}
	if err := s.UseMailToken(t.Context(), account.Trusted(owner), ForPLCOperation, token); !errors.Is(err, ErrMailToken) {
		t.Errorf("a token for another purpose: %v", err)
	}
}

// Mail tokens made by a clock that was ahead are as good as expired: they would live for longer.
func TestMailTokensFromTheFuture(t *testing.T) {
	for _, tt := range []struct {
		back time.Duration
		want error
	}{{0, nil}, {30 * time.Second, nil}, {2 * time.Minute, ErrMailTokenExpired}, {2 * time.Hour, ErrMailTokenExpired}, {20 * 365 * 24 * time.Hour, ErrMailTokenExpired}} {
		s, now := newStore(t)
		token, _, err := s.NewMailToken(t.Context(), account.Trusted(owner), ForDeletion)
		if err != nil {
			t.Fatal(err)
		}
		*now = now.Add(-tt.back)
		if err := s.CheckMailToken(t.Context(), account.Trusted(owner), ForDeletion, token); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.back, err, tt.want)
		}
	}
}

// What the owner of an account is shown of its sessions, and ends.
func TestOpenSessions(t *testing.T) {
	s, now := newStore(t)
	ctx, who := t.Context(), account.Trusted(owner)
	start := *now
	_, app, err := s.CreateAppPassword(ctx, who, "phone", false)
	if err != nil {
		t.Fatal(err)
	}
	first := login(t, s, nil)
	*now = now.Add(time.Hour)
	second := login(t, s, &app)
	*now = now.Add(time.Hour)
	first, err = rotate(t, s, first.ID)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Sessions(ctx, who)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	a, b := list[0], list[1]
	if a.Name != first.Name() || a.AppPassword != "" || !a.Created.Equal(start) || !a.Renewed.Equal(*now) || !a.Ends.Equal(now.Add(RefreshLife)) {
		t.Errorf("%+v", a)
	}
	if b.Name != second.Name() || b.AppPassword != "phone" || !b.Created.Equal(b.Renewed) {
		t.Errorf("%+v", b)
	}
	// A caller whose sign-in has ended sees and ends nothing.
	gone := account.NewCaller(owner, "", func(context.Context, storage.KVReader, account.Account) ([]storage.KVCheck, error) {
		return nil, account.ErrTokenRevoked
	})
	if _, err := s.Sessions(ctx, gone); !errors.Is(err, account.ErrTokenRevoked) {
		t.Error(err)
	}
	if err := s.EndOpenSession(ctx, gone, a.Name); !errors.Is(err, account.ErrTokenRevoked) {
		t.Error(err)
	}
	for _, name := range []string{b.Name, b.Name, "unknown"} {
		if err := s.EndOpenSession(ctx, who, name); err != nil {
			t.Error(err)
		}
	}
	if _, err := rotate(t, s, second.ID); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("the ended session: %v", err)
	}
	*now = now.Add(RefreshLife)
	if list, err := s.Sessions(ctx, who); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
}
