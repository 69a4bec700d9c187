package crypto_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"testing"

	"github.com/mr-tron/base58"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
)

var algorithms = []crypto.Algorithm{crypto.K256, crypto.P256}

func fixture(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(testenv.Shared(t, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func TestInteropSignatures(t *testing.T) {
	var cases []struct {
		Comment         string
		MessageBase64   string
		PublicKeyDID    string `json:"publicKeyDid"`
		SignatureBase64 string
		Valid           bool `json:"validSignature"`
	}
	fixture(t, "interop/crypto/signature-fixtures.json", &cases)
	for _, c := range cases {
		key, err := crypto.ParseDIDKey(c.PublicKeyDID)
		if err != nil {
			t.Fatal(err)
		}
		msg, _ := base64.RawStdEncoding.DecodeString(c.MessageBase64)
		sig, _ := base64.RawStdEncoding.DecodeString(c.SignatureBase64)
		if err := key.Verify(msg, sig); (err == nil) != c.Valid {
			t.Errorf("%s: %v", c.Comment, err)
		} else if err != nil && !errors.Is(err, crypto.ErrSignature) {
			t.Errorf("%s: error is %v", c.Comment, err)
		}
	}
}

func TestInteropDIDKeys(t *testing.T) {
	var p256 []struct {
		Private string `json:"privateKeyBytesBase58"`
		DID     string `json:"publicDidKey"`
	}
	fixture(t, "interop/crypto/w3c_didkey_P256.json", &p256)
	var k256 []struct {
		Private string `json:"privateKeyBytesHex"`
		DID     string `json:"publicDidKey"`
	}
	fixture(t, "interop/crypto/w3c_didkey_K256.json", &k256)
	check := func(alg crypto.Algorithm, raw []byte, did string) {
		key, err := crypto.ParsePrivateKey(alg, raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := key.PublicKey().DIDKey(); got != did {
			t.Errorf("got %s, want %s", got, did)
		}
		back, err := crypto.ParseDIDKey(did)
		if err != nil || !back.Equal(key.PublicKey()) {
			t.Errorf("%s does not come back: %v", did, err)
		}
	}
	for _, c := range p256 {
		raw, err := base58.Decode(c.Private)
		if err != nil {
			t.Fatal(err)
		}
		check(crypto.P256, raw, c.DID)
	}
	for _, c := range k256 {
		raw, err := hex.DecodeString(c.Private)
		if err != nil {
			t.Fatal(err)
		}
		check(crypto.K256, raw, c.DID)
	}
}

func TestSignVerifyRoundTrip(t *testing.T) {
	for _, alg := range algorithms {
		for i := range 50 {
			key, err := crypto.GenerateKey(alg)
			if err != nil {
				t.Fatal(err)
			}
			msg := fmt.Appendf(nil, "message %d", i)
			sig, err := key.Sign(context.Background(), msg)
			if err != nil {
				t.Fatal(err)
			}
			if err := key.PublicKey().Verify(msg, sig); err != nil {
				t.Fatalf("%v: %v", alg, err)
			}
			if again, _ := key.Sign(context.Background(), msg); !bytes.Equal(sig, again) {
				t.Errorf("%v: signatures are not deterministic", alg)
			}
			sig[i%64] ^= 1 << (i % 8)
			if key.PublicKey().Verify(msg, sig) == nil {
				t.Errorf("%v: a changed signature verifies", alg)
			}
			again, err := crypto.ParsePrivateKey(alg, key.Bytes())
			if err != nil || !again.PublicKey().Equal(key.PublicKey()) {
				t.Errorf("%v: the key does not come back: %v", alg, err)
			}
			back, err := key.PublicKey().JWK().PublicKey()
			if err != nil || !back.Equal(key.PublicKey()) {
				t.Errorf("%v: the JWK does not come back: %v", alg, err)
			}
		}
	}
}

// A JSON Web Signature has two forms, of which commits and operations may only have one.
func TestBothFormsOfAJWS(t *testing.T) {
	orders := map[crypto.Algorithm]string{
		crypto.K256: "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
		crypto.P256: "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
	}
	for alg, order := range orders {
		n, _ := new(big.Int).SetString(order, 16)
		key, err := crypto.GenerateKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		pub, msg := key.PublicKey(), []byte("message")
		low, err := key.Sign(context.Background(), msg)
		if err != nil {
			t.Fatal(err)
		}
		with := func(s *big.Int) []byte {
			sig := bytes.Clone(low)
			s.FillBytes(sig[32:])
			return sig
		}
		s := new(big.Int).SetBytes(low[32:])
		high := with(new(big.Int).Sub(n, s))
		given := bytes.Clone(high)
		if err := pub.VerifyJWS(msg, low); err != nil {
			t.Errorf("%v: low s: %v", alg, err)
		}
		if err := pub.VerifyJWS(msg, high); err != nil {
			t.Errorf("%v: high s: %v", alg, err)
		}
		if !bytes.Equal(given, high) {
			t.Errorf("%v: the signature was changed", alg)
		}
		if err := pub.Verify(msg, high); !errors.Is(err, crypto.ErrSignature) {
			t.Errorf("%v: high s outside of tokens: %v", alg, err)
		}
		max := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
		for name, sig := range map[string][]byte{
			"none": nil, "short": low[:63], "long": append(bytes.Clone(high), 0), "s of zero": with(new(big.Int)), "s of the order": with(n), "s of all ones": with(max),
			"s beyond the order": with(new(big.Int).Add(n, big.NewInt(1))), "r of zero": append(make([]byte, 32), high[32:]...), "another s": with(new(big.Int).Sub(n, big.NewInt(7))),
		} {
			if err := pub.VerifyJWS(msg, sig); !errors.Is(err, crypto.ErrSignature) {
				t.Errorf("%v: %s: %v", alg, name, err)
			}
		}
		if err := pub.VerifyJWS([]byte("another"), high); !errors.Is(err, crypto.ErrSignature) {
			t.Errorf("%v: another message: %v", alg, err)
		}
	}
}

// The thumbprint of the key in RFC 7638's spirit: fixed members in fixed order.
func TestThumbprintDependsOnTheKeyAlone(t *testing.T) {
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	a, b := key.PublicKey().JWK(), key.PublicKey().JWK()
	b.KeyID, b.Use, b.Alg = "x", "sig", ""
	if a.Thumbprint() != b.Thumbprint() || len(a.Thumbprint()) != 43 {
		t.Errorf("%s, %s", a.Thumbprint(), b.Thumbprint())
	}
}

func TestRefusedKeys(t *testing.T) {
	order, _ := hex.DecodeString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
	for _, alg := range append(algorithms, 0, 9) {
		for _, b := range [][]byte{nil, make([]byte, 31), make([]byte, 32), bytes.Repeat([]byte{0xff}, 32)} {
			if _, err := crypto.ParsePrivateKey(alg, b); !errors.Is(err, crypto.ErrKey) {
				t.Errorf("%v: private key %x: %v", alg, b, err)
			}
		}
		for _, b := range [][]byte{nil, make([]byte, 33), append([]byte{5}, make([]byte, 32)...), append([]byte{4}, make([]byte, 64)...)} {
			if _, err := crypto.ParsePublicKey(alg, b); !errors.Is(err, crypto.ErrKey) {
				t.Errorf("%v: public key %x: %v", alg, b, err)
			}
		}
	}
	if _, err := crypto.ParsePrivateKey(crypto.K256, order); !errors.Is(err, crypto.ErrKey) {
		t.Errorf("the order itself as a key: %v", err)
	}
}

func FuzzParseDIDKey(f *testing.F) {
	for _, alg := range algorithms {
		key, err := crypto.GenerateKey(alg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key.PublicKey().DIDKey())
	}
	f.Add("did:key:z")
	f.Fuzz(func(t *testing.T, s string) {
		key, err := crypto.ParseDIDKey(s)
		if err != nil {
			if !errors.Is(err, crypto.ErrKey) {
				t.Errorf("error is %v", err)
			}
			return
		}
		if key.DIDKey() != s {
			t.Errorf("%s comes back as %s", s, key.DIDKey())
		}
	})
}

func FuzzVerify(f *testing.F) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		f.Fatal(err)
	}
	sig, _ := key.Sign(context.Background(), []byte("m"))
	f.Add([]byte("m"), sig)
	f.Fuzz(func(t *testing.T, msg, sig []byte) {
		_ = key.PublicKey().Verify(msg, sig)
	})
}

func Example() {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	sig, err := key.Sign(context.Background(), []byte("hello"))
	if err != nil {
		panic(err)
	}
	pub, err := crypto.ParseDIDKey(key.PublicKey().DIDKey())
	fmt.Println(err, pub.Verify([]byte("hello"), sig), pub.Verify([]byte("other"), sig))
	// Output: <nil> <nil> crypto: invalid signature
}

func BenchmarkSign(b *testing.B) {
	for _, alg := range algorithms {
		key, _ := crypto.GenerateKey(alg)
		msg := make([]byte, 200)
		b.Run(alg.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = key.Sign(context.Background(), msg)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range algorithms {
		key, _ := crypto.GenerateKey(alg)
		msg := make([]byte, 200)
		sig, _ := key.Sign(context.Background(), msg)
		b.Run(alg.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := key.PublicKey().Verify(msg, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
