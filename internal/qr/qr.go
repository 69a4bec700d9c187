// Package qr draws QR codes (ISO/IEC 18004): bytes, at error correction level M, in the smallest
// version that has room. They are for authenticator apps.
package qr

import (
	"errors"
	"fmt"
	"strings"
)

// Code is a QR code: a square of modules.
type Code struct {
	// Size is the number of modules of a side, without the quiet zone.
	Size int

	dark  []bool // by rows
	fixed []bool // modules of the patterns, which hold no data
}

// ErrTooLong: no version has room for the data.
var ErrTooLong = errors.New("qr: the data is too long")

// maxVersion is the greatest version that is made. Greater ones are hard to read from a screen.
const maxVersion = 25

// The blocks of each version at level M: how many there are, and how many bytes of each are error
// correction. The first entry is that of version 1.
var (
	blockCount = [maxVersion]int{1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16, 17, 17, 18, 20, 21}
	blockCheck = [maxVersion]int{10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26, 26, 28, 28, 28, 28}
)

// alignment returns the rows, which are also the columns, of a version's alignment patterns.
func alignment(version int) []int {
	if version == 1 {
		return nil
	}
	n := version/7 + 2
	last := 4*version + 10
	// Even steps from the last one down, and the first at 6.
	step := (last - 6 + (n-1)/2) / (n - 1)
	step += step % 2
	at := make([]int, n)
	at[0] = 6
	for i := n - 1; i > 0; i-- {
		at[i] = last - (n-1-i)*step
	}
	return at
}

// room is the number of bytes that a version has for data and error correction.
func room(version int) int {
	size := 4*version + 17
	bits := size*size - 3*64 - 2*15 - 1 - 2*(size-16) // finders, format, the dark module, timing
	if n := version/7 + 2; version > 1 {
		bits -= (n*n - 3) * 25  // alignment patterns
		bits += 2 * 5 * (n - 2) // where they lie on the timing patterns
	}
	if version >= 7 {
		bits -= 2 * 18 // the version
	}
	return bits / 8
}

// Encode returns the code of some bytes, or ErrTooLong.
func Encode(data []byte) (*Code, error) {
	for version := 1; version <= maxVersion; version++ {
		lengthBits := 8
		if version >= 10 {
			lengthBits = 16
		}
		have := room(version) - blockCount[version-1]*blockCheck[version-1]
		if 4+lengthBits+8*len(data) > 8*have {
			continue
		}
		var b bits
		b.add(4, 4) // byte mode
		b.add(len(data), lengthBits)
		for _, c := range data {
			b.add(int(c), 8)
		}
		b.add(0, min(4, 8*have-b.n))
		b.add(0, (8-b.n%8)%8)
		for pad := 0xec; len(b.bytes) < have; pad ^= 0xec ^ 0x11 {
			b.add(pad, 8)
		}
		return draw(version, interleave(version, b.bytes)), nil
	}
	return nil, ErrTooLong
}

// bits is a row of bits.
type bits struct {
	bytes []byte
	n     int
}

func (b *bits) add(v, n int) {
	for i := n - 1; i >= 0; i-- {
		if b.n%8 == 0 {
			b.bytes = append(b.bytes, 0)
		}
		b.bytes[b.n/8] |= byte(v>>i&1) << (7 - b.n%8)
		b.n++
	}
}

// interleave cuts data into blocks, adds error correction to each, and takes a byte of each block
// in turn.
func interleave(version int, data []byte) []byte {
	count, check := blockCount[version-1], blockCheck[version-1]
	short, longer := len(data)/count, len(data)%count // the last blocks have a byte more
	blocks, checks := make([][]byte, count), make([][]byte, count)
	for i := range blocks {
		n := short
		if i >= count-longer {
			n++
		}
		blocks[i], data = data[:n], data[n:]
		checks[i] = correction(blocks[i], check)
	}
	var out []byte
	for i := range short + 1 {
		for _, b := range blocks {
			if i < len(b) {
				out = append(out, b[i])
			}
		}
	}
	for i := range check {
		for _, c := range checks {
			out = append(out, c[i])
		}
	}
	return out
}

// multiply is the product in GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1.
func multiply(a, b byte) (p byte) {
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			p ^= a
		}
		carry := a >> 7
		a = a<<1 ^ carry*0x1d
	}
	return p
}

// correction returns n bytes of Reed-Solomon error correction.
func correction(data []byte, n int) []byte {
	// The product of x - 2^i for i < n, without its leading 1.
	generator := make([]byte, n)
	generator[n-1] = 1
	root := byte(1)
	for range n {
		for j := range generator {
			generator[j] = multiply(generator[j], root)
			if j+1 < n {
				generator[j] ^= generator[j+1]
			}
		}
		root = multiply(root, 2)
	}
	rest := make([]byte, n)
	for _, c := range data {
		lead := c ^ rest[0]
		copy(rest, rest[1:])
		rest[n-1] = 0
		for j := range rest {
			rest[j] ^= multiply(generator[j], lead)
		}
	}
	return rest
}

// SVG returns the code as an SVG image, black on white, with a quiet zone of four modules. It has
// no size of its own.
func (c *Code) SVG() string {
	const quiet = 4
	var b strings.Builder
	side := c.Size + 2*quiet
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="`, side, side, side, side)
	for y := range c.Size {
		for x := 0; x < c.Size; x++ {
			if !c.Dark(x, y) {
				continue
			}
			from := x
			for x+1 < c.Size && c.Dark(x+1, y) {
				x++
			}
			fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x+1-from, x+1-from)
		}
	}
	b.WriteString(`"/></svg>`)
	return b.String()
}

// Dark reports whether a module is dark.
func (c *Code) Dark(x, y int) bool { return c.dark[y*c.Size+x] }
