package credential

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

// vault is a town whose clock the test moves, and in which owners hear of their factors.
type vault struct {
	*town
	clock time.Time
	mu    sync.Mutex
	heard []FactorChange
}

func newVault(t *testing.T) *vault {
	v := &vault{town: newTown(t), clock: time.Now().Truncate(time.Second)}
	for _, s := range []*Store{v.Store, v.other} {
		s.now = func() time.Time { return v.clock }
		s.onFactor = func(_ context.Context, c FactorChange) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.heard = append(v.heard, c)
		}
	}
	return v
}

// events are those that were heard of, and forgets them.
func (v *vault) events() (list []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.heard {
		list = append(list, string(c.Event)+" "+string(c.Factor.Kind))
		if c.Account.DID != owner || c.At.IsZero() {
			v.t.Errorf("told of %+v", c)
		}
	}
	v.heard = nil
	return list
}

func (v *vault) wait(d time.Duration) { v.clock = v.clock.Add(d) }

// app enrols an authenticator app and returns its secret. The code that confirms it is that of the
// period before.
func (v *vault) app() (secret string) {
	v.t.Helper()
	e, err := v.BeginApp(v.t.Context(), account.Trusted(owner), "pds.test")
	v.ok(err)
	_, err = v.ConfirmApp(v.t.Context(), account.Trusted(owner), "phone", v.code(e.Secret, -1))
	v.ok(err)
	return e.Secret
}

// code is what the app shows, some periods from now.
func (v *vault) code(secret string, periods int) string {
	v.t.Helper()
	code, err := AppCode(secret, v.clock.Add(time.Duration(periods)*totpPeriod))
	v.ok(err)
	return code
}

// wrongCode is a code that the app does not show now.
func (v *vault) wrongCode(secret string) string {
	v.t.Helper()
	for i := range 10 {
		code := fmt.Sprintf("%06d", i)
		if code != v.code(secret, -1) && code != v.code(secret, 0) && code != v.code(secret, 1) {
			return code
		}
	}
	panic("three codes are not ten")
}

func (v *vault) factors() FactorSet {
	v.t.Helper()
	set, err := v.Factors(v.t.Context(), account.Trusted(owner))
	v.ok(err)
	return set
}

func (v *vault) kinds() (list []FactorKind) {
	for _, f := range v.factors().Factors {
		list = append(list, f.Kind)
	}
	return list
}

func (v *vault) factor(kind FactorKind) Factor {
	v.t.Helper()
	for _, f := range v.factors().Factors {
		if f.Kind == kind {
			return f
		}
	}
	v.t.Fatalf("no factor of kind %s", kind)
	return Factor{}
}

// check completes a proof of the password by a code.
func (v *vault) check(code string) (Proof, error) {
	return v.CheckFactor(v.t.Context(), Proof{Account: v.account()}, code)
}

// enter begins a session by a proof.
func (v *vault) enter(p Proof) error {
	_, _, err := v.StartSession(v.t.Context(), p, false)
	return err
}

func (v *vault) is(err, want error) {
	v.t.Helper()
	if !errors.Is(err, want) {
		v.t.Errorf("got %v, want %v", err, want)
	}
}

// confirmEmail makes the owner's address confirmed.
func (v *vault) confirmEmail() {
	v.t.Helper()
	_, err := v.accounts.Update(v.t.Context(), account.Trusted(owner), func(a *account.Account, _ *repo.Step) error {
		a.EmailConfirmedAt = v.clock
		return nil
	})
	v.ok(err)
}

// The vectors of RFC 6238, appendix B.
func TestAppCodes(t *testing.T) {
	secret := []byte("12345678901234567890")
	for at, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := totpCode(secret, totpStep(time.Unix(at, 0)), 8); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
	if got, err := AppCode("gezd gnbv GY3TQOJQGEZDGNBVGY3TQOJQ", time.Unix(59, 0)); got != "287082" || err != nil {
		t.Errorf("%s %v", got, err)
	}
	if _, err := AppCode("1", time.Now()); err == nil {
		t.Error("a secret of digits was read")
	}
}

