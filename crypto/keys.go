package crypto

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	k256 "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// PublicKey verifies signatures. It is immutable and safe for concurrent use. Parsing one costs
// about 12 µs, so keep the PublicKey and not its bytes.
type PublicKey struct {
	alg        Algorithm
	compressed [33]byte
	k          *secp256k1.PublicKey
	p          *ecdsa.PublicKey
}

// ParsePublicKey reads a point of a curve, compressed (33 bytes) or not (65).
func ParsePublicKey(alg Algorithm, b []byte) (*PublicKey, error) {
	if len(b) != 33 && len(b) != 65 || len(b) == 65 && b[0] != 4 {
		return nil, fmt.Errorf("%w: a public key has 33 or 65 bytes", ErrKey)
	}
	switch alg {
	case K256:
		k, err := secp256k1.ParsePubKey(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return newK256(k), nil
	case P256:
		if len(b) == 33 {
			x, y := elliptic.UnmarshalCompressed(elliptic.P256(), b)
			if x == nil {
				return nil, fmt.Errorf("%w: not a point of P-256", ErrKey)
			}
			b = make([]byte, 65)
			b[0] = 4
			x.FillBytes(b[1:33])
			y.FillBytes(b[33:])
		}
		p, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return newP256(p, b), nil
	}
	return nil, fmt.Errorf("%w: %v", ErrKey, alg)
}

func newK256(k *secp256k1.PublicKey) *PublicKey {
	return &PublicKey{alg: K256, k: k, compressed: [33]byte(k.SerializeCompressed())}
}

// newP256 wraps a key whose uncompressed form is at hand.
func newP256(p *ecdsa.PublicKey, uncompressed []byte) *PublicKey {
	key := &PublicKey{alg: P256, p: p}
	key.compressed[0] = 2 | uncompressed[64]&1
	copy(key.compressed[1:], uncompressed[1:33])
	return key
}

// Algorithm returns the key's algorithm.
func (k *PublicKey) Algorithm() Algorithm { return k.alg }

// Bytes returns the compressed point, 33 bytes.
func (k *PublicKey) Bytes() []byte { return bytes.Clone(k.compressed[:]) }

// Equal reports whether two keys are the same.
func (k *PublicKey) Equal(other *PublicKey) bool {
	return other != nil && k.alg == other.alg && k.compressed == other.compressed
}

// valid reports whether there is a key: it is not nil, and not the zero value.
func (k *PublicKey) valid() bool { return k != nil && (k.k != nil || k.p != nil) }

// coordinates returns the point's coordinates, 32 bytes each.
func (k *PublicKey) coordinates() (x, y []byte) {
	var b []byte
	if k.alg == K256 {
		b = k.k.SerializeUncompressed()
	} else {
		b, _ = k.p.Bytes() // cannot fail: the point was checked when it was parsed
	}
	return b[1:33], b[33:65]
}

// Verify checks a signature of a message. It returns nil or ErrSignature.
func (k *PublicKey) Verify(msg, sig []byte) error {
	digest := sha256.Sum256(msg)
	if !k.verify(digest[:], sig) {
		return ErrSignature
	}
	return nil
}

// VerifyJWS is Verify for the signature of a JSON Web Signature (ES256K or ES256), whose
// specifications allow a low and a high s. So a message has two valid signatures. Do not derive
// anything that must be unique from the signature.
func (k *PublicKey) VerifyJWS(msg, sig []byte) error {
	if !k.valid() || len(sig) != SignatureLen {
		return ErrSignature
	}
	low := [SignatureLen]byte(sig)
	if s, half := new(big.Int).SetBytes(low[32:]), halfP256; k.alg == P256 && s.Cmp(half) > 0 {
		if n := elliptic.P256().Params().N; s.Cmp(n) < 0 {
			s.Sub(n, s).FillBytes(low[32:])
		}
	} else if k.alg == K256 {
		var s secp256k1.ModNScalar
		if !s.SetByteSlice(low[32:]) && s.IsOverHalfOrder() {
			s.Negate().PutBytesUnchecked(low[32:])
		}
	}
	return k.Verify(msg, low[:])
}

func (k *PublicKey) verify(digest, sig []byte) bool {
	if !k.valid() || len(sig) != SignatureLen {
		return false
	}
	if k.alg == K256 {
		var r, s secp256k1.ModNScalar
		if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || r.IsZero() || s.IsZero() || s.IsOverHalfOrder() {
			return false
		}
		return k256.NewSignature(&r, &s).Verify(digest, k.k)
	}
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	return s.Cmp(halfP256) <= 0 && ecdsa.Verify(k.p, digest, r, s)
}

// halfP256 is half the order of P-256, rounded down.
var halfP256 = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

// PrivateKey signs. It is immutable and safe for concurrent use.
type PrivateKey struct {
	pub func() *PublicKey
	k   *secp256k1.PrivateKey
	p   *ecdsa.PrivateKey
}

// GenerateKey makes a new random key.
func GenerateKey(alg Algorithm) (*PrivateKey, error) {
	for {
		b := make([]byte, 32)
		rand.Read(b)
		key, err := ParsePrivateKey(alg, b)
		if err == nil || alg != K256 && alg != P256 {
			return key, err
		}
		// One number in 2³² (P-256) is not below the order: draw again.
	}
}

// ParsePrivateKey reads a scalar of 32 bytes.
func ParsePrivateKey(alg Algorithm, b []byte) (*PrivateKey, error) {
	if len(b) != 32 {
		return nil, fmt.Errorf("%w: a private key has 32 bytes", ErrKey)
	}
	switch alg {
	case K256:
		var d secp256k1.ModNScalar
		if d.SetByteSlice(b) || d.IsZero() {
			return nil, fmt.Errorf("%w: scalar out of range", ErrKey)
		}
		k := secp256k1.NewPrivateKey(&d)
		// The public key is computed when it is asked for: many programs read a key that they never use.
		return &PrivateKey{pub: sync.OnceValue(func() *PublicKey {
			if ownTable {
				return newK256(publicK256(&k.Key))
			}
			return newK256(k.PubKey())
		}), k: k}, nil
	case P256:
		p, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		point, _ := p.PublicKey.Bytes() // cannot fail: the key is valid
		pub := newP256(&p.PublicKey, point)
		return &PrivateKey{pub: func() *PublicKey { return pub }, p: p}, nil
	}
	return nil, fmt.Errorf("%w: %v", ErrKey, alg)
}

// Bytes returns the scalar, 32 bytes. Keep it secret.
func (k *PrivateKey) Bytes() []byte {
	if k.k != nil {
		return k.k.Serialize()
	}
	if k.p == nil { // the zero value
		return nil
	}
	b, _ := k.p.Bytes() // cannot fail: the key is valid
	return b
}

// PublicKey implements Signer.
func (k *PrivateKey) PublicKey() *PublicKey {
	if k == nil || k.pub == nil {
		return nil
	}
	return k.pub()
}

// Sign implements Signer. It does not use the context.
func (k *PrivateKey) Sign(_ context.Context, msg []byte) ([]byte, error) {
	if k == nil || k.k == nil && k.p == nil {
		return nil, fmt.Errorf("%w: there is none", ErrKey)
	}
	digest := sha256.Sum256(msg)
	sig := make([]byte, SignatureLen)
	if k.k != nil && ownTable {
		signK256(&k.k.Key, digest[:], sig)
		return sig, nil
	}
	if k.k != nil {
		s := k256.Sign(k.k, digest[:])
		r, sv := s.R(), s.S()
		r.PutBytesUnchecked(sig[:32])
		sv.PutBytesUnchecked(sig[32:])
		return sig, nil
	}
	return sig, signP256(k.p, digest[:], sig)
}
