package identity

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// key returns the n-th key of the tests; odd ones are of P-256.
func key(t testing.TB, n byte) *crypto.PrivateKey {
	t.Helper()
	alg := crypto.K256
	if n%2 == 1 {
		alg = crypto.P256
	}
	k, err := crypto.ParsePrivateKey(alg, slices.Repeat([]byte{n + 1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, op *PLCOperation, k *crypto.PrivateKey) *PLCOperation {
	t.Helper()
	if err := op.Sign(context.Background(), k); err != nil {
		t.Fatal(err)
	}
	return op
}

// genesis returns a signed genesis operation with rotation keys 0, 1 and 2, signed
// with the last of them.
func genesis(t testing.TB) *PLCOperation {
	t.Helper()
	op := NewPLCOperation("Alice.example.com", "https://pds.example.com", key(t, 9).PublicKey(),
		key(t, 0).PublicKey(), key(t, 1).PublicKey(), key(t, 2).PublicKey())
	return sign(t, op, key(t, 2))
}

// update returns a signed operation that follows another, with another PDS.
func update(t testing.TB, prev *PLCOperation, pds string, k *crypto.PrivateKey) *PLCOperation {
	t.Helper()
	op, err := prev.Next()
	if err != nil {
		t.Fatal(err)
	}
	op.SetPDS(pds)
	return sign(t, op, k)
}

func tombstone(t testing.TB, prev *PLCOperation, k *crypto.PrivateKey) *PLCOperation {
	t.Helper()
	op, err := prev.Tombstone()
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, op, k)
}

func didOf(t testing.TB, op *PLCOperation) syntax.DID {
	t.Helper()
	did, err := op.DID()
	if err != nil {
		t.Fatal(err)
	}
	return did
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)

// A real log fixes the encoding from outside: signatures, CIDs and the DID fit.
func TestPLCRealLog(t *testing.T) {
	b, err := os.ReadFile("testdata/plc_log_bsky.app.json")
	if err != nil {
		t.Fatal(err)
	}
	var entries []PLCLogEntry
	if err := json.Unmarshal(b, &entries); err != nil {
		t.Fatal(err)
	}
	log, err := ValidatePLCLog("did:plc:z72i7hdynmk6r22z27h6tvur", entries)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := log.Document()
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"@context":["https://www.w3.org/ns/did/v1","https://w3id.org/security/multikey/v1","https://w3id.org/security/suites/secp256k1-2019/v1"],` +
		`"id":"did:plc:z72i7hdynmk6r22z27h6tvur","alsoKnownAs":["at://bsky.app"],` +
		`"verificationMethod":[{"id":"did:plc:z72i7hdynmk6r22z27h6tvur#atproto","type":"Multikey","controller":"did:plc:z72i7hdynmk6r22z27h6tvur","publicKeyMultibase":"zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF"}],` +
		`"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://bsky.social"}]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}

	again, err := json.Marshal(log.Entries())
	if err != nil {
		t.Fatal(err)
	}
	var a, z any
	if json.Unmarshal(b, &a) != nil || json.Unmarshal(again, &z) != nil {
		t.Fatal("not JSON")
	}
	if diff := cmp.Diff(a, z); diff != "" {
		t.Errorf("written again, the log differs: %s", diff)
	}

	t.Run("a DID with the log of another", func(t *testing.T) {
		if _, err := ValidatePLCLog("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", entries); !errors.Is(err, ErrLog) {
			t.Error(err)
		}
	})
}

