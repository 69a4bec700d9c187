// Package digest has the uses of SHA-256 with secrets: deriving keys for one purpose, MACs over
// several parts, and hashes of secrets for storage.
package digest

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
)

// Derive returns a key of 32 bytes for one purpose.
func Derive(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, sha256.Size)
	if err != nil {
		panic("digest: " + err.Error()) // cannot be: the length is that of one block
	}
	return key
}

// MAC is a MAC over parts, none of which has a zero byte, in base64url.
func MAC(key []byte, parts ...string) string {
	h := hmac.New(sha256.New, key)
	for _, part := range parts {
		io.WriteString(h, part)
		h.Write([]byte{0})
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Hash is what is stored of a secret: its SHA-256 in base64url.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
