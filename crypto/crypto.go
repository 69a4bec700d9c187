package crypto

import (
	"context"
	"errors"
	"fmt"
)

// Algorithm is a curve with its signature scheme.
type Algorithm uint8

// The algorithms.
const (
	K256 Algorithm = iota + 1 // secp256k1
	P256                      // NIST P-256
)

// String returns the JOSE name: "ES256K" or "ES256".
func (a Algorithm) String() string {
	switch a {
	case K256:
		return "ES256K"
	case P256:
		return "ES256"
	}
	return fmt.Sprintf("Algorithm(%d)", uint8(a))
}

// Errors that callers branch on.
var (
	// ErrSignature: the signature is not a valid signature of the message by the key. This includes
	// signatures of the wrong length and those with a high s.
	ErrSignature = errors.New("crypto: invalid signature")
	// ErrKey: the bytes or the string are not a key of a supported algorithm.
	ErrKey = errors.New("crypto: invalid key")
)

// SignatureLen is the length of a signature in bytes.
const SignatureLen = 64

// Signer signs with one key. It must be safe for concurrent use.
type Signer interface {
	// PublicKey returns the key that verifies the signatures.
	PublicKey() *PublicKey
	// Sign returns the signature of a message: 64 bytes, low s.
	Sign(ctx context.Context, msg []byte) ([]byte, error)
}
