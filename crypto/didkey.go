package crypto

import (
	"fmt"
	"strings"

	"github.com/mr-tron/base58"
)

// multicodec prefixes of public keys, as varints.
var (
	codecK256 = [2]byte{0xe7, 0x01}
	codecP256 = [2]byte{0x80, 0x24}
)

const didKeyPrefix = "did:key:"

// Multikey returns the key in the form of DID documents: "z" and the base58btc encoding of a
// multicodec prefix and the compressed point.
func (k *PublicKey) Multikey() string {
	if !k.valid() {
		return ""
	}
	codec := codecK256
	if k.alg == P256 {
		codec = codecP256
	}
	return "z" + base58.Encode(append(codec[:], k.compressed[:]...))
}

// DIDKey returns the key as a did:key.
func (k *PublicKey) DIDKey() string {
	if !k.valid() {
		return ""
	}
	return didKeyPrefix + k.Multikey()
}

// String returns the did:key.
func (k *PublicKey) String() string { return k.DIDKey() }

// ParseMultikey reads a key as [PublicKey.Multikey] writes it ("z" and base58 of a compressed point).
// Errors wrap [ErrKey].
func ParseMultikey(s string) (*PublicKey, error) {
	const most = 64 // the real ones have 49 or 50; base58 takes quadratic time
	if len(s) < 2 || len(s) > most || s[0] != 'z' {
		return nil, fmt.Errorf("%w: a multikey starts with \"z\" and has about 49 characters", ErrKey)
	}
	b, err := base58.Decode(s[1:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if len(b) != 2+33 {
		return nil, fmt.Errorf("%w: a multikey holds a compressed point", ErrKey)
	}
	switch [2]byte(b) {
	case codecK256:
		return ParsePublicKey(K256, b[2:])
	case codecP256:
		return ParsePublicKey(P256, b[2:])
	}
	return nil, fmt.Errorf("%w: unknown type of multikey", ErrKey)
}

// ParseDIDKey reads a did:key of a K-256 or P-256 key. Errors wrap [ErrKey].
func ParseDIDKey(s string) (*PublicKey, error) {
	multikey, ok := strings.CutPrefix(s, didKeyPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: not a did:key", ErrKey)
	}
	return ParseMultikey(multikey)
}
