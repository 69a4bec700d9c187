package crypto

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// JWK is a public key in the JSON form of RFC 7517, with the members that
// elliptic-curve keys have.
type JWK struct {
	KeyType string `json:"kty"`
	Curve   string `json:"crv"`
	X       string `json:"x"`
	Y       string `json:"y"`
	KeyID   string `json:"kid,omitempty"`
	Use     string `json:"use,omitempty"`
	Alg     string `json:"alg,omitempty"`
}

const (
	curveK256 = "secp256k1"
	curveP256 = "P-256"
)

// JWK returns the key in JSON form.
func (k *PublicKey) JWK() JWK {
	if !k.valid() {
		return JWK{}
	}
	crv := curveK256
	if k.alg == P256 {
		crv = curveP256
	}
	x, y := k.coordinates()
	b64 := base64.RawURLEncoding.EncodeToString
	return JWK{KeyType: "EC", Curve: crv, X: b64(x), Y: b64(y), Alg: k.alg.String()}
}

// PublicKey returns the key, or ErrKey.
func (j JWK) PublicKey() (*PublicKey, error) {
	var alg Algorithm
	switch j.Curve {
	case curveK256:
		alg = K256
	case curveP256:
		alg = P256
	default:
		return nil, fmt.Errorf("%w: curve %.20q", ErrKey, j.Curve)
	}
	x, errX := base64.RawURLEncoding.DecodeString(j.X)
	y, errY := base64.RawURLEncoding.DecodeString(j.Y)
	if j.KeyType != "EC" || errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
		return nil, fmt.Errorf("%w: malformed JWK", ErrKey)
	}
	return ParsePublicKey(alg, append(append([]byte{4}, x...), y...))
}

// Thumbprint returns the SHA-256 thumbprint of RFC 7638, in base64url.
func (j JWK) Thumbprint() string {
	sum := sha256.Sum256([]byte(fmt.Sprintf(`{"crv":%q,"kty":%q,"x":%q,"y":%q}`, j.Curve, j.KeyType, j.X, j.Y)))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
