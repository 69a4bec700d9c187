//go:build !purego

package blockhash

import "crypto/fips140"

// Heads hashes two blocks, each a whole padded message, and returns the first eight bytes of both
// hashes as numbers. It may be called only if the processor is Able.
//
//go:noescape
func Heads(blocks *[2][64]byte, heads *[2]uint64)

// block hashes n blocks of a message, n at least 1.
//
//go:noescape
func block(s *state, first *byte, n int)

func cpuid(leaf uint32) (ebx, ecx uint32)

func maxLeaf() uint32

// Able reports whether the processor has what this package needs: SSSE3, SSE4.1 and SHA. In FIPS 140-3
// mode, hashes are those of the standard library. Only tests change it.
var Able = func() bool {
	if maxLeaf() < 7 || fips140.Enabled() {
		return false
	}
	_, ecx := cpuid(1)
	ebx, _ := cpuid(7)
	return ecx&(1<<9) != 0 && ecx&(1<<19) != 0 && ebx&(1<<29) != 0
}()
