package data

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

// A value may be as long, as deep and as wide as its limits say, in JSON and in CBOR, and no more.
func TestLimitsAreExact(t *testing.T) {
	nested := func(n int, open, leaf, end string) string {
		return strings.Repeat(open, n) + leaf + strings.Repeat(end, n)
	}
	wide := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("0,", n), ",") + "]" }
	var pairs []string
	for i := range 4 {
		pairs = append(pairs, fmt.Sprintf(`"k%d":0`, i))
	}
	object := func(n int) string { return "{" + strings.Join(pairs[:n], ",") + "}" }
	for _, c := range []struct {
		name string
		json string
		lim  Limits
		want error
	}{
		{"as deep as it may be", nested(64, "[", "0", "]"), Limits{}, nil},
		{"a level more", nested(65, "[", "0", "]"), Limits{}, ErrDepth},
		{"objects as deep as they may be", nested(64, `{"a":`, "0", "}"), Limits{}, nil},
		{"an object more", nested(65, `{"a":`, "0", "}"), Limits{}, ErrDepth},
		{"as deep as the scanner goes", nested(256, "[", "0", "]"), Limits{Depth: 256}, nil},
		{"two levels", nested(2, "[", "0", "]"), Limits{Depth: 2}, nil},
		{"three levels", nested(3, "[", "0", "]"), Limits{Depth: 2}, ErrDepth},
		{"three items", wide(3), Limits{Items: 3}, nil},
		{"four items", wide(4), Limits{Items: 3}, ErrItems},
		{"three pairs", object(3), Limits{Items: 3}, nil},
		{"four pairs", object(4), Limits{Items: 3}, ErrItems},
		{"as many items as there may be", wide(128 << 10), Limits{}, nil},
		{"an item more", wide(128<<10 + 1), Limits{}, ErrItems},
	} {
		v, err := FromJSON([]byte(c.json), c.lim)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s, in JSON: %v", c.name, err)
		}
		enc, err := AppendCBOR(nil, []byte(c.json), Limits{Depth: 1000, Items: 1 << 20})
		if err != nil {
			t.Fatal(c.name, err)
		}
		_, decoded := Decode(enc, c.lim)
		for what, err := range map[string]error{"decoded": decoded, "checked": Valid(enc, c.lim)} {
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s, %s: %v", c.name, what, err)
			}
		}
		if c.want != nil || c.lim != (Limits{}) {
			continue
		}
		if again, err := Encode(v); err != nil || !bytes.Equal(again, enc) {
			t.Errorf("%s, encoded: %v", c.name, err)
		}
		if _, err := AppendJSON(nil, enc); err != nil {
			t.Errorf("%s, as JSON: %v", c.name, err)
		}
	}
	// Depth beyond what the scanner goes to.
	for depth, want := range map[int]error{256: nil, 257: ErrDepth} {
		if _, err := Decode([]byte(strings.Repeat("\x81", depth)+"\x00"), Limits{Depth: 1000}); !errors.Is(err, want) {
			t.Errorf("%d levels: %v", depth, err)
		}
	}
	deep := any(int64(0))
	for level := 1; level <= 65; level++ {
		deep = []any{deep}
		if _, err := Encode(deep); (err == nil) != (level <= 64) || err != nil && !errors.Is(err, ErrDepth) {
			t.Errorf("%d arrays: %v", level, err)
		}
		if _, err := Encode(map[string]any{"a": deep}); (err == nil) != (level <= 63) {
			t.Errorf("an object with %d arrays: %v", level, err)
		}
	}
	object64 := any(map[string]any{})
	for range 63 {
		object64 = []any{object64}
	}
	if _, err := Encode(object64); err != nil {
		t.Errorf("an object at the last level: %v", err)
	}
	if _, err := Encode([]any{object64}); !errors.Is(err, ErrDepth) {
		t.Errorf("an object below the last level: %v", err)
	}
	// Bytes, of the JSON and of the CBOR.
	text, enc := []byte(`"`+strings.Repeat("x", 98)+`"`), []byte("\x78\x62"+strings.Repeat("x", 98))
	for room, want := range map[int]error{99: ErrTooLarge, 100: nil, 101: nil} {
		_, fromJSON := AppendCBOR(nil, text, Limits{Bytes: room})
		_, decoded := Decode(enc, Limits{Bytes: room})
		for what, err := range map[string]error{"JSON": fromJSON, "CBOR": decoded, "the check": Valid(enc, Limits{Bytes: room})} {
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("room for %d bytes, %s: %v", room, what, err)
			}
		}
	}
	if lim := (Limits{}).withDefaults(); lim != (Limits{2 << 20, 64, 128 << 10}) {
		t.Errorf("the defaults are %+v", lim)
	}
}

