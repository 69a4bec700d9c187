package serviceauth_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// No token is signed by nobody, of nobody or for nobody.
func TestTokensThatNobodyTakes(t *testing.T) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	good := serviceauth.Token{Issuer: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", Audience: "did:web:example.com"}
	if _, err := serviceauth.Sign(t.Context(), key, good); err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]crypto.Signer{"nil": nil, "a nil key": (*crypto.PrivateKey)(nil), "the zero key": new(crypto.PrivateKey)} {
		if token, err := serviceauth.Sign(t.Context(), signer, good); err == nil {
			t.Errorf("signed by %s: %s", name, token)
		}
	}
	for _, token := range []serviceauth.Token{{}, {Issuer: good.Issuer}, {Audience: good.Audience}} {
		if text, err := serviceauth.Sign(t.Context(), key, token); err == nil {
			t.Errorf("%+v was signed: %s", token, text)
		}
	}
}

var errKey = errors.New("the key is locked")

// locked is a signer that fails.
type locked struct{ crypto.Signer }

func (locked) Sign(context.Context, []byte) ([]byte, error) { return nil, errKey }

// A signer's error is that of Sign.
func TestSignersThatFail(t *testing.T) {
	token, err := serviceauth.Sign(t.Context(), locked{generate(t, crypto.K256)}, serviceauth.Token{Issuer: issuer, Audience: audience})
	if token != "" || !errors.Is(err, errKey) {
		t.Errorf("%q, %v", token, err)
	}
}