func TestEnrolment(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	_, err := v.ConfirmApp(ctx, who, "", "123456")
	v.is(err, ErrNoFactor) // none was begun
	first, err := v.BeginApp(ctx, who, "My: PDS")
	v.ok(err)
	if want := "otpauth://totp/My%20%20PDS:alice.test?secret=" + first.Secret + "&issuer=My%20%20PDS&algorithm=SHA1&digits=6&period=30"; first.URI != want {
		t.Errorf("%s, want %s", first.URI, want)
	}
	if svg, err := first.QR(); err != nil || !strings.HasPrefix(svg, "<svg ") {
		t.Errorf("%v %.20s", err, svg)
	}
	if set := v.factors(); set.Required || len(set.Factors) != 0 {
		t.Errorf("an enrolment that is not confirmed asks for a factor: %+v", set)
	}
	v.ok(v.enter(v.prove(password)))

	// Another enrolment voids the first.
	second, err := v.BeginApp(ctx, who, "PDS")
	v.ok(err)
	_, err = v.ConfirmApp(ctx, who, "", v.code(first.Secret, 0))
	v.is(err, ErrWrongFactor)
	_, err = v.ConfirmApp(ctx, who, "", "word")
	v.is(err, ErrWrongFactor)
	_, err = v.ConfirmApp(ctx, who, "\x00", v.code(second.Secret, 0))
	v.is(err, ErrFactorName)
	x, err := v.ConfirmApp(ctx, who, "", v.code(second.Secret, 0))
	v.ok(err)
	if x.Kind != AuthenticatorApp || x.Name != "Authenticator app" || !v.factors().Required {
		t.Errorf("%+v", x)
	}
	// The code that confirmed it is used up, and so is the enrolment.
	_, err = v.check(v.code(second.Secret, 0))
	v.is(err, ErrWrongFactor)
	_, err = v.ConfirmApp(ctx, who, "", v.code(second.Secret, 1))
	v.is(err, ErrNoFactor)

	// A new app takes the place of the old one when it is confirmed, not before.
	third, err := v.BeginApp(ctx, who, "PDS")
	v.ok(err)
	p, err := v.check(v.code(second.Secret, 1))
	v.ok(err)
	_, err = v.ConfirmApp(ctx, who, "new phone", v.code(third.Secret, 0))
	v.ok(err)
	v.is(v.enter(p), ErrWrongFactor)
	_, err = v.check(v.code(second.Secret, 1))
	v.is(err, ErrWrongFactor)
	p, err = v.check(v.code(third.Secret, 1))
	v.ok(err)
	v.ok(v.enter(p))
	if diff := cmp.Diff([]string{"added totp", "added totp"}, v.events()); diff != "" {
		t.Error(diff)
	}
}

func TestEnrolmentEnds(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	e, err := v.BeginApp(ctx, who, "PDS")
	v.ok(err)
	v.wait(enrolmentLife)
	_, err = v.ConfirmApp(ctx, who, "", v.code(e.Secret, 0))
	v.is(err, ErrNoFactor)

	// A thief's enrolment does not outlast a new password.
	_, session := v.session(v.prove(password))
	e, err = v.BeginApp(ctx, session, "PDS")
	v.ok(err)
	_, err = v.SetPassword(ctx, who, "another one")
	v.ok(err)
	_, err = v.ConfirmApp(ctx, session, "", v.code(e.Secret, 0))
	v.is(err, account.ErrTokenRevoked)
	_, err = v.ConfirmApp(ctx, who, "", v.code(e.Secret, 0))
	v.is(err, ErrNoFactor)
}

// 168: the password alone begins no session where a second factor is asked for.
func TestMatrix168PasswordOnly(t *testing.T) {
	v := newVault(t)
	before := v.prove(password) // logged in before there was a factor
	secret := v.app()
	v.is(v.enter(before), ErrFactorRequired)
	v.is(v.enter(v.prove(password)), ErrFactorRequired)
	p, err := v.check(v.code(secret, 0))
	v.ok(err)
	v.ok(v.enter(p))
}

