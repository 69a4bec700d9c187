package data

import (
	"encoding/base64"
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"
	"unsafe"

	icbor "github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// ToJSON returns the JSON of a value, with keys in the order of DAG-CBOR.
func ToJSON(v any) ([]byte, error) {
	b, err := Encode(v)
	if err != nil {
		return nil, err
	}
	return AppendJSON(nil, b)
}

// AppendJSON appends the JSON of a value in DAG-CBOR without building the value. b and cbor must
// not share memory. If the value is not valid, nothing is appended.
func AppendJSON(b, cbor []byte) ([]byte, error) {
	d := newJSONWriter(cbor)
	out, ok := d.json(slices.Grow(b, len(cbor)+len(cbor)/4+16), d.depth)
	if ok && d.pos == len(d.s) {
		return out, nil
	}
	if err := Valid(cbor, Limits{}); err != nil {
		return b, err
	}
	return b, errMalformed // never: both know the same encodings
}

// newJSONWriter returns a decoder that keeps nothing of the encoding, which so need not be copied.
func newJSONWriter(cbor []byte) decoder {
	return newDecoder(unsafe.String(unsafe.SliceData(cbor), len(cbor)), Limits{})
}

// WriteJSON writes the JSON of a value in DAG-CBOR in pieces. JSON can be six times as long as
// DAG-CBOR; WriteJSON needs only the memory of the DAG-CBOR and 64 KiB. If the value is not valid,
// nothing is written.
func WriteJSON(w io.Writer, cbor []byte) error {
	if err := Valid(cbor, Limits{}); err != nil {
		return err
	}
	return writeValid(w, cbor)
}

// writeValid is WriteJSON for what is known to be valid.
func writeValid(w io.Writer, cbor []byte) error {
	d := newJSONWriter(cbor)
	d.out = &sink{w: w}
	if b, _ := d.json(make([]byte, 0, spillAt+6*pieceLen+64), d.depth); d.out.err == nil {
		_, d.out.err = w.Write(b)
	}
	return d.out.err
}

// A sink takes JSON while it is made.
type sink struct {
	w   io.Writer
	err error
}

const (
	spillAt  = 16 << 10 // what is made before it is written
	pieceLen = 6 << 10  // what is made at once of a long string; a multiple of 3, for base64
)

// spill writes what was made, if there is a sink and it is enough.
func (d *decoder) spill(b []byte) []byte {
	if d.out == nil || len(b) < spillAt {
		return b
	}
	if d.out.err == nil {
		_, d.out.err = d.out.w.Write(b)
	}
	return b[:0]
}

// long appends a long string in pieces, with what stands before and after it.
func (d *decoder) long(b []byte, before, s, after string, appendPiece func(b []byte, s string) []byte) []byte {
	b = append(b, before...)
	for len(s) > 0 {
		n := min(len(s), pieceLen)
		b = d.spill(appendPiece(b, s[:n]))
		s = s[n:]
	}
	return append(b, after...)
}

// json reads a value with at most depth levels and appends its JSON.
func (d *decoder) json(b []byte, depth int) (out []byte, ok bool) {
	major, n := d.head()
	switch major {
	case icbor.MajorUint:
		return strconv.AppendUint(b, n, 10), n <= math.MaxInt64
	case icbor.MajorNegint:
		return strconv.AppendInt(b, -1-int64(n), 10), n <= math.MaxInt64
	case icbor.MajorBytes:
		s, ok := d.text(n)
		if d.out != nil && len(s) > pieceLen {
			return d.long(b, `{"$bytes":"`, s, `"}`, func(b []byte, s string) []byte {
				return base64.RawStdEncoding.AppendEncode(b, []byte(s))
			}), ok
		}
		return appendBytesJSON(b, []byte(s)), ok
	case icbor.MajorText:
		s, ok := d.text(n)
		return d.textJSON(b, s, ok)
	case icbor.MajorArray:
		return d.arrayJSON(b, d.count(n, depth, 1), depth-1)
	case icbor.MajorMap:
		return d.objectJSON(b, d.count(n, depth, 2), depth-1)
	case icbor.MajorTag:
		s, ok := d.link(n)
		if !ok {
			return b, false
		}
		return appendLinkJSON(b, s), true
	case icbor.MajorSimple:
		switch n {
		case boolFalse:
			return append(b, "false"...), true
		case boolTrue:
			return append(b, "true"...), true
		case null:
			return append(b, "null"...), true
		}
	}
	return b, false
}

// arrayJSON reads an array of n items, which is negative if there can be none, and appends its JSON.
func (d *decoder) arrayJSON(b []byte, n, depth int) (out []byte, ok bool) {
	b = append(b, '[')
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		if b, ok = d.json(b, depth); !ok {
			return b, false
		}
		b = d.spill(b)
	}
	return append(b, ']'), n >= 0
}

// objectJSON is arrayJSON for a map.
func (d *decoder) objectJSON(b []byte, n, depth int) (out []byte, ok bool) {
	b = append(b, '{')
	key := ""
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		if key, ok = d.key(i == 0, key); !ok {
			return b, false
		}
		b, _ = d.textJSON(b, key, true)
		if b, ok = d.json(append(b, ':'), depth); !ok {
			return b, false
		}
		b = d.spill(b)
	}
	return append(b, '}'), n >= 0
}

// appendLinkJSON appends the JSON of a link, given as a binary CID of version 1.
func appendLinkJSON(b []byte, cid string) []byte {
	return append(dag.AppendText(append(b, `{"$link":"`...), cid), `"}`...)
}

// textJSON appends text as a JSON string, if it is there and is Unicode.
func (d *decoder) textJSON(b []byte, s string, there bool) (out []byte, ok bool) {
	if d.out != nil && len(s) > pieceLen {
		return d.long(b, `"`, s, `"`, func(b []byte, s string) []byte {
			b, _ = appendEscaped(b, s)
			return b
		}), there
	}
	b, ascii := appendEscaped(append(b, '"'), s)
	return append(b, '"'), there && (ascii || utf8.ValidString(s))
}

// appendTextJSON appends a JSON string.
func appendTextJSON(b []byte, s string) []byte {
	b, _ = appendEscaped(append(b, '"'), s)
	return append(b, '"')
}

// appendEscaped appends text as it stands in a JSON string, and reports whether it is ASCII. It
// looks at single bytes only, so the text may begin and end within a character.
func appendEscaped(b []byte, s string) (out []byte, ascii bool) {
	const hex = "0123456789abcdef"
	ascii = true
	for {
		end, plain := unescaped(s)
		ascii = ascii && plain
		b = append(b, s[:end]...)
		if end == len(s) {
			return b, ascii
		}
		c := s[end]
		s = s[end+1:]
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
}

// unescaped returns where the first character is that JSON escapes, and whether all before it is
// ASCII. It looks at eight bytes at a time: see plainText.
func unescaped(s string) (end int, ascii bool) {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	var high uint64
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash, del := w^('"'*ones), w^('\\'*ones), w^(0x7f*ones)
		hit := ((w-' '*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash | (del-ones)&^del) & highs
		if hit != 0 {
			n := bits.TrailingZeros64(hit) &^ 7
			return i + n/8, (high|w&(1<<n-1))&highs == 0
		}
		high |= w
	}
	for ; i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' && b[i] != 0x7f; i++ {
		high |= uint64(b[i])
	}
	return i, high&highs == 0
}
