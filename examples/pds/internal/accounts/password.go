package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Parameters of new password hashes: argon2id, two passes over 19 MiB, about
// 25 ms. They stand in every hash, so they can be raised at any time.
const (
	argonTime    = 2
	argonMemory  = 19 << 10 // KiB
	argonThreads = 1
	argonKeyLen  = 32
	argonSaltLen = 16
)

// hashing bounds how many hashes are computed at once, and with it their memory.
var hashing = make(chan struct{}, 4)

func argon(password string, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
	hashing <- struct{}{}
	defer func() { <-hashing }()
	return argon2.IDKey([]byte(password), salt, time, memory, threads, keyLen)
}

// HashPassword returns the hash of a password in PHC string format.
func HashPassword(password string) string {
	salt := make([]byte, argonSaltLen)
	rand.Read(salt)
	key := argon(password, salt, argonTime, argonMemory, argonThreads, argonKeyLen)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads, b64(salt), b64(key))
}

// errBadHash says that a stored hash is not one.
var errBadHash = errors.New("accounts: malformed password hash")

// checkPassword reports whether a password is that of a hash.
func checkPassword(hash, password string) (bool, error) {
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
	got := argon(password, salt, time, memory, threads, uint32(len(key)))
	return subtle.ConstantTimeCompare(got, key) == 1, nil
}

// Proof is what somebody has shown to log in as an account: the account's password, or that of
// one of its apps.
type Proof struct {
	Account Account // as it was when the password was checked
	App     *AppPassword
}

// CheckPassword checks that a password is that of an account or, if apps is set, of one of its
// apps, with ErrWrongPassword if not. The zero Account stands for one that does not exist: no
// password is that of it, and it takes as long to find that out.
func (s *Store) CheckPassword(ctx context.Context, a Account, password string, apps bool) (Proof, error) {
	if apps {
		if app, err := s.appPassword(ctx, a, password); err != nil {
			return Proof{}, err
		} else if app != nil {
			return Proof{Account: a, App: app}, nil
		}
	}
	if a.DID == "" {
		argon(password, make([]byte, argonSaltLen), argonTime, argonMemory, argonThreads, argonKeyLen)
		return Proof{}, ErrWrongPassword
	}
	switch ok, err := checkPassword(a.Password, password); {
	case err != nil:
		return Proof{}, err
	case !ok:
		return Proof{}, ErrWrongPassword
	}
	return Proof{Account: a}, nil
}
