package credential

// Parameters of new password hashes: argon2id, five passes over 7 MiB. They cost an attacker about
// as much as two passes over 19 MiB. The memory is small because that of a WebAssembly program
// never shrinks.
const (
	argonTime   = 5
	argonMemory = 7 << 10 // KiB
)
