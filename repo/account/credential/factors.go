package credential

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// Errors of second factors and passkeys.
var (
	// ErrFactorRequired: the account demands a second factor besides its password.
	ErrFactorRequired = errors.New("credential: a second factor is required")
	// ErrWrongFactor: a code is wrong or already used, or the factor was removed.
	ErrWrongFactor = errors.New("credential: wrong or used code")
	// ErrChallenge: a passkey's response has a challenge that is unknown, used, too old, or was
	// given to another device or for another purpose. The client should begin again.
	ErrChallenge = errors.New("credential: the challenge is not good any more")
	// ErrTooManyCodes: too many wrong codes were tried. Recovery codes and codes sent by mail are
	// still accepted.
	ErrTooManyCodes = errors.New("credential: too many wrong codes were tried, wait before the next one")
	// ErrNoFactor: the account has no such factor, or no such enrolment.
	ErrNoFactor = errors.New("credential: no such factor")
	// ErrLastFactor: without this factor the owner could not log in.
	ErrLastFactor = errors.New("credential: the account has no password, and this is its last passkey")
	// ErrEmailNotConfirmed: codes are sent to a confirmed address only.
	ErrEmailNotConfirmed = errors.New("credential: the account's e-mail address is not confirmed")
	// ErrFactorName: a factor's name is too long, or not valid text.
	ErrFactorName = errors.New("credential: the name of a factor must be text of at most 64 characters")
	// ErrTooManyPasskeys: the account has MaxPasskeys of them.
	ErrTooManyPasskeys = errors.New("credential: too many passkeys")
	// ErrDuplicatePasskey: the account already has this passkey.
	ErrDuplicatePasskey = errors.New("credential: the passkey is registered already")
)

// FactorKind is a kind of proof that an owner shows besides, or instead of, the password.
type FactorKind string

// The kinds.
const (
	// AuthenticatorApp is an app with time-based codes (RFC 6238).
	AuthenticatorApp FactorKind = "totp"
	// EmailCodes are codes sent to the account's address.
	EmailCodes FactorKind = "email"
	// RecoveryCodes are codes to be kept on paper, each for one use, for owners who have lost the
	// other factors.
	RecoveryCodes FactorKind = "recovery"
	// PasskeyKind is a passkey. It replaces the password and a second factor together.
	PasskeyKind FactorKind = "passkey"
)

// Factor describes a factor of an account to its owner.
type Factor struct {
	ID       string     `json:"id"` // random, never used again
	Kind     FactorKind `json:"kind,omitempty"`
	Name     string     `json:"name,omitempty"` // as the owner calls it
	Created  time.Time  `json:"created"`
	LastUsed time.Time  `json:"lastUsed,omitzero"`
	// Left is how many recovery codes are unused.
	Left int `json:"left,omitempty"`
}

// Reset records that an administrator has removed all factors of an account.
type Reset struct {
	At      time.Time    `json:"at"`
	By      string       `json:"by"`
	Removed []FactorKind `json:"removed"` // sorted; one for each factor
}

// FactorSet lists the factors of an account.
type FactorSet struct {
	// Factors are all factors, passkeys included, in the order of their creation.
	Factors []Factor `json:"factors"`
	// Resets are the most recent resets by administrators, oldest first.
	Resets []Reset `json:"resets"`
	// Required is set if a login with the account's password needs a second factor.
	Required bool `json:"required"`
	// Email is set if codes are sent by mail after the password was shown. See Store.NewFactorCode.
	Email bool `json:"email"`
}

// factors is what is stored of an account's factors, at factorsKey: one document, so that each
// change is compared with all that was looked at.
type factors struct {
	App      *appFactor      `json:"totp,omitempty"`
	Email    *Factor         `json:"email,omitempty"`
	Recovery *recoveryFactor `json:"recovery,omitempty"`
	Passkeys []Passkey       `json:"passkeys,omitempty"`
	Resets   []Reset         `json:"resets,omitempty"`
}

const (
	factorsKey = "factor/list"
	secretKey  = account.FactorSecretKey
	enrolKey   = account.FactorEnrolmentKey
	guessesKey = "factor/guesses"
	maxResets  = 20
)

// readFactors reads an account's factors and the text that they are stored as; nil if it has none.
func readFactors(ctx context.Context, r storage.KVReader) (f factors, doc []byte, err error) {
	doc, err = r.Get(ctx, factorsKey)
	if errors.Is(err, storage.ErrNotFound) {
		return f, nil, nil
	} else if err != nil {
		return f, nil, err
	}
	return f, doc, json.Unmarshal(doc, &f)
}

