package data

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	icbor "github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// maxSafeInt is the greatest integer of which every smaller one is a float64 too:
// beyond it, JSON numbers mean different things to different readers.
const maxSafeInt = 1<<53 - 1

// FromJSON reads one JSON value.
func FromJSON(b []byte, lim Limits) (any, error) {
	lim = lim.withDefaults()
	if len(b) > lim.Bytes {
		return nil, &Error{Offset: lim.Bytes, Err: ErrTooLarge}
	}
	p := parser{b: b, lim: lim}
	v, err := p.value(0)
	if err == nil {
		if p.space(); p.pos != len(b) {
			err = p.fail(ErrSyntax)
		}
	}
	if err == nil {
		err = checkTypes(v, "")
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// parser reads JSON.
type parser struct {
	b    []byte
	pos  int
	lim  Limits
	path []string
}

func (p *parser) fail(err error) error {
	return &Error{Path: strings.Join(p.path, "/"), Offset: p.pos, Err: err}
}

func (p *parser) space() {
	for p.pos < len(p.b) {
		switch p.b[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// take reads a byte, after white space, if it is c.
func (p *parser) take(c byte) bool {
	p.space()
	if p.pos < len(p.b) && p.b[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) word(s string) bool {
	if len(p.b)-p.pos >= len(s) && string(p.b[p.pos:p.pos+len(s)]) == s {
		p.pos += len(s)
		return true
	}
	return false
}

func (p *parser) value(depth int) (any, error) {
	p.space()
	if p.pos == len(p.b) {
		return nil, p.fail(ErrSyntax)
	}
	switch c := p.b[p.pos]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.text()
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	case p.word("null"):
		return nil, nil
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	}
	return nil, p.fail(ErrSyntax)
}

func (p *parser) array(depth int) (any, error) {
	if depth == p.lim.Depth {
		return nil, p.fail(ErrDepth)
	}
	p.pos++
	list := []any{}
	if p.take(']') {
		return list, nil
	}
	for {
		if len(list) == p.lim.Items {
			return nil, p.fail(ErrTooLarge)
		}
		p.path = append(p.path, strconv.Itoa(len(list)))
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		p.path = p.path[:len(p.path)-1]
		list = append(list, v)
		if p.take(']') {
			return list, nil
		}
		if !p.take(',') {
			return nil, p.fail(ErrSyntax)
		}
	}
}

func (p *parser) object(depth int) (any, error) {
	if depth == p.lim.Depth {
		return nil, p.fail(ErrDepth)
	}
	start := p.pos
	p.pos++
	m := make(map[string]any)
	if p.take('}') {
		return m, nil
	}
	for {
		if p.space(); p.pos == len(p.b) || p.b[p.pos] != '"' {
			return nil, p.fail(ErrSyntax)
		}
		key, err := p.text()
		if err != nil {
			return nil, err
		}
		if _, there := m[key]; there {
			return nil, p.fail(fmt.Errorf("%w: %.40q", ErrDuplicate, key))
		}
		if len(m) == p.lim.Items {
			return nil, p.fail(ErrTooLarge)
		}
		if !p.take(':') {
			return nil, p.fail(ErrSyntax)
		}
		p.path = append(p.path, key)
		if m[key], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		p.path = p.path[:len(p.path)-1]
		if p.take('}') {
			break
		}
		if !p.take(',') {
			return nil, p.fail(ErrSyntax)
		}
	}
	if v, ok := m["$link"]; ok {
		text, isText := v.(string)
		if c, err := parseLink(text); isText && err == nil && len(m) == 1 {
			return Link{c}, nil
		}
		p.pos = start
		return nil, p.fail(ErrLink)
	}
	if v, ok := m["$bytes"]; ok {
		text, isText := v.(string)
		if b, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "=")); isText && err == nil && len(m) == 1 {
			return Bytes(b), nil
		}
		p.pos = start
		return nil, p.fail(ErrBytes)
	}
	return m, nil
}

// number reads an integer. A fraction or an exponent is allowed where the value is an
// integer all the same, as 1.0 and 1 are one number in JSON.
func (p *parser) number() (any, error) {
	start := p.pos
	digits := func() int {
		from := p.pos
		for p.pos < len(p.b) && '0' <= p.b[p.pos] && p.b[p.pos] <= '9' {
			p.pos++
		}
		return p.pos - from
	}
	if p.b[p.pos] == '-' {
		p.pos++
	}
	first := p.pos
	if n := digits(); n == 0 || n > 1 && p.b[first] == '0' {
		return nil, p.fail(ErrSyntax)
	}
	plain := true
	if p.pos < len(p.b) && p.b[p.pos] == '.' {
		plain = false
		p.pos++
		if digits() == 0 {
			return nil, p.fail(ErrSyntax)
		}
	}
	if p.pos < len(p.b) && p.b[p.pos]|0x20 == 'e' {
		plain = false
		p.pos++
		if p.pos < len(p.b) && (p.b[p.pos] == '+' || p.b[p.pos] == '-') {
			p.pos++
		}
		if digits() == 0 {
			return nil, p.fail(ErrSyntax)
		}
	}
	text := string(p.b[start:p.pos])
	if plain {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= -maxSafeInt && n <= maxSafeInt {
			return n, nil
		}
	} else if f, err := strconv.ParseFloat(text, 64); err == nil && f == math.Trunc(f) && math.Abs(f) <= maxSafeInt && exact(text, f) {
		return int64(f), nil
	}
	p.pos = start
	return nil, p.fail(ErrNumber)
}

// exact reports whether a decimal of modest length is exactly f.
func exact(text string, f float64) bool {
	if len(text) > 40 {
		return false
	}
	r, ok := new(big.Rat).SetString(text)
	return ok && r.IsInt() && r.Cmp(new(big.Rat).SetFloat64(f)) == 0
}

// text reads a string.
func (p *parser) text() (string, error) {
	p.pos++
	start := p.pos
	for p.pos < len(p.b) { // most strings need no unescaping
		switch c := p.b[p.pos]; {
		case c == '"':
			s := string(p.b[start:p.pos])
			if !utf8.ValidString(s) {
				return "", p.fail(ErrText)
			}
			p.pos++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < ' ':
			return "", p.fail(ErrSyntax)
		}
		p.pos++
	}
	return "", p.fail(ErrSyntax)
}

func (p *parser) escaped(start int) (string, error) {
	buf := append(make([]byte, 0, 2*(p.pos-start)+32), p.b[start:p.pos]...)
	for p.pos < len(p.b) {
		c := p.b[p.pos]
		switch {
		case c == '"':
			if !utf8.Valid(buf) {
				return "", p.fail(ErrText)
			}
			p.pos++
			return string(buf), nil
		case c < ' ':
			return "", p.fail(ErrSyntax)
		case c != '\\':
			buf = append(buf, c)
			p.pos++
			continue
		}
		p.pos++
		if p.pos == len(p.b) {
			break
		}
		c = p.b[p.pos]
		p.pos++
		if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
			buf = append(buf, "\"\\/\b\f\n\r\t"[i])
			continue
		}
		if c != 'u' {
			return "", p.fail(ErrSyntax)
		}
		r, ok := p.hex4()
		if !ok {
			return "", p.fail(ErrSyntax)
		}
		if utf16.IsSurrogate(r) {
			if !p.word(`\u`) {
				return "", p.fail(ErrText)
			}
			low, ok := p.hex4()
			if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
				return "", p.fail(ErrText)
			}
		}
		buf = utf8.AppendRune(buf, r)
	}
	return "", p.fail(ErrSyntax)
}

func (p *parser) hex4() (rune, bool) {
	if len(p.b)-p.pos < 4 {
		return 0, false
	}
	for _, c := range p.b[p.pos : p.pos+4] {
		if !('0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f') {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(string(p.b[p.pos:p.pos+4]), 16, 16)
	p.pos += 4
	return rune(n), err == nil
}

func validText(s string) bool { return utf8.ValidString(s) }

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
	b = slices.Grow(b, len(cbor)+len(cbor)/4)
	r := icbor.NewReader(cbor)
	b = transcode(b, r)
	return b, r.Done()
}

// transcode reads a value that has been scanned and appends its JSON.
func transcode(b []byte, r *icbor.Reader) []byte {
	switch r.Major() {
	case icbor.MajorUint, icbor.MajorNegint:
		n, _ := r.Int()
		return strconv.AppendInt(b, n, 10)
	case icbor.MajorBytes:
		v, _ := r.Bytes()
		return appendBytesJSON(b, v)
	case icbor.MajorText:
		s, _ := r.Text()
		return appendTextJSON(b, s)
	case icbor.MajorArray:
		n, _ := r.Array()
		b = append(b, '[')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			b = transcode(b, r)
		}
		return append(b, ']')
	case icbor.MajorMap:
		n, _ := r.Map()
		b = append(b, '{')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			key, _ := r.Text()
			b = append(appendTextJSON(b, key), ':')
			b = transcode(b, r)
		}
		return append(b, '}')
	case icbor.MajorTag:
		link, _ := r.Link()
		codec, digest, _ := dag.SplitBytes(link)
		return appendLinkJSON(b, dag.CID(codec, &digest))
	default:
		if r.Null() {
			return append(b, "null"...)
		}
		v, _ := r.Bool()
		return strconv.AppendBool(b, v)
	}
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
