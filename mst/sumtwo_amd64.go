//go:build !purego

package mst

// sumTwo hashes two blocks, each a whole padded message, with SHA-256, and returns the first eight
// bytes of both hashes as numbers. It needs the processor's SHA extensions.
//
//go:noescape
func sumTwo(blocks *[2][64]byte, heads *[2]uint64)

func cpuid(leaf uint32) (ebx, ecx uint32)

func maxLeaf() uint32

// canSumTwo reports whether the processor has what sumTwo needs: SSSE3, SSE4.1 and SHA.
var canSumTwo = func() bool {
	if maxLeaf() < 7 {
		return false
	}
	_, ecx := cpuid(1)
	ebx, _ := cpuid(7)
	return ecx&(1<<9) != 0 && ecx&(1<<19) != 0 && ebx&(1<<29) != 0
}()
