package crypto

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	k256 "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// Signatures and public keys that are made without the table of package secp256k1 are those that it makes.
func TestOwnTable(t *testing.T) {
	order := "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
	secrets := []string{
		strings.Repeat("0", 63) + "1", strings.Repeat("0", 62) + "10", strings.Repeat("0", 62) + "11", strings.Repeat("0", 62) + "1f",
		order[:63] + "0", strings.Repeat("f", 30) + strings.Repeat("0", 34), strings.Repeat("84210", 12) + "8421",
		strings.Repeat("7", 64), strings.Repeat("8", 64), strings.Repeat("0f", 32), strings.Repeat("f0", 32),
	}
	src := rand.New(rand.NewPCG(1, 2))
	draw := func() []byte {
		b := make([]byte, 32)
		for i := range b {
			b[i] = byte(src.Uint32())
		}
		return b
	}
	for range 100 {
		secrets = append(secrets, hex.EncodeToString(draw()))
	}
	for _, text := range secrets {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		key := secp256k1.PrivKeyFromBytes(b)
		if got := publicK256(&key.Key); !got.IsEqual(key.PubKey()) {
			t.Errorf("public key of %s: %x", text, got.SerializeCompressed())
		}
		var p secp256k1.JacobianPoint
		multiply(&key.Key, &p)
		p.ToAffine()
		if got := secp256k1.NewPublicKey(&p.X, &p.Y); !got.IsEqual(key.PubKey()) {
			t.Errorf("%s times the generator: %x", text, got.SerializeCompressed())
		}
		digest, sig := draw(), make([]byte, SignatureLen)
		signK256(&key.Key, digest, sig)
		s := k256.Sign(key, digest)
		r, low := s.R(), s.S()
		rb, sb := r.Bytes(), low.Bytes()
		if want := append(rb[:], sb[:]...); !bytes.Equal(sig, want) {
			t.Errorf("signature by %s: %x, want %x", text, sig, want)
		}
	}
	// All digits, in the first window and in the last.
	for n := range 2 * half {
		for _, at := range []int{31, 0} {
			var b [32]byte
			b[at] = byte(n + 1)
			var k secp256k1.ModNScalar
			k.SetBytes(&b)
			var got, want secp256k1.JacobianPoint
			multiply(&k, &got)
			secp256k1.ScalarBaseMultNonConst(&k, &want)
			if got.ToAffine(); !got.EquivalentNonConst(&want) {
				t.Errorf("%x times the generator is wrong", b)
			}
		}
	}
}

func BenchmarkOwnTable(b *testing.B) {
	key := secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{7}, 32))
	digest, sig := make([]byte, 32), make([]byte, SignatureLen)
	multiples()
	signed.Store(fewSignatures)
	b.Run("own", func(b *testing.B) {
		for b.Loop() {
			signK256(&key.Key, digest, sig)
		}
	})
	b.Run("secp256k1", func(b *testing.B) {
		for b.Loop() {
			k256.Sign(key, digest)
		}
	})
}
