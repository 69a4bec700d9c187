package credential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/repo/account"
)

// model is what an account's factors must be, kept in the simplest way.
type model struct {
	app      string // secret; empty: none
	step     int64  // last period of which a code was used
	begun    string // secret of the enrolment
	until    time.Time
	begunAt  int64 // value of the counter
	wrong    []time.Time
	short    []time.Time // wrong codes since the last right one
	email    bool
	mailed   string // the code that is good
	mailedAt time.Time
	recovery []string // unused; nil: none
	passkeys []string
	resets   int
	counter  int64
}

func (m *model) required() bool { return m.app != "" || m.email }

// settle keeps what depends on the rest.
func (m *model) settle() {
	if !m.required() {
		m.recovery = nil
	}
	if m.app == "" {
		m.wrong, m.short = nil, nil
	}
}

// windowed are the times of a window that began with the first of them, at the time now.
func windowed(times []time.Time, now time.Time, length time.Duration) []time.Time {
	for len(times) > 0 && now.Sub(times[0]) >= length {
		// The window ended; the next one began with the first time after its end.
		end := times[0].Add(length)
		i := slices.IndexFunc(times, func(t time.Time) bool { return !t.Before(end) })
		if i < 0 {
			return nil
		}
		times = times[i:]
	}
	return times
}

// Whatever happens to an account's factors, in whatever order and by whatever process: the store and
// the model agree on what there is, on each code, and on who gets in.
func TestHistoriesOfFactors(t *testing.T) {
	const histories, length = 12, 150
	for seed := range uint64(histories) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			history(t, rand.New(rand.NewPCG(seed, 14)), length)
		})
	}
}

