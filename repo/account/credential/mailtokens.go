package credential

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// Purpose says what a token sent by mail may be used for.
type Purpose string

// The purposes.
const (
	ForEmailConfirmation Purpose = "confirm_email"
	ForEmailChange       Purpose = "update_email"
	ForPasswordReset     Purpose = "reset_password"
	ForDeletion          Purpose = "delete_account"
	ForPLCOperation      Purpose = "plc_operation"
	// ForSignIn is a second factor: see Store.NewFactorCode.
	ForSignIn Purpose = "sign_in"
)

var purposes = []Purpose{ForEmailConfirmation, ForEmailChange, ForPasswordReset, ForDeletion, ForPLCOperation, ForSignIn}

const (
	// mailTokenLife is how long such a token is good.
	mailTokenLife = 15 * time.Minute
	// mailTokenKept is how long it is kept, to tell an expired token from a wrong one.
	mailTokenKept = 24 * time.Hour
)

const (
	mailTokenPrefix = "mailtoken/" // of the account's namespace
	resetPrefix     = "reset/"     // of the global one: a token to reset a password names its account
)

// mailToken is a token as it is stored. It is good for one purpose, for as long as the account
// has the address that it was sent to and the password that it had then.
type mailToken struct {
	Token   string    `json:"token"`
	Email   string    `json:"email,omitempty"` // in lower case; empty: made before this was kept
	Created time.Time `json:"created"`
}

// newMailToken makes the text of a token.
func newMailToken() string {
	r := rand.Text()
	return r[:5] + "-" + r[5:10]
}

// NewMailToken makes a token for a purpose. An earlier one becomes void. Send it to the address of
// the returned account: it is valid for that address only, for 15 minutes. If the account has no
// address, the error is [ErrNoEmail].
func (s *Store) NewMailToken(ctx context.Context, who account.Caller, p Purpose) (token string, a account.Account, err error) {
	return s.newMailToken(ctx, who, p, 0)
}

// resetPause is how soon after a token to reset a password a stranger has another one sent.
const resetPause = time.Minute

// NewResetToken is [Store.NewMailToken] for owners who have forgotten their password. Anybody who
// knows the address can request it. So if the last token is less than a minute old, it stays valid
// and the returned token is empty. Otherwise strangers could flood the owner with mail, or make
// each token void before it is used.
func (s *Store) NewResetToken(ctx context.Context, did syntax.DID) (token string, a account.Account, err error) {
	who, recent := account.Trusted(did), false
	err = s.accounts.View(ctx, who, func(now account.Account, r storage.KVReader) (err error) {
		a = now
		recent, err = s.isRecent(ctx, r, a, ForPasswordReset, resetPause)
		return err
	})
	if err != nil || recent {
		return "", a, err
	}
	return s.newMailToken(ctx, who, ForPasswordReset, resetPause)
}

// isRecent reports whether the last token for a purpose is younger than the pause after it, and was
// sent to the address that the account has.
func (s *Store) isRecent(ctx context.Context, r storage.KVReader, a account.Account, p Purpose, pause time.Duration) (bool, error) {
	doc, err := r.Get(ctx, mailTokenPrefix+string(p))
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	var t mailToken
	if err := json.Unmarshal(doc, &t); err != nil {
		return false, err
	}
	age := s.now().Sub(t.Created)
	return age >= 0 && age < pause && t.Email == strings.ToLower(a.Email), nil
}

// newMailToken is NewMailToken that makes none in the pause after the last one: the token is empty
// then.
func (s *Store) newMailToken(ctx context.Context, who account.Caller, p Purpose, pause time.Duration) (token string, a account.Account, err error) {
	fresh := newMailToken()
	if p == ForPasswordReset {
		// Whoever resets a password has only the token, so it leads to the account.
		err := s.accounts.Host().Store().KV.Write(ctx, func(tx storage.KVTx) error {
			return tx.Set(ctx, resetPrefix+fresh, []byte(who.DID), s.now().Add(mailTokenKept))
		})
		if err != nil {
			return "", a, err
		}
	}
	end, err := s.announce(ctx, who.DID)
	if err != nil {
		return "", a, err
	}
	defer end()
	a, err = s.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		if a.Email == "" {
			return ErrNoEmail
		}
		token = ""
		if recent, err := s.isRecent(ctx, step, *a, p, pause); err != nil || recent {
			return err
		}
		token = fresh
		doc, err := json.Marshal(mailToken{Token: fresh, Email: strings.ToLower(a.Email), Created: s.now().UTC()})
		if err != nil {
			return err
		}
		step.Set(mailTokenPrefix+string(p), doc, s.now().Add(mailTokenKept))
		return s.note(ctx, step, Notice{Token: &TokenNotice{*a, p, fresh}})
	})
	return token, a, err
}

// spellMailToken returns a token as NewMailToken spells it. People type and paste tokens: without
// the hyphen or with another dash, in lower case, with white space around or inside.
func spellMailToken(s string) string {
	const half = 5
	if len(s) > 100 { // nobody types that
		return ""
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.In(r, unicode.Pd, unicode.Cf) || r == '\u2212' { // a minus
			return -1
		}
		return unicode.ToUpper(r)
	}, s)
	if len(s) <= half {
		return s
	}
	return s[:half] + "-" + s[half:]
}