// A link is refused whichever of its fixed bytes is another one, and so is its text in another form.
func TestLinksOfAnotherForm(t *testing.T) {
	c := dag.Sum(dag.Raw, []byte("x"))
	good := "\xd8\x2a\x58\x25\x00" + c.KeyString()
	check := func(in string, want bool) {
		t.Helper()
		_, decoded := Decode([]byte(in), Limits{})
		_, json := AppendJSON(nil, []byte(in))
		var l Link
		link := l.UnmarshalCBOR([]byte(in))
		for what, err := range map[string]error{"Decode": decoded, "AppendJSON": json, "Link": link} {
			if (err == nil) != want {
				t.Errorf("%x: %s: %v", in, what, err)
			}
		}
		if want && l.Cid != c {
			t.Errorf("%x is a link to %s", in, l)
		}
	}
	check(good, true)
	check(good+"\x00", false)
	check(good[:len(good)-1], false)
	for at := 1; at < len(good)-32; at++ {
		for _, by := range []byte{1, 2, 0x80} {
			other := []byte(good)
			other[at] ^= by
			check(string(other), false)
		}
	}
	text := c.String()
	for _, in := range []string{"", "b", text[:len(text)-1], text + "a", strings.ToUpper(text), "B" + text[1:], "z" + text[1:], "f" + text[1:], text[:len(text)-1] + "7", text[:len(text)-1] + "="} {
		if got, err := parseLink(in); err == nil && in != text {
			t.Errorf("%s is a link to %s", in, got)
		}
	}
	// The last character has two bits that stand for nothing. Only zeros are canonical.
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	last := strings.IndexByte(alphabet, text[len(text)-1])
	for spare := 1; spare < 4; spare++ {
		in := text[:len(text)-1] + alphabet[last|spare:][:1]
		if got, err := parseLink(in); err == nil {
			t.Errorf("%s is a link to %s", in, got)
		}
	}
	if got, err := parseLink(text); err != nil || got != c {
		t.Errorf("%v, %v", got, err)
	}
	// A CID in a base that makes it longer than those that are read is no reference in the old form.
	base58, err58 := c.StringOfBase('z')
	base16, err16 := c.StringOfBase('f')
	base2, err2 := c.StringOfBase('0')
	if err := errors.Join(err58, err16, err2); err != nil {
		t.Fatal(err)
	}
	for long, want := range map[string]int{text: 1, base58: 1, base16: 1, base2: 0} {
		old := map[string]any{"cid": long, "mimeType": "a/b"}
		if got := Blobs(old); len(got) != want {
			t.Errorf("%s: %v", long, got)
		}
		record, err := Encode(map[string]any{"x": old, "y": int64(5)})
		if err != nil {
			t.Fatal(err)
		}
		loose := append(bytes.Replace(record, []byte("\xa2"), []byte("\xbf"), 1), 0xff)
		for _, b := range [][]byte{record, loose} {
			if refs, _, err := RecordRefs(b); err != nil || len(refs) != want {
				t.Errorf("%s: %v, %v", long, refs, err)
			}
		}
	}
	for name, v := range map[string]any{
		"a member more": map[string]any{"cid": text, "mimeType": "a/b", "x": nil}, "no type": map[string]any{"cid": text, "mimeType": ""},
		"no text": map[string]any{"cid": int64(1), "mimeType": "a/b"}, "no CID": map[string]any{"cid": "x", "mimeType": "a/b"},
		"a type that is no text": map[string]any{"cid": text, "mimeType": int64(1)}, "no object": text, "nothing": nil,
	} {
		if b, ok := BlobOf(v); ok || b != (Blob{}) {
			t.Errorf("%s: %+v", name, b)
		}
	}
	for name, v := range map[string]map[string]any{
		"no type": {"mimeType": ""}, "a type without a slash": {"mimeType": "image"}, "a size below 0": {"size": int64(-1)}, "a link that is text": {"ref": text},
		"a size that is text": {"size": "5"}, "another type": {"$type": "blub"},
	} {
		blob := Blob{Ref: c, MIME: "a/b", Size: 0}.Value()
		if b, ok := BlobOf(blob); !ok || b != (Blob{Ref: c, MIME: "a/b"}) {
			t.Errorf("%+v, %v", b, ok)
		}
		for key, value := range v {
			blob[key] = value
		}
		if b, ok := BlobOf(blob); ok {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

// Integers beyond 53 bits make a record a legacy one, wherever they are; bytes that look like their
// heads do not.
func TestLongIntegers(t *testing.T) {
	for in, want := range map[string]bool{
		"\xa1\x61x\x1b\x00\x1f\xff\xff\xff\xff\xff\xff": false, "\xa1\x61x\x1b\x00\x20\x00\x00\x00\x00\x00\x00": true,
		"\xa1\x61x\x3b\x00\x1f\xff\xff\xff\xff\xff\xfe": false, "\xa1\x61x\x3b\x00\x1f\xff\xff\xff\xff\xff\xff": true,
		"\xa1\x61x\x81\x1b\x00\x20\x00\x00\x00\x00\x00\x00": true, "\xa1\x61x\x69\x1b\x20\x20\x20\x20\x20\x20\x20\x20": false,
		"\xa1\x61x\x49\x3b\xff\xff\xff\xff\xff\xff\xff\xff": false, "\xa1\x61x\x41\x1b": false, "\xa1\x61\x1b\x00": false,
		"\xa2\x61x\x41\x1b\x61y\x1b\x00\x20\x00\x00\x00\x00\x00\x00": true, "\xa0": false,
	} {
		refs, legacy, err := RecordRefs([]byte(in))
		if err != nil || len(refs) != 0 || legacy != want {
			t.Errorf("%x: legacy %v, %v", in, legacy, err)
		}
	}
}

// Legacy records have limits, too, and are told from what is not CBOR at all.
func TestLimitsOfLegacyRecords(t *testing.T) {
	const most = 128 << 10
	size := func(n int) string {
		return fmt.Sprintf("\xbf\x61x\x5a%s%s\xff", string([]byte{byte((n - 9) >> 24), byte((n - 9) >> 16), byte((n - 9) >> 8), byte(n - 9)}), strings.Repeat("x", n-9))
	}
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"as many items as there may be":       {"\xa1\x61x\x9f" + strings.Repeat("\x00", most) + "\xff", nil},
		"an item more":                        {"\xa1\x61x\x9f" + strings.Repeat("\x00", most+1) + "\xff", ErrItems},
		"as many items, and their number":     {"\xbf\x61x\x9a\x00\x02\x00\x00" + strings.Repeat("\x00", most) + "\xff", nil},
		"an item more, and their number":      {"\xbf\x61x\x9a\x00\x02\x00\x01" + strings.Repeat("\x00", most+1) + "\xff", ErrItems},
		"as long as it may be":                {size(2 << 20), nil},
		"a byte longer":                       {size(2<<20 + 1), ErrTooLarge},
		"an indefinite tag":                   {"\xa1\x61x\xdf\x00", ErrReserved},
		"an indefinite negative integer":      {"\xa1\x61x\x3f", ErrReserved},
		"a simple value of two bytes":         {"\xa1\x61x\xf8\x20", nil},
		"a simple value in the longer form":   {"\xa1\x61x\xf8\x1f", ErrSimple},
		"a number in the longer form":         {"\xa1\x61x\x18\x1f", nil},
		"a head that is cut off":              {"\xbf\x61x\x19\x00", ErrTruncated},
		"a head that just fits":               {"\xbf\x61x\x19\x00\x00\xff", nil},
		"a text that just fits":               {"\xbf\x61x\x62ab\xff", nil},
		"a chunk that is cut off":             {"\xbf\x61x\x7f\x62a", ErrTruncated},
		"the end of a chunk that is cut off":  {"\xbf\x61x\x7f\x61a", ErrTruncated},
		"the end of an array that is cut off": {"\xbf\x61x\x9f\x00", ErrTruncated},
	} {
		if _, err := AppendRecordJSON(nil, []byte(c.in)); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for in, want := range map[string]string{
		"\xa1\x41\x00\x01": `{"QQA":1}`, "\xa1\x81\x01\x02": `{"gQE":2}`, "\xa1\xf6\x01": `{"null":1}`, "\xa1\xf5\x01": `{"true":1}`, "\xa1\xf9\x3e\x00\x01": `{"1.5":1}`,
		"\xa1\xd8\x2a\x58\x25\x00" + dag.Sum(dag.Raw, nil).KeyString() + "\x01":      `{"2CpYJQABVRIg47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU":1}`,
		"\xbf\x61x\xd8\x2a\x58\x25\x01" + dag.Sum(dag.Raw, nil).KeyString() + "\xff": `{"x":{"$bytes":"AQFVEiDjsMRCmPwcFJr79MiZb7kkJ65B5GSbk0yklZkbeFK4VQ"}}`,
		"\xbf\x61x\xd8\x2b\x58\x25\x00" + dag.Sum(dag.Raw, nil).KeyString() + "\xff": `{"x":{"$bytes":"AAFVEiDjsMRCmPwcFJr79MiZb7kkJ65B5GSbk0yklZkbeFK4VQ"}}`,
		"\xbf\x61x\xd8\x2a\x40\xff": `{"x":{"$bytes":""}}`,
	} {
		if got, err := AppendRecordJSON(nil, []byte(in)); err != nil || string(got) != want {
			t.Errorf("%x: %s, %v, want %s", in, got, err, want)
		}
	}
	// Of a reference in a legacy record no more is asked than what makes it one, and no less.
	c := dag.Sum(dag.Raw, []byte("1"))
	link := "\xd8\x2a\x58\x25\x00" + c.KeyString()
	text := "\x78\x3b" + c.String()
	for in, want := range map[string]int{
		"\xbf\x63ref" + link + "\x65$type\x64blob\xff": 1, "\xbf\x63ref" + link + "\x68mimeType\x61a\xff": 1, "\xbf\x63ref" + link + "\xff": 0,
		"\xbf\x63ref" + link + "\x65$type\x64blub\xff": 0, "\xbf\x63raf" + link + "\x65$type\x64blob\xff": 0, "\xbf\x63ref" + link + "\x65$tipe\x64blob\xff": 0,
		"\xbf\x63cid" + text + "\x68mimeType\x61a\xff": 1, "\xbf\x63cid" + text + "\xff": 0, "\xbf\x63cod" + text + "\x68mimeType\x61a\xff": 0,
		"\xbf\x63cid" + text + "\x65$type\x64blob\xff": 0, "\xbf\x63cid\x61x\x68mimeType\x61a\xff": 0,
	} {
		if refs, legacy, err := RecordRefs([]byte(in)); err != nil || !legacy || len(refs) != want {
			t.Errorf("%x: %d references, legacy %v, %v", in, len(refs), legacy, err)
		}
	}
}

// Floats are written as JavaScript writes them.
func TestFloatsAsInJavaScript(t *testing.T) {
	for f, want := range map[float64]string{
		1e-6: "0.000001", 9.999999e-7: "9.999999e-7", -1e-7: "-1e-7", 1e-10: "1e-10", 1e-100: "1e-100", 1.5e-108: "1.5e-108", 1e100: "1e+100", -5e205: "-5e+205", 1e20: "100000000000000000000", 1e21: "1e+21",
		math.Nextafter(1e21, 0): "999999999999999900000", -1e21: "-1e+21", 1.5: "1.5", -0.25: "-0.25", math.MaxFloat64: "1.7976931348623157e+308", 0: "0", math.Inf(-1): "null",
	} {
		if got := string(appendFloat([]byte("x"), f)); got != "x"+want {
			t.Errorf("%g: %s, want %s", f, got[1:], want)
		}
	}
	for n, want := range map[uint16]float64{0x7c00: math.Inf(1), 0xfc00: math.Inf(-1), 0x03ff: math.Ldexp(1023, -24), 0x8001: -math.Ldexp(1, -24), 0x7800: 32768} {
		if got := float16(n); got != want {
			t.Errorf("%#x is %v, want %v", n, got, want)
		}
	}
	if got := float16(0x7c01); !math.IsNaN(got) {
		t.Errorf("0x7c01 is %v", got)
	}
}

// Plain JSON has numbers of any kind: those that are integers of 53 bits are integers, however they
// are written.
func TestPlainNumbers(t *testing.T) {
	in := `{"a":[1,-1,1.0,1e3,9007199254740991.0,9007199254740992.0,-9007199254740991.0,-9007199254740992.0,9223372036854775807,9223372036854775808,1.5,1e400,-1e400],"b":{"$link":"x"}}`
	want := map[string]any{
		"a": []any{
			int64(1), int64(-1), int64(1), int64(1000), int64(1<<53 - 1), float64(1 << 53), int64(-1<<53 + 1), float64(-1 << 53), int64(math.MaxInt64), float64(1 << 63), 1.5,
			math.Inf(1), math.Inf(-1),
		},
		"b": map[string]any{"$link": "x"},
	}
	if v, err := PlainJSON([]byte(in)); err != nil || !cmp.Equal(v, any(want)) {
		t.Errorf("%v", cmp.Diff(any(want), v))
	}
	for _, bad := range []string{"", "{", `{"a":1,"a":2}`, "\"\xff\"", "1 2", "01"} {
		if v, err := PlainJSON([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, v)
		}
	}
}

// An error says where the fault is, in so many words as a log can bear.
func TestWhatFaultsSay(t *testing.T) {
	for want, e := range map[string]*Error{
		"data: malformed blob (at byte 0)":                        {Offset: 0, Err: ErrBlob},
		"data: malformed blob":                                    {Offset: -1, Err: ErrBlob},
		"data: a/b: malformed blob":                               (&Error{Offset: -1, Err: ErrBlob}).under("b").under("a"),
		"data: " + strings.Repeat("x", 256) + ": malformed blob":  {Path: strings.Repeat("x", 256), Offset: -1, Err: ErrBlob},
		"data: " + strings.Repeat("x", 256) + "…: malformed blob": {Path: strings.Repeat("x", 257), Offset: -1, Err: ErrBlob},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := AppendCBOR(nil, []byte("12345"), Limits{Bytes: 4}); err == nil || err.(*Error).Offset != 4 {
		t.Errorf("%v", err)
	}
}

// failsOnce is a writer of which one call fails.
type failsOnce struct {
	bytes.Buffer
	calls, failAt int
}

func (w *failsOnce) Write(b []byte) (int, error) {
	if w.calls++; w.calls == w.failAt {
		return 0, errOnce
	}
	return w.Buffer.Write(b)
}

var errOnce = errors.New("once")

// A record is written as a whole, or up to where the writer failed; nothing is written of what has no
// JSON.
func TestWriteRecordJSON(t *testing.T) {
	large, err := Encode(map[string]any{"a": strings.Repeat("\x01", 40_000), "b": Bytes(strings.Repeat("x", 40_000))})
	if err != nil {
		t.Fatal(err)
	}
	for name, record := range map[string][]byte{"small": []byte("\xa1\x61x\x01"), "legacy": []byte("\xa1\x61x\xf9\x3e\x00"), "large": large} {
		want, err := AppendRecordJSON(nil, record)
		if err != nil {
			t.Fatal(err)
		}
		w := &failsOnce{}
		if err := WriteRecordJSON(w, record); err != nil || !bytes.Equal(w.Bytes(), want) {
			t.Errorf("%s: %d bytes of %d, %v", name, w.Len(), len(want), err)
		}
		for n := range w.calls {
			failing := &failsOnce{failAt: n + 1}
			if err := WriteRecordJSON(failing, record); err != errOnce || failing.calls != n+1 {
				t.Errorf("%s, write %d fails: %v after %d writes", name, n+1, err, failing.calls)
			}
			if !bytes.HasPrefix(want, failing.Bytes()) {
				t.Errorf("%s, write %d fails: something is left out", name, n+1)
			}
		}
	}
	w := &failsOnce{}
	if err := WriteRecordJSON(w, []byte("\xa1\x61x")); err == nil || w.calls != 0 {
		t.Errorf("what has no JSON: %v, %d writes", err, w.calls)
	}
}

// An empty key is one like others, and comes once.
func TestEmptyKeys(t *testing.T) {
	for in, want := range map[string]bool{"\xa1\x60\x01": true, "\xa2\x60\x01\x61a\x01": true, "\xa2\x60\x01\x60\x01": false, "\xa2\x61a\x01\x60\x01": false} {
		_, decoded := Decode([]byte(in), Limits{})
		_, json := AppendJSON(nil, []byte(in))
		if (decoded == nil) != want || (json == nil) != want {
			t.Errorf("%x: %v, %v", in, decoded, json)
		}
	}
	if _, err := Encode(map[string]any{"\xff": int64(1)}); !errors.Is(err, ErrText) {
		t.Errorf("a key that is not Unicode: %v", err)
	}
	if _, err := Encode([]any{Link{cid.Undef}}); !errors.Is(err, ErrLink) {
		t.Errorf("a link to nowhere: %v", err)
	}
	// A transcoder that has grown is not kept, but the next one is as good.
	if v, err := FromJSON([]byte(`{"":{"":1,"a":2}}`), Limits{}); err != nil || !cmp.Equal(v, any(map[string]any{"": map[string]any{"": int64(1), "a": int64(2)}})) {
		t.Errorf("%v, %v", v, err)
	}
}