func history(t *testing.T, r *rand.Rand, length int) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	v.confirmEmail()
	m := &model{}
	proofs := []Proof{{Account: v.account()}} // that somebody has, good or not
	agree := func(what string, err error, want bool) {
		t.Helper()
		if (err == nil) != want {
			t.Fatalf("%s: %v, want it to succeed: %v\n%+v", what, err, want, m)
		}
	}
	// takes says whether the model takes a code of the app, and uses it up or counts it.
	takes := func(code string) bool {
		if m.app == "" {
			return false
		}
		m.wrong, m.short = windowed(m.wrong, v.clock, longWindow), windowed(m.short, v.clock, shortWindow)
		if len(m.wrong) >= longGuesses || len(m.short) >= shortGuesses {
			return false
		}
		for i := int64(1); i >= -1; i-- {
			if step := totpStep(v.clock) + i; step > m.step && v.code(m.app, int(i)) == code {
				m.step, m.short = step, nil
				return true
			}
		}
		m.wrong, m.short = append(m.wrong, v.clock), append(m.short, v.clock)
		return false
	}
	for range length {
		s := v.Store
		if r.IntN(2) == 0 {
			s = v.other
		}
		present := Proof{Account: v.account()}
		var p Proof
		var err error
		switch op := r.IntN(18); op {
		case 0:
			e, err := s.BeginApp(ctx, who, "PDS")
			agree("begin", err, true)
			m.begun, m.until, m.begunAt = e.Secret, v.clock.Add(enrolmentLife), m.counter
		case 1, 2:
			code := "123456"
			good := m.begun != "" && v.clock.Before(m.until) && m.begunAt == m.counter
			if m.begun != "" {
				code = v.code(m.begun, r.IntN(5)-2)
				good = good && (code == v.code(m.begun, -1) || code == v.code(m.begun, 0) || code == v.code(m.begun, 1))
			}
			_, err = s.ConfirmApp(ctx, who, "", code)
			agree("confirm", err, good)
			if good {
				m.app, m.begun, m.wrong, m.short = m.begun, "", nil, nil
				for i := int64(-1); i <= 1; i++ {
					if v.code(m.app, int(i)) == code {
						m.step = totpStep(v.clock) + i
					}
				}
			}
		case 3, 4, 5, 6:
			code := fmt.Sprintf("%06d", r.IntN(1_000_000))
			if m.app != "" && r.IntN(3) > 0 {
				code = v.code(m.app, r.IntN(5)-2)
			}
			p, err = s.CheckFactor(ctx, present, code)
			agree("code of the app", err, takes(code))
		case 7:
			codes, err := s.NewRecoveryCodes(ctx, who)
			agree("recovery codes", err, m.required())
			if err == nil {
				m.recovery = codes
			}
		case 8:
			code, i := "AAAA-BBBB-CCCC-DDDD", -1
			if len(m.recovery) > 0 && r.IntN(4) > 0 {
				i = r.IntN(len(m.recovery))
				code = m.recovery[i]
			}
			p, err = s.CheckFactor(ctx, present, code)
			agree("recovery code", err, i >= 0)
			if i >= 0 {
				m.recovery = slices.Delete(slices.Clone(m.recovery), i, i+1)
			}
		case 9:
			agree("codes by mail", s.EnableEmailCodes(ctx, who), true)
			m.email = true
		case 10:
			code, _, err := s.NewFactorCode(ctx, present)
			agree("mail", err, m.email)
			if fresh := m.email && (m.mailed == "" || v.clock.Sub(m.mailedAt) >= factorCodePause); fresh != (code != "") {
				t.Fatalf("code %q, want one: %v", code, fresh)
			}
			if code != "" {
				m.mailed, m.mailedAt = code, v.clock
			}
		case 11:
			code, good := "AAAAA-BBBBB", false
			if m.mailed != "" && r.IntN(4) > 0 {
				code, good = m.mailed, m.email && v.clock.Sub(m.mailedAt) <= mailTokenLife
			}
			p, err = s.CheckFactor(ctx, present, code)
			agree("code by mail", err, good)
			if good {
				m.mailed = ""
			}
		case 12:
			id := fmt.Sprintf("key %d", r.IntN(5))
			_, err = s.AddPasskey(ctx, who, m.counter, Passkey{CredentialID: []byte(id), PublicKey: []byte("public " + id)})
			agree("add a passkey", err, !slices.Contains(m.passkeys, id))
			if err == nil {
				m.passkeys = append(m.passkeys, id)
			}
		case 13:
			id := fmt.Sprintf("key %d", r.IntN(5))
			p, err = s.UsePasskey(ctx, owner, PasskeyUse{CredentialID: []byte(id), PublicKey: []byte("public " + id)})
			agree("use a passkey", err, slices.Contains(m.passkeys, id))
		case 14:
			if set := v.factors().Factors; len(set) > 0 && r.IntN(2) == 0 {
				f := set[r.IntN(len(set))]
				_, keys, err := s.Passkeys(ctx, who)
				v.ok(err)
				agree("remove", s.RemoveFactor(ctx, who, f.ID), true)
				switch f.Kind {
				case AuthenticatorApp:
					m.app = ""
				case EmailCodes:
					m.email = false
				case RecoveryCodes:
					m.recovery = nil
				case PasskeyKind:
					i := slices.IndexFunc(keys, func(k Passkey) bool { return k.ID == f.ID })
					m.passkeys = slices.DeleteFunc(m.passkeys, func(id string) bool { return id == string(keys[i].CredentialID) })
				}
			}
		case 15:
			if r.IntN(6) == 0 {
				_, err = s.ResetFactors(ctx, owner, "admin")
				agree("reset", err, true)
				*m = model{resets: m.resets + 1, counter: m.counter}
			}
		case 16:
			if r.IntN(4) == 0 {
				_, err := s.setPassword(ctx, who, passwordHash(), account.Kept{}, nil)
				agree("another password", err, true)
				m.counter++
				m.mailed = ""
			}
		case 17:
			v.wait([]time.Duration{time.Second, totpPeriod, factorCodePause, shortWindow, enrolmentLife, longWindow}[r.IntN(6)])
		}
		if err == nil && p.Account.DID != "" {
			proofs = append(proofs, p)
		}
		if r.IntN(3) == 0 {
			proofs = append(proofs, present)
		}
		m.settle()

		// What there is.
		set, got := v.factors(), map[FactorKind]int{}
		for _, f := range set.Factors {
			got[f.Kind]++
			if f.Kind == RecoveryCodes && f.Left != len(m.recovery) {
				t.Fatalf("%d recovery codes are left, want %d", f.Left, len(m.recovery))
			}
		}
		want := map[FactorKind]int{}
		for kind, n := range map[FactorKind]int{AuthenticatorApp: min(1, len(m.app)), PasskeyKind: len(m.passkeys)} {
			if n > 0 {
				want[kind] = n
			}
		}
		if m.email {
			want[EmailCodes] = 1
		}
		if m.recovery != nil {
			want[RecoveryCodes] = 1
		}
		if diff := cmp.Diff(want, got); diff != "" || set.Required != m.required() || set.Email != m.email || len(set.Resets) != min(m.resets, maxResets) {
			t.Fatalf("%s\n%+v\n%+v", diff, set, m)
		}

		// Who gets in, of those who have shown something at some time.
		p = proofs[r.IntN(len(proofs))]
		there := slices.ContainsFunc(set.Factors, func(f Factor) bool { return f.ID == p.Shown.ID })
		in := p.Account.Credentials == m.counter && (there || p.Shown.ID == "" && !m.required())
		agree(fmt.Sprintf("enter by %+v", p.Shown), v.enter(p), in)
	}
}
