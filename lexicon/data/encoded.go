package data

import (
	"bytes"

	icbor "github.com/pdskit/pdskit/internal/cbor"
)

// Encoded is a value together with its encoding in canonical DAG-CBOR. It is made from one of the
// two, or from JSON, so that they always are of each other. Whoever gets an Encoded need neither
// decode nor encode it again. Neither the value nor the encoding must be changed.
//
// One that DecodeLazily has made is for one goroutine at a time, others for any number.
type Encoded struct {
	cbor  []byte
	value any
	err   error
	known bool // value and err are those of cbor
}

// ParseJSON reads one JSON value. See FromJSON.
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

// EncodeValue encodes a value. See Encode.
func EncodeValue(v any) (*Encoded, error) {
	enc, err := Encode(v)
	if err != nil {
		return nil, err
	}
	return &Encoded{cbor: enc, value: v, known: true}, nil
}

// DecodeLazily returns an Encoded of bytes that may be anything. They are checked and decoded when
// the value is first asked for.
func DecodeLazily(cbor []byte) *Encoded { return &Encoded{cbor: cbor} }

// CBOR returns the encoding. That of DecodeLazily is as it was given.
func (e *Encoded) CBOR() []byte { return e.cbor }

// Value returns the value. The error is that of Decode with the default Limits, and can only be one
// for an Encoded of DecodeLazily.
func (e *Encoded) Value() (any, error) {
	if !e.known {
		e.value, e.err = Decode(e.cbor, Limits{})
		e.known = true
	}
	return e.value, e.err
}

// Member returns the value of a member of an object; nil if there is none, if the value is not an
// object, or if e is nil.
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

// Items returns the items of an array; nil if the value is not an array, or if e is nil.
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

// Blobs returns the references to blobs in the value, as the function of that name does. It does
// not look where there can be none.
func (e *Encoded) Blobs() ([]Blob, error) {
	v, err := e.Value()
	if err != nil || !bytes.Contains(e.cbor, []byte("mimeType")) {
		return nil, err
	}
	return Blobs(v), nil
}
