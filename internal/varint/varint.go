// Package varint reads and writes the unsigned varints of multiformats: little
// endian, seven bits a byte, at most nine bytes, in the shortest form only.
package varint

import (
	"encoding/binary"
	"errors"
	"io"
)

// Errors of reading.
var (
	ErrNonMinimal = errors.New("varint: not in its shortest form")
	ErrOverflow   = errors.New("varint: more than 63 bits")
)

// MaxLen is the length of the longest varint in bytes.
const MaxLen = 9

// Append appends n, which must be below 2⁶³.
func Append(b []byte, n uint64) []byte { return binary.AppendUvarint(b, n) }

// Decode reads a varint from the start of b and returns its length, too. It
// returns io.EOF if b is empty, and io.ErrUnexpectedEOF if it ends within the varint.
func Decode(b []byte) (n uint64, size int, err error) {
	for i := range min(len(b), MaxLen) {
		c := b[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, 0, ErrNonMinimal
			}
			return n, i + 1, nil
		}
	}
	switch {
	case len(b) == 0:
		return 0, 0, io.EOF
	case len(b) < MaxLen:
		return 0, 0, io.ErrUnexpectedEOF
	}
	return 0, 0, ErrOverflow
}
