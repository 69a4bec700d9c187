//go:build !amd64 || purego

package blockhash

// Able reports whether the processor has what this package needs.
const Able = false

// Heads may not be called, because the processor is not Able.
func Heads(*[2][64]byte, *[2]uint64) { panic("blockhash: no two hashes at once") }

func block(*state, *byte, int) { panic("blockhash: no own hash") }
