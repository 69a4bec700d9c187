package identity

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/cbor"
)

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

func (s failingSigner) PublicKey() *crypto.PublicKey { return s.pub }

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
