package data_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	fxcbor "github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
)

func fixture(t testing.TB, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(testenv.Shared(t, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func TestInteropFixtures(t *testing.T) {
	var cases []struct {
		JSON json.RawMessage `json:"json"`
		CBOR string          `json:"cbor_base64"`
		CID  string          `json:"cid"`
	}
	fixture(t, "interop/data-model/data-model-fixtures.json", &cases)
	for i, c := range cases {
		want, err := base64.RawStdEncoding.DecodeString(c.CBOR)
		if err != nil {
			t.Fatal(err)
		}
		v, err := data.FromJSON(c.JSON, data.Limits{})
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		got, err := data.Encode(v)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d: encodes to %x, want %x: %v", i, got, want, err)
		}
		if id := data.CID(got).String(); id != c.CID {
			t.Errorf("%d: CID %s, want %s", i, id, c.CID)
		}
		back, err := data.Decode(want, data.Limits{})
		if err != nil || !cmp.Equal(back, v, byCID) {
			t.Errorf("%d: decodes to %v: %v", i, back, err)
		}
		text, err := data.AppendJSON(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		again, err := data.FromJSON(text, data.Limits{})
		if err != nil || !cmp.Equal(again, v, byCID) {
			t.Errorf("%d: JSON does not come back: %v", i, err)
		}
	}
}

var byCID = cmp.Comparer(func(a, b cid.Cid) bool { return a == b })

func TestInteropValidAndInvalid(t *testing.T) {
	type test struct {
		Note string
		JSON json.RawMessage
	}
	var valid, invalid []test
	fixture(t, "interop/data-model/data-model-valid.json", &valid)
	fixture(t, "interop/data-model/data-model-invalid.json", &invalid)
	for _, c := range valid {
		if _, err := data.FromJSON(c.JSON, data.Limits{}); err != nil {
			t.Errorf("%s: %v", c.Note, err)
		}
	}
	for _, c := range invalid {
		v, err := data.FromJSON(c.JSON, data.Limits{})
		if _, object := v.(map[string]any); err == nil && object {
			t.Errorf("%s: accepted %s", c.Note, c.JSON)
		}
	}
}

func TestRefusedJSON(t *testing.T) {
	for in, want := range map[string]error{
		``:                                     data.ErrSyntax,
		`{"a":1,"a":2}`:                        data.ErrDuplicate,
		`{"a":1,"\u0061":2}`:                   data.ErrDuplicate,
		`1.5`:                                  data.ErrNumber,
		`9007199254740992`:                     data.ErrNumber,
		`-9007199254740992`:                    data.ErrNumber,
		`1e400`:                                data.ErrNumber,
		`1.00000000000000000001`:               data.ErrNumber,
		`01`:                                   data.ErrSyntax,
		`[1,]`:                                 data.ErrSyntax,
		`{"a":1}x`:                             data.ErrSyntax,
		`"\ud800"`:                             data.ErrText,
		"\"\xff\"":                             data.ErrText,
		"\"a\nb\"":                             data.ErrSyntax,
		`{"$link":"nonsense"}`:                 data.ErrLink,
		`{"$link":1}`:                          data.ErrLink,
		`{"$bytes":"@@"}`:                      data.ErrBytes,
		`{"$bytes":"aGk","x":1}`:               data.ErrBytes,
		`{"$type":""}`:                         data.ErrType,
		`{"$type":7}`:                          data.ErrType,
		`{"x":{"$type":"blob"}}`:               data.ErrBlob,
		strings.Repeat("[", 1e5):               data.ErrDepth,
		`"` + strings.Repeat("x", 3<<20) + `"`: data.ErrTooLarge,
	} {
		_, err := data.FromJSON([]byte(in), data.Limits{})
		var e *data.Error
		if !errors.Is(err, want) || !errors.As(err, &e) {
			t.Errorf("%.40s: %v, want %v", in, err, want)
		}
	}
	for in, want := range map[string]int64{`1.0`: 1, `-3`: -3, `2e3`: 2000, `9007199254740991`: 1<<53 - 1, `1200e-2`: 12} {
		if got, err := data.FromJSON([]byte(in), data.Limits{}); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
}

func TestRefusedCBOR(t *testing.T) {
	for name, in := range map[string]string{
		"non-minimal integer":  "\x18\x01",
		"non-minimal length":   "\x78\x01a",
		"unsorted keys":        "\xa2\x61b\x01\x61a\x01",
		"longer key first":     "\xa2\x62aa\x01\x61b\x01",
		"repeated key":         "\xa2\x61a\x01\x61a\x01",
		"float":                "\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00",
		"half float":           "\xf9\x3e\x00",
		"undefined":            "\xf7",
		"other simple":         "\xf8\x20",
		"unknown tag":          "\xc1\x01",
		"link without prefix":  "\xd8\x2a\x41\x01",
		"tag over text":        "\xd8\x2a\x61a",
		"integer key":          "\xa1\x01\x01",
		"indefinite array":     "\x9f\x01\xff",
		"indefinite text":      "\x7f\x61a\xff",
		"bad UTF-8":            "\x61\xff",
		"trailing":             "\x01\x01",
		"truncated":            "\x82\x01",
		"empty":                "",
		"beyond int64":         "\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
		"beyond negative":      "\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
		"huge array announced": "\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
		"deep":                 strings.Repeat("\x81", 100_000) + "\x01",
		"bignum":               "\xc2\x41\x01",
		"link in disguise":     "\xa1\x65$link\x61a",
	} {
		v, err := data.Decode([]byte(in), data.Limits{})
		var e *data.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

func TestBlobs(t *testing.T) {
	raw := "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"
	in := fmt.Sprintf(`{"$type":"x.y.z","a":[{"$type":"blob","ref":{"$link":%q},"mimeType":"image/png","size":5}],
		"old":{"cid":%q,"mimeType":"image/jpeg"}}`, raw, raw)
	v, err := data.FromJSON([]byte(in), data.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := data.Blobs(v); len(got) != 2 {
		t.Errorf("%d references, want 2", len(got))
	}
	b, err := data.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := data.BlobRefs(b)
	want := []data.Blob{{Ref: cid.MustParse(raw), MIME: "image/png", Size: 5}}
	if err != nil || !cmp.Equal(refs, want, byCID) {
		t.Errorf("%v, %v", refs, err)
	}
	if links := data.Links(v); len(links) != 1 {
		t.Errorf("%d links, want 1", len(links))
	}
}

func TestStructs(t *testing.T) {
	type embed struct {
		Link data.Link  `json:"link"`
		Raw  data.Bytes `json:"raw"`
	}
	type record struct {
		Type  string   `json:"$type"`
		N     int      `json:"n"`
		Names []string `json:"names,omitempty"`
		Embed *embed   `json:"embed,omitempty"`
	}
	in := record{"a.b.c", -7, []string{"x"}, &embed{data.Link{Cid: data.CID([]byte{1})}, data.Bytes{1, 2}}}
	b, err := data.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out record
	if err := data.Unmarshal(b, &out); err != nil || !cmp.Equal(in, out, byCID, cmpopts.EquateEmpty()) {
		t.Errorf("%+v, %v", out, err)
	}
	viaJSON, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	v, err := data.FromJSON(viaJSON, data.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := data.Encode(v); err != nil || !bytes.Equal(again, b) {
		t.Errorf("through JSON: %x, directly: %x, %v", again, b, err)
	}
	for _, bad := range []any{1.5, map[int]string{1: "a"}, uint64(1 << 63), "\xff", cid.Undef} {
		if b, err := data.Marshal(map[string]any{"x": bad}); err == nil {
			if _, isCID := bad.(cid.Cid); !isCID {
				t.Errorf("%v is encoded as %x", bad, b)
			}
		}
	}
}

// FuzzCBOR compares with a general decoder and our encoder: what that decoder reads
// and the encoder writes again in the same bytes is canonical, and nothing else is.
func FuzzCBOR(f *testing.F) {
	for _, s := range []string{"\xa0", "\x80", "\x01", "\xa2\x61a\x01\x61b\x82\xf6\xf5", "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff", "\xf9\x3c\x00", "\x18\x01",
		"\xa1\x65$type\x61x", "\xd8\x2a\x58\x25\x00\x01\x71\x12\x20" + strings.Repeat("a", 32)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		plain, canonical := plainDecode(in)
		v, err := data.Decode(in, data.Limits{})
		if err != nil {
			if canonical && !errors.Is(err, data.ErrDepth) && !inDisguise(err) {
				t.Fatalf("%x is canonical, but %v", in, err)
			}
			return
		}
		if !canonical {
			t.Fatalf("%x is not canonical, but accepted", in)
		}
		if !cmp.Equal(v, plain, byCID, cmpopts.EquateEmpty()) {
			t.Fatalf("%x reads as %v, plainly as %v", in, v, plain)
		}
		text, err := data.AppendJSON(nil, in)
		if err != nil || !json.Valid(text) {
			t.Fatalf("%x: JSON %s, %v", in, text, err)
		}
		if again, err := data.AppendCBOR(nil, text, data.Limits{}); err == nil {
			if !bytes.Equal(again, in) {
				t.Fatalf("%x comes back from JSON as %x", in, again)
			}
		} else if !errors.Is(err, data.ErrNumber) { // integers beyond 53 bits stay behind
			t.Fatalf("%s: %v", text, err)
		}
	})
}

// inDisguise reports errors about objects that are canonical CBOR but no values of the data model.
func inDisguise(err error) bool {
	return errors.Is(err, data.ErrLink) || errors.Is(err, data.ErrBytes) || errors.Is(err, data.ErrType) || errors.Is(err, data.ErrBlob)
}

// plainDecode reads with a general decoder. canonical: our encoder gives the input back.
func plainDecode(in []byte) (v any, canonical bool) {
	var x any
	if err := fxcbor.Unmarshal(in, &x); err != nil {
		return nil, false
	}
	v, ok := plainValue(x)
	if !ok {
		return nil, false
	}
	out, err := data.Encode(v)
	return v, err == nil && bytes.Equal(out, in)
}

func plainValue(x any) (v any, ok bool) {
	switch x := x.(type) {
	case nil, bool, string, int64:
		return x, true
	case uint64:
		return int64(x), x < 1<<63
	case []byte:
		return data.Bytes(x), true
	case fxcbor.Tag:
		b, isBytes := x.Content.([]byte)
		if x.Number != 42 || !isBytes || len(b) == 0 || b[0] != 0 {
			return nil, false
		}
		c, err := cid.Cast(b[1:])
		return data.Link{Cid: c}, err == nil
	case []any:
		list := make([]any, len(x))
		for i := range x {
			if list[i], ok = plainValue(x[i]); !ok {
				return nil, false
			}
		}
		return list, true
	case map[any]any:
		m := make(map[string]any, len(x))
		for k, y := range x {
			key, isText := k.(string)
			if m[key], ok = plainValue(y); !ok || !isText {
				return nil, false
			}
		}
		return m, true
	}
	return nil, false
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{}`, `[1,"a",null,true]`, `{"$link":"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"}`, `{"$bytes":"aGk"}`, `"\ud83d\ude00"`, `1e2`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := data.FromJSON(in, data.Limits{})
		if err != nil {
			return
		}
		if !json.Valid(in) {
			t.Fatalf("%q: accepted, but not JSON", in)
		}
		b, err := data.Encode(v)
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		back, err := data.Decode(b, data.Limits{})
		if err != nil || !cmp.Equal(v, back, byCID, cmpopts.EquateEmpty()) {
			t.Fatalf("%q: %v comes back as %v, %v", in, v, back, err)
		}
	})
}

const post = `{"$type":"app.bsky.feed.post","text":"A typical post with a link to example.com, a mention of @alice.example.com and some words more.",
"createdAt":"2026-01-15T12:30:45.123Z","langs":["en"],"facets":[{"index":{"byteStart":27,"byteEnd":38},
"features":[{"$type":"app.bsky.richtext.facet#link","uri":"https://example.com"}]},{"index":{"byteStart":53,"byteEnd":71},
"features":[{"$type":"app.bsky.richtext.facet#mention","did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz"}]}],
"reply":{"root":{"cid":"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity","uri":"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a"},
"parent":{"cid":"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity","uri":"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a"}}}`

func ExampleEncode() {
	v, err := data.FromJSON([]byte(`{"text":"hello","$type":"com.example.note"}`), data.Limits{})
	if err != nil {
		panic(err)
	}
	b, err := data.Encode(v)
	fmt.Println(data.CID(b), err)
	// Output: bafyreidwydhkxbncvxuvbwefh5wchyyei7fikeu4oplmgkynqmsvpcjo2i <nil>
}

func ExampleAppendCBOR() {
	b, err := data.AppendCBOR(nil, []byte(`{"link":{"$link":"bafyreidwydhkxbncvxuvbwefh5wchyyei7fikeu4oplmgkynqmsvpcjo2i"},"n":1}`), data.Limits{})
	fmt.Println(len(b), err)
	text, err := data.AppendJSON(nil, b)
	fmt.Println(string(text), err)
	// Output:
	// 50 <nil>
	// {"n":1,"link":{"$link":"bafyreidwydhkxbncvxuvbwefh5wchyyei7fikeu4oplmgkynqmsvpcjo2i"}} <nil>
}
