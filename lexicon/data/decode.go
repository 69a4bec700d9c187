package data

import (
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf8"

	icbor "github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// Decode reads canonical DAG-CBOR. All text of the value lies in one string, as long as the
// input, that lives as long as any part of it.
func Decode(b []byte, lim Limits) (any, error) {
	if err := Valid(b, lim); err != nil {
		return nil, err
	}
	d := decoder{s: string(b)}
	v, err := d.value()
	if err != nil {
		return nil, err
	}
	return v, nil
}

// decoder reads an encoding that the scanner has accepted.
type decoder struct {
	s   string
	pos int
	out *sink // of WriteJSON
}

// Simple values.
const (
	boolTrue = 21
	null     = 22
)

// head reads the head of an item.
func (d *decoder) head() (major byte, n uint64) {
	first := d.s[d.pos]
	d.pos++
	major = first >> 5
	switch info := first & 31; info {
	case 24:
		n = uint64(d.s[d.pos])
		d.pos++
	case 25, 26, 27:
		var buf [8]byte
		size := 1 << (info - 24)
		copy(buf[8-size:], d.s[d.pos:])
		n = binary.BigEndian.Uint64(buf[:])
		d.pos += size
	default:
		n = uint64(info)
	}
	return major, n
}

func (d *decoder) text(n uint64) string {
	from := d.pos
	d.pos += int(n)
	return d.s[from:d.pos]
}

func (d *decoder) value() (any, *Error) {
	major, n := d.head()
	switch major {
	case icbor.MajorUint:
		return int64(n), nil
	case icbor.MajorNegint:
		return -1 - int64(n), nil
	case icbor.MajorBytes:
		return Bytes(d.text(n)), nil
	case icbor.MajorText:
		return d.text(n), nil
	case icbor.MajorArray:
		return d.array(int(n))
	case icbor.MajorMap:
		return d.object(int(n))
	case icbor.MajorTag:
		_, n = d.head()
		codec, digest, _ := dag.SplitBytes(d.text(n)[1:])
		return Link{dag.CID(codec, &digest)}, nil
	}
	if n == null {
		return nil, nil
	}
	return n == boolTrue, nil
}

func (d *decoder) array(n int) (any, *Error) {
	list := make([]any, n)
	for i := range list {
		v, err := d.value()
		if err != nil {
			return nil, err.underIndex(i)
		}
		list[i] = v
	}
	return list, nil
}

// object reads a map, and checks what the data model says of keys that start with "$".
func (d *decoder) object(n int) (any, *Error) {
	m := make(map[string]any, n)
	var typ string
	for range n {
		_, size := d.head()
		key := d.text(size)
		v, err := d.value()
		if err != nil {
			return nil, err.under(key)
		}
		m[key] = v
		if !strings.HasPrefix(key, "$") {
			continue
		}
		switch key {
		case "$link": // in JSON, it would read as something else
			return nil, &Error{Offset: -1, Err: ErrLink}
		case "$bytes":
			return nil, &Error{Offset: -1, Err: ErrBytes}
		case "$type":
			if typ, _ = v.(string); typ == "" {
				return nil, &Error{Offset: -1, Err: ErrType}
			}
		}
	}
	if typ == blobType {
		if _, ok := blobOf(m); !ok {
			return nil, &Error{Offset: -1, Err: ErrBlob}
		}
	}
	return m, nil
}

// Encode returns the canonical DAG-CBOR of a value. Besides the types of the
// package comment it takes int for an integer.
func Encode(v any) ([]byte, error) {
	b, err := appendValue(make([]byte, 0, 512), v, (Limits{}).withDefaults().Depth)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// appendValue appends a value with at most depth levels.
func appendValue(b []byte, v any, depth int) ([]byte, *Error) {
	var err *Error
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
		if !utf8.ValidString(v) {
			return nil, &Error{Offset: -1, Err: ErrText}
		}
		return icbor.AppendText(b, v), nil
	case Bytes:
		return icbor.AppendBytes(b, v), nil
	case Link:
		if _, _, ok := dag.Split(v.Cid); !ok {
			return nil, &Error{Offset: -1, Err: ErrLink}
		}
		return icbor.AppendLink(b, v.KeyString()), nil
	case []any:
		if depth == 0 {
			return nil, &Error{Offset: -1, Err: ErrDepth}
		}
		b = icbor.AppendArray(b, len(v))
		for i, x := range v {
			if b, err = appendValue(b, x, depth-1); err != nil {
				return nil, err.underIndex(i)
			}
		}
		return b, nil
	case map[string]any:
		if depth == 0 {
			return nil, &Error{Offset: -1, Err: ErrDepth}
		}
		var few [24]string
		keys := few[:0]
		for k := range v {
			if !utf8.ValidString(k) {
				return nil, &Error{Offset: -1, Err: ErrText}
			}
			keys = append(keys, k)
		}
		slices.SortFunc(keys, icbor.CompareKeys)
		b = icbor.AppendMap(b, len(keys))
		for _, k := range keys {
			b = icbor.AppendText(b, k)
			if b, err = appendValue(b, v[k], depth-1); err != nil {
				return nil, err.under(k)
			}
		}
		return b, nil
	}
	return nil, &Error{Offset: -1, Err: notValue(v)}
}
