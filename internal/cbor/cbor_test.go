package cbor

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

// unhex reads bytes written as hex, with spaces between items for the reader's eye.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	digest    = "0000000000000000000000000000000000000000000000000000000000000000"
	linkCBOR  = "d82a 5825 00 01711220" + digest
	linkRaw   = "d82a 5825 00 01551220" + digest
	linkDagPB = "d82a 5825 00 01701220" + digest
)

// Everything that may stand in a record, in its one encoding.
var canonical = map[string]string{
	"0":                    "00",
	"23":                   "17",
	"24":                   "1818",
	"255":                  "18ff",
	"256":                  "190100",
	"65535":                "19ffff",
	"65536":                "1a00010000",
	"2^32-1":               "1affffffff",
	"2^32":                 "1b0000000100000000",
	"2^63-1":               "1b7fffffffffffffff",
	"-1":                   "20",
	"-24":                  "37",
	"-25":                  "3818",
	"-2^63":                "3b7fffffffffffffff",
	"false":                "f4",
	"true":                 "f5",
	"null":                 "f6",
	"no bytes":             "40",
	"bytes":                "43 010203",
	"24 bytes":             "5818" + strings.Repeat("00", 24),
	"256 bytes":            "590100" + strings.Repeat("00", 256),
	"no text":              "60",
	"text":                 "63 616263",
	"two-byte character":   "62 c3a9",
	"four-byte character":  "64 f09f9880",
	"zero byte in text":    "61 00",
	"no items":             "80",
	"array":                "83 01 02 03",
	"arrays":               "81 81 80",
	"no pairs":             "a0",
	"map":                  "a2 6161 01 6162 02",
	"short keys first":     "a2 617a 01 626161 02",
	"empty key":            "a1 60 01",
	"map in array in map":  "a1 6161 81 a1 6162 f6",
	"link to CBOR":         linkCBOR,
	"link to raw":          linkRaw,
	"links in an array":    "82" + linkCBOR + linkRaw,
	"map that ends arrays": "82 a0 80",
}

