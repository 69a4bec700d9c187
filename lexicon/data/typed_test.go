package data_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/lexicon/data"
)

func TestTypedFieldsRoundTrip(t *testing.T) {
	type record struct {
		Type string                `json:"$type"`
		Any  data.Object           `json:"any,omitzero"`
		Blob *data.Blob            `json:"blob,omitempty"`
		Swap data.Nullable[string] `json:"swap,omitzero"`
		List []string              `json:"list,omitzero"`
		TEXT string                `json:"TEXT,omitempty"`
	}
	const blob = `{"$type":"blob","mimeType":"image/png","ref":{"$link":"bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"},"size":7}`
	for _, in := range []string{
		`{"$type":"a.b.c"}`,
		`{"$type":"a.b.c","swap":null}`,
		`{"$type":"a.b.c","swap":"x","list":[]}`,
		`{"$type":"a.b.c","any":{"n":1,"deep":[{"$bytes":"aGk"}]},"blob":` + blob + `}`,
		`{"$type":"a.b.c","blob":{"cid":"bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity","mimeType":"image/png"}}`,
	} {
		want, err := data.AppendCBOR(nil, []byte(in), data.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var fromJSON, fromCBOR record
		if err := json.Unmarshal([]byte(in), &fromJSON); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if err := data.Unmarshal(want, &fromCBOR); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(fromJSON, fromCBOR, byCID); diff != "" {
			t.Errorf("%s: JSON -, CBOR +\n%s", in, diff)
		}
		if got, err := data.Marshal(fromCBOR); err != nil || string(got) != string(want) {
			t.Errorf("%s: comes back as %x, want %x, %v", in, got, want, err)
		}
		text, err := json.Marshal(fromJSON)
		if err != nil {
			t.Error(err)
		}
		if got, err := data.AppendCBOR(nil, text, data.Limits{}); err != nil || string(got) != string(want) {
			t.Errorf("%s: comes back as %s, %v", in, text, err)
		}
	}
	var r record
	lower, err := data.AppendCBOR(nil, []byte(`{"$type":"a.b.c","text":"x"}`), data.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := data.Unmarshal(lower, &r); err != nil || r.TEXT != "" {
		t.Errorf("a field of another name was read: %+v, %v", r, err)
	}
}

func TestObjects(t *testing.T) {
	type record struct {
		Type string `json:"$type"`
		N    int    `json:"n"`
	}
	o, err := data.ObjectOf(record{"a.b.c", 7})
	if err != nil || o.Type() != "a.b.c" || o["n"] != int64(7) {
		t.Fatalf("%v, %v", o, err)
	}
	var r record
	if err := o.Into(&r); err != nil || r != (record{"a.b.c", 7}) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{`[]`, `"x"`, `{"a":1.5}`} {
		if err := json.Unmarshal([]byte(bad), &o); err == nil {
			t.Errorf("%s is an object", bad)
		}
	}
}
