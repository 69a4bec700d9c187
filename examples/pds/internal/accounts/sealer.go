package accounts

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
)

// sealVersion is the first byte of what a sealer writes: AES-256-GCM with a random
// nonce and the secret's name as additional data.
const sealVersion = 1

type sealer struct{ aead cipher.AEAD }

// NewSealer returns a sealer with a master key of 32 bytes.
func NewSealer(key []byte) (Sealer, error) {
	if len(key) != 32 {
		return nil, errors.New("accounts: the master key must have 32 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return sealer{aead}, err
}

func (s sealer) Seal(name string, secret []byte) ([]byte, error) {
	return s.aead.Seal([]byte{sealVersion}, nil, secret, []byte(name)), nil
}

func (s sealer) Open(name string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, errors.New("accounts: unknown form of a sealed secret")
	}
	return s.aead.Open(nil, nil, sealed[1:], []byte(name))
}
