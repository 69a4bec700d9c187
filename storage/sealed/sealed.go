// Package sealed encrypts secrets before they are stored, with a master key that is kept elsewhere.
// A reader of the database, or of a backup, learns only the length of a secret. A writer can
// neither change a secret nor move it, because each one is bound to the name of its place. A writer
// can put an old value back in its own place.
//
// # Format
//
// A sealed value is XChaCha20-Poly1305 with a random nonce:
//
//	version (1 byte, 1) ‖ key id (4) ‖ nonce (24) ‖ ciphertext and tag
//
// Values of version 2 are opened too, and never written. They are AES-256-GCM with a nonce of 12
// bytes. Their random nonces are too short for values that are sealed very often.
//
// # Rotation
//
// A [Box] has several keys. The first one seals, all of them open. To replace a key, put the new
// one in front, seal everything again that is [Box.Stale] (see [Box.Rotate] and [Box.Reseal]), and
// then drop the old key.
package sealed

import (
	"context"
	"crypto/aes"
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

// Errors that callers branch on. Test with errors.Is.
var (
	// ErrUnknownKey: the value was sealed with a key that the Box does not have.
	ErrUnknownKey = errors.New("sealed: unknown key")
	// ErrInvalid: the value was not sealed for this place, or was changed.
	ErrInvalid = errors.New("sealed: invalid value")
)

// Box seals and opens. It is immutable and safe for concurrent use.
type Box struct{ keys []key }

// key is one master key, as each of the formats uses it.
type key struct{ formats [len(formats)]format }

// format is how a value of one version is sealed. The key's ID follows the version, and the rest is
// what the aead gives.
type format struct {
	id   [idSize]byte // names the key without telling anything about it
	aead cipher.AEAD  // draws its nonces itself
}

// formats are the versions, from 1 on. Only the first is written.
var formats = [...]struct {
	id   string // domain of the key's ID
	aead func(key []byte) (cipher.AEAD, error)
}{
	{"pdskit sealed key id\x00", newXChaCha},
	{"pdskit master key\x00", newAESGCM},
}

const (
	version  = 1
	idSize   = 4
	headSize = 1 + idSize
)

// New returns a box with one or more master keys of KeySize random bytes. The first one seals.
func New(keys ...[]byte) (*Box, error) {
	if len(keys) == 0 {
		return nil, errors.New("sealed: no key")
	}
	b := &Box{}
	for _, k := range keys {
		if len(k) != KeySize {
			return nil, fmt.Errorf("sealed: a key of %d bytes, not %d", len(k), KeySize)
		}
		var of key
		for i, f := range formats {
			aead, err := f.aead(k)
			if err != nil {
				return nil, fmt.Errorf("sealed: %w", err)
			}
			sum := sha256.Sum256(append([]byte(f.id), k...))
			of.formats[i] = format{[idSize]byte(sum[:]), aead}
		}
		b.keys = append(b.keys, of)
	}
	return b, nil
}

// Seal encrypts a secret for a place, such as the key under which it is stored.
func (b *Box) Seal(place string, secret []byte) []byte {
	f := &b.keys[0].formats[version-1]
	return f.aead.Seal(append([]byte{version}, f.id[:]...), nil, secret, []byte(place))
}

// Open decrypts a value that was sealed for the same place. Errors are ErrUnknownKey and
// ErrInvalid.
func (b *Box) Open(place string, sealed []byte) ([]byte, error) {
	if len(sealed) < headSize || sealed[0] < 1 || int(sealed[0]) > len(formats) {
		return nil, ErrInvalid
	}
	known := false
	for i := range b.keys {
		f := &b.keys[i].formats[sealed[0]-1]
		if f.id != [idSize]byte(sealed[1:]) {
			continue
		}
		known = true
		secret, err := f.aead.Open([]byte{}, nil, sealed[headSize:], []byte(place))
		if err == nil {
			return secret, nil
		}
	}
	if !known {
		return nil, fmt.Errorf("%w (%x)", ErrUnknownKey, sealed[1:headSize])
	}
	return nil, ErrInvalid
}

// Stale reports whether the value has another key or format than [Box.Seal] would use now.
func (b *Box) Stale(sealed []byte) bool {
	return len(sealed) < headSize || sealed[0] != version || b.keys[0].formats[version-1].id != [idSize]byte(sealed[1:])
}

// Reseal opens a value and seals it again for the same place.
func (b *Box) Reseal(place string, sealed []byte) ([]byte, error) {
	secret, err := b.Open(place, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	return b.Seal(place, secret), nil
}

// Set seals a secret for its key and stores it.
func (b *Box) Set(ctx context.Context, tx storage.KVTx, key string, secret []byte, expires time.Time) error {
	return tx.Set(ctx, key, b.Seal(key, secret), expires)
}

// Get reads a secret that Set has stored. Errors are those of Open and storage.ErrNotFound.
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

// Rotate seals all stale secrets of a range again, and returns their number. If it fails, earlier
// secrets stay done; call it again.
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
				fresh, err := b.Reseal(p.Key, p.Value)
				if err != nil {
					return err
				}
				if err := tx.Set(ctx, p.Key, fresh, p.Expires); err != nil {
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

func newAESGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func newXChaCha(key []byte) (cipher.AEAD, error) {
	aead, err := chacha20poly1305.NewX(key)
	return randomNonce{aead}, err
}

// randomNonce is an AEAD that draws its nonces itself, and puts each before what it seals, in the
// manner of cipher.NewGCMWithRandomNonce.
type randomNonce struct{ cipher.AEAD }

func (r randomNonce) Seal(dst, _, plaintext, extra []byte) []byte {
	nonce := make([]byte, r.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return r.AEAD.Seal(append(dst, nonce...), nonce, plaintext, extra)
}

func (r randomNonce) Open(dst, _, sealed, extra []byte) ([]byte, error) {
	n := r.NonceSize()
	if len(sealed) < n {
		return nil, ErrInvalid
	}
	return r.AEAD.Open(dst, sealed[:n], sealed[n:], extra)
}
