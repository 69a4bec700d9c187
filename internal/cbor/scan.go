package cbor

import (
	"bytes"
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// Limits bounds what Scan accepts. Zero fields mean the defaults.
type Limits struct {
	Bytes int // length of the whole encoding; default 5 MiB
	Depth int // nested arrays and maps; default 64, at most 256
	Items int // items of one array or pairs of one map; default 131,072
}

const maxDepth = 256

func (l Limits) withDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 5 << 20
	}
	if l.Depth == 0 {
		l.Depth = 64
	}
	l.Depth = min(l.Depth, maxDepth)
	if l.Items == 0 {
		l.Items = 128 << 10
	}
	return l
}

// Scan checks in one pass that b is the canonical encoding of one value of the
// data model within limits. It allocates only for values nested more than 16 deep. Its
// error is an *Error.
func Scan(b []byte, lim Limits) error {
	end, err := scan(b, 0, lim)
	if err == nil && end != len(b) {
		err = &Error{end, ErrTrailing}
	}
	return err
}

// scan checks the value that starts at pos and returns where it ends.
func scan(b []byte, pos int, lim Limits) (int, error) {
	lim = lim.withDefaults()
	if len(b)-pos > lim.Bytes {
		b = b[:pos+lim.Bytes+1] // a value that needs the last byte is too long
	}
	s := scanner{b: b, pos: pos, lim: lim}
	if at, err := s.run(); err != nil {
		if err == ErrTruncated && len(b)-pos > lim.Bytes {
			err = ErrSize
		}
		return 0, &Error{at, err}
	}
	if s.pos-pos > lim.Bytes {
		return 0, &Error{pos, ErrSize}
	}
	return s.pos, nil
}

type scanner struct {
	b   []byte
	pos int
	lim Limits
}

// level is an array or map that is being scanned.
type level struct {
	left   int // items, or keys and values, that are still to come
	isMap  bool
	keyOff int // of the bytes of the last key; 0 before the first
	keyLen int
}

// run scans one value. It keeps its own stack, so that depth costs no calls. What it keeps of the
// array or map at hand is in variables of its own, for the compiler has no part of a struct that it
// takes the address of in registers.
func (s *scanner) run() (at int, err error) {
	var few [16]level
	stack := few[:]
	depth := 0
	b, pos := s.b, s.pos
	top := level{left: 1} // as if the value were in an array
	for {
		if top.isMap && top.left&1 == 0 {
			from, end, at, err := key(b, pos, top.keyOff, top.keyLen)
			if err != nil {
				return at, err
			}
			top.keyOff, top.keyLen, pos = from, end-from, end
			top.left--
		}
		at = pos
		var major byte
		var n uint64
		if pos < len(b) && b[pos]&31 < 24 {
			major, n = b[pos]>>5, uint64(b[pos]&31)
			pos++
		} else if major, n, pos, err = head(b, pos); err != nil {
			return at, err
		}
		switch major {
		case MajorUint, MajorNegint:
			if n > math.MaxInt64 {
				return at, ErrIntRange
			}
		case MajorBytes, MajorText:
			if n > uint64(len(b)-pos) {
				return at, ErrTruncated
			}
			from := pos
			if pos += int(n); major == MajorText && !validText(b, from, pos) {
				return at, ErrUTF8
			}
		case MajorArray, MajorMap:
			if n > uint64(s.lim.Items) {
				return at, ErrItems
			}
			if depth == s.lim.Depth {
				return at, ErrDepth
			}
			items := int(n)
			if major == MajorMap {
				items *= 2
			}
			if depth == len(stack) {
				stack = append(stack, make([]level, depth)...)
			}
			top.left--
			stack[depth] = top
			depth++
			top = level{left: items, isMap: major == MajorMap}
			top.left++ // taken off below
		case MajorTag:
			if n != tagCID {
				return at, ErrTag
			}
			if pos, err = link(b, pos); err != nil {
				return at, err
			}
		case MajorSimple:
			if n < byteFalse&31 || n > byteNull&31 {
				return at, ErrSimple
			}
		}
		top.left--
		for top.left == 0 {
			if depth == 0 {
				s.pos = pos
				return pos, nil
			}
			depth--
			top = stack[depth]
		}
	}
}

// key scans a map key at pos and checks that it comes after the one before, which is at an offset
// and of a length; the offset is 0 before the first. It returns where the key's bytes are.
func key(b []byte, pos, lastOff, lastLen int) (from, end, at int, err error) {
	at = pos
	var major byte
	var n uint64
	if pos < len(b) && b[pos]&31 < 24 {
		major, n = b[pos]>>5, uint64(b[pos]&31)
		from = pos + 1
	} else if major, n, from, err = head(b, pos); err != nil {
		return 0, 0, at, err
	}
	if major != MajorText {
		return 0, 0, at, ErrKeyType
	}
	if n > uint64(len(b)-from) {
		return 0, 0, at, ErrTruncated
	}
	end = from + int(n)
	if !validText(b, from, end) {
		return 0, 0, at, ErrUTF8
	}
	if lastOff > 0 && lastLen >= int(n) {
		if lastLen > int(n) {
			return 0, 0, at, ErrKeyOrder
		}
		switch c := bytes.Compare(b[lastOff:lastOff+lastLen], b[from:end]); {
		case c > 0:
			return 0, 0, at, ErrKeyOrder
		case c == 0:
			return 0, 0, at, ErrKeyRepeated
		}
	}
	return from, end, at, nil
}

// validText is utf8.Valid for b[from:end], and takes less time for a short text of ASCII.
func validText(b []byte, from, end int) bool {
	const high = 0x8080808080808080
	for ; end-from >= 8; from += 8 {
		if binary.LittleEndian.Uint64(b[from:])&high != 0 {
			return utf8.Valid(b[from:end])
		}
	}
	if len(b)-from >= 8 && binary.LittleEndian.Uint64(b[from:])<<(8*uint(8-end+from))&high == 0 {
		return true
	}
	return utf8.Valid(b[from:end])
}

// link scans what follows tag 42: a byte string of 0x00 and a CIDv1 of codec
// dag-cbor or raw with a SHA-256 digest.
func link(b []byte, pos int) (end int, err error) {
	major, n, next, err := head(b, pos)
	if err != nil {
		return 0, err
	}
	if major != MajorBytes {
		return 0, ErrLink
	}
	if n > uint64(len(b)-next) {
		return 0, ErrTruncated
	}
	if n != 37 {
		return 0, ErrLink
	}
	c := b[next:]
	if c[0] != 0 || c[1] != 1 || (c[2] != 0x71 && c[2] != 0x55) || c[3] != 0x12 || c[4] != 0x20 {
		return 0, ErrLink
	}
	return next + 37, nil
}
