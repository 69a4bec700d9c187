package credential

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

func TestPasskeysAreKept(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	a, list, err := v.Passkeys(ctx, who)
	v.ok(err)
	if a.UserHandle == "" || strings.Contains(a.UserHandle, "aaaa") || len(list) != 0 {
		t.Errorf("%q %v", a.UserHandle, list)
	}
	handle := a.UserHandle
	one := Passkey{Factor: Factor{Name: "laptop"}, CredentialID: []byte("one"), PublicKey: []byte("key"), Counter: 7, BackupEligible: true, Transports: []string{"internal"}}
	added, err := v.AddPasskey(ctx, who, 0, one)
	v.ok(err)
	_, err = v.AddPasskey(ctx, who, 0, one)
	v.is(err, ErrDuplicatePasskey)
	_, err = v.AddPasskey(ctx, who, 1, Passkey{CredentialID: []byte("two")})
	v.is(err, account.ErrTokenRevoked)
	_, err = v.AddPasskey(ctx, who, 0, Passkey{CredentialID: make([]byte, maxPasskeyBytes+1)})
	v.is(err, errLongPasskey)
	if v.factors().Required {
		t.Error("a passkey alone asks for a second factor")
	}
	a, list, err = v.PasskeysByHandle(ctx, handle)
	v.ok(err)
	if a.DID != owner || len(list) != 1 || list[0].ID != added.ID || list[0].Name != "laptop" || list[0].Counter != 7 {
		t.Errorf("%s %+v", a.DID, list)
	}
	for _, other := range []string{"", "nobody", string(owner), strings.Repeat("x", 100)} {
		_, _, err = v.PasskeysByHandle(ctx, other)
		v.is(err, account.ErrNotFound)
	}
	v.wait(time.Hour)
	p, err := v.UsePasskey(ctx, owner, PasskeyUse{CredentialID: []byte("one"), PublicKey: []byte("key"), Counter: 9, BackedUp: true})
	v.ok(err)
	v.app() // a passkey is enough also where a factor is asked for
	v.ok(v.enter(p))
	_, list, err = v.Passkeys(ctx, who)
	v.ok(err)
	if k := list[0]; k.Counter != 9 || !k.BackedUp || !k.LastUsed.Equal(v.clock) || k.CounterBack != 0 {
		t.Errorf("%+v", k)
	}
	_, err = v.UsePasskey(ctx, owner, PasskeyUse{CredentialID: []byte("one"), PublicKey: []byte("other key")})
	v.is(err, ErrWrongFactor)
	_, err = v.UsePasskey(ctx, "did:plc:nobody", PasskeyUse{CredentialID: []byte("one")})
	v.is(err, ErrWrongFactor)

	// The passkey goes while it is used.
	p, err = v.UsePasskey(ctx, owner, PasskeyUse{CredentialID: []byte("one"), PublicKey: []byte("key"), Counter: 10})
	v.ok(err)
	v.hook.before(func() { v.ok(v.other.RemoveFactor(ctx, who, added.ID)) })
	v.is(v.enter(p), ErrWrongFactor)
	_, err = v.UsePasskey(ctx, owner, PasskeyUse{CredentialID: []byte("one"), PublicKey: []byte("key"), Counter: 11})
	v.is(err, ErrWrongFactor)

	for i := range MaxPasskeys {
		_, err := v.AddPasskey(ctx, who, 0, Passkey{CredentialID: []byte{byte(i)}})
		v.ok(err)
	}
	_, err = v.AddPasskey(ctx, who, 0, Passkey{CredentialID: []byte("more")})
	v.is(err, ErrTooManyPasskeys)
}

// A counter that goes back is noted and told, and that of authenticators which do not count is not
// looked at.
func TestPasskeyCounterGoesBack(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	_, err := v.AddPasskey(ctx, who, 0, Passkey{CredentialID: []byte("one"), PublicKey: []byte("key")})
	v.ok(err)
	v.events()
	for _, c := range []struct {
		counter uint32
		back    int
	}{{0, 0}, {0, 0}, {5, 0}, {6, 0}, {6, 1}, {3, 2}, {0, 3}, {7, 3}} {
		p, err := v.UsePasskey(ctx, owner, PasskeyUse{CredentialID: []byte("one"), PublicKey: []byte("key"), Counter: c.counter})
		v.ok(err)
		v.ok(v.enter(p))
		_, list, err := v.Passkeys(ctx, who)
		v.ok(err)
		if got := list[0].CounterBack; got != c.back {
			t.Errorf("counter %d: %d times back, want %d", c.counter, got, c.back)
		}
	}
	if diff := cmp.Diff([]string{"counter-back passkey", "counter-back passkey", "counter-back passkey"}, v.events()); diff != "" {
		t.Error(diff)
	}
}

// The last thing that lets an owner in cannot be removed, but by an administrator.
func TestLastPasskey(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	for _, id := range []string{"one", "two"} {
		_, err := v.AddPasskey(ctx, who, 0, Passkey{CredentialID: []byte(id), PublicKey: []byte("key")})
		v.ok(err)
	}
	_, session := v.session(v.prove(password))
	_, err := v.accounts.Update(ctx, who, func(a *account.Account, _ *repo.Step) error { a.Password = ""; return nil })
	v.ok(err)
	list := v.factors().Factors
	v.ok(v.RemoveFactor(ctx, session, list[0].ID))
	v.is(v.RemoveFactor(ctx, session, list[1].ID), ErrLastFactor)
	v.ok(v.RemoveFactor(ctx, who, list[1].ID))
}
