package data

import (
	"bytes"

	icbor "github.com/pdskit/pdskit/internal/cbor"
)

// Encoded is a value together with its encoding in canonical DAG-CBOR. It is made from either of
// them, or from JSON, so they always match. Code that gets an Encoded need neither decode nor
// encode it again. Neither the value nor the encoding may be changed.
//
// An Encoded of DecodeLazily is for one goroutine at a time. All others are safe for concurrent
// use.
type Encoded struct {
	cbor  []byte
	value any
	err   error
	known bool // value and err are those of cbor
}

// ParseJSON reads one JSON value, as [FromJSON] does.
func ParseJSON(b []byte, lim Limits) (*Encoded, error) {
	enc, err := AppendCBOR(make([]byte, 0, len(b)), b, lim)
	if err != nil {
		return nil, err
	}
	v, err := Decode(enc, lim)
	if err != nil {
		return nil, err
	}
	return &Encoded{cbor: enc, value: v, known: true}, nil
}

// EncodeValue encodes a value, as [Encode] does.
func EncodeValue(v any) (*Encoded, error) {
	enc, err := Encode(v)
	if err != nil {
		return nil, err
	}
	return &Encoded{cbor: enc, value: v, known: true}, nil
}

// DecodeLazily returns an Encoded of unchecked bytes. They are checked and decoded when the value
// is first needed.
func DecodeLazily(cbor []byte) *Encoded { return &Encoded{cbor: cbor} }

// CBOR returns the encoding. After DecodeLazily it is unchecked.
func (e *Encoded) CBOR() []byte { return e.cbor }

// Value returns the value. Only an Encoded of DecodeLazily can have an error: that of Decode with
// the default Limits.
func (e *Encoded) Value() (any, error) {
	if !e.known {
		e.value, e.err = Decode(e.cbor, Limits{})
		e.known = true
	}
	return e.value, e.err
}

// Member returns the value of a member of an object. It is nil if there is no such member, if the
// value is not an object, or if e is nil.
func (e *Encoded) Member(name string) *Encoded {
	if e == nil {
		return nil
	}
	v, _ := e.Value()
	m, _ := v.(map[string]any)
	member, ok := m[name]
	if !ok {
		return nil
	}
	r := icbor.NewReader(e.cbor)
	n, _ := r.Map()
	for range n {
		key, err := r.TextBytes()
		at := r.Pos()
		if err != nil || r.Skip() != nil {
			break
		}
		if string(key) == name {
			return &Encoded{cbor: e.cbor[at:r.Pos():r.Pos()], value: member, known: true}
		}
	}
	return nil
}

// Items returns the items of an array. It is nil if the value is not an array, or if e is nil.
func (e *Encoded) Items() []*Encoded {
	if e == nil {
		return nil
	}
	v, _ := e.Value()
	values, ok := v.([]any)
	if !ok {
		return nil
	}
	r := icbor.NewReader(e.cbor)
	if _, err := r.Array(); err != nil {
		return nil
	}
	items := make([]*Encoded, len(values))
	for i, item := range values {
		at := r.Pos()
		if err := r.Skip(); err != nil {
			return nil
		}
		items[i] = &Encoded{cbor: e.cbor[at:r.Pos():r.Pos()], value: item, known: true}
	}
	return items
}

// Blobs returns the references to blobs in the value, as the function [Blobs] does. It is fast for
// values without blobs.
func (e *Encoded) Blobs() ([]Blob, error) {
	v, err := e.Value()
	if err != nil || !bytes.Contains(e.cbor, []byte("mimeType")) {
		return nil, err
	}
	return Blobs(v), nil
}
