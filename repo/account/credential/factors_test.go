package credential

import (
	"bytes"
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
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
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

// 163: after wrong codes none is looked at, the right one neither, until the window is over.
func TestMatrix163WrongCodes(t *testing.T) {
	v := newVault(t)
	secret := v.app()
	codes, err := v.NewRecoveryCodes(t.Context(), account.Trusted(owner))
	v.ok(err)
	for range 3 { // of a day: 3 × 5 wrong ones
		for range shortGuesses {
			_, err := v.check(v.wrongCode(secret))
			v.is(err, ErrWrongFactor)
		}
		_, err = v.check(v.wrongCode(secret))
		v.is(err, ErrTooManyCodes)
		_, err = v.check(v.code(secret, 0))
		v.is(err, ErrTooManyCodes)
		v.wait(shortWindow - time.Second)
		_, err = v.check(v.code(secret, 0))
		v.is(err, ErrTooManyCodes)
		v.wait(time.Second)
	}
	_, err = v.check(v.code(secret, 0))
	v.ok(err)
	// Right ones do not give the day's guesses back.
	for n := 3 * shortGuesses; n < longGuesses; n++ {
		_, err := v.check(v.wrongCode(secret))
		v.is(err, ErrWrongFactor)
		v.wait(totpPeriod)
		if n%3 == 0 {
			_, err := v.check(v.code(secret, 0))
			v.ok(err)
		}
	}
	v.wait(shortWindow)
	_, err = v.check(v.code(secret, 0))
	v.is(err, ErrTooManyCodes)
	// Nobody can lock the owner out of recovery codes.
	p, err := v.check(codes[0])
	v.ok(err)
	v.ok(v.enter(p))
	v.wait(longWindow)
	_, err = v.check(v.code(secret, 0))
	v.ok(err)
}

// 163: guesses at once, by several processes, are counted one by one.
func TestMatrix163GuessesAtOnce(t *testing.T) {
	v := newVault(t)
	secret := v.app()
	wrong, p := v.wrongCode(secret), Proof{Account: v.account()}
	var all sync.WaitGroup
	errs := make(chan error, 40)
	for i := range cap(errs) {
		s := v.Store
		if i%2 == 0 {
			s = v.other
		}
		all.Go(func() {
			_, err := s.CheckFactor(t.Context(), p, wrong)
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	looked := 0
	for err := range errs {
		switch {
		case errors.Is(err, ErrWrongFactor):
			looked++
		case !errors.Is(err, ErrTooManyCodes) && !errors.Is(err, storage.ErrConflict):
			t.Errorf("%v", err)
		}
	}
	if looked > shortGuesses {
		t.Errorf("%d codes were looked at, want at most %d", looked, shortGuesses)
	}
	_, err := v.check(v.code(secret, 0))
	v.is(err, ErrTooManyCodes)
}

// 163: no guess of another process is lost between the look at the count and the count.
func TestMatrix163FasterGuesses(t *testing.T) {
	v := newVault(t)
	secret := v.app()
	p := Proof{Account: v.account()}
	v.hook.before(func() {
		for range shortGuesses {
			_, err := v.other.CheckFactor(t.Context(), p, v.wrongCode(secret))
			v.is(err, ErrWrongFactor)
		}
	})
	_, err := v.check(v.wrongCode(secret))
	v.is(err, ErrTooManyCodes)
	v.wait(shortWindow)
	v.hook.before(func() {
		for range shortGuesses {
			_, err := v.other.CheckFactor(t.Context(), p, v.wrongCode(secret))
			v.is(err, ErrWrongFactor)
		}
	})
	_, err = v.check(v.code(secret, 0))
	v.is(err, ErrTooManyCodes)
}

// 164: a code is good for once; those of periods before it are not good any more, and those too far
// off never.
func TestMatrix164ReplayedCode(t *testing.T) {
	v := newVault(t)
	secret := v.app()
	use := func(periods int, want error) {
		t.Helper()
		_, err := v.check(v.code(secret, periods))
		v.is(err, want)
	}
	use(-1, ErrWrongFactor) // it has confirmed the app
	use(0, nil)
	use(0, ErrWrongFactor)
	use(2, ErrWrongFactor) // too early
	v.wait(shortWindow)
	use(1, nil) // the app's clock is ahead
	use(0, ErrWrongFactor)
	v.wait(totpPeriod)
	use(0, ErrWrongFactor) // it is the same as above
	v.wait(3 * totpPeriod)
	use(-2, ErrWrongFactor) // too late
	use(-1, nil)
	use(0, nil)
}

// 164: of those who use a code at once, one gets in.
func TestMatrix164CodeUsedTwiceAtOnce(t *testing.T) {
	v := newVault(t)
	code := v.code(v.app(), 0)
	v.atOnce(code)
}

// atOnce has a code used by many at once, in two processes, and wants one of them to succeed.
func (v *vault) atOnce(code string) {
	v.t.Helper()
	p := Proof{Account: v.account()}
	var all sync.WaitGroup
	errs := make(chan error, 8)
	for i := range cap(errs) {
		s := v.Store
		if i%2 == 0 {
			s = v.other
		}
		all.Go(func() {
			_, err := s.CheckFactor(v.t.Context(), p, code)
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	in := 0
	for err := range errs {
		if err == nil {
			in++
		}
	}
	if in != 1 {
		v.t.Errorf("%d got in by one code", in)
	}
}

// 164: the code was looked at, but another process is faster.
func TestMatrix164FasterReplay(t *testing.T) {
	v := newVault(t)
	code := v.code(v.app(), 0)
	v.hook.before(func() {
		_, err := v.other.CheckFactor(t.Context(), Proof{Account: v.account()}, code)
		v.ok(err)
	})
	_, err := v.check(code)
	v.is(err, ErrWrongFactor)
}

// 165: a recovery code is good for once, also if it is used by many at once.
func TestMatrix165RecoveryCodes(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	_, err := v.NewRecoveryCodes(ctx, who)
	v.is(err, ErrNoFactor)
	v.app()
	codes, err := v.NewRecoveryCodes(ctx, who)
	v.ok(err)
	if len(codes) != RecoveryCodeCount || v.factor(RecoveryCodes).Left != RecoveryCodeCount {
		t.Fatalf("%d codes, %+v", len(codes), v.factor(RecoveryCodes))
	}
	v.events()
	p, err := v.check(strings.ToLower(strings.ReplaceAll(codes[0], "-", " ")))
	v.ok(err)
	v.ok(v.enter(p))
	_, err = v.check(codes[0])
	v.is(err, ErrWrongFactor)
	v.atOnce(codes[1])
	if left := v.factor(RecoveryCodes).Left; left != RecoveryCodeCount-2 {
		t.Errorf("%d codes are left", left)
	}
	if diff := cmp.Diff([]string{"recovery-used recovery", "recovery-used recovery"}, v.events()); diff != "" {
		t.Error(diff)
	}
	again, err := v.NewRecoveryCodes(ctx, who)
	v.ok(err)
	_, err = v.check(codes[2])
	v.is(err, ErrWrongFactor)
	_, err = v.check(again[2])
	v.ok(err)
	// Those of one account are none of another's.
	const bob = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
	v.create(bob, "bob.test", "bob@example.com")
	b, err := v.accounts.ByDID(ctx, bob)
	v.ok(err)
	_, err = v.CheckFactor(ctx, Proof{Account: b}, again[3])
	v.is(err, ErrWrongFactor)
	// Nothing of them is stored in the clear.
	v.ok(v.accounts.View(ctx, who, func(_ account.Account, r storage.KVReader) error {
		for pair, err := range r.Keys(ctx, storage.Range{}) {
			v.ok(err)
			for _, code := range again {
				if strings.Contains(string(pair.Value), strings.ReplaceAll(code, "-", "")) || strings.Contains(string(pair.Value), code) {
					t.Errorf("%s has a recovery code", pair.Key)
				}
			}
		}
		return nil
	}))
}

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

// Secrets are stored sealed, for their own account and key, and are sealed anew with the others.
func TestAppSecretIsSealed(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	secret := v.app()
	raw, err := base32Secret.DecodeString(secret)
	v.ok(err)
	v.ok(v.accounts.View(ctx, who, func(_ account.Account, r storage.KVReader) error {
		for pair, err := range r.Keys(ctx, storage.Range{}) {
			v.ok(err)
			if strings.Contains(string(pair.Value), string(raw)) || strings.Contains(string(pair.Value), secret) {
				t.Errorf("%s has the secret", pair.Key)
			}
		}
		doc, err := r.Get(ctx, secretKey)
		v.ok(err)
		if _, err := v.accounts.Unseal(owner, enrolKey, doc); err == nil {
			t.Error("the secret can be moved to another key")
		}
		if _, err := v.accounts.Unseal("did:plc:other", secretKey, doc); err == nil {
			t.Error("the secret can be moved to another account")
		}
		return nil
	}))
}

func FuzzReadCode(f *testing.F) {
	for _, s := range []string{"123456", "123 456", "abcde-fghij", "ABCD-EFGH-IJKL-MNOP", "–1–", "\x00", strings.Repeat("1", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kind, code := readCode(s)
		if kind == "" {
			if code != "" {
				t.Errorf("%q is of no kind, but %q", s, code)
			}
			return
		}
		if again, same := readCode(code); again != kind || same != code {
			t.Errorf("%q: %s %q, then %s %q", s, kind, code, again, same)
		}
		if want := map[FactorKind]int{AuthenticatorApp: 6, EmailCodes: 10, RecoveryCodes: 16}[kind]; len(code) != want {
			t.Errorf("%q: %d characters of %s", s, len(code), kind)
		}
	})
}

// The secret is sealed anew with the signing keys when the master key changes.
func TestAppSecretIsSealedAnew(t *testing.T) {
	store := memory.New(memory.Config{})
	clock := time.Now()
	with := func(keys ...[]byte) *vault {
		box, err := sealed.New(keys...)
		if err != nil {
			t.Fatal(err)
		}
		s := New(Config{Accounts: account.Open(repo.Config{Store: store, TempDir: t.TempDir()}, box), Now: func() time.Time { return clock }})
		return &vault{town: &town{Store: s, t: t}, clock: clock}
	}
	older, newer := make([]byte, 32), bytes.Repeat([]byte{1}, 32)
	v := with(older)
	v.create(owner, "alice.test", "alice@example.com")
	secret := v.app()
	if _, err := v.BeginApp(t.Context(), account.Trusted(owner), "PDS"); err != nil {
		t.Fatal(err)
	}
	n, err := with(newer, older).accounts.Reseal(t.Context(), nil)
	if err != nil || n != 3 {
		t.Fatalf("%d secrets were sealed anew, %v", n, err)
	}
	v = with(newer)
	_, err = v.check(v.code(secret, 0))
	v.ok(err)
}
