package mst

import (
	"encoding/binary"
	"math/bits"

	"github.com/pdskit/pdskit/internal/blockhash"
)

// maxShort is the length of the longest message that fills one block of SHA-256.
const maxShort = 55

// heights finds the heights of short keys two at a time, where the processor can: hashing one leaves
// it idle for most of the time, and a general hash function has to look after messages of any length.
type heights struct {
	blocks [2][64]byte
	lens   [2]int
	starts [2]int // offsets of the keys' entries
	n      int    // keys that wait
	height int    // what all must have; -1: not known yet
}

// add takes a short key. When there are two, their heights are to be asked for.
func (h *heights) add(key []byte, start int) {
	b := &h.blocks[h.n]
	pad(b, key)
	h.lens[h.n], h.starts[h.n] = len(key), start
	h.n++
}

// pad makes the only block of a short message.
func pad(b *[64]byte, key []byte) {
	*b = [64]byte{}
	copy(b[:maxShort], key)
	b[len(key)] = 0x80
	binary.BigEndian.PutUint16(b[62:], uint16(len(key)*8))
}

// HeightForKey returns the height of a key: the number of leading zero bits of its SHA-256 hash,
// divided by two and rounded down.
func HeightForKey(key string) int {
	d := blockhash.Sum(bytesOf(key))
	if v := binary.BigEndian.Uint64(d[:]); v != 0 {
		return bits.LeadingZeros64(v) / 2
	}
	zeros := 0
	for zeros < len(d) && d[zeros] == 0 {
		zeros++
	}
	if zeros == len(d) {
		return maxHeight
	}
	return zeros*4 + bits.LeadingZeros8(d[zeros])/2
}
