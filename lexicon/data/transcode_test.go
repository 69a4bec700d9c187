package data_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/data"
)

// slowJSON writes the JSON of a value, a byte at a time.
func slowJSON(v any) string {
	text := func(s string) string {
		out := `"`
		for _, c := range []byte(s) {
			switch {
			case c == '"' || c == '\\':
				out += `\` + string(rune(c))
			case strings.IndexByte("\n\r\t", c) >= 0:
				out += `\` + string("nrt"[strings.IndexByte("\n\r\t", c)])
			case c < ' ' || c == 0x7f:
				out += fmt.Sprintf(`\u%04x`, c)
			default:
				out += string([]byte{c})
			}
		}
		return out + `"`
	}
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case string:
		return text(v)
	case data.Bytes:
		return `{"$bytes":"` + base64.RawStdEncoding.EncodeToString(v) + `"}`
	case data.Link:
		return `{"$link":"` + v.String() + `"}`
	case []any:
		var items []string
		for _, x := range v {
			items = append(items, slowJSON(x))
		}
		return "[" + strings.Join(items, ",") + "]"
	case map[string]any:
		var keys, items []string
		for k := range v {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, cbor.CompareKeys)
		for _, k := range keys {
			items = append(items, text(k)+":"+slowJSON(v[k]))
		}
		return "{" + strings.Join(items, ",") + "}"
	}
	return "null"
}

// FuzzAppendJSON compares the JSON that is made directly with the one that is made of a value, and
// what is accepted with what the scanner accepts.
func FuzzAppendJSON(f *testing.F) {
	for _, s := range []string{"\xa0", "\x80", "\x63a\"b", "\x68\\2345678", "\x6912345678\x7f", "\x6a\x0012345678\x1f", "\x69\xc3\xa9234567\n", "\x78\x18" + strings.Repeat("a\tb", 8),
		"\xa2\x61\n\xf5\x61\"\x20", "\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x3b\x7f\xff\xff\xff\xff\xff\xff\xff", "\x43abc", "\x69ascii\xc3\x28ab", "\x61\xff", "\xa1\x61\xff\x00", "\x9a\x00\x01\xff\xff\x00",
		"\xd8\x2a\x58\x25\x00\x01\x55\x12\x20" + strings.Repeat("a", 32), "\xd8\x2a\x58\x25\x00\x01\x70\x12\x20" + strings.Repeat("a", 32), "\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00", "\xf8\x14"} {
		f.Add([]byte(s))
	}
	text, err := data.AppendCBOR(nil, []byte(post), data.Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, in []byte) {
		valid := data.Valid(in, data.Limits{})
		got, err := data.AppendJSON([]byte("before "), in)
		if fmt.Sprint(err) != fmt.Sprint(valid) {
			t.Fatalf("%x: %v; the scanner: %v", in, err, valid)
		}
		if err != nil {
			if string(got) != "before " {
				t.Fatalf("%x: an error, but %q", in, got)
			}
			if v, err := data.Decode(in, data.Limits{}); fmt.Sprint(err) != fmt.Sprint(valid) {
				t.Fatalf("%x: read as %v, %v; the scanner: %v", in, v, err, valid)
			}
			return
		}
		v, err := data.Decode(in, data.Limits{})
		if err != nil {
			return // JSON would read as something else
		}
		if want := "before " + slowJSON(v); string(got) != want {
			t.Fatalf("%x: %s, by way of a value %s", in, got, want)
		}
	})
}

// Lengths that the input announces and does not have cost nothing.
func TestAnnouncedItemsTakeNoMemory(t *testing.T) {
	for name, head := range map[string]string{"arrays": "\x9a\x00\x01\xff\xff", "maps": "\xba\x00\x01\xff\xff\x60"} {
		in := []byte(strings.Repeat(head, 64) + strings.Repeat("\x00", 1<<19))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if v, err := data.Decode(in, data.Limits{}); err == nil {
			t.Fatalf("%s: read as %T", name, v)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 48<<20 {
			t.Errorf("%s: %d MiB", name, n>>20)
		}
	}
}

// Strings that are values share allocations, and none changes or ends another.
func TestManyStrings(t *testing.T) {
	want := make([]any, 1000)
	for i := range want {
		want[i] = strings.Repeat("x", i%40) + strconv.Itoa(i)
	}
	b, err := data.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	v, err := data.Decode(b, data.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	list := v.([]any)
	for i := range list {
		if i%17 != 0 {
			list[i] = nil // what is left must hold its neighbours' allocation
			want[i] = nil
		}
	}
	clear(b)
	for range 3 {
		runtime.GC()
		_ = bytes.Repeat([]byte("y"), 1<<20)
	}
	if !reflect.DeepEqual(list, want) {
		t.Error("other strings")
	}
	if s, ok := list[17].(string); !ok || s != want[17] {
		t.Errorf("%T %v", list[17], list[17])
	}
}
