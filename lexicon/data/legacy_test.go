package data

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLegacyRecords: what the data model does not have is read as JavaScript would show it, by
// AppendRecordJSON alone.
func TestLegacyRecords(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"float64", "a1 61 78 fb 3ff8000000000000", `{"x":1.5}`},
		{"float32", "a1 61 78 fa 40200000", `{"x":2.5}`},
		{"float16", "a1 61 78 f9 3e00", `{"x":1.5}`},
		{"subnormal float16", "a1 61 78 f9 0001", `{"x":5.960464477539063e-8}`},
		{"whole float", "a1 61 78 fb 4059000000000000", `{"x":100}`},
		{"negative zero", "a1 61 78 f9 8000", `{"x":0}`},
		{"NaN and infinities", "a1 61 78 83 f97e00 f97c00 f9fc00", `{"x":[null,null,null]}`},
		{"great float", "a1 61 78 fb 4480f0cf064dd592", `{"x":1e+22}`},
		{"beyond 53 bits", "a1 61 78 1b 0020000000000000", `{"x":9007199254740992}`},
		{"beyond 63 bits", "a1 61 78 1b ffffffffffffffff", `{"x":18446744073709551615}`},
		{"below 63 bits", "a1 61 78 3b ffffffffffffffff", `{"x":-18446744073709551616}`},
		{"below 53 bits", "a1 61 78 3b 001fffffffffffff", `{"x":-9007199254740992}`},
		{"integer not in its shortest form", "a1 61 78 18 01", `{"x":1}`},
		{"length not in its shortest form", "a1 78 01 78 01", `{"x":1}`},
		{"indefinite map", "bf 61 78 01 ff", `{"x":1}`},
		{"indefinite array and text", "a1 61 78 9f 7f 61 61 61 62 ff 5f 41 00 41 00 ff ff", `{"x":["ab",{"$bytes":"AAA"}]}`},
		{"keys out of order", "a2 61 79 01 61 78 02", `{"y":1,"x":2}`},
		{"key given twice", "a3 61 78 01 61 79 02 61 78 03", `{"y":2,"x":3}`},
		{"keys that are numbers", "a2 01 01 20 02", `{"1":1,"-1":2}`},
		{"key that is a map", "a1 a1 61 78 01 02", `{"oWF4AQ":2}`},
		{"undefined and simple values", "a1 61 78 84 f7 f6 e0 f8 ff", `{"x":[null,null,null,null]}`},
		{"other tag", "a1 61 78 c1 1a 514b67b0", `{"x":1363896240}`},
		{"malformed link", "a1 61 78 d82a 42 0001", `{"x":{"$bytes":"AAE"}}`},
		{"text that is not Unicode", "a1 61 78 62 c328", `{"x":"�("}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			record := unhex(t, tt.in)
			got, err := AppendRecordJSON([]byte("before "), record)
			if err != nil || string(got) != "before "+tt.want {
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			}
			refs, legacy, err := RecordRefs(record)
			if len(refs) != 0 || !legacy || err != nil {
				t.Errorf("RecordRefs: %v %v %v", refs, legacy, err)
			}
		})
	}
}

// TestLegacyIsNotForNewRecords: what only legacy records may be is refused where new ones are made.
func TestLegacyIsNotForNewRecords(t *testing.T) {
	for _, in := range []string{"a1 61 78 fb 3ff8000000000000", "a1 61 78 1b ffffffffffffffff", "bf 61 78 01 ff", "a2 61 79 01 61 78 02", "a1 61 78 f7"} {
		b := unhex(t, in)
		if err := Valid(b, Limits{}); err == nil {
			t.Errorf("%s is valid", in)
		}
		if _, err := Decode(b, Limits{}); err == nil {
			t.Errorf("%s is decoded", in)
		}
		if _, err := BlobRefs(b); err == nil {
			t.Errorf("%s has references", in)
		}
		if _, err := AppendJSON(nil, b); err == nil {
			t.Errorf("%s has JSON", in)
		}
	}
}

// TestNotWellFormed: what is not even CBOR, or no map, is no record.
func TestNotWellFormed(t *testing.T) {
	for name, tt := range map[string]struct {
		in   []byte
		want error
	}{
		"empty":                    {nil, ErrTruncated},
		"array":                    {unhex(t, "80"), ErrNotObject},
		"legacy array":             {unhex(t, "81 f93e00"), ErrNotObject},
		"cut off":                  {unhex(t, "a1 61 78 fb 3ff8"), ErrTruncated},
		"cut off in a key":         {unhex(t, "bf 65 78"), ErrTruncated},
		"bytes after it":           {unhex(t, "bf ff 00"), ErrTrailing},
		"break for a value":        {unhex(t, "a1 61 78 ff"), ErrReserved},
		"break after a key":        {unhex(t, "bf 61 78 ff"), ErrReserved},
		"indefinite integer":       {unhex(t, "a1 61 78 1f"), ErrReserved},
		"reserved length":          {unhex(t, "a1 61 78 1c"), ErrReserved},
		"simple value in two ways": {unhex(t, "a1 61 78 f8 10"), ErrSimple},
		"chunk of another type":    {unhex(t, "a1 61 78 7f 41 00 ff"), ErrReserved},
		"chunk in a chunk":         {unhex(t, "a1 61 78 7f 7f ff ff"), ErrReserved},
		"chunk beyond the end":     {unhex(t, "a1 61 78 7f 65 61 62 ff"), ErrTruncated},
		"length beyond the end":    {unhex(t, "bf 61 78 7b ffffffffffffffff"), ErrTruncated},
		"array without end":        {unhex(t, "bf 61 78 9b ffffffffffffffff"), ErrTruncated},
		"nested too deeply":        {append(unhex(t, "bf 61 78"), bytes.Repeat([]byte{0x81}, 1<<20)...), ErrDepth},
		"tags without end":         {append(unhex(t, "bf 61 78"), bytes.Repeat([]byte{0xc1}, 1<<20)...), ErrDepth},
		"too large":                {make([]byte, 3<<20), ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := RecordRefs(tt.in); !errors.Is(err, tt.want) {
				t.Errorf("RecordRefs: %v, want %v", err, tt.want)
			}
			// Values other than maps have JSON, if the data model has them.
			if _, err := AppendRecordJSON(nil, tt.in); !errors.Is(err, tt.want) && tt.want != ErrNotObject {
				t.Errorf("AppendRecordJSON: %v, want %v", err, tt.want)
			}
		})
	}
}

// A legacy record may be nested 256 deep.
func TestDepthOfLegacyRecords(t *testing.T) {
	for depth, want := range map[int]error{legacyDepth: nil, legacyDepth + 1: ErrDepth} {
		// The object is at depth 0, what it holds at depth 1.
		record := append(unhex(t, "bf 61 78"), bytes.Repeat([]byte{0x81}, depth-1)...)
		record = append(record, unhex(t, "f93e00 ff")...)
		if _, err := AppendRecordJSON(nil, record); !errors.Is(err, want) {
			t.Errorf("depth %d: %v, want %v", depth, err, want)
		}
	}
}

// TestMapsAsKeys: maps that are keys of maps that are keys do not make names of exponential length.
func TestMapsAsKeys(t *testing.T) {
	const depth = 200
	record := append(bytes.Repeat([]byte{0xa1}, depth), bytes.Repeat([]byte{0x00}, depth+1)...)
	out, err := AppendRecordJSON(nil, record)
	if err != nil || len(out) > 10*len(record) {
		t.Errorf("%d bytes of JSON, %v", len(out), err)
	}
}

// TestLegacyReferences: references to blobs are found in legacy records, whatever makes them so.
func TestLegacyReferences(t *testing.T) {
	one, two := dag.Sum(dag.Raw, []byte("1")), dag.Sum(dag.Raw, []byte("2"))
	link := func(c cid.Cid) string { return "d82a 5825 00" + hex.EncodeToString(c.Bytes()) }
	text := func(s string) string {
		b, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(b)
	}
	blob := func(c cid.Cid, size string) string {
		return "a4" + text("ref") + link(c) + text("size") + size + text("$type") + text("blob") + text("mimeType") + text("image/png")
	}
	for _, tt := range []struct {
		name, in string
		want     []cid.Cid
		legacy   bool
	}{
		{"of a new record", "a1 61 78" + blob(one, "05"), []cid.Cid{one}, false},
		{"beside a float", "a2 61 78" + blob(one, "05") + "61 79 f93e00", []cid.Cid{one}, true},
		{"with a size that is a float", "a1 61 78" + blob(one, "fb4014000000000000"), []cid.Cid{one}, true},
		{"with a negative size", "a1 61 78" + blob(one, "20"), []cid.Cid{one}, true},
		{"without a size", "a1 61 78 a2" + text("ref") + link(one) + text("$type") + text("blob"), []cid.Cid{one}, true},
		{"in the old form", "a1 61 78 a2" + text("cid") + text(one.String()) + text("mimeType") + text("a/b"), []cid.Cid{one}, false},
		{"in the old form with a float", "a1 61 78 a3" + text("cid") + text(one.String()) + text("mimeType") + text("a/b") + "61 79 f93e00", []cid.Cid{one}, true},
		{"under a key that is given twice", "a2 61 78" + blob(one, "05") + "61 78" + blob(two, "05"), []cid.Cid{one, two}, true},
		{"twice", "a2 61 78" + blob(one, "05") + "61 79" + blob(one, "05"), []cid.Cid{one}, false},
		{"in an indefinite array", "a1 61 78 9f" + blob(one, "05") + blob(two, "05") + "ff", []cid.Cid{one, two}, true},
		{"behind a tag", "a1 61 78 c1" + blob(one, "05"), []cid.Cid{one}, true},
		{"to a block that is no blob", "a2 61 78" + blob(dag.Sum(dag.CBOR, nil), "05") + "61 79 f93e00", nil, true},
		{"a link that is no blob", "a2 63 726566" + link(one) + "61 79 f93e00", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refs, legacy, err := RecordRefs(unhex(t, tt.in))
			if err != nil || legacy != tt.legacy {
				t.Errorf("legacy %v, %v", legacy, err)
			}
			if diff := cmp.Diff(tt.want, refs, cmp.Comparer(func(a, b cid.Cid) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzLegacy: well-formed CBOR has JSON that can be read; of what the data model has, it is the
// same as by the strict way, and nothing is a legacy record that is not.
func FuzzLegacy(f *testing.F) {
	for _, s := range []string{"oA==", "oWF4+z/4AAAAAAAA", "v2F4AX//", "oaEBAgM=", "oWF4n59//19//4D//w=="} {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, fault := decodeLegacy(b); fault == nil {
			if out := v.appendJSON(nil); !json.Valid(out) {
				t.Errorf("%x has the JSON %s", b, out)
			}
		}
		strict, strictErr := AppendJSON(nil, b)
		loose, err := AppendRecordJSON(nil, b)
		if strictErr == nil && (err != nil || !bytes.Equal(strict, loose)) {
			t.Errorf("%s, and strictly %s (%v)", loose, strict, err)
		}
		_, legacy, err := RecordRefs(b)
		if err == nil && !legacy && Valid(b, Limits{}) != nil {
			t.Errorf("%x is no legacy record, but not valid", b)
		}
		if err == nil && Valid(b, Limits{}) == nil && !legacy {
			if v, fault := decodeLegacy(b); fault != nil || !bytes.Equal(v.appendJSON(nil), loose) {
				t.Errorf("%x: the legacy reader has %v, the other %s", b, fault, loose)
			}
		}
	})
}

func TestFloat16(t *testing.T) {
	for n, want := range map[uint16]float64{0: 0, 1: math.Ldexp(1, -24), 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0400: math.Ldexp(1, -14)} {
		if got := float16(n); got != want {
			t.Errorf("%#x is %v, want %v", n, got, want)
		}
	}
}
