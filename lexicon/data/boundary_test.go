package data_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/pdskit/pdskit/lexicon/data"
)

// Heads of CBOR with lengths that are reserved or indefinite, and all simple values but three, are no
// values of the data model; neither are integers beyond 63 bits.
func TestHeadsThatAreNone(t *testing.T) {
	decoded := func(b []byte) bool {
		_, err := data.Decode(b, data.Limits{})
		_, jsonErr := data.AppendJSON(nil, b)
		if (err == nil) != (jsonErr == nil) {
			t.Errorf("%x: %v as a value, %v as JSON", b, err, jsonErr)
		}
		return err == nil
	}
	for major := range byte(8) {
		for info := byte(28); info < 32; info++ {
			for after := range 9 {
				if b := append([]byte{major<<5 | info}, make([]byte, after)...); decoded(b) {
					t.Errorf("%x is taken", b)
				}
			}
		}
	}
	for first := range byte(32) {
		for _, after := range []int{0, 1, 2, 4, 8} {
			b := append([]byte{7<<5 | first}, make([]byte, after)...)
			if want := after == 0 && 20 <= first && first <= 22; decoded(b) != want {
				t.Errorf("%x: taken %v", b, !want)
			}
		}
	}
	for in, want := range map[string]bool{
		"\x1b\x7f\xff\xff\xff\xff\xff\xff\xff": true, "\x1b\x80\x00\x00\x00\x00\x00\x00\x00": false,
		"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff": true, "\x3b\x80\x00\x00\x00\x00\x00\x00\x00": false,
		"\x17": true, "\x18\x17": false, "\x18\x18": true, "\x18\xff": true, "\x19\x00\xff": false, "\x19\x01\x00": true,
		"\x1a\x00\x00\xff\xff": false, "\x1a\x00\x01\x00\x00": true, "\x1b\x00\x00\x00\x00\xff\xff\xff\xff": false,
		"\x1b\x00\x00\x00\x01\x00\x00\x00\x00": true, "\x18": false, "\x19\x01": false, "\x1a\x01\x01\x01": false, "": false,
	} {
		if decoded([]byte(in)) != want {
			t.Errorf("%x: taken %v", in, !want)
		}
	}
}

func TestJSONAtTheBounds(t *testing.T) {
	for in, want := range map[string]bool{
		`[9]`: true, `[1:]`: false, `[1/]`: false, `[9007199254740991]`: true, `[9007199254740992]`: false,
		`[-9007199254740991]`: true, `[-9007199254740992]`: false, `[-]`: false, `[01]`: false,
		`"\n "`: true, "\"\\n\x1f\"": false, "\"\\n\x00\"": false, "\"\\n\x7f\"": true, `"\n!"`: true,
		`"\u0041"`: true, `"\u004g"`: false, `"\u004"`: false, `"\uZZZZ"`: false, `"\u004G"`: false, `"\u00:0"`: false, `"\u00@0"`: false,
		"\"\\u00`0\"": false, `"\u00/0"`: false, `"\u00aF"`: true, `"\x41"`: false, `"\`: false, `"\u`: false, `"\ud83d\ude00"`: true,
		`"\ud83d"`: false, `"\ude00"`: false, `"\ud83dx"`: false, `"\ud83d\u0041"`: false, `"\ud83d\uZZZZ"`: false,
	} {
		if v, err := data.FromJSON([]byte(in), data.Limits{}); (err == nil) != want {
			t.Errorf("%q: %v, %v", in, v, err)
		}
	}
}

// What cannot be read is an error of the type that reads it, and leaves nothing half read.
func TestTypedValuesThatAreNone(t *testing.T) {
	for _, in := range []string{"", "\xff", "\xa1", "\x1c", "\xa1\x61a"} {
		var r data.Raw
		if err := r.UnmarshalCBOR([]byte(in)); err == nil {
			t.Errorf("raw value of %x: %s", in, r)
		}
		var b data.Blob
		if err := b.UnmarshalCBOR([]byte(in)); err == nil {
			t.Errorf("blob of %x: %+v", in, b)
		}
	}
	for _, in := range []string{"", "x", "{", `{"$type":"blob"}`, `1`, `{"$type":"blob","ref":1}`} {
		var b data.Blob
		if err := b.UnmarshalJSON([]byte(in)); err == nil || fmt.Sprint(b) != fmt.Sprint(data.Blob{}) {
			t.Errorf("blob of %q: %+v, %v", in, b, err)
		}
		var held struct{ Blob data.Blob }
		if err := json.Unmarshal([]byte(`{"Blob":`+in+`}`), &held); err == nil {
			t.Errorf("blob of %q: %+v", in, held)
		}
	}
}
