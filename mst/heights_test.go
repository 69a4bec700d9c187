package mst

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// Two hashes at once are those of crypto/sha256.
func TestTwoHashes(t *testing.T) {
	if !canSumTwo {
		t.Skip("the processor has no SHA extensions")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var keys [2][]byte
		var blocks [2][64]byte
		var heads [2]uint64
		for i := range keys {
			keys[i] = make([]byte, random.IntN(maxShort+1))
			for j := range keys[i] {
				keys[i][j] = byte(random.Uint32())
			}
			pad(&blocks[i], keys[i])
		}
		padded := blocks
		sumTwo(&blocks, &heads)
		for i, key := range keys {
			if sum := sha256.Sum256(key); heads[i] != binary.BigEndian.Uint64(sum[:]) || blocks != padded {
				t.Fatalf("%x: %016x, want %x", key, heads[i], sum[:8])
			}
		}
	}
}

func TestHeightsOfLongAndShortKeys(t *testing.T) {
	for n := range 200 {
		key := bytes.Repeat([]byte{byte(n)}, n)
		sum := sha256.Sum256(key)
		if got, want := HeightForKey(string(key)), bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:]))/2; got != want {
			t.Errorf("%d bytes: height %d, want %d", n, got, want)
		}
	}
}
