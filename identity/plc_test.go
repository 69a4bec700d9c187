package identity

import (
	"context"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/cbor"
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

// Each attack must be refused with its error, and leave the log as it was.
func TestPLCAttacks(t *testing.T) {
	g := genesis(t)
	did := didOf(t, g)
	mid := update(t, g, "https://mid.example.com", key(t, 1))
	low := update(t, mid, "https://low.example.com", key(t, 2))
	base := NewPLCLog(did) // g ← mid (key 1) ← low (key 2), an hour apart
	mustAppend(t, base, g, 0)
	mustAppend(t, base, mid, time.Hour)
	mustAppend(t, base, low, 2*time.Hour)
	changed := func(op *PLCOperation, change func(*PLCOperation)) *PLCOperation {
		c := *op
		c.RotationKeys, c.AlsoKnownAs = slices.Clone(c.RotationKeys), slices.Clone(c.AlsoKnownAs)
		c.VerificationMethods, c.Services = maps.Clone(c.VerificationMethods), maps.Clone(c.Services)
		change(&c)
		return &c
	}
	ok := update(t, low, "https://next.example.com", key(t, 1))
	sigBytes, err := base64.RawURLEncoding.DecodeString(ok.Sig)
	if err != nil {
		t.Fatal(err)
	}
	lastChar := func(s string) string { // another character with the same significant bits
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		return s[:len(s)-1] + string(alphabet[strings.IndexByte(alphabet, s[len(s)-1])|1])
	}
	dead := tombstone(t, low, key(t, 1))
	withDead := base.Clone()
	mustAppend(t, withDead, dead, 3*time.Hour)
	rescued := base.Clone()
	mustAppend(t, rescued, update(t, g, "https://rescue.example.com", key(t, 0)), 3*time.Hour)

	soon := 4 * time.Hour
	for _, tc := range []struct {
		name string
		log  *PLCLog
		op   *PLCOperation
		at   time.Duration
		want error
	}{
		{"key that is no rotation key", base, update(t, low, "https://evil.example.com", key(t, 7)), soon, ErrSignature},
		{"signing key is no rotation key", base, update(t, low, "https://evil.example.com", key(t, 9)), soon, ErrSignature},
		{"content changed after signing", base, changed(ok, func(op *PLCOperation) { op.SetPDS("https://evil.example.com") }), soon, ErrSignature},
		{"high-S signature of P-256", base, changed(ok, func(op *PLCOperation) { op.Sig = highS(sigBytes, elliptic.P256().Params().N) }), soon, ErrSignature},
		{"high-S signature of K-256", base, changed(update(t, low, "https://next.example.com", key(t, 0)), func(op *PLCOperation) {
			b, _ := base64.RawURLEncoding.DecodeString(op.Sig)
			op.Sig = highS(b, orderK256)
		}), soon, ErrSignature},
		{"padded base64", base, changed(ok, func(op *PLCOperation) { op.Sig += "==" }), soon, ErrSignature},
		{"non-zero padding bits", base, changed(ok, func(op *PLCOperation) { op.Sig = lastChar(op.Sig) }), soon, ErrSignature},
		{"line feed in base64", base, changed(ok, func(op *PLCOperation) { op.Sig = op.Sig[:40] + "\n" + op.Sig[40:] }), soon, ErrSignature},
		{"standard base64 alphabet", base, changed(ok, func(op *PLCOperation) { op.Sig = base64.RawStdEncoding.EncodeToString(bytesOf(0xfb, 64)) }), soon, ErrSignature},
		{"signature of 63 bytes", base, changed(ok, func(op *PLCOperation) { op.Sig = base64.RawURLEncoding.EncodeToString(sigBytes[:63]) }), soon, ErrSignature},
		{"no signature", base, changed(ok, func(op *PLCOperation) { op.Sig = "" }), soon, ErrOperation},
		{"unknown type", base, changed(ok, func(op *PLCOperation) { op.Type = "plc_destroy" }), soon, ErrOperation},
		{"no operation", base, nil, soon, ErrOperation},
		{"same authority nullifies", base, update(t, g, "https://evil.example.com", key(t, 1)), soon, ErrSignature},
		{"lower authority nullifies", base, update(t, g, "https://evil.example.com", key(t, 2)), soon, ErrSignature},
		{"recovery one millisecond after 72 hours", base, update(t, g, "https://late.example.com", key(t, 0)), time.Hour + PLCRecoveryWindow + time.Millisecond, ErrLateRecovery},
		{"window counts from the first nullified operation", base, update(t, g, "https://late.example.com", key(t, 0)), 2*time.Hour + PLCRecoveryWindow, ErrLateRecovery},
		{"recovery at the time of the last operation", base, update(t, g, "https://x.example.com", key(t, 0)), 2 * time.Hour, ErrOrder},
		{"time runs backwards", base, ok, time.Hour, ErrOrder},
		{"second genesis", base, sign(t, changed(g, func(op *PLCOperation) { op.SetPDS("https://x.example.com") }), key(t, 0)), soon, ErrOrder},
		{"prev of another log", base, changed(ok, func(op *PLCOperation) { op.Prev = "bafyreigp6shzy6dlcxuowwoxz7u5nemdrkad2my5zwzpwilcnhih7bw6zm" }), soon, ErrOrder},
		{"replay of the last operation", base, low, soon, ErrSignature},
		{"after a tombstone", withDead, sign(t, func() *PLCOperation {
			cid, _ := dead.CID()
			return changed(ok, func(op *PLCOperation) { op.Prev = cid })
		}(), key(t, 0)), soon, ErrOrder},
		{"after a nullified operation", rescued, update(t, low, "https://x.example.com", key(t, 0)), soon, ErrOrder},
		{"nullified key takes control back", rescued, update(t, g, "https://x.example.com", key(t, 1)), soon, ErrSignature},
		{"too many rotation keys", base, sign(t, changed(ok, func(op *PLCOperation) { op.RotationKeys = op.RotationKeys[:1] }), key(t, 0)).withKeys(MaxPLCRotationKeys + 1), soon, ErrOperation},
		{"too large", base, changed(ok, func(op *PLCOperation) { op.SetPDS("https://" + strings.Repeat("a", MaxPLCOperation)) }), soon, ErrOperation},
		{"text that is not Unicode", base, changed(ok, func(op *PLCOperation) { op.AlsoKnownAs = []string{"at://\xff"} }), soon, ErrOperation},
		{"genesis hash mismatch", NewPLCLog("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), g, soon, ErrGenesis},
		{"genesis by a stranger", NewPLCLog(did), sign(t, changed(g, func(*PLCOperation) {}), key(t, 7)), soon, ErrSignature},
		{"log starts in the middle", NewPLCLog(did), mid, soon, ErrOrder},
		{"log starts with a tombstone", NewPLCLog(did), tombstone(t, g, key(t, 0)), soon, ErrOrder},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log := tc.log.Clone()
			_, err := log.Append(tc.op, start.Add(tc.at))
			if !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if diff := cmp.Diff(tc.log.Entries(), log.Entries()); diff != "" {
				t.Errorf("the log changed: %s", diff)
			}
		})
	}
	t.Run("recovery at exactly 72 hours is allowed", func(t *testing.T) {
		if _, err := base.Clone().Append(update(t, g, "https://x.example.com", key(t, 0)), start.Add(time.Hour+PLCRecoveryWindow)); err != nil {
			t.Error(err)
		}
	})
	t.Run("duplicate rotation key does not outrank itself", func(t *testing.T) {
		k := key(t, 0)
		g := sign(t, NewPLCOperation("a.example.com", "https://a.example.com", k.PublicKey(), k.PublicKey(), k.PublicKey()), k)
		log := NewPLCLog(didOf(t, g))
		mustAppend(t, log, g, 0)
		mustAppend(t, log, update(t, g, "https://b.example.com", k), time.Hour)
		if _, err := log.Append(update(t, g, "https://c.example.com", k), start.Add(2*time.Hour)); !errors.Is(err, ErrSignature) {
			t.Error(err)
		}
	})
	t.Run("no rotation keys: nothing follows", func(t *testing.T) {
		log := base.Clone()
		op, _ := low.Next()
		op.RotationKeys = nil
		mustAppend(t, log, sign(t, op, key(t, 0)), 3*time.Hour)
		if _, err := log.Append(update(t, op, "https://x.example.com", key(t, 0)), start.Add(soon)); !errors.Is(err, ErrSignature) {
			t.Error(err)
		}
	})
	t.Run("unsupported rotation key signs nothing", func(t *testing.T) {
		if _, err := ok.Verify([]string{"did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", "", "x"}); !errors.Is(err, ErrSignature) {
			t.Error(err)
		}
	})
}

// withKeys gives an operation n rotation keys, without signing it again.
func (op *PLCOperation) withKeys(n int) *PLCOperation {
	op.RotationKeys = slices.Repeat(op.RotationKeys[:1], n)
	return op
}

func bytesOf(b byte, n int) []byte { return slices.Repeat([]byte{b}, n) }

var orderK256, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)

