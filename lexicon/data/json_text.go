package data

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	icbor "github.com/pdskit/pdskit/internal/cbor"
)

// text reads a string.
func (p *transcoder) text() *Error {
	start := p.pos + 1
	end, ascii := plainText(p.in, start)
	if p.pos = end; end == len(p.in) {
		return p.fail(ErrSyntax)
	}
	switch c := p.in[end]; {
	case c == '\\':
		return p.escaped(start)
	case c != '"':
		return p.fail(ErrSyntax)
	}
	s := p.in[start:end]
	if !ascii && !utf8.Valid(s) {
		return p.fail(ErrText)
	}
	p.pos++
	p.out = append(icbor.AppendHead(p.out, icbor.MajorText, uint64(len(s))), s...)
	return nil
}

// plainText returns where the first quote, backslash or control character is, from i on, and
// whether all before it is ASCII. It looks at eight bytes at a time.
func plainText(b []byte, i int) (end int, ascii bool) {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	var high uint64
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash := w^('"'*ones), w^('\\'*ones)
		// In each sum, the lowest byte that has its top bit set is one that was looked for.
		hit := ((w-' '*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if hit != 0 {
			n := bits.TrailingZeros64(hit) &^ 7
			return i + n/8, (high|w&(1<<n-1))&highs == 0
		}
		high |= w
	}
	for ; i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' '; i++ {
		high |= uint64(b[i])
	}
	return i, high&highs == 0
}

// escaped reads a string that starts at start and has a backslash at p.pos.
func (p *transcoder) escaped(start int) *Error {
	buf := append(p.spare[:0], p.in[start:p.pos]...)
	for p.pos < len(p.in) {
		c := p.in[p.pos]
		switch {
		case c == '"':
			if !utf8.Valid(buf) {
				return p.fail(ErrText)
			}
			p.pos++
			p.spare = buf
			p.out = append(icbor.AppendHead(p.out, icbor.MajorText, uint64(len(buf))), buf...)
			return nil
		case c < ' ':
			return p.fail(ErrSyntax)
		case c != '\\':
			end, _ := plainText(p.in, p.pos)
			buf = append(buf, p.in[p.pos:end]...)
			p.pos = end
			continue
		}
		p.pos++
		if p.pos == len(p.in) {
			break
		}
		c = p.in[p.pos]
		p.pos++
		if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
			buf = append(buf, "\"\\/\b\f\n\r\t"[i])
			continue
		}
		if c != 'u' {
			return p.fail(ErrSyntax)
		}
		r, ok := p.hex4()
		if !ok {
			return p.fail(ErrSyntax)
		}
		if utf16.IsSurrogate(r) {
			if !p.word(`\u`) {
				return p.fail(ErrText)
			}
			low, ok := p.hex4()
			if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
				return p.fail(ErrText)
			}
		}
		buf = utf8.AppendRune(buf, r)
	}
	return p.fail(ErrSyntax)
}

func (p *transcoder) hex4() (rune, bool) {
	if len(p.in)-p.pos < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.in[p.pos:p.pos+4]), 16, 16)
	p.pos += 4
	return rune(n), err == nil
}
