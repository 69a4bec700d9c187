package cbor

import (
	"errors"
	"fmt"
)

// What may be wrong with an encoding. An *Error wraps one of these.
var (
	ErrTruncated   = errors.New("input ends early")
	ErrTrailing    = errors.New("bytes after the value")
	ErrNonMinimal  = errors.New("integer or length not in its shortest form")
	ErrIndefinite  = errors.New("indefinite length")
	ErrReserved    = errors.New("reserved or malformed head")
	ErrFloat       = errors.New("floating-point number")
	ErrSimple      = errors.New("simple value other than false, true and null")
	ErrTag         = errors.New("tag other than 42")
	ErrLink        = errors.New("malformed link")
	ErrKeyType     = errors.New("map key is not a string")
	ErrKeyOrder    = errors.New("map keys not in canonical order")
	ErrKeyRepeated = errors.New("key given twice")
	ErrUTF8        = errors.New("text is not valid Unicode")
	ErrIntRange    = errors.New("integer beyond 64 bits, signed")
	ErrDepth       = errors.New("nested too deeply")
	ErrItems       = errors.New("too many items")
	ErrSize        = errors.New("too many bytes")
	ErrType        = errors.New("value of another type than expected")
)

// Error says what is wrong with an encoding and at which byte.
type Error struct {
	Offset int
	Err    error // one of the errors above
}

func (e *Error) Error() string { return fmt.Sprintf("cbor: byte %d: %v", e.Offset, e.Err) }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }
