package data_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/lexicon/data"
)

// Objects and arrays of every head length, with keys in the wrong order, come out canonical.
func TestManyItems(t *testing.T) {
	for _, n := range []int{0, 1, 16, 17, 23, 24, 255, 256, 300, 65_535, 65_536} {
		m, list := make(map[string]any, n), make([]any, n)
		var object, array []string
		for i := range n {
			key := fmt.Sprintf("k%d", (i*7919)%n) // a permutation: 7919 is prime and greater than most n
			if _, there := m[key]; there {
				key = fmt.Sprintf("l%d", i)
			}
			m[key], list[i] = int64(i), int64(i)
			object, array = append(object, fmt.Sprintf("%q:%d", key, i)), append(array, fmt.Sprint(i))
		}
		in := `{"a":{"z":[` + strings.Join(array, ",") + `],"y":{` + strings.Join(object, ",") + `}},"$type":"x"}`
		got, err := data.AppendCBOR(nil, []byte(in), data.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		v := map[string]any{"$type": "x", "a": map[string]any{"y": m, "z": list}}
		want, err := data.Encode(v)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d items: differs from the value's encoding, %v", n, err)
		}
		back, err := data.Decode(got, data.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := data.Encode(back); err != nil || !bytes.Equal(again, want) {
			t.Fatalf("%d items: does not come back, %v", n, err)
		}
	}
}

func TestAppendCBORKeepsWhatIsThere(t *testing.T) {
	b, err := data.AppendCBOR([]byte("abc"), []byte(`{"bb":[1],"a":{"$bytes":"aGk"}}`), data.Limits{})
	if want := "abc\xa2\x61a\x42hi\x62bb\x81\x01"; err != nil || string(b) != want {
		t.Errorf("%x, want %x, %v", b, want, err)
	}
	b, err = data.AppendCBOR([]byte("abc"), []byte(`{"a":1,"a":2}`), data.Limits{})
	if string(b) != "abc" || !errors.Is(err, data.ErrDuplicate) {
		t.Errorf("%x, %v", b, err)
	}
}

func TestPathsOfFaults(t *testing.T) {
	for in, path := range map[string]string{
		`{"a":{"b":[1,{"c":1.5}]}}`:          "a/b/1/c",
		`{"a":[{"$type":""}]}`:               "a/0",
		`{"a":{"x":1,"x":2}}`:                "a",
		`{"a":{"\u0062":{"$link":"x"}}}`:     "a/b",
		`{"\u0061":{"\u0024link":"x"}}`:      "a",
		`[[[{"$bytes":"aGk==="}]]]`:          "0/0/0",
		`{"x":{"$bytes":"aG\nk"}}`:           "x",
		`{"x":{"$type":"blob","size":-1}}`:   "x",
		`{"x":"` + "\xff" + `"}`:             "x",
		`{"x":` + strings.Repeat("[", 70):    "x/" + strings.Repeat("0/", 62) + "0",
		`{"x":{"$link":1}}`:                  "x",
		`{"x":{"$type":{"$bytes":"aGk"}}}`:   "x",
		`{"x":{"$link":"bafkreiccldh766hwcn`: "x/$link",
	} {
		_, err := data.FromJSON([]byte(in), data.Limits{})
		var e *data.Error
		if !errors.As(err, &e) || e.Path != path || e.Offset < 0 || e.Offset > len(in) {
			t.Errorf("%.50s: %v, want a fault at %s", in, err, path)
		}
	}
	for in, path := range map[string]string{
		"\xa1\x61a\x82\x01\xa1\x65$type\x01":      "a/1",
		"\x81\xa1\x65$link\x61x":                  "0",
		"\xa1\x61a\xa1\x65$type\x64blob":          "a",
		"\xa1\x61a\xa2\x61b\x01\x66$bytes\x61x":   "a",
		"\xa1\x61a\xa2\x61b\x01\x65$type\xf6":     "a",
		"\xa1\x61a\xa2\x61b\xa1\x65$type\x60\x01": "",
	} {
		_, err := data.Decode([]byte(in), data.Limits{})
		var e *data.Error
		if !errors.As(err, &e) || e.Path != path {
			t.Errorf("%x: %v, want a fault at %s", in, err, path)
		}
	}
}

func TestBase64(t *testing.T) {
	for in, want := range map[string]string{"": "", "aGk": "hi", "aGk=": "hi", "aGl": "hi", "YQ": "a", "YQ==": "a", "123": "\xd7\x6d"} {
		v, err := data.FromJSON([]byte(`{"$bytes":"`+in+`"}`), data.Limits{})
		if err != nil || string(v.(data.Bytes)) != want {
			t.Errorf("%s: %q, %v", in, v, err)
		}
	}
	for _, in := range []string{"YQ=", "a", "aGk==", "YQ===", "====", "a-_k", `aG\nk`, `aG\r\nk`, "aG k"} {
		if v, err := data.FromJSON([]byte(`{"$bytes":"`+in+`"}`), data.Limits{}); !errors.Is(err, data.ErrBytes) {
			t.Errorf("%s: %v, %v", in, v, err)
		}
	}
}

// Text of every length and with its end at every place in a word is read alike.
func TestTextBoundaries(t *testing.T) {
	for n := range 40 {
		for _, end := range []string{"", "é", `\n`, `"x`, "\x01", "\x7f"} {
			s := strings.Repeat("a", n) + end
			in := `["` + s + `"]`
			v, err := data.FromJSON([]byte(in), data.Limits{})
			if strings.Contains(end, `"`) || end == "\x01" {
				if !errors.Is(err, data.ErrSyntax) {
					t.Errorf("%q: %v", in, err)
				}
				continue
			}
			want := strings.ReplaceAll(s, `\n`, "\n")
			if err != nil || !cmp.Equal(v, any([]any{want})) {
				t.Errorf("%q: %v, %v", in, v, err)
			}
		}
	}
}

// A byte that is not Unicode is refused wherever it is in a text.
func TestTextThatIsNotUnicode(t *testing.T) {
	for n := range 34 {
		text := []byte(strings.Repeat("a", 34))
		text[n] = 0xff
		for _, before := range []string{"", `\n`} {
			in := `["` + before + string(text) + `"]`
			if v, err := data.FromJSON([]byte(in), data.Limits{}); !errors.Is(err, data.ErrText) {
				t.Errorf("at %d: %q, %v", n, v, err)
			}
		}
	}
}