// useMailToken checks a token for an account and adds its end to a step.
func (s *Store) useMailToken(ctx context.Context, r storage.KVReader, a account.Account, p Purpose, token string, step *repo.Step) error {
	key := mailTokenPrefix + string(p)
	doc, err := r.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return ErrMailToken
	} else if err != nil {
		return err
	}
	var t mailToken
	if err := json.Unmarshal(doc, &t); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(t.Token), []byte(spellMailToken(token))) != 1 {
		return ErrMailToken
	}
	if t.Email != "" && t.Email != strings.ToLower(a.Email) {
		return ErrMailToken
	}
	// One from the future was made by a clock that was ahead, and would live for longer.
	if age := s.now().Sub(t.Created); age > mailTokenLife || age < -time.Minute {
		return ErrMailTokenExpired
	}
	step.Expect(key, doc)
	step.Remove(key)
	return nil
}

// mailCheck says whether a token may be used for an account, which it looks at by r, and adds its
// end to a step.
type mailCheck func(a account.Account, r storage.KVReader, step *repo.Step) error

// CheckMailToken checks a token without using it up. Errors are [ErrMailToken] and
// [ErrMailTokenExpired].
func (s *Store) CheckMailToken(ctx context.Context, who account.Caller, p Purpose, token string) error {
	return s.accounts.View(ctx, who, func(a account.Account, r storage.KVReader) error {
		return s.useMailToken(ctx, r, a, p, token, &repo.Step{})
	})
}

// UseMailToken checks a token and uses it up. Errors are [ErrMailToken] and [ErrMailTokenExpired].
func (s *Store) UseMailToken(ctx context.Context, who account.Caller, p Purpose, token string) error {
	_, err := s.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		return s.useMailToken(ctx, step, *a, p, token, step)
	})
	return err
}

// ConfirmEmail confirms that an account's owner has its e-mail address, by a token that was sent
// there. If the account has another address than email, the error is [ErrOtherEmail].
func (s *Store) ConfirmEmail(ctx context.Context, who account.Caller, email, token string) error {
	_, err := s.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		if !strings.EqualFold(a.Email, email) {
			return ErrOtherEmail
		}
		a.EmailConfirmedAt = s.now().UTC().Truncate(time.Millisecond)
		return s.useMailToken(ctx, step, *a, ForEmailConfirmation, token, step)
	})
	return err
}

// ChangeEmail gives an account another e-mail address, which is not confirmed. If the present
// address is confirmed, a caller with a session needs a token that was sent there for this purpose;
// without one the error is [ErrMailTokenRequired]. All tokens sent by mail become void.
func (s *Store) ChangeEmail(ctx context.Context, who account.Caller, email, token string) error {
	may := func(a account.Account, r storage.KVReader, step *repo.Step) error {
		switch {
		case who.Above(), a.EmailConfirmedAt.IsZero():
			return nil
		case token == "":
			return ErrMailTokenRequired
		}
		return s.useMailToken(ctx, r, a, ForEmailChange, token, step)
	}
	// Whether an address is taken is not for everybody to know.
	var was string
	err := s.accounts.View(ctx, who, func(a account.Account, r storage.KVReader) error {
		was = a.Email
		return may(a, r, &repo.Step{})
	})
	if err != nil {
		return err
	}
	end, err := s.announce(ctx, who.DID)
	if err != nil {
		return err
	}
	defer end()
	var a account.Account
	err = s.accounts.ChangeEmail(ctx, who, email, func(now *account.Account, step *repo.Step) error {
		if err := may(*now, step, step); err != nil {
			return err
		}
		a = *now
		voidMailTokens(step)
		if was == email {
			return nil
		}
		a.Email = email
		return s.note(ctx, step, Notice{Change: &Change{Event: EmailChanged, Account: a, Email: was}})
	})
	if err == nil && was != email {
		s.changed(ctx, Change{Event: EmailChanged, Account: a, Email: was})
	}
	return err
}

// DeleteAccount deletes an account. It needs a proof of the present password and a token that was
// sent by mail for this purpose. Errors are [ErrWrongPassword], [ErrMailToken] and
// [ErrMailTokenExpired].
func (s *Store) DeleteAccount(ctx context.Context, p Proof, token string) error {
	if p.App != nil {
		return ErrWrongPassword
	}
	err := s.accounts.DeleteIf(ctx, account.Trusted(p.Account.DID), func(a account.Account, r storage.KVReader) error {
		if a.Credentials != p.Account.Credentials {
			return ErrWrongPassword
		}
		return s.useMailToken(ctx, r, a, ForDeletion, token, &repo.Step{})
	})
	if errors.Is(err, account.ErrNotFound) {
		err = ErrWrongPassword
	}
	return err
}

// CloseAccount deletes an account for a caller, who needs a token that was sent by mail for this
// purpose. Errors are [ErrMailToken] and [ErrMailTokenExpired].
func (s *Store) CloseAccount(ctx context.Context, who account.Caller, token string) error {
	return s.accounts.DeleteIf(ctx, who, func(a account.Account, r storage.KVReader) error {
		return s.useMailToken(ctx, r, a, ForDeletion, token, &repo.Step{})
	})
}

// voidMailTokens adds to a step that no token that was sent by mail is good any longer.
func voidMailTokens(step *repo.Step) {
	for _, p := range purposes {
		step.Remove(mailTokenPrefix + string(p))
	}
}
