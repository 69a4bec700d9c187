package data

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const encodedSample = `{"writes":[{"value":{"$type":"com.example.note","b":1,"text":"é\u0041","link":{"$link":"bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi"},"raw":{"$bytes":"AQID"}}},
	{"value":{}},5],"repo":"x","long":"` + "0123456789012345678901234567890123456789" + `"}`

// Whatever an Encoded is made from, and whatever part of it, its two sides are of each other.
func TestEncoded(t *testing.T) {
	agree := func(what string, e *Encoded) {
		t.Helper()
		if e == nil {
			t.Fatal(what + ": none")
		}
		v, err := e.Value()
		if err != nil {
			t.Fatal(what, err)
		}
		want, err := Encode(v)
		if err != nil || !bytes.Equal(want, e.CBOR()) {
			t.Errorf("%s: %v, encoded %x, not %x", what, err, e.CBOR(), want)
		}
	}
	e, err := ParseJSON([]byte(encodedSample), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	lazy := DecodeLazily(e.CBOR())
	made, err := EncodeValue(e.value)
	if err != nil {
		t.Fatal(err)
	}
	for what, e := range map[string]*Encoded{"JSON": e, "CBOR": lazy, "a value": made} {
		agree(what, e)
		agree(what, e.Member("repo"))
		agree(what, e.Member("long"))
		items := e.Member("writes").Items()
		if len(items) != 3 {
			t.Fatalf("%s: %d items", what, len(items))
		}
		for _, item := range items {
			agree(what, item)
		}
		record := items[0].Member("value")
		agree(what, record)
		want := `{"b":1,"raw":{"$bytes":"AQID"},"link":{"$link":"bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi"},"text":"éA","$type":"com.example.note"}`
		if text, err := AppendJSON(nil, record.CBOR()); err != nil || string(text) != want {
			t.Errorf("%s: %s, %v", what, text, err)
		}
		for name, none := range map[string]*Encoded{
			"no member": e.Member("none"), "of no object": e.Member("repo").Member("x"), "of nothing": (*Encoded)(nil).Member("x"),
		} {
			if none != nil {
				t.Errorf("%s, %s: %v", what, name, none)
			}
		}
		if e.Items() != nil || e.Member("repo").Items() != nil || (*Encoded)(nil).Items() != nil {
			t.Error(what + ": items of what is no array")
		}
	}
}

func TestEncodedFaults(t *testing.T) {
	if _, err := ParseJSON([]byte(`{"$type":5}`), Limits{}); !errors.Is(err, ErrType) {
		t.Error(err)
	}
	if _, err := ParseJSON([]byte(`{"a":[[]]}`), Limits{Depth: 2}); !errors.Is(err, ErrDepth) {
		t.Error(err)
	}
	if _, err := EncodeValue(1.5); !errors.Is(err, ErrValue) {
		t.Error(err)
	}
	for _, b := range [][]byte{nil, {0xa1}, {0xf9, 0, 0}, {0xa1, 0x61, 'a', 0x18, 1}} {
		e := DecodeLazily(b)
		if v, err := e.Value(); err == nil || v != nil {
			t.Errorf("%x: %v", b, v)
		}
		if e.Member("a") != nil || e.Items() != nil || !bytes.Equal(e.CBOR(), b) {
			t.Errorf("%x has parts", b)
		}
		if _, err := e.BlobRefs(); err == nil {
			t.Errorf("%x: blobs", b)
		}
		if _, err := e.Blobs(); err == nil {
			t.Errorf("%x: blobs", b)
		}
	}
}

// The references to blobs are those that the functions on bytes and values find.
func TestEncodedBlobs(t *testing.T) {
	const raw, other = "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy", "bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi"
	for name, in := range map[string]string{
		"none":         `{"text":"mimeType"}`,
		"one":          `{"x":[{"$type":"blob","ref":{"$link":"` + raw + `"},"mimeType":"image/png","size":5}]}`,
		"legacy":       `{"x":{"cid":"` + raw + `","mimeType":"image/png"}}`,
		"both":         `{"x":{"cid":"` + raw + `","mimeType":"image/png"},"y":{"$type":"blob","ref":{"$link":"` + raw + `"},"mimeType":"image/png","size":5}}`,
		"of a record":  `{"x":{"$type":"blob","ref":{"$link":"` + other + `"},"mimeType":"image/png","size":5}}`,
		"not a record": `[{"$type":"blob","ref":{"$link":"` + raw + `"},"mimeType":"image/png","size":5}]`,
	} {
		e, err := ParseJSON([]byte(in), Limits{})
		if err != nil {
			t.Fatal(name, err)
		}
		want, wantErr := BlobRefs(e.CBOR())
		got, err := e.BlobRefs()
		if (err == nil) != (wantErr == nil) || cmp.Diff(want, got, cmp.Comparer(func(a, b Blob) bool { return a == b })) != "" {
			t.Errorf("%s: %v %v, want %v %v", name, got, err, want, wantErr)
		}
		if all, err := e.Blobs(); err != nil || len(all) != len(Blobs(e.value)) {
			t.Errorf("%s: %v %v", name, all, err)
		}
	}
}

// An input of unusual size leaves nothing behind for those after it, whatever runs beside it.
func TestTranscodersAreIndependent(t *testing.T) {
	large := []byte(`{"last":0`)
	for i := range 2000 {
		large = fmt.Appendf(large, `,"a key of some length, %d":{}`, 5000-i)
	}
	large = append(large, '}')
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				for _, in := range []string{encodedSample, string(large), `{"b":1,"a":2}`, `[`, `{"a":1,"a":2}`} {
					e, err := ParseJSON([]byte(in), Limits{})
					if bad := in == `[` || in == `{"a":1,"a":2}`; bad != (err != nil) {
						t.Errorf("%s: %v", in, err)
					}
					if err != nil {
						continue
					}
					if want, err := Encode(e.value); err != nil || !bytes.Equal(want, e.CBOR()) {
						t.Errorf("%s: %x", in, e.CBOR())
					}
				}
			}
		})
	}
	wg.Wait()
}
