package data_test

import (
	"bytes"
	"encoding/json"
	"errors"
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

// TestRaw: JSON stays as it came, and stands for a value in CBOR.
func TestRaw(t *testing.T) {
	type record struct {
		Any  data.Raw `json:"any,omitzero"`
		Need data.Raw `json:"need"`
	}
	const text = `{"any":{"n":1,"deep":[{"$bytes":"aGk"}],"$type":"a.b.c"},"need":null}`
	var fromJSON, fromCBOR record
	if err := data.UnmarshalJSON([]byte(text), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if out, err := data.MarshalJSON(fromJSON); err != nil || string(out) != text {
		t.Errorf("%s, %v", out, err)
	}
	want, err := data.AppendCBOR(nil, []byte(text), data.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := data.Marshal(fromJSON); err != nil || string(got) != string(want) {
		t.Errorf("%x, want %x, %v", got, want, err)
	}
	if err := data.Unmarshal(want, &fromCBOR); err != nil {
		t.Fatal(err)
	}
	if got, err := data.Marshal(fromCBOR); err != nil || string(got) != string(want) {
		t.Errorf("%x, want %x, %v", got, want, err)
	}
	if out, err := data.MarshalJSON(record{}); err != nil || string(out) != `{"need":null}` {
		t.Errorf("%s, %v", out, err)
	}
	if got, err := data.Marshal(record{Any: data.Raw(`{"a":1.5}`)}); err == nil {
		t.Errorf("a fraction becomes %x", got)
	}
	var typed struct {
		N int64 `json:"n"`
	}
	if err := fromJSON.Any.Into(&typed); err != nil || typed.N != 1 {
		t.Errorf("%+v, %v", typed, err)
	}
	for raw, want := range map[string]string{string(fromCBOR.Any): "a.b.c", `{"$Type":"a"}`: "", `{"$type":1}`: "", `[]`: "", ``: "", `{`: ""} {
		if got := data.Raw(raw).Type(); got != want {
			t.Errorf("%s is of type %q", raw, got)
		}
	}
}

// TestNilLists: a list that is nil is empty, in both encodings.
func TestNilLists(t *testing.T) {
	v := struct {
		List []string       `json:"list"`
		Map  map[string]int `json:"map"`
		Left []string       `json:"left,omitzero"`
	}{}
	const want = `{"list":[],"map":{}}`
	if got, err := data.MarshalJSON(v); err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	enc, err := data.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := data.AppendJSON(nil, enc); err != nil || string(got) != `{"map":{},"list":[]}` {
		t.Errorf("%s, %v", got, err)
	}
}

// The types for links and bytes keep their values through JSON, and refuse what is none.
func TestLinksAndBytesInJSON(t *testing.T) {
	type record struct {
		Link data.Link  `json:"link"`
		Raw  data.Bytes `json:"raw"`
	}
	in := record{data.Link{Cid: data.CID([]byte{1})}, data.Bytes{1, 2}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out record
	if err := json.Unmarshal(b, &out); err != nil || out.Link != in.Link || !bytes.Equal(out.Raw, in.Raw) {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := (data.Link{}).MarshalJSON(); !errors.Is(err, data.ErrLink) {
		t.Errorf("a link to nowhere as JSON: %v", err)
	}
	if _, err := (data.Link{}).MarshalCBOR(); !errors.Is(err, data.ErrLink) {
		t.Errorf("a link to nowhere as CBOR: %v", err)
	}
	for _, bad := range []string{`"AQI"`, `{"$bytes":"@"}`, `{"$link":"x"}`, `null`} {
		if err := new(data.Bytes).UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s was taken for bytes", bad)
		}
		if err := new(data.Link).UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s was taken for a link", bad)
		}
	}
}

// What is wrong deep inside a record is found where it is, whatever reads it.
func TestPlacesOfFaultsInArrays(t *testing.T) {
	for in, want := range map[string]*data.Error{
		"\x81\x81\x1c":     {Offset: 2, Err: data.ErrReserved},
		"\x82\x01\x82\x01": {Offset: 4, Err: data.ErrTruncated},
	} {
		for range 2 { // the first fault leaves no trace
			var e *data.Error
			valid := data.Valid([]byte(in), data.Limits{})
			_, err := data.Decode([]byte(in), data.Limits{})
			if !errors.As(err, &e) || e.Err != want.Err || e.Offset != want.Offset || err.Error() != valid.Error() {
				t.Errorf("%x: Decode: %v, Valid: %v, want %v", in, err, valid, want)
			}
		}
	}
}
