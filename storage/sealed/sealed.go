// Package sealed encrypts secrets before they are stored, with a master key that
// is kept elsewhere. Who reads the database or a backup of it learns nothing
// but the length of a secret; who can write to it cannot change a secret, nor pass off one for
// another, since each is bound to the name of its place. An old value can be put back
// in its own place.
//
// A sealed value is XChaCha20-Poly1305 with a random nonce:
//
//	version (1 byte, 1) ‖ key id (4) ‖ nonce (24) ‖ ciphertext and tag
//
// # Rotation
//
// A Box has several keys: the first seals, all of them open. To replace a key, put
// the new one in front, run Rotate, and then drop the old one.
package sealed

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pdskit/pdskit/storage"
)

// KeySize is the length of a master key in bytes.
const KeySize = chacha20poly1305.KeySize

// The conditions that callers branch on. Test with errors.Is.
var (
	// ErrUnknownKey: the value was sealed with a key that the Box does not have.
	ErrUnknownKey = errors.New("sealed: unknown key")
	// ErrInvalid: the value was not sealed for this place, or was changed.
	ErrInvalid = errors.New("sealed: invalid value")
)

// Box seals and opens. It is immutable and safe for concurrent use.
type Box struct{ keys []key }

type key struct {
	id   [idSize]byte
	aead cipher.AEAD
}

const (
	version  = 1
	idSize   = 4
	headSize = 1 + idSize + chacha20poly1305.NonceSizeX
)

// New returns a box with one or more master keys of KeySize random bytes, of which
// the first seals.
func New(keys ...[]byte) (*Box, error) {
	if len(keys) == 0 {
		return nil, errors.New("sealed: no key")
	}
	b := &Box{}
	for _, k := range keys {
		aead, err := chacha20poly1305.NewX(k)
		if err != nil {
			return nil, fmt.Errorf("sealed: a key of %d bytes, not %d", len(k), KeySize)
		}
		sum := sha256.Sum256(append([]byte("pdskit sealed key id\x00"), k...))
		b.keys = append(b.keys, key{[idSize]byte(sum[:]), aead})
	}
	return b, nil
}

// Seal encrypts a secret for a place, such as the key under which it is stored.
func (b *Box) Seal(place string, secret []byte) []byte {
	k := &b.keys[0]
	out := make([]byte, headSize, headSize+len(secret)+k.aead.Overhead())
	out[0] = version
	copy(out[1:], k.id[:])
	nonce := out[1+idSize:]
	_, _ = rand.Read(nonce) // never fails
	return k.aead.Seal(out, nonce, secret, []byte(place))
}

// Open decrypts what was sealed for the same place, or returns ErrUnknownKey or
// ErrInvalid.
func (b *Box) Open(place string, sealed []byte) ([]byte, error) {
	if len(sealed) < headSize || sealed[0] != version {
		return nil, ErrInvalid
	}
	known := false
	for i := range b.keys {
		k := &b.keys[i]
		if k.id != [idSize]byte(sealed[1:]) {
			continue
		}
		known = true
		secret, err := k.aead.Open([]byte{}, sealed[1+idSize:headSize], sealed[headSize:], []byte(place))
		if err == nil {
			return secret, nil
		}
	}
	if !known {
		return nil, ErrUnknownKey
	}
	return nil, ErrInvalid
}

// Stale reports whether a value was sealed with another key than the first.
func (b *Box) Stale(sealed []byte) bool {
	return len(sealed) < headSize || b.keys[0].id != [idSize]byte(sealed[1:])
}

// Set seals a secret for its key and stores it.
func (b *Box) Set(ctx context.Context, tx storage.KVTx, key string, secret []byte, expires time.Time) error {
	return tx.Set(ctx, key, b.Seal(key, secret), expires)
}

// Get reads a secret that Set has stored. Besides the errors of Open there is
// storage.ErrNotFound.
func (b *Box) Get(ctx context.Context, r storage.KVReader, key string) ([]byte, error) {
	sealed, err := r.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	secret, err := b.Open(key, sealed)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", key, err)
	}
	return secret, nil
}

// rotatePage is how many secrets Rotate seals again in one transaction.
const rotatePage = 200

// Rotate seals all secrets of a range again that were sealed with another key
// than the first, and returns how many. If it fails, those before the failure
// are done; it can be called again.
func (b *Box) Rotate(ctx context.Context, kv storage.KV, r storage.Range) (n int, err error) {
	r.Reverse, r.KeysOnly = false, false
	for more := true; more; {
		var from string
		var done int
		err := kv.Write(ctx, func(tx storage.KVTx) error {
			from, done, more = r.From, 0, false
			var stale []storage.KVPair
			for p, err := range tx.Keys(ctx, r) {
				if err != nil {
					return err
				}
				from = p.Key + "\x00"
				if !b.Stale(p.Value) {
					continue
				}
				if stale = append(stale, p); len(stale) == rotatePage {
					more = true
					break
				}
			}
			for _, p := range stale {
				secret, err := b.Open(p.Key, p.Value)
				if err != nil {
					return fmt.Errorf("key %q: %w", p.Key, err)
				}
				if err := b.Set(ctx, tx, p.Key, secret, p.Expires); err != nil {
					return err
				}
				done++
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n += done
		r.From = from
	}
	return n, nil
}
