package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"strings"
	"time"

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

// mailTokenLife is how long such a token is good.
const mailTokenLife = 15 * time.Minute

// Errors of such tokens.
var (
	ErrMailToken    = errors.New("accounts: token is invalid")
	ErrMailTokenOld = errors.New("accounts: token is expired")
)

const (
	mailTokenPrefix = "mailtoken/" // of the account's namespace
	resetPrefix     = "reset/"     // of the global one: a token to reset a password names its account
)

type mailToken struct {
	Token   string    `json:"token"`
	Created time.Time `json:"created"`
}

// NewMailToken makes a token for a purpose; an earlier one is void.
func (s *Store) NewMailToken(ctx context.Context, did syntax.DID, p Purpose) (token string, err error) {
	r := rand.Text()
	t := mailToken{Token: r[:5] + "-" + r[5:10], Created: s.now().UTC()}
	doc, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	if p == ResetPassword {
		err := s.store.KV.Write(ctx, func(tx storage.KVTx) error {
			return tx.Set(ctx, resetPrefix+t.Token, []byte(did), s.now().Add(24*time.Hour))
		})
		if err != nil {
			return "", err
		}
	}
	return t.Token, s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		// Kept for longer than it is good, to tell an expired token from a wrong one.
		c.KV = append(c.KV, storage.KVWrite{Key: mailTokenPrefix + string(p), Value: doc, Expires: s.now().Add(24 * time.Hour)})
		return nil
	})
}

// CheckMailToken checks a token, which stays good.
func (s *Store) CheckMailToken(ctx context.Context, did syntax.DID, p Purpose, token string) error {
	err := s.store.Repos.View(ctx, did, func(r storage.Reader) error {
		return s.useMailToken(ctx, r, p, token, &storage.Change{})
	})
	if errors.Is(err, storage.ErrNotFound) {
		return ErrMailToken
	}
	return err
}

// useMailToken checks a token and adds its end to a step.
func (s *Store) useMailToken(ctx context.Context, r storage.Reader, p Purpose, token string, c *storage.Change) error {
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
	if subtle.ConstantTimeCompare([]byte(t.Token), []byte(strings.ToUpper(strings.TrimSpace(token)))) != 1 {
		return ErrMailToken
	}
	if s.now().Sub(t.Created) > mailTokenLife {
		return ErrMailTokenOld
	}
	c.Checks = append(c.Checks, storage.KVCheck{Key: key, Value: doc})
	c.KV = append(c.KV, storage.KVWrite{Key: key})
	return nil
}

// UseMailToken checks a token and makes it void.
func (s *Store) UseMailToken(ctx context.Context, did syntax.DID, p Purpose, token string) error {
	err := s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		return s.useMailToken(ctx, r, p, token, c)
	})
	if errors.Is(err, ErrNotFound) {
		return ErrMailToken
	}
	return err
}

// Confirm notes that an account's e-mail address is its own.
func (s *Store) Confirm(ctx context.Context, did syntax.DID, token string) error {
	return s.updateWith(ctx, did, ConfirmEmail, token, func(a *Account, _ storage.Reader, _ *storage.Change) error {
		a.EmailConfirmedAt = s.now().UTC().Truncate(time.Millisecond)
		return nil
	})
}

// SetPasswordByToken changes the password of the account that a token to reset
// it was sent to, and ends all its sessions.
func (s *Store) SetPasswordByToken(ctx context.Context, token, password string) error {
	token = strings.ToUpper(strings.TrimSpace(token))
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
	if err := s.CheckMailToken(ctx, did, ResetPassword, token); err != nil {
		return err
	}
	hash, err := HashPassword(ctx, password)
	if err != nil {
		return err
	}
	err = s.updateWith(ctx, did, ResetPassword, token, func(a *Account, r storage.Reader, c *storage.Change) error {
		a.Password = hash
		return endSessions(ctx, r, "", c)
	})
	if err != nil {
		return err
	}
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, resetPrefix+token) })
}

// SetPassword changes an account's password and ends all its sessions.
func (s *Store) SetPassword(ctx context.Context, did syntax.DID, password string) error {
	hash, err := HashPassword(ctx, password)
	if err != nil {
		return err
	}
	return s.updateWith(ctx, did, "", "", func(a *Account, r storage.Reader, c *storage.Change) error {
		a.Password = hash
		return endSessions(ctx, r, "", c)
	})
}

// updateWith is Update with the use of a token (if it has a purpose), and a reader for fn.
func (s *Store) updateWith(ctx context.Context, did syntax.DID, p Purpose, token string, fn func(*Account, storage.Reader, *storage.Change) error) error {
	return s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		if p != "" {
			if err := s.useMailToken(ctx, r, p, token, c); err != nil {
				return err
			}
		}
		return s.change(ctx, r, c, func(a *Account) error { return fn(a, r, c) })
	})
}
