package credential

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

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
	looked := 0
	for err := range v.checkAtOnce(v.wrongCode(secret), 40) {
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

// checkAtOnce checks a code n times at once, in two processes, and yields the errors.
func (v *vault) checkAtOnce(code string, n int) <-chan error {
	p := Proof{Account: v.account()}
	var all sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
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
	return errs
}

// atOnce has a code used by many at once, in two processes, and wants one of them to succeed.
func (v *vault) atOnce(code string) {
	v.t.Helper()
	in := 0
	for err := range v.checkAtOnce(code, 8) {
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
