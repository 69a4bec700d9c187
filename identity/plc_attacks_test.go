package identity

import (
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

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
