package account

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
)

func TestReservedKeys(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	k := s.Keys()
	first, err := k.Reserve(ctx, other)
	again, errAgain := k.Reserve(ctx, other)
	if err != nil || errAgain != nil || first != again {
		t.Errorf("%s %v, then %s %v", first, err, again, errAgain)
	}
	if unbound, err := k.Reserve(ctx, ""); err != nil || unbound == first {
		t.Errorf("%s %v", unbound, err)
	}
	if key, err := k.Reserved(ctx, other); err != nil || key.PublicKey().DIDKey() != first {
		t.Errorf("%v", err)
	}
	for range 2 {
		if err := k.Release(ctx, other); err != nil {
			t.Error(err)
		}
	}
	if key, err := k.Reserved(ctx, other); err != nil || key != nil {
		t.Errorf("after its release: %v %v", key, err)
	}
}

// The first commit of a new account reads no key.
func TestNewKeyIsInMemory(t *testing.T) {
	s, _ := newStore(t)
	if _, ok := s.keys.open.Get(owner); !ok {
		t.Error("the key of a new account is not in memory")
	}
}

// A key that cannot be unsealed is an error that says whose it is.
func TestDamagedKey(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	_, err := s.host.Step(ctx, owner, func(step *repo.Step) error {
		step.Set(signingKey, []byte("rubbish"), time.Time{})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.keys.Forget(owner)
	if _, err := s.Signer(ctx, owner); err == nil || !strings.Contains(err.Error(), owner) {
		t.Errorf("%v", err)
	}
}

// A key that is rotated while the directory does not answer is the same at the next attempt, and
// commits are signed with the old one until then.
func TestRotateKeyInTwoAttempts(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	before, err := s.Signer(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("no answer")
	var told []string
	register := func(fails bool) func(context.Context, *crypto.PublicKey) error {
		return func(_ context.Context, key *crypto.PublicKey) error {
			told = append(told, key.DIDKey())
			if fails {
				return down
			}
			return nil
		}
	}
	if err := s.RotateKey(ctx, Trusted(owner), register(true)); !errors.Is(err, down) {
		t.Errorf("%v", err)
	}
	if now, err := s.Signer(ctx, owner); err != nil || !now.PublicKey().Equal(before.PublicKey()) {
		t.Errorf("the key changed: %v", err)
	}
	if err := s.RotateKey(ctx, Trusted(owner), register(false)); err != nil {
		t.Fatal(err)
	}
	now, err := s.Signer(ctx, owner)
	if err != nil || len(told) != 2 || told[0] != told[1] || now.PublicKey().DIDKey() != told[1] {
		t.Errorf("%v: %v", told, err)
	}
	s.keys.Forget(owner)
	if stored, err := s.Signer(ctx, owner); err != nil || !stored.PublicKey().Equal(now.PublicKey()) {
		t.Errorf("another one is stored: %v", err)
	}
	if err := s.RotateKey(ctx, Trusted(other), nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
}
