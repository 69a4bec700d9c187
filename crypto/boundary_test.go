package crypto

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/mr-tron/base58"
)

// signatureWith returns a P-256 key, a digest and the signature of it that has this s. Nobody can choose
// s for a message, but anybody can choose a digest for s.
func signatureWith(t *testing.T, s *big.Int) (key *PublicKey, digest, sig []byte) {
	t.Helper()
	private, err := ParsePrivateKey(P256, []byte(strings.Repeat("d", 32)))
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	nonce, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), []byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	point, err := nonce.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	r := new(big.Int).Mod(new(big.Int).SetBytes(point[1:33]), n)
	k := new(big.Int).SetBytes([]byte(strings.Repeat("k", 32)))
	d := new(big.Int).SetBytes([]byte(strings.Repeat("d", 32)))
	// s = (z + r·d) / k
	z := new(big.Int).Mul(s, k)
	z.Sub(z, d.Mul(d, r)).Mod(z, n)
	digest, sig = make([]byte, 32), make([]byte, SignatureLen)
	z.FillBytes(digest)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return private.PublicKey(), digest, sig
}

func TestTheGreatestLowS(t *testing.T) {
	key, digest, sig := signatureWith(t, halfP256)
	if !key.verify(digest, sig) {
		t.Error("half the order is a low s")
	}
	key, digest, sig = signatureWith(t, new(big.Int).Add(halfP256, big.NewInt(1)))
	if key.verify(digest, sig) {
		t.Error("s is above half the order")
	}
}