// required reports whether the password alone lets nobody in. Passkeys alone do not ask for more:
// who has one need not type the password.
func (f *factors) required() bool { return f.App != nil || f.Email != nil }

// all are the descriptions of the factors, which may be changed.
func (f *factors) all() (list []*Factor) {
	if f.App != nil {
		list = append(list, &f.App.Factor)
	}
	if f.Email != nil {
		list = append(list, f.Email)
	}
	if f.Recovery != nil {
		list = append(list, &f.Recovery.Factor)
	}
	for i := range f.Passkeys {
		list = append(list, &f.Passkeys[i].Factor)
	}
	return list
}

// describe is a factor as its owner sees it.
func (f *factors) describe(x *Factor) Factor {
	out := *x
	switch {
	case f.App != nil && x == &f.App.Factor:
		out.Kind = AuthenticatorApp
	case x == f.Email:
		out.Kind = EmailCodes
	case f.Recovery != nil && x == &f.Recovery.Factor:
		out.Kind, out.Left = RecoveryCodes, len(f.Recovery.Hashes)
	default:
		out.Kind = PasskeyKind
	}
	return out
}

// find returns the factor of an ID, or nil.
func (f *factors) find(id string) *Factor {
	for _, x := range f.all() {
		if x.ID == id {
			return x
		}
	}
	return nil
}

// drop removes a factor, and the recovery codes with the last one that they stand for.
func (f *factors) drop(id string) {
	switch {
	case f.App != nil && f.App.ID == id:
		f.App = nil
	case f.Email != nil && f.Email.ID == id:
		f.Email = nil
	case f.Recovery != nil && f.Recovery.ID == id:
		f.Recovery = nil
	}
	f.Passkeys = slices.DeleteFunc(f.Passkeys, func(p Passkey) bool { return p.ID == id })
	if !f.required() {
		f.Recovery = nil
	}
}

// Factors returns the factors of an account.
func (s *Store) Factors(ctx context.Context, who account.Caller) (set FactorSet, err error) {
	err = s.accounts.View(ctx, who, func(_ account.Account, r storage.KVReader) error {
		f, _, err := readFactors(ctx, r)
		set = FactorSet{Resets: f.Resets, Required: f.required(), Email: f.Email != nil}
		for _, x := range f.all() {
			set.Factors = append(set.Factors, f.describe(x))
		}
		slices.SortStableFunc(set.Factors, func(a, b Factor) int { return a.Created.Compare(b.Created) })
		return err
	})
	return set, err
}

// FactorEvent is an event of a factor.
type FactorEvent string

// The events.
const (
	FactorAdded   FactorEvent = "added"
	FactorRemoved FactorEvent = "removed"
	// FactorReset: an administrator has removed all factors.
	FactorReset FactorEvent = "reset"
	// RecoveryUsed: somebody has used a recovery code. Factor.Left says how many are left.
	RecoveryUsed FactorEvent = "recovery-used"
	// CounterBack: a passkey has sent a lower counter than before, so it may have been copied.
	CounterBack FactorEvent = "counter-back"
)

// FactorChange is an event that the owner of an account should be notified of.
type FactorChange struct {
	Event   FactorEvent
	Account account.Account
	Factor  Factor // of a reset: the zero Factor
	Reset   Reset  // of a reset
	At      time.Time
}

// changeFactors changes an account's factors. fn changes them, and returns what the owner should
// hear of, or nil.
func (s *Store) changeFactors(ctx context.Context, who account.Caller, fn func(a account.Account, f *factors, step *repo.Step) (*FactorChange, error)) error {
	var change *FactorChange
	announced := s.notices == nil
	update := func(a *account.Account, step *repo.Step) error {
		f, doc, err := readFactors(ctx, step)
		if err != nil {
			return err
		}
		if change, err = fn(*a, &f, step); err != nil {
			return err
		}
		if change != nil {
			if !announced {
				return errNotAnnounced
			}
			change.Account = *a
			if err := s.note(ctx, step, Notice{Factor: change}); err != nil {
				return err
			}
		}
		step.Expect(factorsKey, doc)
		if f.App == nil {
			step.Remove(secretKey)
			step.Remove(guessesKey)
		}
		now, err := json.Marshal(f)
		if string(now) == "{}" {
			step.Remove(factorsKey)
		} else {
			step.Set(factorsKey, now, time.Time{})
		}
		return err
	}
	a, err := s.accounts.Update(ctx, who, update)
	if errors.Is(err, errNotAnnounced) { // most changes are uses, of which nobody is told
		end, failed := s.announce(ctx, who.DID)
		if failed != nil {
			return failed
		}
		defer end()
		announced = true
		a, err = s.accounts.Update(ctx, who, update)
	}
	if err == nil && change != nil && s.onFactor != nil {
		change.Account, change.At = a, s.present()
		s.onFactor(ctx, *change)
	}
	return err
}

