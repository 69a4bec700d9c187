package mst

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"testing"
)

func TestHeightsOfLongAndShortKeys(t *testing.T) {
	for n := range 200 {
		key := bytes.Repeat([]byte{byte(n)}, n)
		sum := sha256.Sum256(key)
		if got, want := HeightForKey(string(key)), bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:]))/2; got != want {
			t.Errorf("%d bytes: height %d, want %d", n, got, want)
		}
	}
}