// The audit logs of the method's own repository (folder interop_tests/audit_log of
// did-method-plc/did-method-plc), if PDSKIT_PLC_INTEROP names that folder.
func TestPLCInterop(t *testing.T) {
	dir := os.Getenv("PDSKIT_PLC_INTEROP")
	if dir == "" {
		t.Skip("set PDSKIT_PLC_INTEROP to the folder interop_tests/audit_log of did-method-plc/did-method-plc")
	}
	wants := map[string]error{
		"log_invalid_nullification_reused_key.json": ErrSignature,
		"log_invalid_nullification_too_slow.json":   ErrLateRecovery,
		"log_invalid_sig_b64_newline.json":          ErrSignature,
		"log_invalid_sig_b64_padding_bits.json":     ErrSignature,
		"log_invalid_sig_b64_padding_chars.json":    ErrSignature,
		"log_invalid_sig_der.json":                  ErrSignature,
		"log_invalid_sig_k256_high_s.json":          ErrSignature,
		"log_invalid_sig_p256_high_s.json":          ErrSignature,
		"log_invalid_update_nullified.json":         ErrOrder,
		"log_invalid_update_tombstoned.json":        ErrOrder,
	}
	for _, kind := range []string{"valid", "invalid"} {
		files, err := filepath.Glob(filepath.Join(dir, kind, "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no logs in %s: %v", filepath.Join(dir, kind), err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var entries []PLCLogEntry
			if err := json.Unmarshal(b, &entries); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			_, err = ValidatePLCLog(entries[0].DID, entries)
			want, listed := wants[filepath.Base(file)]
			switch {
			case kind == "valid" && err != nil:
				t.Errorf("%s: %v", file, err)
			case kind == "invalid" && (err == nil || listed && !errors.Is(err, want)):
				t.Errorf("%s: %v, want %v", file, err, want)
			}
		}
	}
}

func TestPLCLifeOfADID(t *testing.T) {
	g := genesis(t)
	log := NewPLCLog(didOf(t, g))
	at := start
	add := func(op *PLCOperation, nullifies int) {
		t.Helper()
		at = at.Add(time.Hour)
		got, err := log.Append(op, at)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != nullifies {
			t.Fatalf("nullified %d operations, want %d", len(got), nullifies)
		}
	}
	wantPDS := func(want string) {
		t.Helper()
		doc, err := log.Document()
		if err != nil {
			t.Fatal(err)
		}
		if pds, ok := doc.PDS(); !ok || pds != want {
			t.Fatalf("PDS %q, want %q", pds, want)
		}
	}
	if _, err := log.Data(); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	add(g, 0)
	wantPDS("https://pds.example.com")
	stolen := update(t, g, "https://thief.example.com", key(t, 2))
	add(stolen, 0)
	add(update(t, stolen, "https://fence.example.com", key(t, 2)), 0)
	wantPDS("https://fence.example.com")
	rescue := update(t, g, "https://safe.example.com", key(t, 1))
	add(rescue, 2)
	wantPDS("https://safe.example.com")
	add(update(t, g, "https://safer.example.com", key(t, 0)), 1)
	wantPDS("https://safer.example.com")
	dead := tombstone(t, log.Last(), key(t, 1))
	before := log.Last()
	add(dead, 0)
	if _, err := log.Document(); !errors.Is(err, ErrTombstoned) {
		t.Fatal(err)
	}
	add(update(t, before, "https://alive.example.com", key(t, 0)), 1)
	wantPDS("https://alive.example.com")

	var nullified []bool
	for _, e := range log.Entries() {
		nullified = append(nullified, e.Nullified)
	}
	if diff := cmp.Diff([]bool{false, true, true, true, false, true, false}, nullified); diff != "" {
		t.Error(diff)
	}
	if n := len(log.Operations()); n != 3 {
		t.Errorf("%d valid operations", n)
	}
	checked, err := ValidatePLCLog(log.DID(), log.Entries())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(log.Entries(), checked.Entries()); diff != "" {
		t.Error(diff)
	}
}

func TestPLCRotation(t *testing.T) {
	g := genesis(t)
	log := NewPLCLog(didOf(t, g))
	mustAppend(t, log, g, 0)
	op, err := g.Next()
	if err != nil {
		t.Fatal(err)
	}
	op.RotationKeys = []string{key(t, 3).PublicKey().DIDKey()}
	op.SetHandle("bob.example.com")
	op.SetSigningKey(key(t, 8).PublicKey())
	mustAppend(t, log, sign(t, op, key(t, 0)), time.Hour)
	if g.AlsoKnownAs[0] != "at://alice.example.com" || len(g.RotationKeys) != 3 {
		t.Error("changing the next operation changed the one before")
	}
	if _, err := log.Append(update(t, op, "https://x.example.com", key(t, 0)), start.Add(2*time.Hour)); !errors.Is(err, ErrSignature) {
		t.Errorf("a key rotated out: %v", err)
	}
	mustAppend(t, log, update(t, op, "https://x.example.com", key(t, 3)), 2*time.Hour)
	doc, err := log.Document()
	if err != nil {
		t.Fatal(err)
	}
	if h, _ := doc.Handle(); h != "bob.example.com" {
		t.Error(h)
	}
	if k, err := doc.SigningKey(); err != nil || !k.Equal(key(t, 8).PublicKey()) {
		t.Error(k, err)
	}
}

func mustAppend(t testing.TB, log *PLCLog, op *PLCOperation, after time.Duration) {
	t.Helper()
	if _, err := log.Append(op, start.Add(after)); err != nil {
		t.Fatal(err)
	}
}

func TestPLCLegacyGenesis(t *testing.T) {
	op := sign(t, &PLCOperation{Type: PLCCreate, Legacy: &PLCLegacy{
		SigningKey: key(t, 2).PublicKey().DIDKey(), RecoveryKey: key(t, 0).PublicKey().DIDKey(),
		Handle: "alice.example.com", Service: "pds.example.com"}}, key(t, 2))
	log := NewPLCLog(didOf(t, op))
	mustAppend(t, log, op, 0)
	next := update(t, op, "https://new.example.com", key(t, 2))
	if next.Type != PLCUpdate || next.Legacy != nil {
		t.Fatalf("%+v", next)
	}
	mustAppend(t, log, next, time.Hour)
	if _, err := log.Append(update(t, op, "https://rescue.example.com", key(t, 0)), start.Add(2*time.Hour)); err != nil {
		t.Errorf("the recovery key does not outrank the signing key: %v", err)
	}
	data, err := op.Data(log.DID())
	if err != nil {
		t.Fatal(err)
	}
	doc := data.Document()
	if pds, _ := doc.PDS(); pds != "https://pds.example.com" {
		t.Error(pds)
	}
	if h, _ := doc.Handle(); h != "alice.example.com" {
		t.Error(h)
	}
}
