package plctest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

func key(t testing.TB, n byte) *crypto.PrivateKey {
	t.Helper()
	k, err := crypto.ParsePrivateKey(crypto.K256, slices.Repeat([]byte{n + 1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign changes an unsigned operation and signs it.
func sign(t testing.TB, op *identity.PLCOperation, k *crypto.PrivateKey, change ...func(*identity.PLCOperation)) *identity.PLCOperation {
	t.Helper()
	for _, f := range change {
		f(op)
	}
	if err := op.Sign(context.Background(), k); err != nil {
		t.Fatal(err)
	}
	return op
}

// genesis returns the first operation of the n-th account of a test, whose rotation
// keys are 0 and 1.
func genesis(t testing.TB, n int, change ...func(*identity.PLCOperation)) (syntax.DID, *identity.PLCOperation) {
	t.Helper()
	op := sign(t, identity.NewPLCOperation(syntax.Handle(fmt.Sprintf("a%d.example.com", n)), "https://pds.example.com",
		key(t, 9).PublicKey(), key(t, 0).PublicKey(), key(t, 1).PublicKey()), key(t, 1), change...)
	did, err := op.DID()
	if err != nil {
		t.Fatal(err)
	}
	return did, op
}

func next(t testing.TB, prev *identity.PLCOperation, pds string, k *crypto.PrivateKey) *identity.PLCOperation {
	t.Helper()
	op, err := prev.Next()
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, op, k, func(op *identity.PLCOperation) { op.SetPDS(pds) })
}

func open(t testing.TB, cfg Config) *Directory {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func submit(t testing.TB, d *Directory, did syntax.DID, op *identity.PLCOperation) {
	t.Helper()
	if err := d.Submit(did, op); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	d := open(t, Config{})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	with := func(change func(*identity.PLCOperation)) string {
		op, err := g.Next()
		if err != nil {
			t.Fatal(err)
		}
		return asJSON(t, sign(t, op, key(t, 0), change))
	}
	legacy := sign(t, &identity.PLCOperation{Type: identity.PLCCreate, Legacy: &identity.PLCLegacy{SigningKey: key(t, 0).PublicKey().DIDKey(), RecoveryKey: key(t, 1).PublicKey().DIDKey(), Handle: "a.example.com", Service: "https://x"}}, key(t, 0))
	legacyDID, err := legacy.DID()
	if err != nil {
		t.Fatal(err)
	}
	k := key(t, 0).PublicKey().DIDKey()
	for _, tc := range []struct {
		name, body, want string
		did              syntax.DID
	}{
		{"nothing", "", "Not a valid operation", did},
		{"not JSON", "{", "Not a valid operation", did},
		{"extra field", strings.Replace(asJSON(t, g), `"prev"`, `"x":1,"prev"`, 1), "Not a valid operation", did},
		{"unsigned", strings.Replace(asJSON(t, g), `"sig":"`+g.Sig+`",`, ``, 1), "Not a valid operation", did},
		{"legacy form", asJSON(t, legacy), "Not a valid operation: the legacy form is no longer accepted", legacyDID},
		{"genesis again", asJSON(t, g), "Operations not correctly ordered", did},
		{"genesis of another DID", asJSON(t, g), "Hash of genesis operation does not match DID identifier", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"},
		{"DID in upper case", asJSON(t, g), "Hash of genesis operation does not match DID identifier", "did:plc:" + syntax.DID(strings.ToUpper(did.Identifier()))},
		{"stranger", asJSON(t, next(t, g, "https://evil.example.com", key(t, 7))), "Invalid signature on op", did},
		{"too large", with(func(op *identity.PLCOperation) { op.AlsoKnownAs = append(op.AlsoKnownAs, strings.Repeat("x", 4000)) }), "Operation too large (4000 bytes maximum in cbor encoding)", did},
		{"many handles", with(func(op *identity.PLCOperation) {
			for i := range 10 {
				op.AlsoKnownAs = append(op.AlsoKnownAs, fmt.Sprint("at://", i))
			}
		}), "Too many alsoKnownAs entries (max 10)", did},
		{"long handle", with(func(op *identity.PLCOperation) { op.AlsoKnownAs[0] = "at://" + strings.Repeat("x", 254) }), "alsoKnownAs entry too long (max 258)", did},
		{"handle twice", with(func(op *identity.PLCOperation) { op.AlsoKnownAs = []string{"at://x", "at://x"} }), "duplicate alsoKnownAs entry: at://x", did},
		{"many rotation keys", with(func(op *identity.PLCOperation) { op.RotationKeys = slices.Repeat([]string{k}, 11) }), "Too many rotationKey entries (max 10)", did},
		{"rotation key of an unsupported type", with(func(op *identity.PLCOperation) { op.RotationKeys = []string{ed25519} }), "Invalid rotationKey: " + ed25519, did},
		{"many services", with(func(op *identity.PLCOperation) {
			for i := range 10 {
				op.Services[fmt.Sprint(i)] = identity.PLCService{}
			}
		}), "Too many service entries (max 10)", did},
		{"long service id", with(func(op *identity.PLCOperation) { op.Services[strings.Repeat("x", 33)] = identity.PLCService{} }), "Service id, type or endpoint too long (max 32, 256, 512)", did},
		{"long endpoint", with(func(op *identity.PLCOperation) { op.SetPDS(strings.Repeat("x", 513)) }), "Service id, type or endpoint too long (max 32, 256, 512)", did},
		{"many keys", with(func(op *identity.PLCOperation) {
			for i := range 10 {
				op.VerificationMethods[fmt.Sprint(i)] = k
			}
		}), "Too many Verification Method entries (max 10)", did},
		{"long key", with(func(op *identity.PLCOperation) { op.VerificationMethods["x"] = "did:key:z" + strings.Repeat("x", 250) }), "Verification Method id or key too long (max 32, 256)", did},
		{"key that is no did:key", with(func(op *identity.PLCOperation) { op.VerificationMethods["x"] = "did:key:zO0" }), "Invalid verificationMethod key: did:key:zO0", did},
		{"key without multibase", with(func(op *identity.PLCOperation) { op.VerificationMethods["x"] = "did:key:" }), "Invalid verificationMethod key: did:key:", did},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := request(d, "POST", "/"+string(tc.did), tc.body)
			if w.Code != 400 || message(t, w) != tc.want {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	if w := request(d, "POST", "/"+string(did), strings.Repeat(" ", maxBody+1)); w.Code != 413 {
		t.Error(w.Code)
	}
	if n := d.Log(did).Len(); n != 1 || len(d.order) != 1 {
		t.Errorf("%d operations were accepted", n)
	}
	if w := request(d, "POST", "/"+string(did), with(func(op *identity.PLCOperation) { op.VerificationMethods["x"] = ed25519 })); w.Code != 200 {
		t.Errorf("a signing key of any type is allowed: %s", w.Body)
	}
}

const ed25519 = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"

func TestRecoveryWindow(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := open(t, Config{Now: func() time.Time { return at }})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	at = at.Add(time.Hour)
	submit(t, d, did, next(t, g, "https://thief.example.com", key(t, 1)))
	rescue := next(t, g, "https://safe.example.com", key(t, 0))
	at = at.Add(identity.PLCRecoveryWindow + time.Millisecond)
	if err := d.Submit(did, rescue); !errors.Is(err, identity.ErrLateRecovery) {
		t.Error(err)
	}
	at = at.Add(-time.Millisecond)
	submit(t, d, did, rescue)
}

func TestRateLimit(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, lifted := range []bool{false, true} {
		d := open(t, Config{Now: func() time.Time { return at }, NoRateLimits: lifted})
		did, op := genesis(t, 1)
		submit(t, d, did, op)
		for i := range 9 {
			op = next(t, op, fmt.Sprintf("https://%d.example.com", i), key(t, 1))
			submit(t, d, did, op)
		}
		eleventh := next(t, op, "https://x.example.com", key(t, 1))
		err := d.Submit(did, eleventh)
		if lifted {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Message != "Too many operations within last hour (max 10)" {
			t.Error(err)
		}
		// Whoever has the higher key is not locked out by the thief's operations.
		last := d.Log(did).Operations()[8]
		submit(t, d, did, next(t, last, "https://safe.example.com", key(t, 0)))
		at = at.Add(time.Hour + time.Minute)
		submit(t, d, did, next(t, d.Log(did).Last(), "https://y.example.com", key(t, 1)))
	}
}

// Operations that race for the same predecessor: one wins, and there is no fork.
func TestRace(t *testing.T) {
	d := open(t, Config{})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	var wg sync.WaitGroup
	results := make(chan error, 20)
	for i := range 20 {
		op := next(t, g, fmt.Sprintf("https://%d.example.com", i), key(t, 1))
		wg.Go(func() { results <- d.Submit(did, op) })
		wg.Go(func() { request(d, "GET", "/"+string(did)+"/log/audit", "") })
		wg.Go(func() { request(d, "GET", "/export", "") })
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		}
	}
	if n := len(d.Log(did).Operations()); won != 1 || n != 2 {
		t.Errorf("%d won, %d operations", won, n)
	}
}

func TestUnknownDID(t *testing.T) {
	d := open(t, Config{})
	if log := d.Log("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"); log != nil {
		t.Error(log)
	}
}

func BenchmarkSubmit(b *testing.B) {
	d := open(b, Config{File: filepath.Join(b.TempDir(), "plc.jsonl")})
	i := 0
	for b.Loop() {
		b.StopTimer()
		did, g := genesis(b, i)
		i++
		b.StartTimer()
		submit(b, d, did, g)
	}
}
