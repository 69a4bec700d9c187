package data

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"

	icbor "github.com/pdskit/pdskit/internal/cbor"
)

// maxSafeInt is the greatest integer of which every smaller one is a float64 too:
// beyond it, JSON numbers mean different things to different readers.
const maxSafeInt = 1<<53 - 1

// FromJSON reads one JSON value of the data model, with links, bytes and blobs as their Go types. It
// refuses names that occur twice, floats, and what is beyond the limits. Errors are of type *[Error].
func FromJSON(b []byte, lim Limits) (any, error) {
	e, err := ParseJSON(b, lim)
	if err != nil {
		return nil, err
	}
	return e.value, nil
}

// AppendCBOR appends the canonical DAG-CBOR of one JSON value without building the value. The limit
// on bytes applies to the JSON.
func AppendCBOR(b, json []byte, lim Limits) ([]byte, error) {
	lim = lim.withDefaults()
	if len(json) > lim.Bytes {
		return b, &Error{Offset: lim.Bytes, Err: ErrTooLarge}
	}
	p := transcoders.Get().(*transcoder)
	*p = transcoder{in: json, out: slices.Grow(b, len(json)), lim: lim, pairs: p.pairs[:0], spare: p.spare[:0]}
	out, err := p.run()
	if p.in, p.out = nil, nil; cap(p.pairs) <= keptPairs && cap(p.spare) <= keptSpare {
		transcoders.Put(p)
	}
	if err != nil {
		return b, err
	}
	return out, nil
}

// transcoders are kept for what they work with, unless that has grown by an unusual input.
var transcoders = sync.Pool{New: func() any { return &transcoder{pairs: make([]pair, 0, 32)} }}

const (
	keptPairs = 1 << 10
	keptSpare = 16 << 10
)

func (p *transcoder) run() ([]byte, *Error) {
	if err := p.value(0); err != nil {
		return nil, err
	}
	if p.space(); p.pos != len(p.in) {
		return nil, p.fail(ErrSyntax)
	}
	return p.out, nil
}

// transcoder reads JSON and writes CBOR. The pairs of an object are written as they
// come and sorted when it ends.
type transcoder struct {
	in  []byte
	pos int
	out []byte
	lim Limits

	pairs []pair // of all objects that are open
	spare []byte
}

// pair is a key and its value in out.
type pair struct {
	from, val, to int // of the key, the value, and the end
	in            int // of the key in the JSON
}

func (p *transcoder) fail(err error) *Error { return &Error{Offset: p.pos, Err: err} }