// 168: neither does one that was accepted before the factor was added, in the same moment, by another
// process.
func TestMatrix168FactorAddedWhileLoggingIn(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	e, err := v.BeginApp(ctx, who, "PDS")
	v.ok(err)
	p := v.prove(password)
	v.hook.before(func() {
		_, err := v.other.ConfirmApp(ctx, who, "", v.code(e.Secret, 0))
		v.ok(err)
	})
	v.is(v.enter(p), ErrFactorRequired)
}

func TestEmailCodes(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	v.is(v.EnableEmailCodes(ctx, who), ErrEmailNotConfirmed)
	_, _, err := v.NewFactorCode(ctx, v.prove(password))
	v.is(err, ErrNoFactor)
	v.confirmEmail()
	v.ok(v.EnableEmailCodes(ctx, who))
	v.ok(v.EnableEmailCodes(ctx, who))
	if diff := cmp.Diff([]string{"added email"}, v.events()); diff != "" {
		t.Error(diff)
	}
	p := v.prove(password)
	v.is(v.enter(p), ErrFactorRequired)
	code, a, err := v.NewFactorCode(ctx, p)
	v.ok(err)
	if a.Email != "alice@example.com" || code == "" {
		t.Errorf("%q to %q", code, a.Email)
	}
	if again, _, err := v.NewFactorCode(ctx, p); err != nil || again != "" {
		t.Errorf("another code at once: %q %v", again, err)
	}
	_, err = v.check("AAAAA-AAAAA")
	v.is(err, ErrWrongFactor)
	p, err = v.check(code)
	v.ok(err)
	v.ok(v.enter(p))
	_, err = v.check(code)
	v.is(err, ErrWrongFactor)

	// A later code voids an earlier one, and both get old.
	first, _, err := v.NewFactorCode(ctx, v.prove(password))
	v.ok(err)
	v.wait(factorCodePause)
	second, _, err := v.NewFactorCode(ctx, v.prove(password))
	v.ok(err)
	_, err = v.check(first)
	v.is(err, ErrWrongFactor)
	v.atOnce(second)
	third, _, err := v.NewFactorCode(ctx, v.prove(password))
	v.ok(err)
	v.wait(mailTokenLife + time.Second)
	_, err = v.check(third)
	v.is(err, ErrWrongFactor)

	// A code that was sent before the password was changed, or to another address.
	fourth, _, err := v.NewFactorCode(ctx, v.prove(password))
	v.ok(err)
	old := v.prove(password)
	_, err = v.SetPassword(ctx, who, password)
	v.ok(err)
	_, err = v.CheckFactor(ctx, old, fourth)
	v.is(err, ErrWrongPassword)
	_, err = v.check(fourth)
	v.is(err, ErrWrongFactor)
	_, _, err = v.NewFactorCode(ctx, old)
	v.is(err, ErrWrongPassword)
	fifth, _, err := v.NewFactorCode(ctx, v.prove(password))
	v.ok(err)
	v.ok(v.ChangeEmail(ctx, who, "other@example.com", ""))
	_, err = v.check(fifth)
	v.is(err, ErrWrongFactor)
	// A code for another purpose is none.
	reset, _, err := v.NewMailToken(ctx, who, ForPasswordReset)
	v.ok(err)
	_, err = v.check(reset)
	v.is(err, ErrWrongFactor)
}

// 162: an app password needs no second factor, and completes nothing.
func TestMatrix162AppPassword(t *testing.T) {
	v := newVault(t)
	ctx := t.Context()
	text, _, err := v.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
	v.ok(err)
	secret := v.app()
	p := v.prove(text)
	v.ok(v.enter(p))
	_, err = v.CheckFactor(ctx, p, v.code(secret, 0))
	v.is(err, ErrWrongFactor)
	_, _, err = v.NewFactorCode(ctx, p)
	v.is(err, ErrWrongPassword)
	if _, err := v.CheckPassword(ctx, v.account(), text, false); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("an app password where only the account's is good: %v", err)
	}
}
