package testenv

import (
	"os"
	"testing"
)

// Long reports whether tests may take minutes: PDSKIT_LONG is set.
func Long() bool { return os.Getenv("PDSKIT_LONG") != "" }

// Rounds says how often a test repeats what has another seed each time: usual, one time with
// -short, long with PDSKIT_LONG.
func Rounds[N int | int64 | uint64](t testing.TB, usual, long N) N {
	t.Helper()
	switch {
	case Long():
		return long
	case testing.Short():
		return min(usual, 1)
	}
	return usual
}