// errNotAnnounced: a change has a notice, which was not announced. Nothing was changed.
var errNotAnnounced = errors.New("credential: the change was not announced")

func (s *Store) present() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// newFactor describes a factor that begins now.
func (s *Store) newFactor(name, otherwise string) (f Factor, err error) {
	name, err = factorName(name, otherwise)
	return Factor{ID: rand.Text(), Name: name, Created: s.present()}, err
}

// maxFactorName is the length in characters of the longest name.
const maxFactorName = 64

func factorName(name, otherwise string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" {
		name = otherwise
	}
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxFactorName || strings.ContainsFunc(name, unicode.IsControl) {
		return "", ErrFactorName
	}
	return name, nil
}

// RenameFactor gives a factor another name. Errors are ErrNoFactor and ErrFactorName.
func (s *Store) RenameFactor(ctx context.Context, who account.Caller, id, name string) error {
	return s.changeFactors(ctx, who, func(_ account.Account, f *factors, _ *repo.Step) (*FactorChange, error) {
		x := f.find(id)
		if x == nil {
			return nil, ErrNoFactor
		}
		name, err := factorName(name, x.Name)
		x.Name = name
		return nil, err
	})
}

// RemoveFactor removes a factor. A concurrent login with it fails. If neither an app nor codes by
// mail are left, the recovery codes are removed too. Errors are [ErrNoFactor] and [ErrLastFactor].
func (s *Store) RemoveFactor(ctx context.Context, who account.Caller, id string) error {
	return s.changeFactors(ctx, who, func(a account.Account, f *factors, _ *repo.Step) (*FactorChange, error) {
		x := f.find(id)
		if x == nil {
			return nil, ErrNoFactor
		}
		gone := f.describe(x)
		if gone.Kind == PasskeyKind && len(f.Passkeys) == 1 && a.Password == "" && !who.Above() {
			return nil, ErrLastFactor
		}
		f.drop(id)
		return &FactorChange{Event: FactorRemoved, Factor: gone}, nil
	})
}

// ResetFactors removes all factors of an account whose owner has lost them. The reset is recorded
// with the account; by names the administrator. Sessions and the password stay valid.
func (s *Store) ResetFactors(ctx context.Context, did syntax.DID, by string) (reset Reset, err error) {
	err = s.changeFactors(ctx, account.Trusted(did), func(_ account.Account, f *factors, step *repo.Step) (*FactorChange, error) {
		reset = Reset{At: s.present(), By: by, Removed: []FactorKind{}}
		for _, x := range f.all() {
			reset.Removed = append(reset.Removed, f.describe(x).Kind)
		}
		slices.Sort(reset.Removed)
		*f = factors{Resets: append(f.Resets, reset)}
		f.Resets = f.Resets[max(0, len(f.Resets)-maxResets):]
		step.Remove(enrolKey)
		step.Remove(mailTokenPrefix + string(ForSignIn))
		return &FactorChange{Event: FactorReset, Reset: reset}, nil
	})
	return reset, err
}

// Shown is the factor that completed a Proof.
type Shown struct {
	Kind FactorKind
	ID   string
}

// ProofChecks checks a proof in a transaction: it must be valid under the account's present
// credentials, its factor must still exist, and no demanded factor may be missing. It returns
// preconditions for a step that relies on the proof. Errors are [ErrWrongPassword],
// [ErrFactorRequired] and [ErrWrongFactor]. It does not check takedowns.
func (s *Store) ProofChecks(ctx context.Context, r storage.KVReader, now account.Account, p Proof) ([]storage.KVCheck, error) {
	if now.DID != p.Account.DID || now.Credentials != p.Account.Credentials {
		return nil, ErrWrongPassword
	}
	if p.App != nil {
		check, err := sameApp(ctx, r, now, p.App.Name, p.App.Hash)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, ErrWrongPassword
		}
		return []storage.KVCheck{check}, err
	}
	f, doc, err := readFactors(ctx, r)
	if err != nil {
		return nil, err
	}
	checks := []storage.KVCheck{{Key: factorsKey, Value: doc}}
	switch {
	case p.Shown.ID == "" && f.required():
		return nil, ErrFactorRequired
	case p.Shown.ID != "" && f.find(p.Shown.ID) == nil:
		return nil, ErrWrongFactor
	}
	return checks, nil
}
