package accounts

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// sealVersion is the first byte of what a keyring writes. The ID of the master key
// follows, and then AES-256-GCM with a random nonce and the secret's name as
// additional data.
const sealVersion = 2

// keyIDLen is the length in bytes of a master key's ID.
const keyIDLen = 4

// Errors of a keyring.
var (
	// ErrSealed: what is sealed has another form, was changed, or belongs to another name.
	ErrSealed = errors.New("accounts: malformed sealed secret")
	// ErrNoMasterKey: a secret is sealed with a master key that is not in the keyring.
	ErrNoMasterKey = errors.New("accounts: sealed with another master key")
)

// Keyring seals with one master key, and opens what was sealed with any of several. So
// a master key can be exchanged one secret at a time.
type Keyring struct {
	keys []masterKey
}

type masterKey struct {
	id   [keyIDLen]byte
	aead cipher.AEAD
}

// NewSealer returns a keyring of master keys of 32 bytes. The first one seals.
func NewSealer(keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("accounts: no master key")
	}
	k := &Keyring{}
	for _, key := range keys {
		if len(key) != 32 {
			return nil, errors.New("accounts: a master key must have 32 bytes")
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		k.keys = append(k.keys, masterKey{keyID(key), aead})
	}
	return k, nil
}

// keyID names a master key without telling anything about it.
func keyID(key []byte) (id [keyIDLen]byte) {
	sum := sha256.Sum256(append([]byte("pdskit master key\x00"), key...))
	copy(id[:], sum[:])
	return id
}

// Seal encrypts a secret for a name.
func (k *Keyring) Seal(name string, secret []byte) ([]byte, error) {
	key := k.keys[0]
	return key.aead.Seal(append([]byte{sealVersion}, key.id[:]...), nil, secret, []byte(name)), nil
}

// Open decrypts what was sealed for a name.
func (k *Keyring) Open(name string, sealed []byte) ([]byte, error) {
	if len(sealed) < 1+keyIDLen || sealed[0] != sealVersion {
		return nil, ErrSealed
	}
	id, box := sealed[1:1+keyIDLen], sealed[1+keyIDLen:]
	for _, key := range k.keys {
		if bytes.Equal(key.id[:], id) {
			secret, err := key.aead.Open(nil, nil, box, []byte(name))
			if err != nil {
				return nil, ErrSealed
			}
			return secret, nil
		}
	}
	return nil, fmt.Errorf("%w (%s)", ErrNoMasterKey, hex.EncodeToString(id))
}

// Current reports whether something is sealed with the key that seals.
func (k *Keyring) Current(sealed []byte) bool {
	id := k.keys[0].id
	return len(sealed) > keyIDLen && sealed[0] == sealVersion && bytes.Equal(sealed[1:1+keyIDLen], id[:])
}
