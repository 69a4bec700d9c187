package serviceauth_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// heap is the memory in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Strangers choose IDs and issuers as long as a token may be. What is remembered of them is short,
// and still tells them apart.
func TestReplaysOfLongNames(t *testing.T) {
	key := generate(t, crypto.K256)
	now := time.Now()
	for name, long := range map[string]func(i int) (issuer, id string){
		"IDs": func(i int) (string, string) {
			return fmt.Sprintf("did:web:i%d.example", i), fmt.Sprint(strings.Repeat("x", 5000), i)
		},
		"issuers": func(i int) (string, string) { return fmt.Sprint("did:web:", strings.Repeat("x", 1900), i), "id" },
		"none":    func(i int) (string, string) { return fmt.Sprintf("did:web:i%d.example", i), "" },
	} {
		t.Run(name, func(t *testing.T) {
			v := &serviceauth.Verifier{Audience: []string{audience}, Keys: anyKey{key.PublicKey()}, Replays: &serviceauth.Replays{}, Now: func() time.Time { return now }}
			token := func(i int) string {
				issuer, id := long(i)
				return sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, ID: id, Issued: now, Expires: now.Add(time.Minute)})
			}
			const n = 500
			before := heap()
			for i := range n {
				if _, err := v.Verify(context.Background(), token(i), ""); err != nil {
					t.Fatal(i, err)
				}
			}
			if each := (heap() - before) / n; each > 500 {
				t.Errorf("%d bytes a token", each)
			}
			runtime.KeepAlive(v)
		})
	}
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: anyKey{key.PublicKey()}, Replays: &serviceauth.Replays{}, Now: func() time.Time { return now }}
	for i := range 3 {
		tok := sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, ID: fmt.Sprint(strings.Repeat("x", 5000), i), Issued: now, Expires: now.Add(time.Minute)})
		if _, err := v.Verify(context.Background(), tok, ""); err != nil {
			t.Errorf("IDs that differ in their last byte: %v", err)
		}
		if _, err := v.Verify(context.Background(), tok, ""); !errors.Is(err, &xrpc.Error{Name: "JwtReplayed"}) {
			t.Errorf("a replay: %v", err)
		}
	}
}

// documents makes a large document for each issuer and keeps none.
type documents struct{ key *crypto.PublicKey }

func (d documents) ResolveDID(_ context.Context, did syntax.DID) (*identity.Document, error) {
	return &identity.Document{ID: did, AlsoKnownAs: []string{strings.Repeat("x", 50_000)}, VerificationMethods: []identity.VerificationMethod{
		identity.NewVerificationMethod(did, "atproto", d.key),
	}}, nil
}

func (documents) Purge(syntax.AtIdentifier) {}

// The keys that are kept keep no documents, which are as large as strangers make them.
func TestKeysKeepNoDocuments(t *testing.T) {
	k := &serviceauth.DocumentKeys{Resolver: documents{generate(t, crypto.K256).PublicKey()}}
	const n = 1000
	before := heap()
	for i := range n {
		if _, err := k.Key(context.Background(), syntax.DID(fmt.Sprint("did:web:", strings.Repeat("x", 1900), i)), "atproto", true); err != nil {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / n; each > 2000 {
		t.Errorf("%d bytes a key", each)
	}
	runtime.KeepAlive(k)
}

// A refresh that was made by a clock that was ahead bars no refresh until then.
func TestRefreshesOfAClockThatGoesBack(t *testing.T) {
	now := time.Now()
	r := &resolver{doc: &identity.Document{ID: issuer, VerificationMethods: []identity.VerificationMethod{
		identity.NewVerificationMethod(issuer, "atproto", generate(t, crypto.K256).PublicKey()),
	}}}
	k := &serviceauth.DocumentKeys{Resolver: r, Now: func() time.Time { return now }}
	for _, shift := range []time.Duration{2 * time.Hour, -2 * time.Hour, 0} {
		now = now.Add(shift)
		if _, err := k.Key(context.Background(), issuer, "atproto", true); err != nil {
			t.Fatal(err)
		}
	}
	if r.purged != 2 {
		t.Errorf("%d refreshes, want one at each time", r.purged)
	}
}

func TestVerifiersThatLackSomething(t *testing.T) {
	key := generate(t, crypto.K256)
	for name, v := range map[string]*serviceauth.Verifier{
		"Verifier": nil,
		"Audience": {Keys: anyKey{key.PublicKey()}},
		"Keys":     {Audience: []string{audience}},
	} {
		if err := v.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
		// It is the host's fault, not the token's.
		_, err := v.Verify(context.Background(), sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience}), "")
		if told := (*xrpc.Error)(nil); err == nil || errors.As(err, &told) {
			t.Errorf("without %s: %v", name, err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Authenticator without %s did not panic", name)
				}
			}()
			v.Authenticator(nil)
		}()
	}
	if _, err := (&serviceauth.DocumentKeys{}).Key(context.Background(), issuer, "atproto", false); err == nil {
		t.Error("keys without a resolver")
	}
}
