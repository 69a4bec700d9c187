package exactjson

import (
	"encoding/json"
	"testing"
)

func TestMember(t *testing.T) {
	for in, want := range map[string]string{
		`{"$type":"a"}`: `"a"`,
		` { "b" : [ {"$type":1} , "}" ] , "$type" : {"x":[]} }`: `{"x":[]}`,
		`{"$Type":"a","\u0024type":"b","$type":"c"}`:            `"b"`,
		`{"a":{"$type":"b"},"b":-1.5e3,"c":null,"$type":true}`:  `true`,
		`{"a":"\\","$type":12}`:                                 `12`,
		`{"a":"\"$type\":1"}`:                                   ``,
		`[{"$type":1}]`:                                         ``,
		`{`:                                                     ``,
		`{"$type":`:                                             ``,
		`{"$type":}`:                                            ``,
		`{"$type":,`:                                            ``,
		`{"a":]],"$type":1}`:                                    ``,
		`{"a":"`:                                                ``,
		`{"a" 1}`:                                               ``,
		`null`:                                                  ``,
		``:                                                      ``,
	} {
		if got := Member([]byte(in), "$type"); string(got) != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

// FuzzMember: of what is valid, it finds what encoding/json finds.
func FuzzMember(f *testing.F) {
	f.Add([]byte(`{"$type":"a"}`))
	f.Add([]byte(`{"a":[{}, "x\\", 1e5],"$type":[[]]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		got := Member(in, "$type")
		if Check(in) != nil {
			return
		}
		var want map[string]json.RawMessage
		json.Unmarshal(in, &want)
		if string(want["$type"]) != string(got) {
			t.Fatalf("%s: %s, want %s", in, got, want["$type"])
		}
	})
}
