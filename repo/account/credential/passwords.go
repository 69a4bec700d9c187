package credential

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/pdskit/pdskit/internal/hashcost"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// More parameters of new password hashes. Every hash contains its parameters, so they can be raised
// at any time.
const (
	argonThreads = 1
	argonKeyLen  = 32
	argonSaltLen = 16
)

// cost is what a new hash costs: passes over the memory, and KiB of it.
func cost() (time, memory uint32) {
	if hashcost.Low() { // only in tests
		return 1, 8
	}
	return argonTime, argonMemory
}

// argon hashes a password when there is a place for it.
func (s *Store) argon(ctx context.Context, password string, salt []byte, time, memory uint32, threads uint8, keyLen uint32) ([]byte, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return argon2.IDKey([]byte(password), salt, time, memory, threads, keyLen), nil
}

// HashPassword returns the hash of a password in PHC string format, for [account.Account].Password.
// It fails with the error of Config.Enter if there is no place.
func (s *Store) HashPassword(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSaltLen)
	rand.Read(salt)
	time, memory := cost()
	key, err := s.argon(ctx, password, salt, time, memory, argonThreads, argonKeyLen)
	if err != nil {
		return "", err
	}
	return phc(time, memory, salt, key), nil
}

// phc is a hash in PHC string format.
func phc(time, memory uint32, salt, key []byte) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, time, argonThreads, b64(salt), b64(key))
}

// noPassword is the hash of no password, which takes as long to compare with.
func noPassword() string {
	time, memory := cost()
	return phc(time, memory, make([]byte, argonSaltLen), make([]byte, argonKeyLen))
}

// errBadHash says that a stored hash is not one.
var errBadHash = errors.New("credential: malformed password hash")

// checkPassword reports whether a password is that of a hash.
func (s *Store) checkPassword(ctx context.Context, hash, password string) (bool, error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, errBadHash
	}
	var time, memory uint32
	var threads uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &threads); err != nil {
		return false, errBadHash
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil {
		return false, errBadHash
	}
	got, err := s.argon(ctx, password, salt, time, memory, threads, uint32(len(key)))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, key) == 1, nil
}

// Proof is the result of a login: somebody has shown the account's password, with or without a
// second factor, an app password, or a passkey.
type Proof struct {
	Account account.Account // as it was when the password was checked
	App     *AppPassword    // nil: it was the account's own
	// Shown is the second factor, or the passkey. The zero value means that no factor was shown:
	// see Store.CheckFactor.
	Shown Shown
	// At is when the last part of the proof was shown.
	At time.Time
}

// CheckPassword checks a password of an account, or with apps also one of its app passwords. If
// none matches, the error is [ErrWrongPassword]. The zero Account means that there is no such
// account: the check then fails, but takes equally long.
func (s *Store) CheckPassword(ctx context.Context, a account.Account, password string, apps bool) (Proof, error) {
	if apps {
		if app, err := s.appPassword(ctx, a, password); err != nil {
			return Proof{}, err
		} else if app != nil {
			return Proof{Account: a, App: app, At: s.now()}, nil
		}
	}
	if a.DID == "" {
		time, memory := cost()
		if _, err := s.argon(ctx, password, make([]byte, argonSaltLen), time, memory, argonThreads, argonKeyLen); err != nil {
			return Proof{}, err
		}
		return Proof{}, ErrWrongPassword
	}
	if a.Password == "" { // it has none: nobody can know it
		a.Password = noPassword()
	}
	switch ok, err := s.checkPassword(ctx, a.Password, password); {
	case err != nil:
		return Proof{}, err
	case !ok:
		return Proof{}, ErrWrongPassword
	}
	return Proof{Account: a, At: s.now()}, nil
}

// SetPassword changes an account's password. It ends all sessions, and app passwords and tokens
// sent by mail become void. It returns the changed account.
func (s *Store) SetPassword(ctx context.Context, who account.Caller, password string) (account.Account, error) {
	hash, err := s.HashPassword(ctx, password)
	if err != nil {
		return account.Account{}, err
	}
	return s.setPassword(ctx, who, hash, account.Kept{}, nil)
}

// ChangePassword is [Store.SetPassword] that keeps the caller's session, and the credentials in
// keep.
func (s *Store) ChangePassword(ctx context.Context, who account.Caller, password string, keep account.Kept) (account.Account, error) {
	hash, err := s.HashPassword(ctx, password)
	if err != nil {
		return account.Account{}, err
	}
	keep.Session = who.Session
	return s.setPassword(ctx, who, hash, keep, nil)
}

// setPassword sets a password's hash in a step that check allows; nil: any.
func (s *Store) setPassword(ctx context.Context, who account.Caller, hash string, keep account.Kept, check mailCheck) (account.Account, error) {
	end, err := s.announce(ctx, who.DID)
	if err != nil {
		return account.Account{}, err
	}
	defer end()
	a, err := s.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		if check != nil {
			if err := check(*a, step, step); err != nil {
				return err
			}
		}
		a.Password = hash
		voidMailTokens(step)
		if err := s.accounts.Raise(ctx, a, step, keep); err != nil {
			return err
		}
		return s.note(ctx, step, Notice{Change: &Change{Event: PasswordChanged, Account: *a}})
	})
	if err == nil {
		s.changed(ctx, Change{Event: PasswordChanged, Account: a})
	}
	return a, err
}

// ResetPassword changes the password of the account to which a reset token was sent, and ends all
// its sessions. Errors are [ErrMailToken] and [ErrMailTokenExpired].
func (s *Store) ResetPassword(ctx context.Context, token, password string) error {
	token = spellMailToken(token)
	var did syntax.DID
	kv := s.accounts.Host().Store().KV
	err := kv.Read(ctx, func(r storage.KVReader) error {
		v, err := r.Get(ctx, resetPrefix+token)
		did = syntax.DID(v)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return ErrMailToken
	} else if err != nil {
		return err
	}
	check := func(a account.Account, r storage.KVReader, step *repo.Step) error {
		return s.useMailToken(ctx, r, a, ForPasswordReset, token, step)
	}
	// Before anything is hashed for it.
	err = s.accounts.View(ctx, account.Trusted(did), func(a account.Account, r storage.KVReader) error { return check(a, r, &repo.Step{}) })
	if err == nil {
		var hash string
		if hash, err = s.HashPassword(ctx, password); err != nil {
			return err
		}
		_, err = s.setPassword(ctx, account.Trusted(did), hash, account.Kept{}, check)
	}
	if errors.Is(err, account.ErrNotFound) {
		return ErrMailToken
	} else if err != nil {
		return err
	}
	// The token is void already, so what stays of it does no harm, and expires.
	_ = kv.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, resetPrefix+token) })
	return nil
}