func (p *transcoder) space() {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// take reads a byte, after white space, if it is c.
func (p *transcoder) take(c byte) bool {
	p.space()
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *transcoder) word(s string) bool {
	if len(p.in)-p.pos >= len(s) && string(p.in[p.pos:p.pos+len(s)]) == s {
		p.pos += len(s)
		return true
	}
	return false
}

func (p *transcoder) value(depth int) *Error {
	p.space()
	if p.pos == len(p.in) {
		return p.fail(ErrSyntax)
	}
	switch c := p.in[p.pos]; {
	case c == '"':
		return p.text()
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	case p.word("null"):
		p.out = icbor.AppendNull(p.out)
	case p.word("true"):
		p.out = icbor.AppendBool(p.out, true)
	case p.word("false"):
		p.out = icbor.AppendBool(p.out, false)
	default:
		return p.fail(ErrSyntax)
	}
	return nil
}

func (p *transcoder) array(depth int) *Error {
	if depth == p.lim.Depth {
		return p.fail(ErrDepth)
	}
	p.pos++
	start := p.open()
	n := 0
	for more := !p.take(']'); more; more = !p.take(']') {
		if n > 0 && !p.take(',') {
			return p.fail(ErrSyntax)
		}
		if n == p.lim.Items {
			return p.fail(ErrItems)
		}
		if err := p.value(depth + 1); err != nil {
			return err.underIndex(n)
		}
		n++
	}
	p.close(start, icbor.MajorArray, n)
	return nil
}

// open leaves room for the head of an array or object whose length is not known yet.
func (p *transcoder) open() (start int) {
	p.out = append(p.out, 0)
	return len(p.out) - 1
}

// close writes the head, and moves the items if it is longer than a byte.
func (p *transcoder) close(start int, major byte, n int) {
	var buf [9]byte
	head := icbor.AppendHead(buf[:0], major, uint64(n))
	if extra := len(head) - 1; extra > 0 {
		p.out = append(p.out, buf[:extra]...)
		copy(p.out[start+len(head):], p.out[start+1:len(p.out)-extra])
	}
	copy(p.out[start:], head)
}

func (p *transcoder) object(depth int) *Error {
	if depth == p.lim.Depth {
		return p.fail(ErrDepth)
	}
	begin := p.pos
	p.pos++
	start, first := p.open(), len(p.pairs)
	special := false
	for more := !p.take('}'); more; more = !p.take('}') {
		n := len(p.pairs) - first
		if n > 0 && !p.take(',') {
			return p.fail(ErrSyntax)
		}
		if p.space(); p.pos == len(p.in) || p.in[p.pos] != '"' {
			return p.fail(ErrSyntax)
		}
		if n == p.lim.Items {
			return p.fail(ErrItems)
		}
		e := pair{from: len(p.out), in: p.pos}
		if err := p.text(); err != nil {
			return err
		}
		e.val = len(p.out)
		if !p.take(':') {
			return p.fail(ErrSyntax)
		}
		if err := p.value(depth + 1); err != nil {
			return err.under(string(p.key(&e)))
		}
		e.to = len(p.out)
		p.pairs = append(p.pairs, e)
		special = special || p.in[e.in+1] == '$' || p.in[e.in+1] == '\\'
	}
	pairs := p.pairs[first:]
	p.pairs = p.pairs[:first]
	if special {
		if done, err := p.special(start, pairs); done || err != nil {
			if err != nil {
				p.pos = begin
				return p.fail(err)
			}
			return nil
		}
	}
	if err := p.sort(start, pairs); err != nil {
		return err
	}
	p.close(start, icbor.MajorMap, len(pairs))
	return nil
}

// headLen is the length of an item's head, of which first is the first byte.
func headLen(first byte) int {
	if info := first & 31; info >= 24 {
		return 1 + 1<<(info-24)
	}
	return 1
}

func (p *transcoder) key(e *pair) []byte { return p.out[e.from+headLen(p.out[e.from]) : e.val] }

// compare orders pairs by their encoded keys, in which the length comes first.
func (p *transcoder) compare(a, b *pair) int {
	return bytes.Compare(p.out[a.from:a.val], p.out[b.from:b.val])
}

// sort brings the pairs of an object, whose head is at start, into canonical order.
func (p *transcoder) sort(start int, pairs []pair) *Error {
	inOrder := true
	for i := 1; i < len(pairs) && inOrder; i++ {
		inOrder = p.compare(&pairs[i-1], &pairs[i]) < 0
	}
	if inOrder {
		return nil
	}
	if len(pairs) <= 16 {
		for i := 1; i < len(pairs); i++ {
			for j := i; j > 0 && p.compare(&pairs[j-1], &pairs[j]) > 0; j-- {
				pairs[j-1], pairs[j] = pairs[j], pairs[j-1]
			}
		}
	} else {
		slices.SortStableFunc(pairs, func(a, b pair) int { return p.compare(&a, &b) })
	}
	for i := 1; i < len(pairs); i++ {
		if p.compare(&pairs[i-1], &pairs[i]) == 0 {
			p.pos = pairs[i].in
			return p.fail(fmt.Errorf("%w: %.40q", ErrDuplicate, p.key(&pairs[i])))
		}
	}
	base := start + 1
	p.spare = append(p.spare[:0], p.out[base:]...)
	p.out = p.out[:base]
	for _, e := range pairs {
		p.out = append(p.out, p.spare[e.from-base:e.to-base]...)
	}
	return nil
}

// special checks an object with a key that starts with "$". If it stands for a link or
// bytes, it is replaced, and done is true.
func (p *transcoder) special(start int, pairs []pair) (done bool, err error) {
	for i := range pairs {
		e := &pairs[i]
		val := p.out[e.val:e.to]
		text, isText := textOf(val)
		switch string(p.key(e)) {
		case "$link":
			c, err := parseLink(string(text))
			if err != nil || !isText || len(pairs) > 1 {
				return false, ErrLink
			}
			p.out = icbor.AppendLink(p.out[:start], c.KeyString())
			return true, nil
		case "$bytes":
			var ok bool
			p.spare, ok = appendBytes(p.spare[:0], string(text))
			if !ok || !isText || len(pairs) > 1 {
				return false, ErrBytes
			}
			p.out = icbor.AppendBytes(p.out[:start], p.spare)
			return true, nil
		case "$type":
			if len(text) == 0 {
				return false, ErrType
			}
			if string(text) == blobType && !p.blob(pairs) {
				return false, ErrBlob
			}
		}
	}
	return false, nil
}

// blob reports whether an object is a reference to a blob, as blobOf does.
func (p *transcoder) blob(pairs []pair) bool {
	found := 0
	for i := range pairs {
		e := &pairs[i]
		val := p.out[e.val:e.to]
		ok := true
		switch string(p.key(e)) {
		case "ref":
			ok = val[0]>>5 == icbor.MajorTag
		case "mimeType":
			text, _ := textOf(val)
			ok = bytes.IndexByte(text, '/') >= 0
		case "size":
			ok = val[0]>>5 == icbor.MajorUint
		default:
			continue
		}
		if !ok {
			return false
		}
		found++
	}
	return found == 3
}

// textOf returns the text that is encoded in b; false if it is something else.
func textOf(b []byte) ([]byte, bool) {
	if b[0]>>5 != icbor.MajorText {
		return nil, false
	}
	return b[headLen(b[0]):], true
}

// number reads an integer. A fraction or an exponent is allowed where the value is an
// integer all the same, as 1.0 and 1 are one number in JSON.
func (p *transcoder) number() *Error {
	start := p.pos
	digits := func() int {
		from := p.pos
		for p.pos < len(p.in) && '0' <= p.in[p.pos] && p.in[p.pos] <= '9' {
			p.pos++
		}
		return p.pos - from
	}
	if p.in[p.pos] == '-' {
		p.pos++
	}
	first := p.pos
	if n := digits(); n == 0 || n > 1 && p.in[first] == '0' {
		return p.fail(ErrSyntax)
	}
	plain := true // without fraction and exponent
	if p.pos < len(p.in) && p.in[p.pos] == '.' {
		plain = false
		p.pos++
		if digits() == 0 {
			return p.fail(ErrSyntax)
		}
	}
	if p.pos < len(p.in) && p.in[p.pos]|0x20 == 'e' {
		plain = false
		p.pos++
		if p.pos < len(p.in) && (p.in[p.pos] == '+' || p.in[p.pos] == '-') {
			p.pos++
		}
		if digits() == 0 {
			return p.fail(ErrSyntax)
		}
	}
	const certain = 15 // digits that are always within 53 bits
	if plain && p.pos-first <= certain {
		var n int64
		for _, c := range p.in[first:p.pos] {
			n = n*10 + int64(c-'0')
		}
		if first > start {
			n = -n
		}
		p.out = icbor.AppendInt(p.out, n)
		return nil
	}
	n, ok := integer(p.in[start:p.pos])
	if !ok {
		p.pos = start
		return p.fail(ErrNumber)
	}
	p.out = icbor.AppendInt(p.out, n)
	return nil
}

// integer returns the value of a JSON number if it is an integer of 53 bits, looking at each
// digit once.
func integer(text []byte) (n int64, ok bool) {
	mantissa, exponent := text, 0
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		mantissa = text[:i]
		// An exponent beyond the range of int is beyond any mantissa: as good as its limit.
		exponent, _ = strconv.Atoi(string(text[i+1:]))
		exponent = max(-maxExponent, min(exponent, maxExponent))
	}
	mantissa, negative := bytes.CutPrefix(mantissa, []byte("-"))
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	// The value is whole and fraction, as one number, times 10^scale. Trailing zeros go to the
	// scale.
	whole, fraction = bytes.TrimLeft(whole, "0"), bytes.TrimRight(fraction, "0")
	scale := exponent - len(fraction)
	if len(fraction) == 0 {
		n := len(whole)
		whole = bytes.TrimRight(whole, "0")
		scale += n - len(whole)
	}
	if len(whole) == 0 {
		fraction = bytes.TrimLeft(fraction, "0")
	}
	digits := len(whole) + len(fraction)
	const most = 16 // digits of maxSafeInt
	switch {
	case digits == 0:
		return 0, true
	case scale < 0 || digits > most || scale > most-digits:
		return 0, false
	}
	for _, part := range [][]byte{whole, fraction} {
		for _, c := range part {
			n = n*10 + int64(c-'0')
		}
	}
	for range scale {
		n *= 10
	}
	if negative {
		n = -n
	}
	return n, -maxSafeInt <= n && n <= maxSafeInt
}

// maxExponent is more than any text that is read can be long.
const maxExponent = 1 << 30
