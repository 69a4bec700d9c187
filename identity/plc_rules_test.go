package identity_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
)

// changes of an operation, and whether it is valid after each.
type change struct {
	name  string
	valid bool
	make  func(op *identity.PLCOperation)
}

func changes(t testing.TB) []change {
	didKey := func(alg crypto.Algorithm) string {
		k, err := crypto.GenerateKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		return k.PublicKey().DIDKey()
	}
	k256, p256 := didKey(crypto.K256), didKey(crypto.P256)
	const ed25519 = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
	more := func(n int) func(op *identity.PLCOperation) {
		return func(op *identity.PLCOperation) {
			for range n {
				op.RotationKeys = append(op.RotationKeys, didKey(crypto.P256))
			}
		}
	}
	alias := func(list ...string) func(op *identity.PLCOperation) {
		return func(op *identity.PLCOperation) { op.AlsoKnownAs = list }
	}
	method := func(id, key string) func(op *identity.PLCOperation) {
		return func(op *identity.PLCOperation) { op.VerificationMethods[id] = key }
	}
	service := func(id, typ, endpoint string) func(op *identity.PLCOperation) {
		return func(op *identity.PLCOperation) {
			op.Services[id] = identity.PLCService{Type: typ, Endpoint: endpoint}
		}
	}
	long := strings.Repeat("a", 600)
	return []change{
		{"nothing", true, func(*identity.PLCOperation) {}},
		{"a rotation key of each type", true, func(op *identity.PLCOperation) { op.RotationKeys = append(op.RotationKeys, k256, p256) }},
		{"five rotation keys", true, more(4)},
		{"six rotation keys", false, more(5)},
		{"no rotation keys", false, func(op *identity.PLCOperation) { op.RotationKeys = nil }},
		{"a rotation key twice", false, func(op *identity.PLCOperation) { op.RotationKeys = append(op.RotationKeys, k256, k256) }},
		{"a rotation key that cannot sign", false, func(op *identity.PLCOperation) { op.RotationKeys = append(op.RotationKeys, ed25519) }},
		{"a rotation key that is a multikey", false, func(op *identity.PLCOperation) {
			op.RotationKeys = append(op.RotationKeys, strings.TrimPrefix(k256, "did:key:"))
		}},
		{"no alias", true, alias()},
		{"another URI", true, alias("at://a.example.com", "https://example.com/@a", "mailto:a@example.com")},
		{"a handle in upper case", true, alias("at://A.example.com")},
		{"no handle", false, alias("at://")},
		{"a handle with a path", false, alias("at://a.example.com/x")},
		{"a DID as a handle", false, alias("at://did:plc:ewvi7nxzyoun6zhxrhs64oiz")},
		{"a bare handle", false, alias("a.example.com")},
		{"an empty alias", false, alias("")},
		{"an alias twice", false, alias("at://a.example.com", "at://a.example.com")},
		{"a long alias", false, alias("https://example.com/" + long)},
		{"ten aliases", true, func(op *identity.PLCOperation) {
			for i := len(op.AlsoKnownAs); i < 10; i++ {
				op.AlsoKnownAs = append(op.AlsoKnownAs, fmt.Sprint("https://example.com/ten/", i))
			}
		}},
		{"eleven aliases", false, func(op *identity.PLCOperation) {
			for i := range 11 {
				op.AlsoKnownAs = append(op.AlsoKnownAs, fmt.Sprint("https://example.com/", i))
			}
		}},
		{"a signing key of the other type", true, method("atproto", p256)},
		{"a signing key that cannot sign", false, method("atproto", ed25519)},
		{"another key that cannot sign here", true, method("other", ed25519)},
		{"a key that is empty", false, method("other", "")},
		{"a key in base58 that is none", false, method("other", "did:key:z0OIl")},
		{"a key in another base", false, method("other", "did:key:f00")},
		{"a key with a long name", false, method(strings.Repeat("a", 33), k256)},
		{"a long key", false, method("other", "did:key:z"+strings.Repeat("2", 600))},
		{"no signing key", true, func(op *identity.PLCOperation) { delete(op.VerificationMethods, "atproto") }},
		{"a labeler", true, service("atproto_labeler", "AtprotoLabeler", "https://mod.example.com/path")},
		{"no server", true, func(op *identity.PLCOperation) { delete(op.Services, "atproto_pds") }},
		{"a server with a port", true, service("atproto_pds", "AtprotoPersonalDataServer", "https://pds.example.com:8443")},
		{"a server with a path", false, service("atproto_pds", "AtprotoPersonalDataServer", "https://pds.example.com/path")},
		{"a server without a scheme", false, service("atproto_pds", "AtprotoPersonalDataServer", "pds.example.com")},
		{"a server without a host", false, service("atproto_pds", "AtprotoPersonalDataServer", "https://")},
		{"a server with a user", false, service("atproto_pds", "AtprotoPersonalDataServer", "https://a:b@pds.example.com")},
		{"a service without an endpoint", false, service("other", "Other", "")},
		{"a service without a type", false, service("other", "", "https://example.com")},
		{"a service without a name", false, service("", "Other", "https://example.com")},
		{"a service with a long type", false, service("other", long, "https://example.com")},
		{"a service with a long endpoint", false, service("other", "Other", "https://example.com/"+long)},
		{"text that is not Unicode", false, alias("https://example.com/\xff")},
	}
}

