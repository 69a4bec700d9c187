package credential

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// A factor that is removed while it is used lets nobody in: neither before the code is used up, nor
// between that and the session.
func TestFactorRemovedWhileUsed(t *testing.T) {
	for _, kind := range []FactorKind{AuthenticatorApp, EmailCodes, RecoveryCodes} {
		t.Run(string(kind), func(t *testing.T) {
			v := newVault(t)
			ctx, who := t.Context(), account.Trusted(owner)
			v.confirmEmail()
			code := func() string {
				secret := v.app()
				switch kind {
				case EmailCodes:
					v.ok(v.EnableEmailCodes(ctx, who))
					v.wait(factorCodePause)
					code, _, err := v.NewFactorCode(ctx, Proof{Account: v.account()})
					v.ok(err)
					return code
				case RecoveryCodes:
					codes, err := v.NewRecoveryCodes(ctx, who)
					v.ok(err)
					return codes[0]
				}
				return v.code(secret, 0)
			}
			text := code()
			id := v.factor(kind).ID
			v.hook.before(func() { v.ok(v.other.RemoveFactor(ctx, who, id)) })
			_, err := v.check(text)
			v.is(err, ErrWrongFactor)

			p, err := v.check(code())
			v.ok(err)
			id = v.factor(kind).ID
			v.hook.before(func() { v.ok(v.other.RemoveFactor(ctx, who, id)) })
			v.is(v.enter(p), ErrWrongFactor)
		})
	}
}

// 122: a new password, by whatever way, does not open an account that asks for a second factor.
func TestMatrix122FactorsOutlastNewPassword(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	secret := v.app()
	token, _, err := v.NewMailToken(ctx, who, ForPasswordReset)
	v.ok(err)
	v.ok(v.ResetPassword(ctx, token, "by mail"))
	v.is(v.enter(v.prove("by mail")), ErrFactorRequired)
	stale, err := v.check(v.code(secret, 0))
	v.ok(err)
	_, err = v.SetPassword(ctx, who, "once more")
	v.ok(err)
	v.is(v.enter(stale), ErrWrongPassword)
	v.ok(v.accounts.TakeDown(ctx, owner, account.Takedown{Applied: true, Ref: "x"}))
	p, err := v.check(v.code(secret, 1))
	v.ok(err)
	v.is(v.enter(p), account.ErrTakenDown)
}

func TestResetFactors(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	v.confirmEmail()
	secret := v.app()
	v.ok(v.EnableEmailCodes(ctx, who))
	codes, err := v.NewRecoveryCodes(ctx, who)
	v.ok(err)
	_, err = v.AddPasskey(ctx, who, 0, Passkey{CredentialID: []byte("id"), PublicKey: []byte("key")})
	v.ok(err)
	e, err := v.BeginApp(ctx, who, "PDS")
	v.ok(err)
	p, err := v.check(v.code(secret, 0))
	v.ok(err)
	v.events()
	reset, err := v.ResetFactors(ctx, owner, "admin (console)")
	v.ok(err)
	want := Reset{At: v.clock.UTC(), By: "admin (console)", Removed: []FactorKind{EmailCodes, PasskeyKind, RecoveryCodes, AuthenticatorApp}}
	if diff := cmp.Diff(want, reset); diff != "" {
		t.Error(diff)
	}
	set := v.factors()
	if diff := cmp.Diff(FactorSet{Resets: []Reset{want}}, set); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"reset "}, v.events()); diff != "" {
		t.Error(diff)
	}
	v.is(v.enter(p), ErrWrongFactor)
	_, err = v.check(codes[0])
	v.is(err, ErrWrongFactor)
	_, err = v.ConfirmApp(ctx, who, "", v.code(e.Secret, 0))
	v.is(err, ErrNoFactor)
	v.ok(v.enter(v.prove(password)))
	// The trace stays, whatever comes after, and is bounded.
	id := func() string { v.wait(time.Hour); v.app(); return v.factor(AuthenticatorApp).ID }()
	v.ok(v.RemoveFactor(ctx, who, id))
	for range maxResets + 5 {
		_, err := v.ResetFactors(ctx, owner, "again")
		v.ok(err)
	}
	if n := len(v.factors().Resets); n != maxResets {
		t.Errorf("%d resets are kept", n)
	}
	_, err = v.ResetFactors(ctx, "did:plc:nobody", "admin")
	v.is(err, account.ErrNotFound)
}

func TestRenameAndRemove(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	secret := v.app()
	_, err := v.NewRecoveryCodes(ctx, who)
	v.ok(err)
	id := v.factor(AuthenticatorApp).ID
	v.ok(v.RenameFactor(ctx, who, id, "  Møbil ☎  "))
	if name := v.factor(AuthenticatorApp).Name; name != "Møbil ☎" {
		t.Errorf("named %q", name)
	}
	for _, name := range []string{strings.Repeat("x", maxFactorName+1), "a\nb", "\xff"} {
		v.is(v.RenameFactor(ctx, who, id, name), ErrFactorName)
	}
	v.is(v.RenameFactor(ctx, who, "other", "x"), ErrNoFactor)
	v.is(v.RemoveFactor(ctx, who, "other"), ErrNoFactor)
	_, err = v.check(v.wrongCode(secret))
	v.is(err, ErrWrongFactor)
	v.ok(v.RemoveFactor(ctx, who, id))
	if kinds := v.kinds(); len(kinds) != 0 {
		t.Errorf("%v are left", kinds) // recovery codes stand for nothing then
	}
	v.ok(v.accounts.View(ctx, who, func(_ account.Account, r storage.KVReader) error {
		for pair, err := range r.Keys(ctx, storage.Prefix("factor/")) {
			t.Errorf("%s is left (%v)", pair.Key, err)
		}
		return nil
	}))
	// By the word of a session, for as long as it lasts.
	_, session := v.session(v.prove(password))
	v.ok(v.EndSessions(ctx, who))
	_, err = v.BeginApp(ctx, session, "PDS")
	v.is(err, account.ErrTokenRevoked)
	_, err = v.Factors(ctx, session)
	v.is(err, account.ErrTokenRevoked)
	_, err = v.AddPasskey(ctx, session, 0, Passkey{CredentialID: []byte("id")})
	v.is(err, account.ErrTokenRevoked)
}
