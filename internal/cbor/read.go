package cbor

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// head reads the head of an item at pos. Errors are those of this package.
func head(b []byte, pos int) (major byte, n uint64, next int, err error) {
	if pos >= len(b) {
		return 0, 0, pos, ErrTruncated
	}
	first := b[pos]
	major, info := first>>5, first&31
	pos++
	switch {
	case info < 24:
		return major, uint64(info), pos, nil
	case info == 31:
		return 0, 0, pos, ErrIndefinite
	case info > 27:
		return 0, 0, pos, ErrReserved
	}
	size := 1 << (info - 24)
	if len(b)-pos < size {
		return 0, 0, pos, ErrTruncated
	}
	if major == MajorSimple {
		if info == 24 {
			return 0, 0, pos, ErrSimple
		}
		return 0, 0, pos, ErrFloat
	}
	var least uint64
	switch size {
	case 1:
		n, least = uint64(b[pos]), 24
	case 2:
		n, least = uint64(binary.BigEndian.Uint16(b[pos:])), 1<<8
	case 4:
		n, least = uint64(binary.BigEndian.Uint32(b[pos:])), 1<<16
	default:
		n, least = binary.BigEndian.Uint64(b[pos:]), 1<<32
	}
	if n < least {
		return 0, 0, pos, ErrNonMinimal
	}
	return major, n, pos + size, nil
}

// Reader reads items one after the other. The first error sticks.
type Reader struct {
	buf []byte
	pos int
	err error
}

// NewReader returns a reader over b, which it does not copy.
func NewReader(b []byte) *Reader { return &Reader{buf: b} }

// Pos is the offset of the next item.
func (r *Reader) Pos() int { return r.pos }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Fail makes err the reader's error, at the present offset, unless it has one.
func (r *Reader) Fail(err error) error { return r.fail(r.pos, err) }

func (r *Reader) fail(at int, err error) error {
	if r.err == nil {
		r.err = &Error{Offset: at, Err: err}
	}
	return r.err
}

// take reads the head of an item of a known type.
func (r *Reader) take(major byte) (uint64, error) {
	if r.err != nil {
		return 0, r.err
	}
	got, n, next, err := head(r.buf, r.pos)
	if err != nil {
		return 0, r.fail(r.pos, err)
	}
	if got != major {
		return 0, r.fail(r.pos, ErrType)
	}
	r.pos = next
	return n, nil
}

// Major returns the major type of the next item, or 255 at the end.
func (r *Reader) Major() byte {
	if r.err != nil || r.pos >= len(r.buf) {
		return 255
	}
	return r.buf[r.pos] >> 5
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() (uint64, error) { return r.take(MajorUint) }

// Int reads an integer.
func (r *Reader) Int() (int64, error) {
	start := r.pos
	if r.Major() == MajorNegint {
		n, err := r.take(MajorNegint)
		if err == nil && n > math.MaxInt64 {
			err = r.fail(start, ErrIntRange)
		}
		return -1 - int64(n), err
	}
	n, err := r.take(MajorUint)
	if err == nil && n > math.MaxInt64 {
		err = r.fail(start, ErrIntRange)
	}
	return int64(n), err
}

// Bytes reads a byte string; the result is part of the input.
func (r *Reader) Bytes() ([]byte, error) { return r.str(MajorBytes) }

// Text reads a text string.
func (r *Reader) Text() (string, error) {
	b, err := r.TextBytes()
	return string(b), err
}

// TextBytes is Text; the result is part of the input.
func (r *Reader) TextBytes() ([]byte, error) {
	start := r.pos
	b, err := r.str(MajorText)
	if err == nil && !utf8.Valid(b) {
		return nil, r.fail(start, ErrUTF8)
	}
	return b, err
}

func (r *Reader) str(major byte) ([]byte, error) {
	n, err := r.take(major)
	if err != nil {
		return nil, err
	}
	if n > uint64(len(r.buf)-r.pos) {
		return nil, r.fail(r.pos, ErrTruncated)
	}
	b := r.buf[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return b, nil
}

// Array reads the head of an array and returns how many items follow. As every
// item takes a byte, there cannot be more than bytes are left.
func (r *Reader) Array() (int, error) { return r.count(MajorArray, 1) }

// Map reads the head of a map and returns how many pairs follow.
func (r *Reader) Map() (int, error) { return r.count(MajorMap, 2) }

func (r *Reader) count(major byte, least uint64) (int, error) {
	n, err := r.take(major)
	if err != nil {
		return 0, err
	}
	if n > uint64(len(r.buf)-r.pos)/least {
		return 0, r.fail(r.pos, ErrTruncated)
	}
	return int(n), nil
}

// Key reads a map key, which must be want: for maps of a fixed shape.
func (r *Reader) Key(want string) error {
	start := r.pos
	got, err := r.TextBytes()
	if err == nil && string(got) != want {
		err = r.fail(start, ErrType)
	}
	return err
}

// Bool reads a boolean.
func (r *Reader) Bool() (bool, error) {
	if r.err != nil {
		return false, r.err
	}
	if r.pos >= len(r.buf) {
		return false, r.fail(r.pos, ErrTruncated)
	}
	switch r.buf[r.pos] {
	case byteTrue:
		r.pos++
		return true, nil
	case byteFalse:
		r.pos++
		return false, nil
	}
	return false, r.fail(r.pos, ErrType)
}

// Null reports whether the next item is null, and reads it if it is.
func (r *Reader) Null() bool {
	if r.err == nil && r.pos < len(r.buf) && r.buf[r.pos] == byteNull {
		r.pos++
		return true
	}
	return false
}

// Link reads a CID and returns its binary form, part of the input.
func (r *Reader) Link() ([]byte, error) {
	start := r.pos
	n, err := r.take(MajorTag)
	if err == nil && n != tagCID {
		err = r.fail(start, ErrTag)
	}
	if err != nil {
		return nil, err
	}
	b, err := r.str(MajorBytes)
	if err == nil && (len(b) < 2 || b[0] != 0) {
		err = r.fail(start, ErrLink)
	}
	if err != nil {
		return nil, err
	}
	return b[1:], nil
}

// Raw reads one whole item, checking it as Scan does, and returns its bytes.
func (r *Reader) Raw(lim Limits) ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	end, err := scan(r.buf, r.pos, lim)
	if err != nil {
		r.err = err
		return nil, err
	}
	b := r.buf[r.pos:end:end]
	r.pos = end
	return b, nil
}

// Skip reads one whole item.
func (r *Reader) Skip() error {
	_, err := r.Raw(Limits{})
	return err
}

// Done checks that the input ends here.
func (r *Reader) Done() error {
	if r.err == nil && r.pos != len(r.buf) {
		r.fail(r.pos, ErrTrailing)
	}
	return r.err
}
