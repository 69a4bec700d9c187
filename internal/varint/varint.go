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

// Read reads a varint. It returns io.EOF if there is nothing to read, and
// io.ErrUnexpectedEOF if the input ends within the varint.
func Read(r io.ByteReader) (n uint64, err error) {
	for i := range MaxLen {
		c, err := r.ReadByte()
		if err != nil {
			if err == io.EOF && i > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, ErrNonMinimal
			}
			return n, nil
		}
	}
	return 0, ErrOverflow
}
