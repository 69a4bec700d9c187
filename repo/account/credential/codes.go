package credential

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// Lengths of codes without hyphens and spaces. The length tells the kind.
const (
	appCodeLen      = 6
	mailCodeLen     = 10
	recoveryCodeLen = 16 // of 5 random bits each: too many to be guessed, or found by their hash
)

// RecoveryCodeCount is how many recovery codes a set has.
const RecoveryCodeCount = 10

// recoveryFactor is the set of recovery codes that have not been used, by their hashes.
type recoveryFactor struct {
	Factor
	Hashes []string `json:"hashes"`
}

func hashRecoveryCode(did syntax.DID, code string) string {
	sum := sha256.Sum256([]byte("recovery " + string(did) + " " + code))
	return hex.EncodeToString(sum[:])
}

// readCode tells what kind of code somebody has typed, and returns it in upper case, without
// hyphens and white space. It is of no kind if nothing that is given out looks like it.
func readCode(text string) (kind FactorKind, code string) {
	if len(text) > 100 { // nobody types that
		return "", ""
	}
	code = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.In(r, unicode.Pd, unicode.Cf) || r == '\u2212' { // a minus
			return -1
		}
		return r
	}, text)
	digits := true
	for i := range len(code) {
		c := code[i]
		digits = digits && '0' <= c && c <= '9'
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return "", ""
		}
	}
	code = strings.ToUpper(code)
	switch {
	case len(code) == appCodeLen && digits:
		return AuthenticatorApp, code
	case len(code) == mailCodeLen:
		return EmailCodes, code
	case len(code) == recoveryCodeLen:
		return RecoveryCodes, code
	}
	return "", ""
}

