//go:build !js

package credential

// Parameters of new password hashes: argon2id, two passes over 19 MiB, about
// 25 ms.
const (
	argonTime   = 2
	argonMemory = 19 << 10 // KiB
)
