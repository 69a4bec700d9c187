// Package exactjson reads JSON from outside into Go values, and writes JSON for others.
//
// encoding/json compares the names of members with those of struct fields without regard to case,
// and of two members with the same name it takes the last. Other readers of the same text, such as
// a validator, a signer or another server, may see other values. Unmarshal compares names exactly
// and refuses duplicate names. It also refuses text that is not Unicode, which encoding/json
// changes silently.
//
// Unmarshal goes over the text once before encoding/json decodes it. The first pass checks the
// syntax, the names and the depth, and it follows the Go types: where a member's name equals a
// field's name except for case, the pass hides that member from encoding/json, so that it is
// ignored like any unknown member. When Go 1.27 is the oldest supported version, encoding/json/v2
// can replace this package; it behaves alike.
package exactjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// MaxDepth is how deeply arrays and objects may be nested. A thread of posts may be 1000 deep.
const MaxDepth = 2000

// What an *Error wraps.
var (
	ErrSyntax    = errors.New("not valid JSON")
	ErrDuplicate = errors.New("duplicate name")
	ErrText      = errors.New("text is not valid Unicode")
	ErrDepth     = errors.New("nested too deeply")
)

// Error is a fault of a text, with its place in bytes.
type Error struct {
	Offset int
	Name   string // of a member, for ErrDuplicate
	Err    error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Name != "" {
		return fmt.Sprintf("json: %v %.40q at byte %d", e.Err, e.Name, e.Offset)
	}
	return fmt.Sprintf("json: %v at byte %d", e.Err, e.Offset)
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Unmarshal is json.Unmarshal with exact names and without duplicate ones, also in what to ignores.
// Its error is an *Error or one of json.Unmarshal.
//
// The name of a field is that in its json tag, or else its name in Go.
//
// A type with a method UnmarshalJSON reads its part of the text by itself. Names are exact there
// only if that method calls Unmarshal.
func Unmarshal(b []byte, to any) error { return unmarshal(scanner{in: b}, to) }

// UnmarshalPlain is Unmarshal for JSON that is never encoded as CBOR. Values, but not names, may
// have escapes of lone surrogates, which JavaScript writes for text that was cut in the middle of a
// character. A json.RawMessage keeps them; a string has U+FFFD in their place.
func UnmarshalPlain(b []byte, to any) error {
	return unmarshal(scanner{in: b, allowSurrogates: true}, to)
}

// UnmarshalAnswer is UnmarshalPlain for what a server answers to a program that has chosen the type
// of the answer. A field without a name in its tag, such as DID, takes a member whose name is its
// own in any case, as programs are used to. An object with two such members is refused.
func UnmarshalAnswer(b []byte, to any) error {
	return unmarshal(scanner{in: b, allowSurrogates: true, foldUntagged: true}, to)
}

func unmarshal(s scanner, to any) error {
	if err := s.text(targetOf(to)); err != nil {
		return err
	}
	return json.Unmarshal(s.exact(), to)
}

// Check reports what is wrong with a text: its syntax, a duplicate name, text that is not Unicode,
// or its depth. Its error is an *Error.
func Check(b []byte) error {
	s := scanner{in: b}
	return s.text(nil)
}

// CheckPlain is Check for what UnmarshalPlain reads.
func CheckPlain(b []byte) error {
	s := scanner{in: b, allowSurrogates: true}
	return s.text(nil)
}

// targetOf returns the type that a text is decoded into.
func targetOf(to any) reflect.Type {
	v := reflect.ValueOf(to)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		if implements(v.Type()) {
			return v.Type()
		}
		v = v.Elem()
		if v.Kind() == reflect.Interface && v.Elem().Kind() == reflect.Pointer {
			v = v.Elem() // encoding/json decodes into what the interface points to
		}
	}
	if !v.IsValid() {
		return nil
	}
	return v.Type()
}
