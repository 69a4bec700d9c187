package data

import (
	"encoding/base64"
	"io"
	"slices"
	"strconv"
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

// AppendJSON appends the JSON of a value that is given in DAG-CBOR, without
// building it.
func AppendJSON(b, cbor []byte) ([]byte, error) {
	if err := Valid(cbor, Limits{}); err != nil {
		return b, err
	}
	d := decoder{s: string(cbor)}
	return d.json(slices.Grow(b, len(cbor)+len(cbor)/4)), nil
}

// WriteJSON writes the JSON of a value that is given in DAG-CBOR, in pieces. JSON can be six times
// as long as DAG-CBOR; WriteJSON needs no more memory than the DAG-CBOR and 64 KiB. If the value is
// not valid, nothing is written.
func WriteJSON(w io.Writer, cbor []byte) error {
	if err := Valid(cbor, Limits{}); err != nil {
		return err
	}
	return writeValid(w, cbor)
}

// writeValid is WriteJSON for what is known to be valid.
func writeValid(w io.Writer, cbor []byte) error {
	// The decoder keeps nothing of the string, so it need not be a copy.
	d := decoder{s: unsafe.String(unsafe.SliceData(cbor), len(cbor)), out: &sink{w: w}}
	if b := d.json(make([]byte, 0, spillAt+6*pieceLen+64)); d.out.err == nil {
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

// json reads a value and appends its JSON.
func (d *decoder) json(b []byte) []byte {
	major, n := d.head()
	switch major {
	case icbor.MajorUint:
		return strconv.AppendUint(b, n, 10)
	case icbor.MajorNegint:
		return strconv.AppendInt(b, -1-int64(n), 10)
	case icbor.MajorBytes:
		if d.out != nil && n > pieceLen {
			return d.long(b, `{"$bytes":"`, d.text(n), `"}`, func(b []byte, s string) []byte {
				return base64.RawStdEncoding.AppendEncode(b, []byte(s))
			})
		}
		return appendBytesJSON(b, []byte(d.text(n)))
	case icbor.MajorText:
		return d.textJSON(b, n)
	case icbor.MajorArray:
		b = append(b, '[')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			b = d.spill(d.json(b))
		}
		return append(b, ']')
	case icbor.MajorMap:
		b = append(b, '{')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			_, size := d.head()
			b = append(d.textJSON(b, size), ':')
			b = d.spill(d.json(b))
		}
		return append(b, '}')
	case icbor.MajorTag:
		_, n = d.head()
		return appendLinkJSON(b, d.text(n)[1:])
	case icbor.MajorSimple:
		if n != null {
			return strconv.AppendBool(b, n == boolTrue)
		}
	}
	return append(b, "null"...)
}

// appendLinkJSON appends the JSON of a link, given as a binary CID of version 1.
func appendLinkJSON(b []byte, cid string) []byte {
	return append(dag.AppendText(append(b, `{"$link":"`...), cid), `"}`...)
}

// textJSON reads text of n bytes and appends it as a JSON string.
func (d *decoder) textJSON(b []byte, n uint64) []byte {
	if d.out != nil && n > pieceLen {
		return d.long(b, `"`, d.text(n), `"`, appendEscaped)
	}
	return appendTextJSON(b, d.text(n))
}

// appendTextJSON appends a JSON string.
func appendTextJSON(b []byte, s string) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

// appendEscaped appends text as it stands in a JSON string. It looks at single bytes only, so the
// text may begin and end within a character.
func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
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
	return append(b, s[from:]...)
}
