package cbor

import (
	"bytes"
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

// run scans one value. It keeps its own stack, so that depth costs no calls.
func (s *scanner) run() (at int, err error) {
	var few [16]level
	stack := few[:]
	depth := 0
	for {
		if depth > 0 {
			if top := &stack[depth-1]; top.isMap && top.left&1 == 0 {
				if at, err := s.key(top); err != nil {
					return at, err
				}
				top.left--
			}
		}
		at = s.pos
		major, n, next, err := head(s.b, at)
		if err != nil {
			return at, err
		}
		s.pos = next
		switch major {
		case MajorUint, MajorNegint:
			if n > math.MaxInt64 {
				return at, ErrIntRange
			}
		case MajorBytes, MajorText:
			if n > uint64(len(s.b)-next) {
				return at, ErrTruncated
			}
			s.pos += int(n)
			if major == MajorText && !utf8.Valid(s.b[next:s.pos]) {
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
			stack[depth] = level{left: items, isMap: major == MajorMap}
			depth++
		case MajorTag:
			if n != tagCID {
				return at, ErrTag
			}
			if err := s.link(); err != nil {
				return at, err
			}
		case MajorSimple:
			if n < byteFalse&31 || n > byteNull&31 {
				return at, ErrSimple
			}
		}
		if major != MajorArray && major != MajorMap && depth > 0 {
			stack[depth-1].left--
		}
		for depth > 0 && stack[depth-1].left == 0 {
			if depth--; depth > 0 {
				stack[depth-1].left--
			}
		}
		if depth == 0 {
			return s.pos, nil
		}
	}
}

// key scans a map key and checks that it comes after the one before.
func (s *scanner) key(m *level) (at int, err error) {
	at = s.pos
	major, n, next, err := head(s.b, at)
	if err != nil {
		return at, err
	}
	if major != MajorText {
		return at, ErrKeyType
	}
	if n > uint64(len(s.b)-next) {
		return at, ErrTruncated
	}
	s.pos = next + int(n)
	key := s.b[next:s.pos]
	if !utf8.Valid(key) {
		return at, ErrUTF8
	}
	if m.keyOff > 0 {
		switch {
		case m.keyLen > len(key):
			return at, ErrKeyOrder
		case m.keyLen == len(key):
			switch c := bytes.Compare(s.b[m.keyOff:m.keyOff+m.keyLen], key); {
			case c > 0:
				return at, ErrKeyOrder
			case c == 0:
				return at, ErrKeyRepeated
			}
		}
	}
	m.keyOff, m.keyLen = next, len(key)
	return at, nil
}

// link scans what follows tag 42: a byte string of 0x00 and a CIDv1 of codec
// dag-cbor or raw with a SHA-256 digest.
func (s *scanner) link() error {
	major, n, next, err := head(s.b, s.pos)
	if err != nil {
		return err
	}
	if major != MajorBytes {
		return ErrLink
	}
	if n > uint64(len(s.b)-next) {
		return ErrTruncated
	}
	if n != 37 {
		return ErrLink
	}
	c := s.b[next:]
	if c[0] != 0 || c[1] != 1 || (c[2] != 0x71 && c[2] != 0x55) || c[3] != 0x12 || c[4] != 0x20 {
		return ErrLink
	}
	s.pos = next + 37
	return nil
}
