package data

import (
	"errors"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	icbor "github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// Decode reads canonical DAG-CBOR. All strings of the value share one string, as long as the input.
// It lives as long as any of them.
func Decode(b []byte, lim Limits) (any, error) {
	d := newDecoder(string(b), lim)
	v, err := d.value(d.depth)
	if err == nil && d.pos != len(d.s) {
		err = errMalformed
	}
	if err == nil {
		return v, nil
	}
	// What is wrong with the encoding, and where, the scanner knows. It comes before what the data
	// model says.
	if err := Valid(b, lim); err != nil {
		return nil, err
	}
	return nil, err
}

// decoder reads canonical DAG-CBOR, and checks it as it goes.
type decoder struct {
	s     string
	pos   int
	depth int   // levels that are allowed
	items int   // of one array or map
	left  int   // items that the whole value can still have: each takes a byte
	out   *sink // of WriteJSON
}

func newDecoder(s string, lim Limits) decoder {
	l := lim.cbor()
	if len(s) > l.Bytes {
		s = "" // malformed
	}
	return decoder{s: s, depth: min(l.Depth, maxDepth), items: l.Items, left: len(s)}
}

// maxDepth is that of the scanner.
const maxDepth = 256

// errMalformed says that an encoding is not canonical. The scanner says why.
var errMalformed = &Error{Offset: -1, Err: errors.New("not canonical DAG-CBOR")}

// Simple values.
const (
	boolFalse = 20
	boolTrue  = 21
	null      = 22
)

// malformed is the major type of what is none.
const malformed = 255

// head reads the head of an item.
func (d *decoder) head() (major byte, n uint64) {
	if d.pos < len(d.s) {
		if first := d.s[d.pos]; first&31 < 24 {
			d.pos++
			return first >> 5, uint64(first & 31)
		}
	}
	return d.longHead()
}

// longHead reads a head of more than one byte.
func (d *decoder) longHead() (major byte, n uint64) {
	if d.pos == len(d.s) {
		return malformed, 0
	}
	major, info := d.s[d.pos]>>5, d.s[d.pos]&31
	rest := d.s[d.pos+1:]
	if info > 27 || major == icbor.MajorSimple {
		return malformed, 0
	}
	size := 1 << (info - 24)
	if len(rest) < size {
		return malformed, 0
	}
	for i := range size {
		n = n<<8 | uint64(rest[i])
	}
	least := uint64(24)
	if info > 24 {
		least = 1 << (size * 4)
	}
	if n < least {
		return malformed, 0
	}
	d.pos += 1 + size
	return major, n
}

// text reads n bytes.
func (d *decoder) text(n uint64) (s string, ok bool) {
	from := d.pos
	if n > uint64(len(d.s)-from) {
		return "", false
	}
	d.pos += int(n)
	return d.s[from:d.pos], true
}

// key reads the key of a map, which must come after last unless it is the first.
func (d *decoder) key(first bool, last string) (key string, ok bool) {
	major, n := d.head()
	if major != icbor.MajorText {
		return "", false
	}
	key, ok = d.text(n)
	if !ok || !first && (len(key) < len(last) || len(key) == len(last) && key <= last) {
		return "", false
	}
	return key, utf8.ValidString(key)
}

// count is the number of items or pairs of an array or map, unless there cannot be so many: then it
// is -1, and nothing is allocated for them.
func (d *decoder) count(n uint64, depth, perItem int) int {
	if depth == 0 || n > uint64(d.items) || int(n)*perItem > d.left {
		return -1
	}
	d.left -= int(n) * perItem
	return int(n)
}

// link reads what comes after the tag of a link, and returns its binary CID.
func (d *decoder) link(tag uint64) (s string, ok bool) {
	major, n := d.head()
	if tag != 42 || major != icbor.MajorBytes || n != 1+dag.CIDLen {
		return "", false
	}
	if s, ok = d.text(n); !ok || s[0] != 0 {
		return "", false
	}
	s = s[1:]
	return s, s[0] == 1 && (s[1] == byte(dag.CBOR) || s[1] == byte(dag.Raw)) && s[2] == 0x12 && s[3] == 0x20
}

// value reads a value with at most depth levels.
func (d *decoder) value(depth int) (any, *Error) {
	major, n := d.head()
	switch major {
	case icbor.MajorUint:
		if n <= math.MaxInt64 {
			return int64(n), nil
		}
	case icbor.MajorNegint:
		if n <= math.MaxInt64 {
			return -1 - int64(n), nil
		}
	case icbor.MajorBytes:
		if s, ok := d.text(n); ok {
			return Bytes(s), nil
		}
	case icbor.MajorText:
		if s, ok := d.text(n); ok && utf8.ValidString(s) {
			return s, nil
		}
	case icbor.MajorArray:
		if n := d.count(n, depth, 1); n >= 0 {
			return d.array(n, depth-1)
		}
	case icbor.MajorMap:
		if n := d.count(n, depth, 2); n >= 0 {
			return d.object(n, depth-1)
		}
	case icbor.MajorTag:
		if s, ok := d.link(n); ok {
			return Link{dag.Wrap(s)}, nil
		}
	case icbor.MajorSimple:
		switch n {
		case boolFalse, boolTrue:
			return n == boolTrue, nil
		case null:
			return nil, nil
		}
	}
	return nil, errMalformed
}

func (d *decoder) array(n, depth int) (any, *Error) {
	list := make([]any, n)
	for i := range list {
		v, err := d.value(depth)
		if err == errMalformed {
			return nil, err
		} else if err != nil {
			return nil, err.underIndex(i)
		}
		list[i] = v
	}
	return list, nil
}

// object reads a map, and checks what the data model says of keys that start with "$".
func (d *decoder) object(n, depth int) (any, *Error) {
	m := make(map[string]any, n)
	typ, key := "", ""
	for i := range n {
		var ok bool
		if key, ok = d.key(i == 0, key); !ok {
			return nil, errMalformed
		}
		v, err := d.value(depth)
		if err == errMalformed {
			return nil, err
		} else if err != nil {
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

// Encode returns the canonical DAG-CBOR of a value. Besides the types in the package comment it
// accepts int for an integer.
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
