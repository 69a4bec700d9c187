package data

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/ipfs/go-cid"
	icbor "github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// A legacy record is a map in well-formed CBOR (RFC 8949, section 1.2) that is not a value of the
// data model, or that has integers beyond 53 bits: with floats, other tags, keys that are not
// strings, keys out of order or given twice, lengths that are not in their shortest form. Servers
// took such records before there were rules. Their bytes cannot be changed, since their CIDs are
// signed, so a host that takes such a repository keeps them as they are. New records of this kind
// are refused by all other functions of this package.

// legacyDepth is how deeply arrays, objects and tags of a legacy record may be nested.
const legacyDepth = 256

// RecordRefs returns the CIDs of the blobs that a stored record refers to, in the present or the
// legacy form, each once. It accepts legacy records, and reports whether the record is one: one
// that breaks the present rules of the data model. The error is an *Error if the record is not a
// map in well-formed CBOR.
func RecordRefs(record []byte) (refs []cid.Cid, legacy bool, err error) {
	add := func(c cid.Cid) {
		if codec, _, ok := dag.Split(c); ok && codec == dag.Raw && !slices.Contains(refs, c) {
			refs = append(refs, c)
		}
	}
	strict := Valid(record, Limits{}) == nil
	if strict && record[0]>>5 != icbor.MajorMap {
		return nil, false, &Error{Offset: 0, Err: ErrNotObject}
	}
	// Every reference has a MIME type, except those that only legacy records have.
	if strict && !bytes.Contains(record, encodedType) && !bytes.Contains(record, []byte("mimeType")) {
		return nil, hasLongInteger(record), nil
	}
	if strict {
		if v, err := Decode(record, Limits{}); err == nil {
			for _, b := range Blobs(v) {
				add(b.Ref)
			}
			return refs, hasLongInteger(record), nil
		}
	}
	v, fault := decodeLegacy(record)
	if fault != nil {
		return nil, false, fault
	}
	v.refs(add)
	return refs, true, nil
}

// AppendRecordJSON appends the JSON of a stored record. Unlike [AppendJSON] it accepts legacy
// records. Values outside of the data model become what JavaScript would show: floats become
// numbers (infinities and NaN become null), integers keep all their digits, undefined and unknown
// simple values become null, and tagged items lose their tag. Keys that are numbers become their
// digits; keys that are arrays or maps become the base64 of their encoding. Of duplicate keys, the
// last one counts. Invalid Unicode becomes replacement characters.
func AppendRecordJSON(b, record []byte) ([]byte, error) {
	if out, err := AppendJSON(b, record); err == nil {
		return out, nil
	}
	v, fault := decodeLegacy(record)
	if fault != nil {
		return b, fault
	}
	return v.appendJSON(slices.Grow(b, len(record)+len(record)/4)), nil
}