// NewRecoveryCodes makes a new set of recovery codes for an account and returns it. Earlier codes
// become void. If the account has no second factor that recovery codes could replace, the error is
// [ErrNoFactor].
func (s *Store) NewRecoveryCodes(ctx context.Context, who account.Caller) (codes []string, err error) {
	codes = make([]string, RecoveryCodeCount)
	for i := range codes {
		r := rand.Text()
		codes[i] = r[:4] + "-" + r[4:8] + "-" + r[8:12] + "-" + r[12:16]
	}
	err = s.changeFactors(ctx, who, func(a account.Account, f *factors, _ *repo.Step) (*FactorChange, error) {
		if !f.required() {
			return nil, ErrNoFactor
		}
		x, err := s.newFactor("", "Recovery codes")
		f.Recovery = &recoveryFactor{Factor: x}
		for _, code := range codes {
			f.Recovery.Hashes = append(f.Recovery.Hashes, hashRecoveryCode(a.DID, strings.ReplaceAll(code, "-", "")))
		}
		return &FactorChange{Event: FactorAdded, Factor: f.describe(&f.Recovery.Factor)}, err
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// EnableEmailCodes makes codes that are sent by mail a second factor. If they already are one,
// nothing changes. The account must have a confirmed address; errors are [ErrNoEmail] and
// [ErrEmailNotConfirmed].
func (s *Store) EnableEmailCodes(ctx context.Context, who account.Caller) error {
	return s.changeFactors(ctx, who, func(a account.Account, f *factors, _ *repo.Step) (*FactorChange, error) {
		switch {
		case f.Email != nil:
			return nil, nil
		case a.Email == "":
			return nil, ErrNoEmail
		case a.EmailConfirmedAt.IsZero():
			return nil, ErrEmailNotConfirmed
		}
		x, err := s.newFactor("", "E-mail")
		f.Email = &x
		return &FactorChange{Event: FactorAdded, Factor: f.describe(f.Email)}, err
	})
}

// DisableEmailCodes removes codes that are sent by mail as a second factor. If they are none,
// nothing changes. A caller that does not stand above the account's sessions needs a token of the
// purpose ForEmailChange, which was sent to the address. Errors are [ErrMailTokenRequired],
// [ErrMailToken] and [ErrMailTokenExpired].
func (s *Store) DisableEmailCodes(ctx context.Context, who account.Caller, token string) error {
	return s.changeFactors(ctx, who, func(a account.Account, f *factors, step *repo.Step) (*FactorChange, error) {
		switch {
		case f.Email == nil:
			return nil, nil
		case who.Above():
		case token == "":
			return nil, ErrMailTokenRequired
		default:
			if err := s.useMailToken(ctx, step, a, ForEmailChange, token, step); err != nil {
				return nil, err
			}
		}
		gone := f.describe(f.Email)
		f.drop(gone.ID)
		return &FactorChange{Event: FactorRemoved, Factor: gone}, nil
	})
}

// factorCodePause is how soon after a code another one is sent.
const factorCodePause = time.Minute

// NewFactorCode makes a code for a login that has shown the right password, if codes sent by mail
// are a second factor. Send it to the address of the returned account. It is valid for 15 minutes.
// An earlier code becomes void. If the earlier code is less than a minute old, it stays valid and
// the returned code is empty; so somebody who knows the password cannot flood the owner with mail.
// Errors are [ErrNoFactor], [ErrNoEmail] and [ErrWrongPassword].
func (s *Store) NewFactorCode(ctx context.Context, p Proof) (code string, a account.Account, err error) {
	end, err := s.announce(ctx, p.Account.DID)
	if err != nil {
		return "", a, err
	}
	defer end()
	fresh := newMailToken()
	a, err = s.accounts.Update(ctx, account.Trusted(p.Account.DID), func(a *account.Account, step *repo.Step) error {
		code = ""
		f, doc, err := readFactors(ctx, step)
		switch {
		case err != nil:
			return err
		case a.Credentials != p.Account.Credentials || p.App != nil:
			return ErrWrongPassword
		case f.Email == nil:
			return ErrNoFactor
		case a.Email == "":
			return ErrNoEmail
		}
		step.Expect(factorsKey, doc)
		key := mailTokenPrefix + string(ForSignIn)
		old, err := step.Get(ctx, key)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if err == nil {
			var t mailToken
			if err := json.Unmarshal(old, &t); err != nil {
				return err
			}
			age := s.now().Sub(t.Created)
			if age >= 0 && age < factorCodePause && t.Email == strings.ToLower(a.Email) {
				return nil
			}
		}
		code = fresh
		text, err := json.Marshal(mailToken{Token: fresh, Email: strings.ToLower(a.Email), Created: s.now().UTC()})
		if err != nil {
			return err
		}
		step.Set(key, text, s.now().Add(mailTokenKept))
		return s.note(ctx, step, Notice{Token: &TokenNotice{*a, ForSignIn, fresh}})
	})
	if errors.Is(err, account.ErrNotFound) {
		err = ErrWrongPassword
	}
	if err != nil {
		code = ""
	}
	return code, a, err
}

// CheckFactor completes a proof with a code of the authenticator app, a code sent by mail, or a
// recovery code. Each code can be used once. Wrong codes of the app are counted for each account:
// after five in five minutes, or 50 in a day, the error is [ErrTooManyCodes]. The other kinds of
// codes are too long to guess. A proof that began with an app password cannot be completed. Other
// errors are [ErrWrongFactor] and [ErrWrongPassword].
func (s *Store) CheckFactor(ctx context.Context, p Proof, text string) (Proof, error) {
	kind, code := readCode(text)
	if p.App != nil || kind == "" {
		return Proof{}, ErrWrongFactor
	}
	var shown Shown
	var wrong error // of a code that is counted
	err := s.changeFactors(ctx, account.Trusted(p.Account.DID), func(a account.Account, f *factors, step *repo.Step) (change *FactorChange, err error) {
		shown, wrong = Shown{}, nil
		if a.Credentials != p.Account.Credentials {
			return nil, ErrWrongPassword
		}
		var x *Factor
		switch kind {
		case AuthenticatorApp:
			if x, wrong, err = s.useAppCode(ctx, a.DID, f, code, step); err != nil || wrong != nil {
				return nil, err
			}
		case EmailCodes:
			if f.Email == nil {
				return nil, ErrWrongFactor
			}
			x = f.Email
			err := s.useMailToken(ctx, step, a, ForSignIn, code, step)
			if errors.Is(err, ErrMailToken) || errors.Is(err, ErrMailTokenExpired) {
				return nil, ErrWrongFactor
			} else if err != nil {
				return nil, err
			}
		case RecoveryCodes:
			if x = f.useRecovery(a.DID, code); x == nil {
				return nil, ErrWrongFactor
			}
			change = &FactorChange{Event: RecoveryUsed}
		}
		x.LastUsed = s.present()
		shown = Shown{Kind: kind, ID: x.ID}
		if change != nil {
			change.Factor = f.describe(x)
		}
		return change, nil
	})
	if errors.Is(err, account.ErrNotFound) {
		err = ErrWrongPassword
	}
	if err == nil {
		err = wrong
	}
	if err != nil {
		return Proof{}, err
	}
	p.Shown, p.At = shown, s.now()
	return p, nil
}

// useRecovery uses up a recovery code, or returns nil.
func (f *factors) useRecovery(did syntax.DID, code string) *Factor {
	if f.Recovery == nil {
		return nil
	}
	hash := hashRecoveryCode(did, code)
	i := slices.IndexFunc(f.Recovery.Hashes, func(h string) bool { return subtle.ConstantTimeCompare([]byte(h), []byte(hash)) == 1 })
	if i < 0 {
		return nil
	}
	f.Recovery.Hashes = slices.Delete(f.Recovery.Hashes, i, i+1)
	return &f.Recovery.Factor
}
