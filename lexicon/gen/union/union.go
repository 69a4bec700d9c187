// Package union reads and writes the unions of Lexicon schemas for generated code:
// objects whose "$type" says which of several Go types they are.
package union

import (
	"errors"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/data"
)

// Errors of unions.
var (
	ErrEmpty  = errors.New("union: no variant is set")
	ErrType   = errors.New("union: $type is missing")
	ErrClosed = errors.New("union: $type is none of the closed union")
)

// MarshalJSON encodes a variant; nil is ErrEmpty.
func MarshalJSON(variant any) ([]byte, error) {
	if variant == nil {
		return nil, ErrEmpty
	}
	return exactjson.Marshal(variant)
}

// MarshalCBOR encodes a variant; nil is ErrEmpty.
func MarshalCBOR(variant any) ([]byte, error) {
	if variant == nil {
		return nil, ErrEmpty
	}
	return data.Marshal(variant)
}

type typed struct {
	Type string `json:"$type"`
}

// UnmarshalJSON decodes into what target returns for a "$type"; nil is ErrClosed. Whether the text may
// have lone surrogates is for the reader of all of it to say.
func UnmarshalJSON(b []byte, target func(typ string) any) error {
	return unmarshal(b, target, exactjson.UnmarshalPlain)
}

// UnmarshalCBOR decodes into what target returns for a "$type"; nil is ErrClosed.
func UnmarshalCBOR(b []byte, target func(typ string) any) error {
	return unmarshal(b, target, data.Unmarshal)
}

func unmarshal(b []byte, target func(typ string) any, decode func([]byte, any) error) error {
	var t typed
	if err := decode(b, &t); err != nil {
		return err
	}
	if t.Type == "" {
		return ErrType
	}
	into := target(t.Type)
	if into == nil {
		return ErrClosed
	}
	return decode(b, into)
}
