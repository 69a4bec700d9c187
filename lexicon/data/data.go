package data

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"
	icbor "github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// Limits bounds reading. Zero fields mean the defaults.
type Limits struct {
	Bytes int // of the encoding; default 2 MiB
	Depth int // of nested arrays and objects; default 64
	Items int // of one array or object; default 131,072
}

func (l Limits) withDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 2 << 20
	}
	if l.Depth == 0 {
		l.Depth = 64
	}
	if l.Items == 0 {
		l.Items = 128 << 10
	}
	return l
}

func (l Limits) cbor() icbor.Limits {
	l = l.withDefaults()
	return icbor.Limits{Bytes: l.Bytes, Depth: l.Depth, Items: l.Items}
}

// Faults of a value. An *Error wraps one of these.
var (
	ErrSyntax    = errors.New("not valid JSON")
	ErrNumber    = errors.New("not an integer of at most 53 bits")
	ErrText      = icbor.ErrUTF8
	ErrDuplicate = icbor.ErrKeyRepeated
	ErrLink      = icbor.ErrLink
	ErrBytes     = errors.New("malformed bytes")
	ErrType      = errors.New("$type is not a non-empty string")
	ErrBlob      = errors.New("malformed blob")
	ErrDepth     = icbor.ErrDepth
	ErrTooLarge  = icbor.ErrSize
	ErrItems     = icbor.ErrItems
	ErrValue     = errors.New("not a value of the data model")
	ErrNotObject = errors.New("a record must be an object")
)

// Further faults of CBOR: the ways to deviate from the only encoding of a value.
var (
	ErrTruncated  = icbor.ErrTruncated  // ends early
	ErrTrailing   = icbor.ErrTrailing   // bytes after the value
	ErrNonMinimal = icbor.ErrNonMinimal // an integer or length is not in its shortest form
	ErrIndefinite = icbor.ErrIndefinite // an indefinite length
	ErrReserved   = icbor.ErrReserved   // a reserved head
	ErrFloat      = icbor.ErrFloat      // a floating-point number, even if it is an integer
	ErrSimple     = icbor.ErrSimple     // a simple value other than false, true and null
	ErrTag        = icbor.ErrTag        // a tag other than 42
	ErrKeyType    = icbor.ErrKeyType    // a map key that is not a string
	ErrKeyOrder   = icbor.ErrKeyOrder   // map keys out of order
	ErrIntRange   = icbor.ErrIntRange   // an integer that does not fit in 64 bits, signed
)

// Error describes a fault of a value.
type Error struct {
	Path   string // to the value, such as "embed/images/0"; empty: the whole
	Offset int    // in bytes of the input; -1: not known
	Err    error
}

func (e *Error) Error() string {
	msg := "data: "
	if e.Path != "" {
		msg += shorten(e.Path) + ": "
	}
	msg += e.Err.Error()
	if e.Offset >= 0 {
		msg += fmt.Sprintf(" (at byte %d)", e.Offset)
	}
	return msg
}

// shorten cuts a path to a length that a log can bear.
func shorten(path string) string {
	const most = 256
	if len(path) > most {
		return strings.ToValidUTF8(path[:most], "") + "…"
	}
	return path
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// under puts a path element before the path of a fault. Walks call it on their way back, so that a
// value without faults costs no paths.
func (e *Error) under(elem string) *Error {
	if e.Path == "" {
		e.Path = elem
	} else {
		e.Path = elem + "/" + e.Path
	}
	return e
}

func (e *Error) underIndex(i int) *Error { return e.under(strconv.Itoa(i)) }

// CID returns the CID of a record's DAG-CBOR.
func CID(cbor []byte) cid.Cid { return dag.Sum(dag.CBOR, cbor) }

// TypeOf returns the value of the member "$type" of an encoded object. ok is false if there is no
// such string. TypeOf reads no further than that member, and does not check the rest: see [Valid].
func TypeOf(b []byte) (name string, ok bool) {
	const key = "$type"
	r := icbor.NewReader(b)
	n, err := r.Map()
	for range n {
		if err != nil {
			break
		}
		k, err := r.TextBytes()
		if err != nil || len(k) > len(key) { // keys are in the order of their lengths
			break
		}
		if string(k) == key {
			name, err = r.Text()
			return name, err == nil
		}
		if err = r.Skip(); err != nil {
			break
		}
	}
	return "", false
}

// Valid returns nil if b is the canonical encoding of one value.
func Valid(b []byte, lim Limits) error {
	err := icbor.Scan(b, lim.cbor())
	if err == nil {
		return nil
	}
	var e *icbor.Error
	if errors.As(err, &e) {
		return &Error{Offset: e.Offset, Err: e.Err}
	}
	return err
}
