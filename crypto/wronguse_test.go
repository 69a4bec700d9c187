package crypto_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pdskit/pdskit/crypto"
)

// Keys that are nil or zero sign and verify nothing, and have no name that looks like a key's.
func TestKeysThatAreNone(t *testing.T) {
	for name, k := range map[string]*crypto.PublicKey{"nil": nil, "zero": {}} {
		sig := make([]byte, crypto.SignatureLen)
		sig[31], sig[63] = 1, 1 // in range
		if err := k.Verify([]byte("x"), sig); !errors.Is(err, crypto.ErrSignature) {
			t.Errorf("%s: Verify: %v", name, err)
		}
		if err := k.VerifyJWS([]byte("x"), sig); !errors.Is(err, crypto.ErrSignature) {
			t.Errorf("%s: VerifyJWS: %v", name, err)
		}
		if k.DIDKey() != "" || k.Multikey() != "" || k.String() != "" || k.JWK() != (crypto.JWK{}) {
			t.Errorf("%s: %q %q %+v", name, k.DIDKey(), k.Multikey(), k.JWK())
		}
	}
	for name, k := range map[string]*crypto.PrivateKey{"nil": nil, "zero": {}} {
		if sig, err := k.Sign(context.Background(), []byte("x")); !errors.Is(err, crypto.ErrKey) || sig != nil {
			t.Errorf("%s: Sign: %x %v", name, sig, err)
		}
		if k.PublicKey() != nil {
			t.Errorf("%s: it has a public key", name)
		}
	}
	if b := new(crypto.PrivateKey).Bytes(); b != nil {
		t.Errorf("the zero key has the bytes %x", b)
	}
}
