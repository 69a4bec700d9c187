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
		`"\x0041"`:                             data.ErrSyntax,
		`"\U0041"`:                             data.ErrSyntax,
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
	link := func(s string) string { return "\xd8\x2a" + s }
	digest := strings.Repeat("a", 32)
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"non-minimal integer":        {"\x18\x01", data.ErrNonMinimal},
		"non-minimal length of text": {"\x78\x01a", data.ErrNonMinimal},
		"non-minimal count":          {"\x98\x01\x00", data.ErrNonMinimal},
		"non-minimal tag":            {"\xd9\x00\x2a\x58\x25\x00\x01\x71\x12\x20" + digest, data.ErrNonMinimal},
		"unsorted keys":              {"\xa2\x61b\x01\x61a\x01", data.ErrKeyOrder},
		"longer key first":           {"\xa2\x62aa\x01\x61b\x01", data.ErrKeyOrder},
		"repeated key":               {"\xa2\x61a\x01\x61a\x01", data.ErrDuplicate},
		"integer key":                {"\xa1\x01\x01", data.ErrKeyType},
		"bytes as key":               {"\xa1\x41a\x01", data.ErrKeyType},
		"double":                     {"\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00", data.ErrFloat},
		"integral double":            {"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00", data.ErrFloat},
		"single":                     {"\xfa\x3f\xc0\x00\x00", data.ErrFloat},
		"half":                       {"\xf9\x3e\x00", data.ErrFloat},
		"not a number":               {"\xf9\x7e\x00", data.ErrFloat},
		"undefined":                  {"\xf7", data.ErrSimple},
		"other simple":               {"\xf8\x20", data.ErrSimple},
		"false in two bytes":         {"\xf8\x14", data.ErrSimple},
		"unknown tag":                {"\xc1\x01", data.ErrTag},
		"bignum":                     {"\xc2\x41\x01", data.ErrTag},
		"link without prefix":        {link("\x41\x01"), data.ErrLink},
		"link over text":             {link("\x61a"), data.ErrLink},
		"link to another codec":      {link("\x58\x25\x00\x01\x70\x12\x20" + digest), data.ErrLink},
		"link by another hash":       {link("\x58\x25\x00\x01\x71\x13\x20" + digest), data.ErrLink},
		"link in disguise":           {"\xa1\x65$link\x61a", data.ErrLink},
		"bytes in disguise":          {"\xa1\x66$bytes\x61a", data.ErrBytes},
		"empty type":                 {"\xa1\x65$type\x60", data.ErrType},
		"type that is no text":       {"\xa1\x65$type\x01", data.ErrType},
		"blob without reference":     {"\xa1\x65$type\x64blob", data.ErrBlob},
		"indefinite array":           {"\x9f\x01\xff", data.ErrIndefinite},
		"indefinite map":             {"\xbf\x61a\x01\xff", data.ErrIndefinite},
		"indefinite text":            {"\x7f\x61a\xff", data.ErrIndefinite},
		"break alone":                {"\xff", data.ErrIndefinite},
		"reserved head":              {"\x1c", data.ErrReserved},
		"bad UTF-8":                  {"\x61\xff", data.ErrText},
		"bad UTF-8 in a key":         {"\xa1\x61\xff\x01", data.ErrText},
		"trailing":                   {"\x01\x01", data.ErrTrailing},
		"truncated":                  {"\x82\x01", data.ErrTruncated},
		"empty":                      {"", data.ErrTruncated},
		"beyond int64":               {"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", data.ErrIntRange},
		"beyond negative int64":      {"\x3b\xff\xff\xff\xff\xff\xff\xff\xff", data.ErrIntRange},
		"huge text announced":        {"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff", data.ErrTruncated},
		"huge array announced":       {"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", data.ErrItems},
		"huge map announced":         {"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", data.ErrItems},
		"deep":                       {strings.Repeat("\x81", 100_000) + "\x01", data.ErrDepth},
		"deep maps":                  {strings.Repeat("\xa1\x60", 100_000) + "\x01", data.ErrDepth},
		"too large":                  {"\x5a\x00\x20\x00\x00" + strings.Repeat("x", 2<<20), data.ErrTooLarge},
	} {
		var into any
		_, decoded := data.Decode([]byte(c.in), data.Limits{})
		_, refs := data.BlobRefs([]byte(c.in))
		inDisguise := c.want == data.ErrBytes || c.want == data.ErrType || c.want == data.ErrBlob || name == "link in disguise"
		for what, err := range map[string]error{"Decode": decoded, "Unmarshal": data.Unmarshal([]byte(c.in), &into), "BlobRefs": refs} {
			var e *data.Error
			if what == "Decode" || !inDisguise {
				if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Offset > len(c.in) {
					t.Errorf("%s: %s: %v, want %v", name, what, err, c.want)
				}
			}
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

func TestTypeOf(t *testing.T) {
	encode := func(v any) []byte {
		b, err := data.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want string
		ok   bool
	}{
		{"alone", encode(map[string]any{"$type": "com.example.note"}), "com.example.note", true},
		{"after shorter names and beside equal ones", encode(map[string]any{"$type": "a.b.c", "a": []any{map[string]any{"$type": "x.y.z"}}, "$tyge": true, "zzzzzz": nil}), "a.b.c", true},
		{"empty", encode(map[string]any{"$type": ""}), "", true},
		{"absent", encode(map[string]any{"a": "b", "longer than that": "c"}), "", false},
		{"only deeper down", encode(map[string]any{"a": map[string]any{"$type": "x.y.z"}}), "", false},
		{"a number", encode(map[string]any{"$type": int64(5)}), "", false},
		{"no object", encode("$type"), "", false},
		{"nothing", nil, "", false},
		{"torn", encode(map[string]any{"$type": "com.example.note"})[:9], "", false},
		{"a map that is too long", []byte{0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "", false},
	} {
		if got, ok := data.TypeOf(tt.in); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %q, %v", tt.name, got, ok)
		}
	}
}
