package blockhash

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// message makes a message of random bytes.
func message(random *rand.Rand, n int) []byte {
	m := make([]byte, n)
	for i := range m {
		m[i] = byte(random.Uint32())
	}
	return m
}

// Hashes of messages of any length are those of crypto/sha256.
func TestSum(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 3000 {
		m := message(random, n)
		if got, want := Sum(m), sha256.Sum256(m); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
	for range 50 {
		m := message(random, random.IntN(1<<20))
		if got, want := Sum(m), sha256.Sum256(m); got != want {
			t.Fatalf("%d bytes: %x, want %x", len(m), got, want)
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("abc"))
	f.Fuzz(func(t *testing.T, m []byte) {
		if got, want := Sum(m), sha256.Sum256(m); got != want {
			t.Fatalf("%x, want %x", got, want)
		}
	})
}

// Two hashes of one block at once are those of crypto/sha256.
func TestHeads(t *testing.T) {
	if !Able {
		t.Skip("the processor has no SHA extensions")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		keys := [][]byte{message(random, random.IntN(56)), message(random, random.IntN(56))}
		var blocks [2][64]byte
		var heads [2]uint64
		for i, key := range keys {
			n := copy(blocks[i][:], key)
			blocks[i][n] = 0x80
			binary.BigEndian.PutUint64(blocks[i][56:], uint64(n)*8)
		}
		padded := blocks
		Heads(&blocks, &heads)
		for i, key := range keys {
			if sum := sha256.Sum256(key); heads[i] != binary.BigEndian.Uint64(sum[:]) || blocks != padded {
				t.Fatalf("%x: %016x, want %x", key, heads[i], sum[:8])
			}
		}
	}
}

func BenchmarkSum(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{50, 240, 400} {
		m := message(random, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				Sum(m)
			}
		})
		b.Run(fmt.Sprint(n, "-crypto"), func(b *testing.B) {
			for b.Loop() {
				sha256.Sum256(m)
			}
		})
	}
}
