package union_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pdskit/pdskit/lexicon/gen/union"
)

type note struct {
	Type string `json:"$type"`
	Text string `json:"text"`
}

func TestUnion(t *testing.T) {
	var n note
	target := func(typ string) any {
		if typ == "com.example.note" {
			return &n
		}
		return nil
	}
	if err := union.UnmarshalJSON([]byte(`{"$type":"com.example.note","text":"a"}`), target); err != nil || n.Text != "a" {
		t.Errorf("%+v, %v", n, err)
	}
	b, err := union.MarshalCBOR(&n)
	if err != nil {
		t.Fatal(err)
	}
	n = note{}
	if err := union.UnmarshalCBOR(b, target); err != nil || n.Text != "a" {
		t.Errorf("%+v, %v", n, err)
	}
	n = note{}
	if err := union.UnmarshalJSON([]byte(`{"$Type":"x","text":"a","Text":"b","\u0024type":"com.\u0065xample.note"}`), target); err != nil || n.Text != "a" {
		t.Errorf("%+v, %v", n, err)
	}
	for in, want := range map[string]error{`{}`: union.ErrType, `null`: union.ErrType, `[]`: union.ErrType, `{"$type":5}`: union.ErrType, `{"$type":""}`: union.ErrType, `{"$type":"com.example.other"}`: union.ErrClosed} {
		if err := union.UnmarshalJSON([]byte(in), target); !errors.Is(err, want) {
			t.Errorf("%s: %v", in, err)
		}
	}
	if _, err := union.MarshalJSON(nil); !errors.Is(err, union.ErrEmpty) {
		t.Error(err)
	}
}

func ExampleMarshalJSON() {
	b, err := union.MarshalJSON(note{"com.example.note", "hello"})
	fmt.Println(string(b), err)
	// Output: {"$type":"com.example.note","text":"hello"} <nil>
}