// WriteRecordJSON writes what AppendRecordJSON appends. Records that the data model allows are
// written in pieces: see [WriteJSON]. If the record has no JSON, nothing is written.
func WriteRecordJSON(w io.Writer, record []byte) error {
	if Valid(record, Limits{}) == nil {
		return writeValid(w, record)
	}
	b, err := AppendRecordJSON(nil, record)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// hasLongInteger reports whether a valid encoding has an integer of more than 53 bits.
func hasLongInteger(b []byte) bool {
	// Both begin with the head of an 8-byte integer, a rare byte in text.
	if bytes.IndexByte(b, icbor.MajorUint<<5|27) < 0 && bytes.IndexByte(b, icbor.MajorNegint<<5|27) < 0 {
		return false
	}
	d := decoder{s: unsafe.String(unsafe.SliceData(b), len(b))}
	for d.pos < len(d.s) {
		switch major, n := d.head(); major {
		case icbor.MajorUint:
			if n > maxSafeInt {
				return true
			}
		case icbor.MajorNegint:
			if n >= maxSafeInt {
				return true
			}
		case icbor.MajorBytes, icbor.MajorText:
			d.pos += int(n)
		}
	}
	return false
}

// legacyValue is an item of a legacy record: nil, bool, uint64, negative, float64, string, Bytes,
// Link, legacyArray or legacyObject.
type legacyValue struct{ v any }

type (
	negative     uint64 // the integer -1 - n
	legacyArray  []legacyValue
	legacyObject []legacyMember
	legacyMember struct {
		key   string
		value legacyValue
	}
)

// decodeLegacy reads a map in well-formed CBOR.
func decodeLegacy(b []byte) (legacyValue, *Error) {
	lim := (Limits{}).withDefaults()
	if len(b) > lim.Bytes {
		return legacyValue{}, &Error{Offset: lim.Bytes, Err: ErrTooLarge}
	}
	d := legacyDecoder{b: b, items: lim.Items}
	v, fault := d.value(0)
	if fault != nil {
		return legacyValue{}, fault
	}
	if d.pos != len(b) {
		return legacyValue{}, &Error{Offset: d.pos, Err: ErrTrailing}
	}
	if _, ok := v.v.(legacyObject); !ok {
		return legacyValue{}, &Error{Offset: 0, Err: ErrNotObject}
	}
	return v, nil
}

// legacyDecoder reads any well-formed CBOR.
type legacyDecoder struct {
	b     []byte
	pos   int
	items int // of one array or map
	inKey bool
}

func (d *legacyDecoder) fail(at int, err error) *Error { return &Error{Offset: at, Err: err} }

// breakCode ends an item of indefinite length.
const breakCode = 0xff

// head reads the head of an item. info tells the width of a float, and whether the length is
// indefinite (31).
func (d *legacyDecoder) head() (major, info byte, n uint64, fault *Error) {
	at := d.pos
	if at == len(d.b) {
		return 0, 0, 0, d.fail(at, ErrTruncated)
	}
	major, info = d.b[at]>>5, d.b[at]&31
	d.pos++
	switch {
	case info < 24:
		return major, info, uint64(info), nil
	case info == 31 && (major >= icbor.MajorBytes && major <= icbor.MajorMap):
		return major, info, 0, nil
	case info > 27:
		return 0, 0, 0, d.fail(at, ErrReserved)
	}
	size := 1 << (info - 24)
	if len(d.b)-d.pos < size {
		return 0, 0, 0, d.fail(at, ErrTruncated)
	}
	var buf [8]byte
	copy(buf[8-size:], d.b[d.pos:d.pos+size])
	d.pos += size
	n = binary.BigEndian.Uint64(buf[:])
	if major == icbor.MajorSimple && info == 24 && n < 32 {
		return 0, 0, 0, d.fail(at, ErrSimple)
	}
	return major, info, n, nil
}

// atBreak reports whether an item of indefinite length ends here, and goes past its end.
func (d *legacyDecoder) atBreak() bool {
	if d.pos < len(d.b) && d.b[d.pos] == breakCode {
		d.pos++
		return true
	}
	return false
}

// text reads the bytes of a string, which may come in chunks.
func (d *legacyDecoder) text(major, info byte, n uint64) ([]byte, *Error) {
	if info != 31 {
		if n > uint64(len(d.b)-d.pos) {
			return nil, d.fail(d.pos, ErrTruncated)
		}
		s := d.b[d.pos : d.pos+int(n)]
		d.pos += int(n)
		return s, nil
	}
	var all []byte
	for !d.atBreak() {
		at := d.pos
		m, info, n, fault := d.head()
		if fault != nil {
			return nil, fault
		}
		if m != major || info == 31 {
			return nil, d.fail(at, ErrReserved)
		}
		s, fault := d.text(m, info, n)
		if fault != nil {
			return nil, fault
		}
		all = append(all, s...)
	}
	return all, nil
}

func (d *legacyDecoder) value(depth int) (v legacyValue, fault *Error) {
	at := d.pos
	if depth > legacyDepth {
		return v, d.fail(at, ErrDepth)
	}
	major, info, n, fault := d.head()
	if fault != nil {
		return v, fault
	}
	switch major {
	case icbor.MajorUint:
		v.v = n
	case icbor.MajorNegint:
		v.v = negative(n)
	case icbor.MajorBytes:
		s, fault := d.text(major, info, n)
		v.v = Bytes(s)
		return v, fault
	case icbor.MajorText:
		s, fault := d.text(major, info, n)
		v.v = strings.ToValidUTF8(string(s), "\uFFFD")
		return v, fault
	case icbor.MajorArray:
		return d.array(depth, info == 31, n)
	case icbor.MajorMap:
		return d.object(depth, info == 31, n)
	case icbor.MajorTag:
		v, fault = d.value(depth + 1)
		if b, ok := v.v.(Bytes); ok && fault == nil && n == 42 && len(b) > 0 && b[0] == 0 {
			if codec, digest, ok := dag.SplitBytes([]byte(b[1:])); ok {
				v.v = Link{dag.CID(codec, &digest)}
			}
		}
		return v, fault
	default:
		v.v = simple(info, n)
	}
	return v, nil
}

// simple returns the value of a simple item.
func simple(info byte, n uint64) any {
	switch info {
	case 25:
		return float16(uint16(n))
	case 26:
		return float64(math.Float32frombits(uint32(n)))
	case 27:
		return math.Float64frombits(n)
	case 20, boolTrue:
		return info == boolTrue
	}
	return nil
}

// float16 returns the value of a float of 16 bits.
func float16(n uint16) float64 {
	exponent, fraction := int(n>>10&31), float64(n&1023)
	f := math.Ldexp(1024+fraction, exponent-25)
	switch {
	case exponent == 0:
		f = math.Ldexp(fraction, -24)
	case exponent == 31 && fraction == 0:
		f = math.Inf(1)
	case exponent == 31:
		f = math.NaN()
	}
	if n>>15 == 1 {
		f = -f
	}
	return f
}

// more reports whether an array or map with n items so far goes on.
func (d *legacyDecoder) more(indefinite bool, n int, want uint64) (bool, *Error) {
	if indefinite {
		if d.atBreak() {
			return false, nil
		}
	} else if uint64(n) == want {
		return false, nil
	}
	if n == d.items {
		return false, d.fail(d.pos, ErrItems)
	}
	return true, nil
}

func (d *legacyDecoder) array(depth int, indefinite bool, n uint64) (v legacyValue, fault *Error) {
	list := legacyArray{}
	for {
		more, fault := d.more(indefinite, len(list), n)
		if fault != nil || !more {
			return legacyValue{list}, fault
		}
		x, fault := d.value(depth + 1)
		if fault != nil {
			return v, fault.underIndex(len(list))
		}
		list = append(list, x)
	}
}

func (d *legacyDecoder) object(depth int, indefinite bool, n uint64) (v legacyValue, fault *Error) {
	list := legacyObject{}
	for {
		more, fault := d.more(indefinite, len(list), n)
		if fault != nil || !more {
			return legacyValue{list}, fault
		}
		name, fault := d.key(depth + 1)
		if fault != nil {
			return v, fault
		}
		x, fault := d.value(depth + 1)
		if fault != nil {
			return v, fault.under(name)
		}
		list = append(list, legacyMember{name, x})
	}
}

// key reads the key of a map and returns its name. Keys in keys have none, which nobody asks for:
// their names would have the lengths of all levels.
func (d *legacyDecoder) key(depth int) (name string, fault *Error) {
	at, inKey := d.pos, d.inKey
	d.inKey = true
	v, fault := d.value(depth)
	d.inKey = inKey
	if fault != nil || inKey {
		return "", fault
	}
	switch v := v.v.(type) {
	case string:
		return v, nil
	case Bytes, Link, legacyArray, legacyObject:
		return base64.RawStdEncoding.EncodeToString(d.b[at:d.pos]), nil
	}
	return string(v.appendJSON(nil)), nil
}

// appendJSON appends the JSON of a value.
func (v legacyValue) appendJSON(b []byte) []byte {
	switch v := v.v.(type) {
	case bool:
		return strconv.AppendBool(b, v)
	case uint64:
		return strconv.AppendUint(b, v, 10)
	case negative:
		if v == math.MaxUint64 {
			return append(b, "-18446744073709551616"...)
		}
		return strconv.AppendUint(append(b, '-'), uint64(v)+1, 10)
	case float64:
		return appendFloat(b, v)
	case string:
		return appendTextJSON(b, v)
	case Bytes:
		return appendBytesJSON(b, v)
	case Link:
		return appendLinkJSON(b, v.KeyString())
	case legacyArray:
		b = append(b, '[')
		for i, x := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = x.appendJSON(b)
		}
		return append(b, ']')
	case legacyObject:
		last := make(map[string]int, len(v))
		for i, m := range v {
			last[m.key] = i
		}
		b = append(b, '{')
		for i, m := range v {
			if last[m.key] != i {
				continue
			}
			if b[len(b)-1] != '{' {
				b = append(b, ',')
			}
			b = append(appendTextJSON(b, m.key), ':')
			b = m.value.appendJSON(b)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

// appendFloat appends a number as JavaScript writes it.
func appendFloat(b []byte, f float64) []byte {
	switch a := math.Abs(f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return append(b, "null"...)
	case f == 0:
		return append(b, '0')
	case a >= 1e-6 && a < 1e21:
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	if n := len(b); b[n-4] == 'e' && b[n-2] == '0' { // e-07 is written e-7
		b = append(b[:n-2], b[n-1])
	}
	return b
}

// refs calls add with the blobs that a value refers to. Where a key is given twice, both values
// count. Of a reference no more is asked than what makes it one.
func (v legacyValue) refs(add func(cid.Cid)) {
	switch v := v.v.(type) {
	case legacyArray:
		for _, x := range v {
			x.refs(add)
		}
	case legacyObject:
		isBlob, hasType := false, false
		for _, m := range v {
			text, _ := m.value.v.(string)
			isBlob = isBlob || m.key == "$type" && text == blobType
			hasType = hasType || m.key == "mimeType"
		}
		for _, m := range v {
			switch x := m.value.v.(type) {
			case Link:
				if m.key == "ref" && (isBlob || hasType) {
					add(x.Cid)
				}
			case string:
				if m.key == "cid" && hasType && len(x) <= maxCIDText {
					if c, err := cid.Decode(x); err == nil {
						add(c)
					}
				}
			}
			m.value.refs(add)
		}
	}
}
