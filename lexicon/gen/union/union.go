// Package union reads and writes the unions of Lexicon schemas for generated code:
// objects whose "$type" says which of several Go types they are.
package union

import (
	"bytes"
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

// UnmarshalJSON decodes into the value that target returns for a "$type"; nil gives ErrClosed. It
// does not check for lone surrogates; the reader of the whole text does.
func UnmarshalJSON(b []byte, target func(typ string) any) error {
	var typ string
	switch text := exactjson.Member(b, "$type"); {
	case len(text) < 2 || text[0] != '"':
	case bytes.IndexByte(text, '\\') < 0:
		typ = string(text[1 : len(text)-1])
	default:
		if err := exactjson.UnmarshalPlain(text, &typ); err != nil {
			return err
		}
	}
	into, err := choose(typ, target)
	if err != nil {
		return err
	}
	return exactjson.UnmarshalPlain(b, into)
}

// UnmarshalCBOR decodes into the value that target returns for a "$type"; nil gives ErrClosed.
func UnmarshalCBOR(b []byte, target func(typ string) any) error {
	typ, _ := data.TypeOf(b)
	into, err := choose(typ, target)
	if err != nil {
		return err
	}
	return data.Unmarshal(b, into)
}

func choose(typ string, target func(typ string) any) (any, error) {
	if typ == "" {
		return nil, ErrType
	}
	into := target(typ)
	if into == nil {
		return nil, ErrClosed
	}
	return into, nil
}