// The strictness matrix: each way to stray from the canonical encoding.
var refused = []struct {
	name string
	in   string
	want error
}{
	{"empty input", "", ErrTruncated},
	{"trailing byte", "00 00", ErrTrailing},
	{"trailing bytes after a map", "a0 a0", ErrTrailing},

	{"non-minimal int: 0 in 2 bytes", "1800", ErrNonMinimal},
	{"non-minimal int: 23 in 2 bytes", "1817", ErrNonMinimal},
	{"non-minimal int: 255 in 3 bytes", "1900ff", ErrNonMinimal},
	{"non-minimal int: 65535 in 5 bytes", "1a0000ffff", ErrNonMinimal},
	{"non-minimal int: 2^32-1 in 9 bytes", "1b00000000ffffffff", ErrNonMinimal},
	{"non-minimal negative int", "3817", ErrNonMinimal},
	{"non-minimal length of bytes", "5801 00", ErrNonMinimal},
	{"non-minimal length of text", "7801 61", ErrNonMinimal},
	{"non-minimal length of an array", "9801 00", ErrNonMinimal},
	{"non-minimal length of a map", "b801 6161 00", ErrNonMinimal},
	{"non-minimal length of a key", "a1 7801 61 00", ErrNonMinimal},
	{"non-minimal tag", "d9002a 5825 00 01711220" + digest, ErrNonMinimal},
	{"non-minimal length in a link", "d82a 590025 00 01711220" + digest, ErrNonMinimal},

	{"integer of 2^63", "1b8000000000000000", ErrIntRange},
	{"integer of 2^64-1", "1bffffffffffffffff", ErrIntRange},
	{"integer of -2^63-1", "3b8000000000000000", ErrIntRange},

	{"indefinite bytes", "5f 41 00 ff", ErrIndefinite},
	{"indefinite text", "7f 61 61 ff", ErrIndefinite},
	{"indefinite array", "9f 00 ff", ErrIndefinite},
	{"indefinite map", "bf 6161 00 ff", ErrIndefinite},
	{"indefinite key", "a1 7f 6161 ff 00", ErrIndefinite},
	{"break alone", "ff", ErrIndefinite},

	{"reserved head 28", "1c", ErrReserved},
	{"reserved head 29", "5d", ErrReserved},
	{"reserved head 30", "fe", ErrReserved},

	{"half float", "f93c00", ErrFloat},
	{"single float", "fa3fc00000", ErrFloat},
	{"double float", "fb3ff8000000000000", ErrFloat},
	{"double float with an integral value", "fb3ff0000000000000", ErrFloat},
	{"not a number", "fb7ff8000000000000", ErrFloat},
	{"undefined", "f7", ErrSimple},
	{"simple value 0", "e0", ErrSimple},
	{"simple value 19", "f3", ErrSimple},
	{"simple value 32", "f820", ErrSimple},
	{"false in two bytes", "f814", ErrSimple},

	{"tag 0", "c0 60", ErrTag},
	{"tag 2, a big number", "c2 41 01", ErrTag},
	{"tag 55799, self-described", "d9d9f7 00", ErrTag},
	{"link to dag-pb", linkDagPB, ErrLink},
	{"link without its zero byte", "d82a 5824 01711220" + digest, ErrLink},
	{"link as text", "d82a 6161", ErrLink},
	{"link as an integer", "d82a 00", ErrLink},
	{"link of no bytes", "d82a 40", ErrLink},
	{"link of CID version 0", "d82a 5823 00 1220" + digest, ErrLink},
	{"link of the identity hash", "d82a 46 00 01 71 00 01 00", ErrLink},
	{"link of SHA-512", "d82a 5825 00 01711320" + digest, ErrLink},
	{"link with a byte too many", "d82a 5826 00 01711220" + digest + "00", ErrLink},
	{"link within a link", "d82a " + linkCBOR, ErrLink},

	{"integer key", "a1 01 02", ErrKeyType},
	{"bytes as key", "a1 4161 02", ErrKeyType},
	{"null as key", "a1 f6 02", ErrKeyType},
	{"link as key", "a1" + linkCBOR + "02", ErrKeyType},
	{"unsorted keys", "a2 6162 01 6161 02", ErrKeyOrder},
	{"keys sorted as bytes, not by length", "a2 626161 01 617a 02", ErrKeyOrder},
	{"empty key last", "a2 6161 01 60 02", ErrKeyOrder},
	{"repeated key", "a2 6161 01 6161 02", ErrKeyRepeated},
	{"repeated empty key", "a2 60 01 60 02", ErrKeyRepeated},
	{"unsorted keys of an inner map", "a1 6161 a2 6162 01 6161 02", ErrKeyOrder},

	{"broken UTF-8", "61 ff", ErrUTF8},
	{"overlong UTF-8", "62 c080", ErrUTF8},
	{"surrogate in UTF-8", "63 eda080", ErrUTF8},
	{"UTF-8 cut short", "61 c3", ErrUTF8},
	{"broken UTF-8 in a key", "a1 61ff 00", ErrUTF8},

	{"bytes cut short", "42 00", ErrTruncated},
	{"text cut short", "62 61", ErrTruncated},
	{"head cut short", "19 01", ErrTruncated},
	{"array cut short", "82 00", ErrTruncated},
	{"map without a value", "a1 6161", ErrTruncated},
	{"map without its second pair", "a2 6161 00", ErrTruncated},
	{"key cut short", "a1 62 61", ErrTruncated},
	{"link cut short", "d82a 5825 00 01711220 00", ErrTruncated},
	{"tag alone", "d82a", ErrTruncated},
	{"length of 2^64-1 bytes", "5bffffffffffffffff", ErrTruncated},
	{"length of 2^63 of text", "7b8000000000000000", ErrTruncated},
	{"array of 2^64-1 items", "9bffffffffffffffff", ErrItems},
	{"map of 2^63 pairs", "bb8000000000000000", ErrItems},
	{"array of 131,073 items", "9a00020001", ErrItems},
	{"nested 65 deep", strings.Repeat("81", 65) + "00", ErrDepth},
	{"nested 100,000 deep", strings.Repeat("81", 100_000) + "00", ErrDepth},
	{"maps nested 65 deep", strings.Repeat("a160", 65) + "00", ErrDepth},
}

