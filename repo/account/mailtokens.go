package account

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
	"github.com/pdskit/pdskit/storage"
)

// Purpose is what a token that is sent by mail is good for.
type Purpose string

// The purposes.
const (
	ConfirmEmail  Purpose = "confirm_email"
	UpdateEmail   Purpose = "update_email"
	ResetPassword Purpose = "reset_password"
	DeleteAccount Purpose = "delete_account"
	PLCOperation  Purpose = "plc_operation"
)

var purposes = []Purpose{ConfirmEmail, UpdateEmail, ResetPassword, DeleteAccount, PLCOperation}

// mailTokenLife is how long such a token is good.
const mailTokenLife = 15 * time.Minute

// Errors of such tokens.
var (
	ErrMailToken    = errors.New("account: token is invalid")
	ErrMailTokenOld = errors.New("account: token is expired")
	// ErrTokenRequired: what is to be done needs a token.
	ErrTokenRequired = errors.New("account: a token is required")
	// ErrOtherEmail: an account has another e-mail address, or (ErrNoEmail) none.
	ErrOtherEmail = errors.New("account: the account has another e-mail address")
	ErrNoEmail    = errors.New("account: the account has no e-mail address")
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

// NewMailToken makes a token for a purpose; an earlier one is void. It is to be sent to the
// address of the account that is returned, which is the only one that it is good for.
func (s *Store) NewMailToken(ctx context.Context, who Caller, p Purpose) (token string, a Account, err error) {
	token = newMailToken()
	if p == ResetPassword {
		err := s.store.KV.Write(ctx, func(tx storage.KVTx) error {
			return tx.Set(ctx, resetPrefix+token, []byte(who.DID), s.now().Add(24*time.Hour))
		})
		if err != nil {
			return "", a, err
		}
	}
	err = s.change(ctx, who, func(now *Account, r storage.Reader, c *storage.Change) error {
		if a = *now; a.Email == "" {
			return ErrNoEmail
		}
		doc, err := json.Marshal(mailToken{Token: token, Email: strings.ToLower(a.Email), Created: s.now().UTC()})
		// Kept for longer than it is good, to tell an expired token from a wrong one.
		c.KV = append(c.KV, storage.KVWrite{Key: mailTokenPrefix + string(p), Value: doc, Expires: s.now().Add(24 * time.Hour)})
		return err
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
func (s *Store) useMailToken(ctx context.Context, r storage.Reader, a *Account, p Purpose, token string, c *storage.Change) error {
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
		return ErrMailTokenOld
	}
	c.Checks = append(c.Checks, storage.KVCheck{Key: key, Value: doc})
	c.KV = append(c.KV, storage.KVWrite{Key: key})
	return nil
}

// CheckMailToken checks a token, which stays good.
func (s *Store) CheckMailToken(ctx context.Context, who Caller, p Purpose, token string) error {
	return s.look(ctx, who, func(a *Account, r storage.Reader, c *storage.Change) error {
		return s.useMailToken(ctx, r, a, p, token, c)
	})
}

// UseMailToken checks a token and makes it void.
func (s *Store) UseMailToken(ctx context.Context, who Caller, p Purpose, token string) error {
	return s.change(ctx, who, func(a *Account, r storage.Reader, c *storage.Change) error {
		return s.useMailToken(ctx, r, a, p, token, c)
	})
}

// Confirm notes that an account's e-mail address is its own. If it is not the given one, the
// error is ErrOtherEmail.
func (s *Store) Confirm(ctx context.Context, who Caller, email, token string) error {
	return s.change(ctx, who, func(a *Account, r storage.Reader, c *storage.Change) error {
		if !strings.EqualFold(a.Email, email) {
			return ErrOtherEmail
		}
		a.EmailConfirmedAt = s.now().UTC().Truncate(time.Millisecond)
		return s.useMailToken(ctx, r, a, ConfirmEmail, token, c)
	})
}

// SetPasswordByToken changes the password of the account that a token to reset
// it was sent to, and ends all its sessions.
func (s *Store) SetPasswordByToken(ctx context.Context, token, password string) error {
	token = spellMailToken(token)
	var did syntax.DID
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		v, err := r.Get(ctx, resetPrefix+token)
		did = syntax.DID(v)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return ErrMailToken
	} else if err != nil {
		return err
	}
	check := func(a *Account, r storage.Reader, c *storage.Change) error {
		return s.useMailToken(ctx, r, a, ResetPassword, token, c)
	}
	// Before anything is hashed for it.
	if err := s.look(ctx, Trusted(did), check); errors.Is(err, ErrNotFound) {
		return ErrMailToken
	} else if err != nil {
		return err
	}
	hash, err := HashPassword(ctx, password)
	if err != nil {
		return err
	}
	if _, err := s.setPassword(ctx, Trusted(did), hash, check); errors.Is(err, ErrNotFound) {
		return ErrMailToken
	} else if err != nil {
		return err
	}
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, resetPrefix+token) })
}

// SetPassword changes an account's password. That ends all its sessions, and makes app passwords
// and tokens that were sent by mail void. It returns the account as it is then.
func (s *Store) SetPassword(ctx context.Context, who Caller, password string) (Account, error) {
	hash, err := HashPassword(ctx, password)
	if err != nil {
		return Account{}, err
	}
	return s.setPassword(ctx, who, hash, func(*Account, storage.Reader, *storage.Change) error { return nil })
}

// setPassword sets a password's hash in a step that check allows.
func (s *Store) setPassword(ctx context.Context, who Caller, hash string, check func(*Account, storage.Reader, *storage.Change) error) (out Account, err error) {
	err = s.change(ctx, who, func(a *Account, r storage.Reader, c *storage.Change) error {
		if err := check(a, r, c); err != nil {
			return err
		}
		a.Password = hash
		voidMail(c)
		err := s.raise(ctx, a, r, c, "", false)
		out = *a
		return err
	})
	return out, err
}
