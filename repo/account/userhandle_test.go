package account

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/repo"
)

// An account has one user handle, whoever asks for it first, and gives it up when it is deleted.
func TestUserHandle(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	var all sync.WaitGroup
	handles := make([]string, 8)
	for i := range handles {
		all.Go(func() {
			a, err := s.UserHandle(ctx, Trusted(owner))
			if err != nil {
				t.Error(err)
			}
			handles[i] = a.UserHandle
		})
	}
	all.Wait()
	for _, h := range handles {
		if h != handles[0] || len(h) < 16 || len(h) > 64 || strings.Contains(h, "aaaa") {
			t.Errorf("handles %q", handles)
		}
	}
	check := func() {
		t.Helper()
		if problems, err := s.Check(ctx); err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
	}
	check()
	if a, err := s.ByUserHandle(ctx, handles[0]); err != nil || a.DID != owner {
		t.Errorf("%s %v", a.DID, err)
	}
	for _, other := range []string{"", "x", owner, strings.Repeat("x", 1000)} {
		if _, err := s.ByUserHandle(ctx, other); !errors.Is(err, ErrNotFound) {
			t.Errorf("%.20q: %v", other, err)
		}
	}
	if _, err := s.Update(ctx, Trusted(owner), func(a *Account, _ *repo.Step) error { a.UserHandle = "mine"; return nil }); !errors.Is(err, ErrNameChange) {
		t.Errorf("Update gave another: %v", err)
	}
	if _, err := s.UserHandle(ctx, Caller{DID: owner}); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("for nobody: %v", err)
	}
	// It outlasts other changes of names.
	if err := s.ChangeHandle(ctx, Trusted(owner), "bob.test", nil); err != nil {
		t.Fatal(err)
	}
	if a, err := s.UserHandle(ctx, Trusted(owner)); err != nil || a.UserHandle != handles[0] {
		t.Errorf("%q %v", a.UserHandle, err)
	}
	if err := s.Delete(ctx, Trusted(owner)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ByUserHandle(ctx, handles[0]); !errors.Is(err, ErrNotFound) {
		t.Errorf("of a deleted account: %v", err)
	}
	check()
}
