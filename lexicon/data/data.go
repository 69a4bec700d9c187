package data

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	icbor "github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// Limits bounds what is read. Zero fields mean the defaults.
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

// What may be wrong with a value. An *Error wraps one of these, or, for CBOR, the
// error that says which rule of the encoding is broken.
var (
	ErrSyntax    = errors.New("not valid JSON")
	ErrNumber    = errors.New("not an integer of at most 53 bits")
	ErrText      = errors.New("text is not valid Unicode")
	ErrDuplicate = errors.New("key given twice")
	ErrLink      = errors.New("malformed link")
	ErrBytes     = errors.New("malformed bytes")
	ErrType      = errors.New("$type is not a non-empty string")
	ErrBlob      = errors.New("malformed blob")
	ErrDepth     = errors.New("nested too deeply")
	ErrTooLarge  = errors.New("too large")
	ErrValue     = errors.New("not a value of the data model")
	ErrNotObject = errors.New("a record must be an object")
)

// Error says what is wrong with a value and where.
type Error struct {
	Path   string // to the value, such as "embed/images/0"; empty: the whole
	Offset int    // in bytes of the input; -1: not known
	Err    error
}

func (e *Error) Error() string {
	msg := "data: "
	if e.Path != "" {
		msg += e.Path + ": "
	}
	msg += e.Err.Error()
	if e.Offset >= 0 {
		msg += fmt.Sprintf(" (at byte %d)", e.Offset)
	}
	return msg
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Bytes is a byte string.
type Bytes []byte

// MarshalJSON implements json.Marshaler: {"$bytes": "…"}.
func (b Bytes) MarshalJSON() ([]byte, error) { return appendBytesJSON(nil, b), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bytes) UnmarshalJSON(in []byte) error {
	v, err := FromJSON(in, Limits{})
	if err != nil {
		return err
	}
	got, ok := v.(Bytes)
	if !ok {
		return &Error{Offset: 0, Err: ErrBytes}
	}
	*b = got
	return nil
}

// Link is a link to another block. The zero Link links nowhere and cannot be encoded.
//
// It exists because a bare cid.Cid in a struct would be encoded as a byte string.
type Link struct{ cid.Cid }

// MarshalCBOR implements cbor.Marshaler.
func (l Link) MarshalCBOR() ([]byte, error) {
	if _, _, ok := dag.Split(l.Cid); !ok {
		return nil, &Error{Offset: -1, Err: ErrLink}
	}
	return icbor.AppendLink(nil, l.KeyString()), nil
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (l *Link) UnmarshalCBOR(b []byte) error {
	r := icbor.NewReader(b)
	link, err := r.Link()
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return err
	}
	codec, digest, ok := dag.SplitBytes(link)
	if !ok {
		return &Error{Offset: -1, Err: ErrLink}
	}
	l.Cid = dag.CID(codec, &digest)
	return nil
}

// MarshalJSON implements json.Marshaler: {"$link": "…"}.
func (l Link) MarshalJSON() ([]byte, error) {
	if !l.Defined() {
		return nil, &Error{Offset: -1, Err: ErrLink}
	}
	return appendLinkJSON(nil, l.Cid), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Link) UnmarshalJSON(in []byte) error {
	var v struct {
		Link string `json:"$link"`
	}
	if err := json.Unmarshal(in, &v); err != nil {
		return err
	}
	c, err := parseLink(v.Link)
	if err != nil {
		return &Error{Offset: -1, Err: ErrLink}
	}
	l.Cid = c
	return nil
}

// parseLink reads a CID of the data model in text form.
func parseLink(s string) (cid.Cid, error) {
	c, err := cid.Decode(s)
	if err != nil {
		return cid.Undef, err
	}
	if _, _, ok := dag.Split(c); !ok || c.String() != s {
		return cid.Undef, ErrLink
	}
	return c, nil
}

// CID returns the CID of a record's DAG-CBOR.
func CID(cbor []byte) cid.Cid { return dag.Sum(dag.CBOR, cbor) }

// Valid returns nil if b is the canonical encoding of one value.
func Valid(b []byte, lim Limits) error { return cborError(icbor.Scan(b, lim.cbor())) }

func cborError(err error) error {
	var e *icbor.Error
	if errors.As(err, &e) {
		return &Error{Offset: e.Offset, Err: e.Err}
	}
	return err
}

// Decode reads canonical DAG-CBOR.
func Decode(b []byte, lim Limits) (any, error) {
	if err := Valid(b, lim); err != nil {
		return nil, err
	}
	r := icbor.NewReader(b)
	v := decode(r)
	if err := r.Done(); err != nil {
		return nil, cborError(err)
	}
	return v, checkTypes(v, "")
}

// decode reads a value that has been scanned.
func decode(r *icbor.Reader) any {
	switch r.Major() {
	case icbor.MajorUint, icbor.MajorNegint:
		n, _ := r.Int()
		return n
	case icbor.MajorBytes:
		b, _ := r.Bytes()
		return Bytes(slices.Clone(b))
	case icbor.MajorText:
		s, _ := r.Text()
		return s
	case icbor.MajorArray:
		n, _ := r.Array()
		list := make([]any, n)
		for i := range list {
			list[i] = decode(r)
		}
		return list
	case icbor.MajorMap:
		n, _ := r.Map()
		m := make(map[string]any, n)
		for range n {
			key, _ := r.Text()
			m[key] = decode(r)
		}
		return m
	case icbor.MajorTag:
		link, _ := r.Link()
		codec, digest, _ := dag.SplitBytes(link)
		return Link{dag.CID(codec, &digest)}
	default:
		if r.Null() {
			return nil
		}
		b, _ := r.Bool()
		return b
	}
}

// checkTypes checks the objects whose meaning the data model fixes: those with a $type.
func checkTypes(v any, path string) error {
	switch v := v.(type) {
	case []any:
		for i, x := range v {
			if err := checkTypes(x, join(path, fmt.Sprint(i))); err != nil {
				return err
			}
		}
	case map[string]any:
		// In JSON these would read as something else.
		if _, ok := v["$link"]; ok {
			return &Error{path, -1, ErrLink}
		}
		if _, ok := v["$bytes"]; ok {
			return &Error{path, -1, ErrBytes}
		}
		if t, ok := v["$type"]; ok {
			s, _ := t.(string)
			if s == "" {
				return &Error{path, -1, ErrType}
			}
			if s == blobType {
				if _, ok := blobOf(v); !ok {
					return &Error{path, -1, ErrBlob}
				}
			}
		}
		for name, x := range v {
			switch x.(type) {
			case []any, map[string]any:
				if err := checkTypes(x, join(path, name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

// Encode returns the canonical DAG-CBOR of a value. Besides the types of the
// package comment it takes int for an integer.
func Encode(v any) ([]byte, error) { return appendCBOR(make([]byte, 0, 512), v, "", 0) }

func appendCBOR(b []byte, v any, path string, depth int) ([]byte, error) {
	if depth > (Limits{}).withDefaults().Depth {
		return nil, &Error{path, -1, ErrDepth}
	}
	var err error
	switch v := v.(type) {
	case nil:
		return icbor.AppendNull(b), nil
	case bool:
		return icbor.AppendBool(b, v), nil
	case int64:
		return icbor.AppendInt(b, v), nil
	case int:
		return icbor.AppendInt(b, int64(v)), nil
	case string:
		if !validText(v) {
			return nil, &Error{path, -1, ErrText}
		}
		return icbor.AppendText(b, v), nil
	case Bytes:
		return icbor.AppendBytes(b, v), nil
	case Link:
		if _, _, ok := dag.Split(v.Cid); !ok {
			return nil, &Error{path, -1, ErrLink}
		}
		return icbor.AppendLink(b, v.KeyString()), nil
	case []any:
		b = icbor.AppendArray(b, len(v))
		for i, x := range v {
			if b, err = appendCBOR(b, x, join(path, fmt.Sprint(i)), depth+1); err != nil {
				return nil, err
			}
		}
		return b, nil
	case map[string]any:
		var few [24]string
		keys := few[:0]
		for k := range v {
			if !validText(k) {
				return nil, &Error{path, -1, ErrText}
			}
			keys = append(keys, k)
		}
		slices.SortFunc(keys, icbor.CompareKeys)
		b = icbor.AppendMap(b, len(keys))
		for _, k := range keys {
			b = icbor.AppendText(b, k)
			sub := path
			switch v[k].(type) {
			case []any, map[string]any: // only these need the path on the way
				sub = join(path, k)
			}
			if b, err = appendCBOR(b, v[k], sub, depth+1); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	return nil, &Error{path, -1, fmt.Errorf("%w: %T", ErrValue, v)}
}

// Codec options of fxamacker/cbor that come closest to DAG-CBOR. What they let
// through is caught by our scanner.
var encMode, decMode = func() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.EncOptions{
		Sort: cbor.SortLengthFirst, NaNConvert: cbor.NaNConvertReject, InfConvert: cbor.InfConvertReject,
		BigIntConvert: cbor.BigIntConvertReject, IndefLength: cbor.IndefLengthForbidden, Time: cbor.TimeRFC3339Nano,
	}.EncMode()
	if err != nil {
		panic(err) // the options are constant
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		IntDec: cbor.IntDecConvertSignedOrFail, MaxNestedLevels: 256,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}()

// Marshal returns the canonical DAG-CBOR of a Go value: structs with cbor or json
// tags, Link for links, []byte or Bytes for bytes. What the data model does not
// have, such as a float, is an error.
func Marshal(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err != nil {
		return nil, &Error{Offset: -1, Err: fmt.Errorf("%w: %w", ErrValue, err)}
	}
	return b, Valid(b, Limits{})
}

// Unmarshal reads canonical DAG-CBOR into a Go value. Fields that the value does not
// have are ignored.
func Unmarshal(b []byte, v any) error {
	if err := Valid(b, Limits{}); err != nil {
		return err
	}
	if err := decMode.Unmarshal(b, v); err != nil {
		return &Error{Offset: -1, Err: err}
	}
	return nil
}

func appendBytesJSON(b, v []byte) []byte {
	b = append(b, `{"$bytes":"`...)
	b = base64.RawStdEncoding.AppendEncode(b, v)
	return append(b, `"}`...)
}

func appendLinkJSON(b []byte, c cid.Cid) []byte {
	b = append(b, `{"$link":"`...)
	b = append(b, c.String()...)
	return append(b, `"}`...)
}