// highS returns the other signature that mathematics allows.
func highS(sig []byte, order *big.Int) string {
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(order, s)
	return base64.RawURLEncoding.EncodeToString(slices.Concat(sig[:32], s.FillBytes(make([]byte, 32))))
}

// Forged, reordered and cut logs.
func TestPLCForgedLogs(t *testing.T) {
	g := genesis(t)
	log := NewPLCLog(didOf(t, g))
	mustAppend(t, log, g, 0)
	stolen := update(t, g, "https://thief.example.com", key(t, 2))
	mustAppend(t, log, stolen, time.Hour)
	mustAppend(t, log, update(t, g, "https://safe.example.com", key(t, 0)), 2*time.Hour)
	for _, tc := range []struct {
		name   string
		change func(list []PLCLogEntry) []PLCLogEntry
		want   error
	}{
		{"empty", func([]PLCLogEntry) []PLCLogEntry { return nil }, ErrLog},
		{"genesis left out", func(l []PLCLogEntry) []PLCLogEntry { return l[1:] }, ErrOrder},
		{"recovery before what it nullifies", func(l []PLCLogEntry) []PLCLogEntry {
			l[1], l[2] = l[2], l[1]
			return l
		}, ErrOrder},
		{"recovery moved before, with times", func(l []PLCLogEntry) []PLCLogEntry {
			l[1], l[2] = l[2], l[1]
			l[1].CreatedAt, l[2].CreatedAt = l[2].CreatedAt, l[1].CreatedAt
			l[2].Nullified = false
			return l
		}, ErrSignature},
		{"nullified operation shown as valid", func(l []PLCLogEntry) []PLCLogEntry {
			l[1].Nullified = false
			return l
		}, ErrLog},
		{"valid operation shown as nullified", func(l []PLCLogEntry) []PLCLogEntry {
			l[2].Nullified = true
			return l
		}, ErrLog},
		{"recovery hidden by its mark", func(l []PLCLogEntry) []PLCLogEntry {
			l[1].Nullified = true
			return l[:2]
		}, ErrLog},
		{"wrong CID", func(l []PLCLogEntry) []PLCLogEntry {
			l[2].CID = l[1].CID
			return l
		}, ErrLog},
		{"operation of another DID", func(l []PLCLogEntry) []PLCLogEntry {
			l[1].DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
			return l
		}, ErrLog},
		{"late recovery by its time", func(l []PLCLogEntry) []PLCLogEntry {
			l[2].CreatedAt = l[1].CreatedAt.Add(PLCRecoveryWindow + time.Second)
			return l
		}, ErrLateRecovery},
		{"no operation", func(l []PLCLogEntry) []PLCLogEntry {
			l[1].Operation = nil
			return l
		}, ErrOperation},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := ValidatePLCLog(log.DID(), tc.change(log.Entries())); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

func TestPLCLogLength(t *testing.T) {
	g := genesis(t)
	log := NewPLCLog(didOf(t, g))
	mustAppend(t, log, g, 0)
	log.entries = slices.Repeat(log.entries, MaxPLCLog)
	if _, err := log.Append(update(t, g, "https://x.example.com", key(t, 0)), start); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestParsePLCOperationRefuses(t *testing.T) {
	good, err := json.Marshal(genesis(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePLCOperation(good); err != nil {
		t.Fatal(err)
	}
	s := string(good)
	for name, in := range map[string]string{
		"empty":                     ``,
		"array":                     `[]`,
		"null":                      `null`,
		"no members":                `{}`,
		"no type":                   strings.Replace(s, `,"type":"plc_operation"`, ``, 1),
		"type in upper case":        strings.Replace(s, `"type":"plc_operation"`, `"Type":"plc_operation"`, 1),
		"no prev":                   strings.Replace(s, `"prev":null,`, ``, 1),
		"empty prev":                strings.Replace(s, `"prev":null`, `"prev":""`, 1),
		"null sig":                  strings.Replace(s, `"sig":"`, `"sig":null,"x":"`, 1),
		"no services":               strings.Replace(s, `"services":`, `"service":`, 1),
		"member given twice":        strings.Replace(s, `"prev":null`, `"prev":null,"prev":null`, 1),
		"unknown member":            strings.Replace(s, `"prev":null`, `"prev":null,"extra":1`, 1),
		"unknown member of service": strings.Replace(s, `"endpoint":`, `"extra":"","endpoint":`, 1),
		"service of no members":     strings.Replace(s, `"services":{`, `"services":{"x":{},`, 1),
		"service that is text":      strings.Replace(s, `"services":{`, `"services":{"x":"y",`, 1),
		"keys are numbers":          strings.Replace(s, `"rotationKeys":[`, `"rotationKeys":[1,`, 1),
		"method is an object":       strings.Replace(s, `"atproto":"`, `"x":{},"atproto":"`, 1),
		"lone surrogate":            strings.Replace(s, `at://`, `\ud800`, 1),
		"bytes after it":            s + `{}`,
		"tombstone without prev":    `{"type":"plc_tombstone","prev":null,"sig":"x"}`,
		"legacy with prev":          `{"type":"create","prev":"x","sig":"x","signingKey":"","recoveryKey":"","handle":"","service":""}`,
		"nested deeply":             strings.Repeat(`[`, 100_000),
		"too large":                 strings.Replace(s, `at://`, `at://`+strings.Repeat("a", MaxPLCOperation), 1),
	} {
		if in == s {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := ParsePLCOperation([]byte(in)); !errors.Is(err, ErrOperation) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPLCUnsigned(t *testing.T) {
	op := NewPLCOperation("a.example.com", "https://a.example.com", key(t, 1).PublicKey(), key(t, 0).PublicKey())
	if _, err := op.CID(); !errors.Is(err, ErrOperation) {
		t.Error(err)
	}
	b, err := json.Marshal(op)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePLCOperation(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(op, again); diff != "" {
		t.Error(diff)
	}
	if _, err := tombstone(t, genesis(t), key(t, 0)).Next(); !errors.Is(err, ErrOrder) {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*PLCOperation){
		"an unknown type":          func(op *PLCOperation) { op.Type = "unknown" },
		"text that is not Unicode": func(op *PLCOperation) { op.AlsoKnownAs = []string{"at://\xff"} },
	} {
		bad := *op
		spoil(&bad)
		if b, err := json.Marshal(bad); !errors.Is(err, ErrOperation) {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
	failing := failingSigner{key(t, 0).PublicKey()}
	if err := op.Sign(context.Background(), failing); !errors.Is(err, errKMS) || op.Sig != "" {
		t.Error(err)
	}
}

var errKMS = errors.New("key service is down")

type failingSigner struct{ pub *crypto.PublicKey }

func (s failingSigner) PublicKey() *crypto.PublicKey                 { return s.pub }
func (s failingSigner) Sign(context.Context, []byte) ([]byte, error) { return nil, errKMS }

func FuzzParsePLCOperation(f *testing.F) {
	g := genesis(f)
	legacy := sign(f, &PLCOperation{Type: PLCCreate, Legacy: &PLCLegacy{SigningKey: key(f, 2).PublicKey().DIDKey(), RecoveryKey: "x", Handle: "a.b", Service: "https://c"}}, key(f, 2))
	for _, op := range []*PLCOperation{g, update(f, g, "https://x", key(f, 0)), tombstone(f, g, key(f, 0)), legacy} {
		b, err := json.Marshal(op)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		op, err := ParsePLCOperation(in)
		if err != nil {
			if !errors.Is(err, ErrOperation) {
				t.Fatal(err)
			}
			return
		}
		out, err := json.Marshal(op)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePLCOperation(out)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(op, again); diff != "" {
			t.Fatal(diff)
		}
		unsigned, err := op.encode(false)
		if err != nil {
			t.Fatal(err)
		}
		if err := cbor.Scan(unsigned, cbor.Limits{}); err != nil {
			t.Fatalf("%v in %s", err, hex.EncodeToString(unsigned))
		}
		if op.Sig == "" {
			return
		}
		if _, err := op.Verify(op.RotationKeys); err != nil && !errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
		if _, err := NewPLCLog("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").Append(op, start); err == nil {
			t.Fatal("accepted for a DID that it cannot make")
		}
	})
}

func FuzzPLCLog(f *testing.F) {
	b, err := os.ReadFile("testdata/plc_log_bsky.app.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		var entries []PLCLogEntry
		if json.Unmarshal(in, &entries) != nil || len(entries) == 0 {
			return
		}
		log, err := ValidatePLCLog(entries[0].DID, entries)
		if err != nil {
			return
		}
		if diff := cmp.Diff(entries, log.Entries()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkValidatePLCLog(b *testing.B) {
	for _, n := range []int{2, 20, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			op := genesis(b)
			log := NewPLCLog(didOf(b, op))
			mustAppend(b, log, op, 0)
			for i := 1; i < n; i++ {
				op = update(b, op, fmt.Sprintf("https://pds%d.example.com", i), key(b, 0))
				mustAppend(b, log, op, time.Duration(i)*time.Hour)
			}
			entries := log.Entries()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ValidatePLCLog(log.DID(), entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}