// TestPLCValidate: what is valid is accepted by a directory, and what is not says why.
func TestPLCValidate(t *testing.T) {
	ctx := context.Background()
	dir, err := plctest.New(plctest.Config{NoRateLimits: true})
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	fresh := func() *identity.PLCOperation {
		return identity.NewPLCOperation("alice.example.com", "https://pds.example.com", key.PublicKey(), key.PublicKey())
	}
	for _, c := range changes(t) {
		op := fresh()
		c.make(op)
		err := op.Validate()
		if c.valid != (err == nil) || err != nil && !errors.Is(err, identity.ErrOperation) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		if err := op.Sign(ctx, key); err != nil {
			t.Fatal(err)
		}
		did, err := op.DID()
		if err == nil {
			err = op.Validate() // signed, it is no other
		}
		if err == nil {
			err = dir.Submit(did, op)
		}
		if err != nil {
			t.Errorf("%s: the directory says %v", c.name, err)
		}
	}
	// Several at once.
	all, rng := changes(t), rand.New(rand.NewPCG(1, 2))
	valid := 0
	for range 500 {
		op := fresh()
		for range 1 + rng.IntN(3) {
			all[rng.IntN(len(all))].make(op)
		}
		if op.Validate() != nil || !slices.Contains(op.RotationKeys, key.PublicKey().DIDKey()) {
			continue
		}
		valid++
		if err := op.Sign(ctx, key); err != nil {
			t.Fatal(err)
		}
		did, err := op.DID()
		if err == nil && dir.Log(did) == nil {
			err = dir.Submit(did, op)
		}
		if err != nil {
			t.Errorf("the directory says %v", err)
		}
	}
	if valid < 20 {
		t.Errorf("only %d were valid", valid)
	}
}

// TestPLCValidateSize counts the signature that is still to come.
func TestPLCValidateSize(t *testing.T) {
	ctx := context.Background()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	op := identity.NewPLCOperation("alice.example.com", "https://pds.example.com", key.PublicKey(), key.PublicKey())
	for i := range 7 {
		op.Services[fmt.Sprint("s", i)] = identity.PLCService{Type: "T", Endpoint: "https://example.com/" + strings.Repeat("a", 440)}
	}
	op.Services["t"] = identity.PLCService{Type: "T"}
	edges := 0
	for n := range 490 {
		op.Sig = ""
		op.Services["t"] = identity.PLCService{Type: "T", Endpoint: "https://example.com/" + strings.Repeat("a", n)}
		unsigned := op.Validate()
		if err := op.Sign(ctx, key); err != nil {
			t.Fatal(err)
		}
		signed := op.Validate()
		if (unsigned == nil) != (signed == nil) {
			t.Fatalf("%d: unsigned %v, signed %v", n, unsigned, signed)
		}
		if b, err := op.Bytes(); err != nil || (len(b) <= 4000) != (signed == nil) {
			t.Fatalf("%d bytes: %v, %v", len(b), signed, err)
		}
		if signed != nil {
			edges++
		}
	}
	if edges == 0 || edges == 490 {
		t.Errorf("%d of 490 are too large", edges)
	}
}

// TestPLCNothingFollowsATombstone: the error says both why.
func TestPLCNothingFollowsATombstone(t *testing.T) {
	ctx := context.Background()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	op := identity.NewPLCOperation("alice.example.com", "https://pds.example.com", key.PublicKey(), key.PublicKey())
	if err := op.Sign(ctx, key); err != nil {
		t.Fatal(err)
	}
	end, err := op.Tombstone()
	if err == nil {
		err = end.Sign(ctx, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := end.Validate(); err != nil {
		t.Error(err)
	}
	for _, follow := range []func() (*identity.PLCOperation, error){end.Next, end.Tombstone} {
		if _, err := follow(); !errors.Is(err, identity.ErrTombstoned) || !errors.Is(err, identity.ErrOrder) {
			t.Error(err)
		}
	}
	legacy := &identity.PLCOperation{Type: identity.PLCCreate, Legacy: &identity.PLCLegacy{}}
	if err := legacy.Validate(); !errors.Is(err, identity.ErrOperation) {
		t.Error(err)
	}
}
