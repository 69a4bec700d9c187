// Package blockhash computes SHA-256 of blocks and keys, which are short. On processors with
// instructions for the hash, it avoids the overhead of a general hash function, which must handle
// messages of any length in pieces.
package blockhash

import (
	"crypto/sha256"
	"encoding/binary"
)

const blockLen = sha256.BlockSize

// state is that of a hash, in the order in which the instructions want it.
type state [8]uint32 // F, E, B, A, H, G, D, C

var start = state{0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372}

// put writes the hash.
func (s *state) put(sum *[sha256.Size]byte) {
	binary.BigEndian.PutUint32(sum[0:], s[3])
	binary.BigEndian.PutUint32(sum[4:], s[2])
	binary.BigEndian.PutUint32(sum[8:], s[7])
	binary.BigEndian.PutUint32(sum[12:], s[6])
	binary.BigEndian.PutUint32(sum[16:], s[1])
	binary.BigEndian.PutUint32(sum[20:], s[0])
	binary.BigEndian.PutUint32(sum[24:], s[5])
	binary.BigEndian.PutUint32(sum[28:], s[4])
}

// Sum computes the hash of a message.
func Sum(m []byte) (sum [sha256.Size]byte) {
	if !Able {
		return sha256.Sum256(m)
	}
	s := start
	whole := len(m) &^ (blockLen - 1)
	if whole > 0 {
		block(&s, &m[0], whole/blockLen)
	}
	var room [2 * blockLen]byte
	tail := pad(&room, m[whole:], len(m))
	block(&s, &tail[0], len(tail)/blockLen)
	s.put(&sum)
	return sum
}

// pad makes the last blocks of a message of n bytes in all.
func pad(room *[2 * blockLen]byte, rest []byte, n int) []byte {
	end := blockLen
	if len(rest)+1+8 > blockLen {
		end *= 2
	}
	copy(room[:], rest)
	room[len(rest)] = 0x80
	binary.BigEndian.PutUint64(room[end-8:], uint64(n)*8)
	return room[:end]
}
