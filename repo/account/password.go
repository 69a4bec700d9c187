package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/pdskit/pdskit/xrpc/limit"
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

// hashing bounds how many hashes are computed at once, to leave processors and memory to others,
// and how many wait for that. Networks are served in turn, and who hangs up does not wait any more.
var hashing = &limit.Gate{
	Name: "passwords", Total: max(1, min(4, runtime.NumCPU()/2)), Queue: 256, QueuePerNetwork: 32, Wait: 10 * time.Second,
}

func argon(ctx context.Context, password string, salt []byte, time, memory uint32, threads uint8, keyLen uint32) ([]byte, error) {
	leave, err := hashing.Enter(ctx, limit.ClientOf(ctx))
	if err != nil {
		return nil, err
	}
	defer leave()
	return argon2.IDKey([]byte(password), salt, time, memory, threads, keyLen), nil
}

// HashPassword returns the hash of a password in PHC string format. It fails if the context ends
// before its turn comes, or with a *limit.Error if too many wait.
func HashPassword(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSaltLen)
	rand.Read(salt)
	key, err := argon(ctx, password, salt, argonTime, argonMemory, argonThreads, argonKeyLen)
	if err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads, b64(salt), b64(key)), nil
}

// errBadHash says that a stored hash is not one.
var errBadHash = errors.New("account: malformed password hash")

// checkPassword reports whether a password is that of a hash.
func checkPassword(ctx context.Context, hash, password string) (bool, error) {
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
	got, err := argon(ctx, password, salt, time, memory, threads, uint32(len(key)))
	if err != nil {
		return false, err
	}
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
		if _, err := argon(ctx, password, make([]byte, argonSaltLen), argonTime, argonMemory, argonThreads, argonKeyLen); err != nil {
			return Proof{}, err
		}
		return Proof{}, ErrWrongPassword
	}
	switch ok, err := checkPassword(ctx, a.Password, password); {
	case err != nil:
		return Proof{}, err
	case !ok:
		return Proof{}, ErrWrongPassword
	}
	return Proof{Account: a}, nil
}