// A signature whose r or s is no scalar other than zero verifies nothing, and is no reason to panic.
func TestSignaturesOutOfRange(t *testing.T) {
	orders := map[Algorithm]*big.Int{K256: secp256k1.Params().N, P256: elliptic.P256().Params().N}
	for alg, n := range orders {
		key, err := GenerateKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		good, err := key.Sign(t.Context(), []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []*big.Int{new(big.Int), n, new(big.Int).Add(n, big.NewInt(1))} {
			for _, at := range []int{0, 32} {
				sig := append([]byte{}, good...)
				bad.FillBytes(sig[at : at+32])
				if key.PublicKey().Verify([]byte("a"), sig) == nil || key.PublicKey().VerifyJWS([]byte("a"), sig) == nil {
					t.Errorf("%v: a signature with %v at %d", alg, bad, at)
				}
			}
			b := make([]byte, 32)
			bad.FillBytes(b)
			if _, err := ParsePrivateKey(alg, b); !errors.Is(err, ErrKey) {
				t.Errorf("%v: a private key of %v: %v", alg, bad, err)
			}
		}
	}
}

func TestPublicKeysOfOtherForms(t *testing.T) {
	for _, alg := range []Algorithm{K256, P256} {
		private, err := GenerateKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		key := private.PublicKey()
		x, y := key.coordinates()
		full := append(append([]byte{4}, x...), y...)
		hybrid := append([]byte{6 | y[31]&1}, full[1:]...)
		compact := append([]byte{2 | y[31]&1}, full[1:]...)
		elsewhere := append([]byte{}, full...)
		elsewhere[64] ^= 1
		if got, err := ParsePublicKey(alg, full); err != nil || !got.Equal(key) {
			t.Errorf("%v: uncompressed: %v", alg, err)
		}
		for name, b := range map[string][]byte{
			"nothing": nil, "32 bytes": x, "34 bytes": append(key.Bytes(), 0), "64 bytes": full[1:],
			"66 bytes": append(full[:65:65], 0), "hybrid": hybrid, "a compressed point and more": compact,
			"infinity": {0}, "no point": elsewhere, "x without a point": append([]byte{2}, make([]byte, 32)...)[:33],
			"an uncompressed point cut off": full[:33],
		} {
			if name == "x without a point" && alg == P256 {
				continue // 0 is the x of a point there
			}
			if got, err := ParsePublicKey(alg, b); !errors.Is(err, ErrKey) || got != nil {
				t.Errorf("%v: %s: %v, %v", alg, name, got, err)
			}
		}
		other := &PublicKey{alg: P256 + K256 - alg, compressed: key.compressed}
		if key.Equal(nil) || key.Equal(other) || !key.Equal(key) {
			t.Errorf("%v: a key equals itself only", alg)
		}
	}
}

func TestKeysInTextMalformed(t *testing.T) {
	private, err := GenerateKey(K256)
	if err != nil {
		t.Fatal(err)
	}
	good := private.PublicKey()
	for _, s := range []string{
		"", "z", "zz", good.Multikey()[1:], "u" + good.Multikey()[1:], good.Multikey() + "1", good.Multikey() + "0",
		good.Multikey()[:40], "z" + strings.Repeat("1", 100), "z0OIl", good.DIDKey(),
	} {
		if got, err := ParseMultikey(s); !errors.Is(err, ErrKey) || got != nil {
			t.Errorf("multikey %q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "did:key:", good.Multikey(), "did:web:" + good.Multikey(), "DID:KEY:" + good.Multikey()} {
		if got, err := ParseDIDKey(s); !errors.Is(err, ErrKey) || got != nil {
			t.Errorf("did:key %q: %v, %v", s, got, err)
		}
	}

	b64 := base64.RawURLEncoding.EncodeToString
	x, y := good.coordinates()
	long := b64(append([]byte{0}, x...))
	for name, change := range map[string]func(*JWK){
		"kty":     func(j *JWK) { j.KeyType = "OKP" },
		"crv":     func(j *JWK) { j.Curve = "P-384" },
		"x":       func(j *JWK) { j.X += "=" },
		"y":       func(j *JWK) { j.Y += "=" },
		"long x":  func(j *JWK) { j.X = long },
		"long y":  func(j *JWK) { j.Y = b64(append([]byte{0}, y...)) },
		"no x":    func(j *JWK) { j.X = "" },
		"no y":    func(j *JWK) { j.Y = "" },
		"shifted": func(j *JWK) { j.X, j.Y = b64(append(x[:32:32], y[0])), b64(y[1:]) },
		"swapped": func(j *JWK) { j.X, j.Y = j.Y, j.X },
	} {
		j := good.JWK()
		change(&j)
		if got, err := j.PublicKey(); !errors.Is(err, ErrKey) || got != nil {
			t.Errorf("JWK with another %s: %v, %v", name, got, err)
		}
	}
	if sum := sha256.Sum256([]byte(`{"crv":"secp256k1","kty":"EC","x":"` + b64(x) + `","y":"` + b64(y) + `"}`)); good.JWK().Thumbprint() != b64(sum[:]) {
		t.Error("thumbprint")
	}
}

// A scalar has 32 bytes, also where a library would fill up or cut off others.
func TestScalarsOfOtherLengths(t *testing.T) {
	for _, alg := range []Algorithm{K256, P256} {
		for _, n := range []int{1, 31, 33, 64} {
			if key, err := ParsePrivateKey(alg, bytes.Repeat([]byte{1}, n)); !errors.Is(err, ErrKey) || key != nil {
				t.Errorf("%v: a scalar of %d bytes: %v", alg, n, err)
			}
		}
	}
}

// Keys of other curves have multikeys too. They are no keys here, and none are made.
func TestKeysOfOtherCurves(t *testing.T) {
	ed25519 := "z" + base58.Encode(append([]byte{0xed, 0x01}, bytes.Repeat([]byte{2}, 33)...))
	if key, err := ParseMultikey(ed25519); !errors.Is(err, ErrKey) || key != nil {
		t.Errorf("%v, %v", key, err)
	}
	for _, alg := range []Algorithm{0, P256 + 1} {
		if key, err := GenerateKey(alg); !errors.Is(err, ErrKey) || key != nil {
			t.Errorf("%v: %v, %v", alg, key, err)
		}
	}
}
