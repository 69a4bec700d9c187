package data

import (
	"slices"
	"strconv"

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

// json reads a value and appends its JSON.
func (d *decoder) json(b []byte) []byte {
	major, n := d.head()
	switch major {
	case icbor.MajorUint:
		return strconv.AppendUint(b, n, 10)
	case icbor.MajorNegint:
		return strconv.AppendInt(b, -1-int64(n), 10)
	case icbor.MajorBytes:
		return appendBytesJSON(b, []byte(d.text(n)))
	case icbor.MajorText:
		return appendTextJSON(b, d.text(n))
	case icbor.MajorArray:
		b = append(b, '[')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			b = d.json(b)
		}
		return append(b, ']')
	case icbor.MajorMap:
		b = append(b, '{')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			_, size := d.head()
			b = append(appendTextJSON(b, d.text(size)), ':')
			b = d.json(b)
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

// appendTextJSON appends a JSON string.
func appendTextJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
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
	return append(append(b, s[from:]...), '"')
}