func TestCanonical(t *testing.T) {
	for name, in := range canonical {
		b := unhex(t, in)
		if err := Scan(b, Limits{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if out, err := transcribe(NewReader(b), nil); err != nil || !bytes.Equal(out, b) {
			t.Errorf("%s: %x came back as %x, %v", name, b, out, err)
		}
		for n := range b {
			if err := Scan(b[:n], Limits{}); !errors.Is(err, ErrTruncated) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			b := unhex(t, c.in)
			err := Scan(b, Limits{})
			var e *Error
			if !errors.Is(err, c.want) || !errors.As(err, &e) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if e.Offset < 0 || e.Offset > len(b) {
				t.Errorf("offset %d of %d", e.Offset, len(b))
			}
			r := NewReader(b)
			if r.Skip() == nil {
				err = r.Done()
			}
			if err == nil || r.Err() == nil {
				t.Errorf("a Reader skips it")
			}
		})
	}
}

func TestLimits(t *testing.T) {
	array := append(AppendArray(nil, 1000), make([]byte, 1000)...)
	deep := append(bytes.Repeat([]byte{0x81}, 256), 0)
	for _, c := range []struct {
		name string
		in   []byte
		lim  Limits
		want error
	}{
		{"bytes: at the limit", array, Limits{Bytes: len(array)}, nil},
		{"bytes: over the limit", array, Limits{Bytes: len(array) - 1}, ErrSize},
		{"bytes: one long string", AppendBytes(nil, make([]byte, 1000)), Limits{Bytes: 500}, ErrSize},
		{"items: at the limit", array, Limits{Items: 1000}, nil},
		{"items: over the limit", array, Limits{Items: 999}, ErrItems},
		{"depth: at the most there is", deep, Limits{Depth: 256}, nil},
		{"depth: over the most there is", append([]byte{0x81}, deep...), Limits{Depth: 1 << 20}, ErrDepth},
		{"depth: over the limit", deep[250:], Limits{Depth: 5}, ErrDepth},
		{"depth: at the limit", deep[250:], Limits{Depth: 6}, nil},
	} {
		if err := Scan(c.in, c.lim); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	// What comes behind the value does not count, but is not allowed either.
	if err := Scan(append([]byte{0}, array...), Limits{Bytes: 10}); !errors.Is(err, ErrTrailing) {
		t.Error(err)
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	in := unhex(t, "a3 6161 83 01 02 a1 60 f6 6162"+linkCBOR+"626161 64f09f9880")
	if n := testing.AllocsPerRun(100, func() {
		if err := Scan(in, Limits{}); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Each method of a Reader refuses every other type, and the first error sticks.
func TestReaderTypes(t *testing.T) {
	inputs := map[string][]byte{
		"uint": {0x05}, "negint": {0x24}, "bytes": {0x41, 0}, "text": {0x61, 'a'}, "array": {0x80}, "map": {0xa0},
		"link": unhex(t, linkCBOR), "bool": {0xf5}, "null": {0xf6},
	}
	methods := map[string]func(r *Reader) error{
		"uint":   func(r *Reader) error { _, err := r.Uint(); return err },
		"negint": func(r *Reader) error { _, err := r.Int(); return err },
		"bytes":  func(r *Reader) error { _, err := r.Bytes(); return err },
		"text":   func(r *Reader) error { _, err := r.Text(); return err },
		"array":  func(r *Reader) error { _, err := r.Array(); return err },
		"map":    func(r *Reader) error { _, err := r.Map(); return err },
		"link":   func(r *Reader) error { _, err := r.Link(); return err },
		"bool":   func(r *Reader) error { _, err := r.Bool(); return err },
		"null": func(r *Reader) error {
			if !r.Null() {
				return r.Fail(ErrType)
			}
			return r.Err()
		},
	}
	for method, read := range methods {
		for typ, in := range inputs {
			r := NewReader(in)
			err := read(r)
			if ok := method == typ || method == "negint" && typ == "uint"; ok != (err == nil) {
				t.Errorf("%s reads %s: %v", method, typ, err)
			} else if !ok {
				if _, again := r.Uint(); !errors.Is(err, ErrType) || again != err || r.Done() != err || r.Pos() != 0 || r.Major() != 255 {
					t.Errorf("%s reads %s: %v does not stick", method, typ, err)
				}
			} else if err := r.Done(); err != nil {
				t.Errorf("%s reads %s: %v", method, typ, err)
			}
		}
		if err := read(NewReader(nil)); err == nil {
			t.Errorf("%s reads from nothing", method)
		}
	}
}

func TestReaderValues(t *testing.T) {
	for _, n := range []int64{0, 1, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64, -1, -24, -25, -256, -257, math.MinInt64} {
		if got, err := NewReader(AppendInt(nil, n)).Int(); got != n || err != nil {
			t.Errorf("%d came back as %d, %v", n, got, err)
		}
	}
	for _, in := range []string{"1b8000000000000000", "3b8000000000000000"} {
		if n, err := NewReader(unhex(t, in)).Int(); !errors.Is(err, ErrIntRange) {
			t.Errorf("%s is %d, %v", in, n, err)
		}
	}
	if n, err := NewReader(AppendUint(nil, math.MaxUint64)).Uint(); n != math.MaxUint64 || err != nil {
		t.Error(n, err)
	}
	for _, v := range []bool{false, true} {
		if got, err := NewReader(AppendBool(nil, v)).Bool(); got != v || err != nil {
			t.Error(got, err)
		}
	}
	// A count that the input cannot hold is refused before anyone makes room for it.
	for _, in := range []string{"9a00ffffff 00", "ba00ffffff 6000"} {
		r := NewReader(unhex(t, in))
		if _, err := r.Array(); err == nil {
			t.Errorf("%s is an array", in)
		}
		r = NewReader(unhex(t, in))
		if _, err := r.Map(); err == nil {
			t.Errorf("%s is a map", in)
		}
	}
	if err := NewReader([]byte{0x61, 'a'}).Key("b"); !errors.Is(err, ErrType) {
		t.Error(err)
	}
	if s, err := NewReader([]byte{0x61, 0xff}).Text(); !errors.Is(err, ErrUTF8) {
		t.Error(s, err)
	}
	// The bytes of a string are clipped: an append does not reach the input.
	in := []byte{0x41, 1, 2}
	b, _ := NewReader(in).Bytes()
	if _ = append(b, 9); in[2] != 2 {
		t.Error("an append reached the input")
	}
}

func TestCompareKeys(t *testing.T) {
	order := []string{"", "a", "b", "\xff", "aa", "ab", "ba", "aaa"}
	for i, a := range order {
		for j, b := range order {
			if got := CompareKeys(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%q and %q: %d", a, b, got)
			}
		}
	}
}

// transcribe reads one value with the methods of Reader and writes it with the
// functions that append. It checks the order of keys itself, so that with what the Reader checks
// it accepts what Scan accepts.
func transcribe(r *Reader, out []byte) ([]byte, error) {
	out, err := transcribeItem(r, out, 0)
	if err == nil {
		err = r.Done()
	}
	return out, err
}

func transcribeItem(r *Reader, out []byte, depth int) ([]byte, error) {
	switch r.Major() {
	case MajorUint, MajorNegint:
		n, err := r.Int()
		return AppendInt(out, n), err
	case MajorBytes:
		b, err := r.Bytes()
		return AppendBytes(out, b), err
	case MajorText:
		s, err := r.Text()
		return AppendText(out, s), err
	case MajorArray:
		n, err := r.Array()
		if depth == 64 {
			err = ErrDepth
		}
		out = AppendArray(out, n)
		for i := 0; i < n && err == nil; i++ {
			out, err = transcribeItem(r, out, depth+1)
		}
		return out, err
	case MajorMap:
		n, err := r.Map()
		if depth == 64 {
			err = ErrDepth
		}
		out = AppendMap(out, n)
		last := ""
		for i := 0; i < n && err == nil; i++ {
			var k string
			if k, err = r.Text(); err == nil && i > 0 && CompareKeys(last, k) >= 0 {
				err = ErrKeyOrder
			}
			if last = k; err == nil {
				out, err = transcribeItem(r, AppendText(out, k), depth+1)
			}
		}
		return out, err
	case MajorTag:
		c, err := r.Link()
		if err == nil && (len(c) != 36 || c[0] != 1 || c[1] != 0x71 && c[1] != 0x55 || c[2] != 0x12 || c[3] != 32) {
			err = ErrLink
		}
		return AppendLink(out, string(c)), err
	}
	if r.Null() {
		return AppendNull(out), nil
	}
	v, err := r.Bool()
	return AppendBool(out, v), err
}

// FuzzScan checks that the scanner and the reader agree on what is canonical, and
// that what was read, written again, gives the same bytes.
func FuzzScan(f *testing.F) {
	for _, in := range canonical {
		f.Add(unhex(f, in))
	}
	for _, c := range refused {
		if len(c.in) < 1000 {
			f.Add(unhex(f, c.in))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 100_000 { // above that, the limit on items parts the two
			return
		}
		scanned := Scan(in, Limits{})
		out, read := transcribe(NewReader(in), nil)
		if (scanned == nil) != (read == nil) {
			t.Fatalf("%x: scanned: %v, read: %v", in, scanned, read)
		}
		if read == nil && !bytes.Equal(out, in) {
			t.Fatalf("%x came back as %x", in, out)
		}
		r := NewReader(in)
		if raw, err := r.Raw(Limits{}); err == nil {
			if err := Scan(raw, Limits{}); err != nil || !bytes.Equal(raw, in[:len(raw)]) {
				t.Fatalf("%x: raw item %x: %v", in, raw, err)
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	in := AppendMap(nil, 4)
	in = AppendText(AppendText(in, "text"), strings.Repeat("a post of some words. ", 5))
	in = AppendText(AppendText(in, "$type"), "app.bsky.feed.post")
	in = AppendArray(AppendText(in, "langs"), 1)
	in = AppendText(in, "en")
	in = AppendText(AppendText(in, "createdAt"), "2026-01-01T00:00:00.000Z")
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if err := Scan(in, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
