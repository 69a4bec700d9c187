package data

import (
	"bytes"

	"github.com/pdskit/pdskit/internal/exactjson"
)

// Object is an object with any members, for fields of Go structs whose members the program reads.
// Use [Raw] for values that it only passes on.
type Object map[string]any

// ObjectOf converts a Go value, such as a struct for a record, to an Object.
func ObjectOf(v any) (Object, error) {
	b, err := Marshal(v)
	if err != nil {
		return nil, err
	}
	var o Object
	return o, o.UnmarshalCBOR(b)
}

// Into reads the object into a Go value, as Unmarshal does.
func (o Object) Into(v any) error {
	b, err := Encode(map[string]any(o))
	if err != nil {
		return err
	}
	return Unmarshal(b, v)
}

// Type returns "$type", or "".
func (o Object) Type() string {
	t, _ := o["$type"].(string)
	return t
}

// MarshalJSON implements json.Marshaler.
func (o Object) MarshalJSON() ([]byte, error) { return ToJSON(o.value()) }

// MarshalCBOR implements cbor.Marshaler.
func (o Object) MarshalCBOR() ([]byte, error) { return Encode(o.value()) }

func (o Object) value() any {
	if o == nil {
		return nil
	}
	return map[string]any(o)
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Object) UnmarshalJSON(b []byte) error {
	v, err := FromJSON(b, Limits{})
	if err != nil {
		return err
	}
	return o.set(v)
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (o *Object) UnmarshalCBOR(b []byte) error {
	v, err := Decode(b, Limits{})
	if err != nil {
		return err
	}
	return o.set(v)
}

func (o *Object) set(v any) error {
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		return &Error{Offset: 0, Err: ErrNotObject}
	}
	*o = m
	return nil
}

// Raw is a JSON value, for fields of Go structs that a schema calls unknown. It is kept unchanged
// and unchecked. Its CBOR is the encoding of the JSON's value. To make the JSON of a Go value, use
// MarshalJSON.
type Raw []byte

// Into reads the value into a Go value, as UnmarshalPlainJSON does.
func (r Raw) Into(v any) error { return UnmarshalPlainJSON(r, v) }

// Type returns "$type", or "".
func (r Raw) Type() string {
	var typed struct {
		Type string `json:"$type"`
	}
	if r.Into(&typed) != nil {
		return ""
	}
	return typed.Type
}

// MarshalJSON implements json.Marshaler. An empty Raw is null.
func (r Raw) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("null"), nil
	}
	return r, nil
}

// MarshalCBOR implements cbor.Marshaler. An empty Raw is null.
func (r Raw) MarshalCBOR() ([]byte, error) {
	if len(r) == 0 {
		return Encode(nil)
	}
	return AppendCBOR(nil, r, Limits{})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Raw) UnmarshalJSON(b []byte) error {
	*r = bytes.Clone(b)
	return nil
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (r *Raw) UnmarshalCBOR(b []byte) (err error) {
	*r, err = AppendJSON(nil, b)
	return err
}

// MarshalJSON implements json.Marshaler.
func (b Blob) MarshalJSON() ([]byte, error) { return ToJSON(b.Value()) }

// MarshalCBOR implements cbor.Marshaler.
func (b Blob) MarshalCBOR() ([]byte, error) { return Encode(b.Value()) }

// UnmarshalJSON implements json.Unmarshaler, for the present and the legacy form.
func (b *Blob) UnmarshalJSON(in []byte) error {
	v, err := FromJSON(in, Limits{})
	if err != nil {
		return err
	}
	return b.set(v)
}

// UnmarshalCBOR implements cbor.Unmarshaler, for the present and the legacy form.
func (b *Blob) UnmarshalCBOR(in []byte) error {
	v, err := Decode(in, Limits{})
	if err != nil {
		return err
	}
	return b.set(v)
}

func (b *Blob) set(v any) error {
	got, ok := BlobOf(v)
	if !ok {
		return &Error{Offset: 0, Err: ErrBlob}
	}
	*b = got
	return nil
}

// Nullable is an optional field whose value may be null, which differs from a missing field. In a
// struct it needs the option omitzero.
type Nullable[T any] struct {
	Set   bool // the field is there
	Value *T   // nil: null
}

// IsZero reports whether the field is missing.
func (n Nullable[T]) IsZero() bool { return !n.Set }

// MarshalJSON implements json.Marshaler.
func (n Nullable[T]) MarshalJSON() ([]byte, error) { return exactjson.Marshal(n.Value) }

// UnmarshalJSON implements json.Unmarshaler.
func (n *Nullable[T]) UnmarshalJSON(b []byte) error {
	*n = Nullable[T]{Set: true}
	return exactjson.Unmarshal(b, &n.Value)
}

// MarshalCBOR implements cbor.Marshaler.
func (n Nullable[T]) MarshalCBOR() ([]byte, error) { return Marshal(n.Value) }

// UnmarshalCBOR implements cbor.Unmarshaler.
func (n *Nullable[T]) UnmarshalCBOR(b []byte) error {
	*n = Nullable[T]{Set: true}
	return Unmarshal(b, &n.Value)
}
