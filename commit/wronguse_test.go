package commit_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// A key function that returns no key and no error verifies nothing; neither does a key that is
// none.
func TestVerifierWithoutAKey(t *testing.T) {
	const did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	c, block, err := commit.Sign(t.Context(), did, "3jzfcijpj2z2a", mst.Empty().Root(), key)
	if err != nil {
		t.Fatal(err)
	}
	m := &commit.Sync{DID: did, Rev: c.Rev, Commit: block}
	var got *crypto.PublicKey
	v := commit.Verifier{Key: func(context.Context, syntax.DID, bool) (*crypto.PublicKey, error) { return got, nil }}
	if _, err := v.Sync(t.Context(), commit.State{}, m); !errors.Is(err, commit.ErrNoKey) {
		t.Errorf("no key: %v", err)
	}
	got = new(crypto.PublicKey)
	if _, err := v.Sync(t.Context(), commit.State{}, m); err == nil {
		t.Error("the zero key has signed")
	}
	got = key.PublicKey()
	if _, err := v.Sync(t.Context(), commit.State{}, m); err != nil {
		t.Error(err)
	}
	if _, err := v.Sync(t.Context(), commit.State{}, nil); !errors.Is(err, commit.ErrMessage) {
		t.Errorf("no #sync: %v", err)
	}
	if _, _, err := v.Commit(t.Context(), commit.State{}, nil); !errors.Is(err, commit.ErrMessage) {
		t.Errorf("no #commit: %v", err)
	}
	if err := new(commit.Event).SetBlocks(car.Block{}, nil, nil, commit.Limits{}); err == nil {
		t.Error("an event without a change has blocks")
	}
	for name, signer := range map[string]crypto.Signer{"nil": nil, "a nil key": (*crypto.PrivateKey)(nil), "the zero key": new(crypto.PrivateKey)} {
		if _, _, err := commit.Sign(t.Context(), did, "3jzfcijpj2z2a", mst.Empty().Root(), signer); err == nil {
			t.Errorf("signed by %s", name)
		}
	}
}
